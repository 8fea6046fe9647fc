package dashboards

import (
	"context"
	"encoding/json"
	"os"
	"strings"
	"testing"
	"time"

	"github.com/prometheus/prometheus/promql"
	"github.com/prometheus/prometheus/promql/parser"
)

const (
	mixinFile     = "../../cmd/keelson/testdata/etcd-mixin.txt"
	dashboardFile = "../../deploy/grafana/keelson.json"
	// scrapes are made one behind the other and taken as scrapeInterval apart: the engine sees twenty minutes.
	scrapes        = 41
	scrapeInterval = 30 * time.Second
)

// raised are metrics that exist only while something is wrong.
var raised = []string{"etcd_debugging_server_alarms"}

// mixin reads the queries of etcd's monitoring mixin: first those of its alerts, then those of its dashboard.
func mixin(t *testing.T) (alerts, panels []string) {
	t.Helper()
	text, err := os.ReadFile(mixinFile)
	if err != nil {
		t.Fatal(err)
	}
	list := &alerts
	for line := range strings.Lines(string(text)) {
		switch line = strings.TrimSpace(line); {
		case strings.HasPrefix(line, "# What its dashboard"):
			list = &panels
		case line != "" && !strings.HasPrefix(line, "#"):
			*list = append(*list, strings.ReplaceAll(line, "JOB", `job=~".*etcd.*"`))
		}
	}
	return alerts, panels
}

// dashboard reads the queries of our own.
func dashboard(t *testing.T) (panels []string) {
	t.Helper()
	text, err := os.ReadFile(dashboardFile)
	if err != nil {
		t.Fatal(err)
	}
	var d struct {
		Panels []struct{ Targets []struct{ Expr string } }
	}
	if err := json.Unmarshal(text, &d); err != nil {
		t.Fatal(err)
	}
	variables := strings.NewReplacer("$job", "etcd", "$instance", ".*", "$__rate_interval", "5m", "$__interval", "1m")
	for _, p := range d.Panels {
		for _, target := range p.Targets {
			panels = append(panels, variables.Replace(target.Expr))
		}
	}
	return panels
}

// prometheus evaluates expressions on what was scraped.
type prometheus struct {
	engine  *promql.Engine
	parser  parser.Parser
	samples *samples
	now     time.Time
}

func (p *prometheus) eval(t *testing.T, expr string) (series int) {
	t.Helper()
	q, err := p.engine.NewInstantQuery(context.Background(), p.samples, nil, expr, p.now)
	if err != nil {
		t.Errorf("%s: %v", expr, err)
		return 0
	}
	defer q.Close()
	result := q.Exec(context.Background())
	if result.Err != nil {
		t.Errorf("%s: %v", expr, result.Err)
		return 0
	}
	switch v := result.Value.(type) {
	case promql.Vector:
		return len(v)
	case promql.Scalar:
		return 1
	}
	t.Errorf("%s is a %s", expr, result.Value.Type())
	return 0
}

// measured are the parts of an alert's expression that have a value whether it fires or not: what is compared, on both sides.
func measured(e parser.Expr) []string {
	switch e := e.(type) {
	case *parser.ParenExpr:
		return measured(e.Expr)
	case *parser.BinaryExpr:
		if e.Op.IsComparisonOperator() && !e.ReturnBool || e.Op.IsSetOperator() {
			return append(measured(e.LHS), measured(e.RHS)...)
		}
	}
	return []string{e.String()}
}

// TestDashboardsAndAlerts runs a cluster with some traffic, scrapes it, and has Prometheus' engine evaluate whatever dashboards and
// alerts ask for: every panel shows something, every alert can see what it is about, and none fires but for how long something took:
// that is the machine's.
func TestDashboardsAndAlerts(t *testing.T) {
	endpoints := startCluster(t, 3)
	p := &prometheus{parser: parser.NewParser(parser.Options{}), samples: &samples{map[string]*series{}}}
	p.engine = promql.NewEngine(promql.EngineOpts{MaxSamples: 50e6, Timeout: time.Minute, LookbackDelta: 5 * time.Minute, Parser: p.parser})
	start := time.Now().Truncate(time.Minute)
	for i := range scrapes {
		p.now = start.Add(time.Duration(i) * scrapeInterval)
		for _, endpoint := range endpoints {
			call(t, endpoint, "/v3/kv/put", `{"key":"YQ==","value":"Yg=="}`)
			call(t, endpoint, "/v3/kv/range", `{"key":"YQ=="}`)
			p.samples.add(t, endpoint, get(t, "http://"+endpoint+"/metrics"), p.now.UnixMilli())
		}
		time.Sleep(200 * time.Millisecond) // members answer each other's pings once a second
	}
	alerts, panels := mixin(t)
	own := dashboard(t)
	if len(alerts) < 12 || len(panels) < 15 || len(own) < 20 {
		t.Fatalf("only %d alerts, %d panels, %d panels of ours", len(alerts), len(panels), len(own))
	}
	for _, expr := range append(panels, own...) {
		if p.eval(t, expr) == 0 && !isRaised(expr) {
			t.Errorf("no data: %s", expr)
		}
	}
	for _, expr := range alerts {
		parsed, err := p.parser.ParseExpr(expr)
		if err != nil {
			t.Errorf("%s: %v", expr, err)
			continue
		}
		if p.eval(t, expr) > 0 && !isOfTimes(expr) {
			t.Errorf("fires: %s", expr)
		}
		for _, part := range measured(parsed) {
			if p.eval(t, part) == 0 {
				t.Errorf("no data: %s, of %s", part, expr)
			}
		}
	}
}

// isOfTimes reports whether an alert is about how long something takes.
func isOfTimes(expr string) bool {
	return strings.HasPrefix(expr, "histogram_quantile(") && strings.Contains(expr, "_seconds_bucket{")
}

func isRaised(expr string) bool {
	for _, name := range raised {
		if strings.Contains(expr, name) {
			return true
		}
	}
	return false
}

// The alarm's panel has data as soon as there is an alarm.
func TestAlarmIsShown(t *testing.T) {
	endpoint := startCluster(t, 1)[0]
	call(t, endpoint, "/v3/maintenance/alarm", `{"action":"ACTIVATE","memberID":"1","alarm":"NOSPACE"}`)
	p := &prometheus{parser: parser.NewParser(parser.Options{}), samples: &samples{map[string]*series{}}, now: time.Now()}
	p.engine = promql.NewEngine(promql.EngineOpts{MaxSamples: 50e6, Timeout: time.Minute, Parser: p.parser})
	p.samples.add(t, endpoint, get(t, "http://"+endpoint+"/metrics"), p.now.UnixMilli())
	for _, expr := range dashboard(t) {
		if isRaised(expr) && p.eval(t, expr) == 0 {
			t.Errorf("no data: %s", expr)
		}
	}
}
