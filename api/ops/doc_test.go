package ops

import (
	"flag"
	"fmt"
	"os"
	"slices"
	"strings"
	"testing"

	dto "github.com/prometheus/client_model/go"
)

var rewriteDoc = flag.Bool("rewrite-doc", false, "write the table of docs/monitoring.md anew")

const (
	docFile  = "../../docs/monitoring.md"
	docBegin = "<!-- The table below is made by go test ./api/ops -run TestMonitoringPage -rewrite-doc -->\n"
)

// everyFamily are all metrics, after each of those that appear with their cause has been moved.
func everyFamily(t *testing.T) map[string]*dto.MetricFamily {
	m := NewMetrics(Options{Metrics: "extensive"}, Identity{Gates: []GateState{{"Gate", "ALPHA", true}}}, func() Readings {
		return Readings{
			ClusterVersion: "3.7", Alarms: []string{"NOSPACE"}, Peers: []PeerReading{{ID: 1}}, Tree: TreeReading{Writes: []TreeAction{{Action: "set"}}},
			Internals: Internals{Levels: make([]LevelReading, 1)},
		}
	})
	m.GRPC.Prepare(services())
	m.check("livez", "a", true)
	m.PromotionFailed("a")
	m.StreamFailed("watch", true)
	m.RoundTrip(1)
	m.SendState(1)(1, nil)
	m.ReceiveState(1)(1, nil)
	return gather(t, m)
}

// TestMonitoringPage holds the page's table against the metrics there are.
func TestMonitoringPage(t *testing.T) {
	page, err := os.ReadFile(docFile)
	if err != nil {
		t.Fatal(err)
	}
	text, _, found := strings.Cut(string(page), docBegin)
	if !found {
		t.Fatalf("%s lacks %q", docFile, docBegin)
	}
	var rows []string
	for name, f := range everyFamily(t) {
		if strings.HasPrefix(name, "go_") || strings.HasPrefix(name, "process_") {
			continue
		}
		var labels []string
		for _, l := range f.Metric[0].Label {
			labels = append(labels, l.GetName())
		}
		rows = append(rows, fmt.Sprintf("| `%s` | %s | %s | %s |\n", name, strings.ToLower(f.GetType().String()), strings.Join(labels, ", "), f.GetHelp()))
	}
	slices.Sort(rows)
	text += docBegin + "\n| metric | type | labels | meaning |\n|---|---|---|---|\n" + strings.Join(rows, "")
	switch {
	case *rewriteDoc:
		if err := os.WriteFile(docFile, []byte(text), 0o644); err != nil {
			t.Fatal(err)
		}
	case text != string(page):
		t.Errorf("%s does not list the metrics there are; see the command in it", docFile)
	}
}

// Every reason has texts that lead to it, and what no text tells goes by the code.
func TestRefusalsByReason(t *testing.T) {
	m := NewMetrics(Options{}, Identity{}, func() Readings { return Readings{} })
	for _, known := range refusalReasons {
		before := counts(t, m)[known.reason]
		m.GRPC.refusals.note(fmt.Errorf("%s, and more", known.text))
		if got := counts(t, m)[known.reason]; got != before+1 {
			t.Errorf("%q counted %v times as %s", known.text, got-before, known.reason)
		}
	}
	m.GRPC.refusals.note(fmt.Errorf("nobody knows"))
	if counts(t, m)[reasonOther] != 1 {
		t.Error("an unknown text is not counted")
	}
}

func counts(t *testing.T, m *Metrics) map[string]float64 {
	byReason := map[string]float64{}
	for _, s := range gather(t, m)["keelson_refusals_total"].Metric {
		byReason[s.Label[0].GetValue()] = s.Counter.GetValue()
	}
	return byReason
}

func TestTransfers(t *testing.T) {
	m := NewMetrics(Options{}, Identity{}, func() Readings { return Readings{} })
	value := func(name string) float64 {
		f := gather(t, m)[name]
		if f == nil {
			t.Fatalf("%s is missing", name)
		}
		return f.Metric[0].GetGauge().GetValue() + f.Metric[0].GetCounter().GetValue() + float64(f.Metric[0].GetHistogram().GetSampleCount())
	}
	for _, d := range []struct {
		prefix string
		begin  func(uint64) func(int64, error)
	}{{"etcd_network_snapshot_send_", m.SendState}, {"etcd_network_snapshot_receive_", m.ReceiveState}} {
		end := d.begin(7)
		if n := value(d.prefix + "inflights_total"); n != 1 {
			t.Errorf("%s: %v under way, want 1", d.prefix, n)
		}
		end(5, nil)
		d.begin(7)(0, fmt.Errorf("no"))
		for name, want := range map[string]float64{"inflights_total": 0, "success": 1, "failures": 1, "total_duration_seconds": 1} {
			if got := value(d.prefix + name); got != want {
				t.Errorf("%s%s: %v, want %v", d.prefix, name, got, want)
			}
		}
	}
	if f := gather(t, m)["keelson_snapshot_bytes_total"]; len(f.Metric) != 2 || f.Metric[0].Counter.GetValue() != 5 {
		t.Errorf("bytes: %v", f)
	}
}
