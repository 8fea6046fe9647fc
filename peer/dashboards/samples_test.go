package dashboards

import (
	"bytes"
	"context"
	"math"
	"slices"
	"strings"
	"testing"

	dto "github.com/prometheus/client_model/go"
	"github.com/prometheus/common/expfmt"
	"github.com/prometheus/common/model"
	"github.com/prometheus/prometheus/model/histogram"
	"github.com/prometheus/prometheus/model/labels"
	"github.com/prometheus/prometheus/storage"
	"github.com/prometheus/prometheus/tsdb/chunkenc"
	"github.com/prometheus/prometheus/tsdb/chunks"
	"github.com/prometheus/prometheus/util/annotations"
)

// point is one sample; Prometheus' own type for it is not exported.
type point struct {
	ms    int64
	value float64
}

func (p point) T() int64                      { return p.ms }
func (p point) ST() int64                     { return 0 }
func (p point) F() float64                    { return p.value }
func (p point) H() *histogram.Histogram       { return nil }
func (p point) FH() *histogram.FloatHistogram { return nil }
func (p point) Type() chunkenc.ValueType      { return chunkenc.ValFloat }
func (p point) Copy() chunks.Sample           { return p }

// samples are all series that were scraped.
type samples struct{ series map[string]*series }

type series struct {
	labels labels.Labels
	points []chunks.Sample
}

// add takes in one scrape, as the scraper of instance would at the moment ms.
func (s *samples) add(t *testing.T, instance string, text []byte, ms int64) {
	t.Helper()
	parser := expfmt.NewTextParser(model.LegacyValidation)
	families, err := parser.TextToMetricFamilies(bytes.NewReader(text))
	if err != nil {
		t.Fatal(err)
	}
	put := func(name string, value float64, pairs []*dto.LabelPair, more ...string) {
		b := labels.NewBuilder(labels.FromStrings(append(more, "__name__", name, "job", "etcd", "instance", instance)...))
		for _, p := range pairs {
			b.Set(p.GetName(), p.GetValue())
		}
		l := b.Labels()
		if s.series[l.String()] == nil {
			s.series[l.String()] = &series{labels: l}
		}
		s.series[l.String()].points = append(s.series[l.String()].points, point{ms, value})
	}
	put("up", 1, nil)
	for name, f := range families {
		for _, m := range f.Metric {
			switch {
			case m.Histogram != nil:
				for _, b := range m.Histogram.Bucket {
					put(name+"_bucket", float64(b.GetCumulativeCount()), m.Label, "le", number(b.GetUpperBound()))
				}
				put(name+"_sum", m.Histogram.GetSampleSum(), m.Label)
				put(name+"_count", float64(m.Histogram.GetSampleCount()), m.Label)
			case m.Summary != nil:
				put(name+"_count", float64(m.Summary.GetSampleCount()), m.Label)
			default:
				put(name, m.GetCounter().GetValue()+m.GetGauge().GetValue()+m.GetUntyped().GetValue(), m.Label)
			}
		}
	}
}

func number(v float64) string {
	if math.IsInf(v, 1) {
		return "+Inf"
	}
	return model.SampleValue(v).String()
}

// Querier implements storage.Queryable.
func (s *samples) Querier(from, to int64) (storage.Querier, error) { return querier{s, from, to}, nil }

type querier struct {
	*samples
	from, to int64
}

// Select implements storage.Querier.
func (q querier) Select(_ context.Context, _ bool, _ *storage.SelectHints, matchers ...*labels.Matcher) storage.SeriesSet {
	var found []*series
	for _, s := range q.series {
		if !slices.ContainsFunc(matchers, func(m *labels.Matcher) bool { return !m.Matches(s.labels.Get(m.Name)) }) {
			found = append(found, s)
		}
	}
	slices.SortFunc(found, func(a, b *series) int { return strings.Compare(a.labels.String(), b.labels.String()) })
	set := &seriesSet{at: -1}
	for _, s := range found {
		within := slices.DeleteFunc(slices.Clone(s.points), func(p chunks.Sample) bool { return p.T() < q.from || p.T() > q.to })
		set.list = append(set.list, storage.NewListSeries(s.labels, within))
	}
	return set
}

// LabelValues implements storage.Querier.
func (querier) LabelValues(context.Context, string, *storage.LabelHints, ...*labels.Matcher) ([]string, annotations.Annotations, error) {
	return nil, nil, nil
}

// LabelNames implements storage.Querier.
func (querier) LabelNames(context.Context, *storage.LabelHints, ...*labels.Matcher) ([]string, annotations.Annotations, error) {
	return nil, nil, nil
}

// Close implements storage.Querier.
func (querier) Close() error { return nil }

type seriesSet struct {
	list []storage.Series
	at   int
}

func (s *seriesSet) Next() bool                        { s.at++; return s.at < len(s.list) }
func (s *seriesSet) At() storage.Series                { return s.list[s.at] }
func (s *seriesSet) Err() error                        { return nil }
func (s *seriesSet) Warnings() annotations.Annotations { return nil }
