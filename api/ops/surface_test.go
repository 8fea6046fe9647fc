package ops

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"

	"github.com/prometheus/client_golang/prometheus"
	"go.uber.org/zap"
	"go.uber.org/zap/zapcore"
)

// member is a Member in whatever condition a test wants.
type member struct {
	alarms                     []string
	leader, learner            bool
	serializable, linearizable error
}

func (m *member) Alarms() []string { return m.alarms }
func (m *member) HasLeader() bool  { return m.leader }
func (m *member) IsLearner() bool  { return m.learner }
func (m *member) Probe(_ context.Context, serializable bool) error {
	if serializable {
		return m.serializable
	}
	return m.linearizable
}

func newSurface(m *member, o Options, debug bool) *Surface {
	return NewSurface(Parts{
		Options: o, Debug: debug, Member: m,
		Metrics:  NewMetrics(o, Identity{MemberID: 0xabc, Version: "3.7.1", Own: "0.1"}, func() Readings { return Readings{} }),
		Versions: func() Versions { return Versions{Server: "3.7.1", Cluster: "3.7.0", Storage: "3.7.0"} },
		Raft:     func() any { return map[string]int{"term": 2} },
		Log:      zap.NewNop(),
	})
}

func ask(h http.Handler, method, target string) *httptest.ResponseRecorder {
	w := httptest.NewRecorder()
	h.ServeHTTP(w, httptest.NewRequest(method, target, nil))
	return w
}

var healthy = member{leader: true}

func TestHealth(t *testing.T) {
	stuck := errors.New("etcdserver: request timed out")
	cases := []struct {
		name   string
		member member
		target string
		code   int
		body   string
	}{
		{"healthy", healthy, "/health", 200, `{"health":"true","reason":""}`},
		{"alarm", member{leader: true, alarms: []string{"NOSPACE"}}, "/health", 503, `{"health":"false","reason":"ALARM NOSPACE"}` + "\n"},
		{"alarm before leader", member{alarms: []string{"CORRUPT"}}, "/health", 503, `{"health":"false","reason":"ALARM CORRUPT"}` + "\n"},
		{"strange alarm", member{leader: true, alarms: []string{"FIRE"}}, "/health", 503, `{"health":"false","reason":"ALARM UNKNOWN"}` + "\n"},
		{"excluded alarm", member{leader: true, alarms: []string{"NOSPACE"}}, "/health?exclude=NOSPACE", 200, `{"health":"true","reason":""}`},
		{"one of two excluded", member{leader: true, alarms: []string{"NOSPACE", "CORRUPT"}}, "/health?exclude=NOSPACE", 503, `{"health":"false","reason":"ALARM CORRUPT"}` + "\n"},
		{"both excluded", member{leader: true, alarms: []string{"NOSPACE", "CORRUPT"}}, "/health?exclude=NOSPACE&exclude=CORRUPT", 200, `{"health":"true","reason":""}`},
		{"no leader", member{}, "/health", 503, `{"health":"false","reason":"RAFT NO LEADER"}` + "\n"},
		{"no leader needed", member{linearizable: stuck}, "/health?serializable=true", 200, `{"health":"true","reason":""}`},
		{"serializable=false", member{}, "/health?serializable=false", 503, `{"health":"false","reason":"RAFT NO LEADER"}` + "\n"},
		{"stuck", member{leader: true, linearizable: stuck}, "/health", 503, `{"health":"false","reason":"RANGE ERROR:etcdserver: request timed out"}` + "\n"},
		{"stuck locally", member{leader: true, serializable: stuck}, "/health?serializable=true", 503, `{"health":"false","reason":"RANGE ERROR:etcdserver: request timed out"}` + "\n"},
	}
	for _, c := range cases {
		t.Run(c.name, func(t *testing.T) {
			s := newSurface(&c.member, Options{}, false)
			for _, h := range []http.Handler{s.Client(), s.Monitoring()} {
				w := ask(h, "GET", c.target)
				if w.Code != c.code || w.Body.String() != c.body || w.Header().Get("Content-Type") != "text/plain; charset=utf-8" {
					t.Errorf("%d %q %q, want %d %q", w.Code, w.Body, w.Header().Get("Content-Type"), c.code, c.body)
				}
			}
			scraped := ask(s.Client(), "GET", "/metrics").Body.String()
			want := "\netcd_server_health_success 2\n"
			if c.code != 200 {
				want = "\netcd_server_health_failures 2\n"
			}
			if !strings.Contains(scraped, want) {
				t.Errorf("metrics lack %q", want)
			}
		})
	}
}

func TestChecks(t *testing.T) {
	lost := member{linearizable: errors.New("etcdserver: request timed out")}
	corrupt := member{leader: true, alarms: []string{"CORRUPT"}}
	cases := []struct {
		name   string
		member member
		target string
		code   int
		body   string
	}{
		{"live", healthy, "/livez", 200, "ok\n"},
		{"live in detail", healthy, "/livez?verbose", 200, "[+]serializable_read ok\nok\n"},
		{"live in detail, any value", healthy, "/livez?verbose=false", 200, "[+]serializable_read ok\nok\n"},
		{"ready", healthy, "/readyz", 200, "ok\n"},
		{"ready in detail", healthy, "/readyz?verbose", 200,
			"[+]data_corruption ok\n[+]serializable_read ok\n[+]linearizable_read ok\n[+]non_learner ok\nok\n"},
		{"no quorum, live", lost, "/livez", 200, "ok\n"},
		{"no quorum, ready", lost, "/readyz", 503,
			"[+]data_corruption ok\n[+]serializable_read ok\n[-]linearizable_read failed: etcdserver: request timed out\n[+]non_learner ok\n\n"},
		{"no quorum, excluded", lost, "/readyz?exclude=linearizable_read", 200, "ok\n"},
		{"unknown excluded", lost, "/readyz?exclude=nothing", 503,
			"[+]data_corruption ok\n[+]serializable_read ok\n[-]linearizable_read failed: etcdserver: request timed out\n[+]non_learner ok\n\n"},
		{"all excluded", lost, "/livez?exclude=serializable_read&verbose", 200, "ok\n"},
		{"corrupt", corrupt, "/readyz", 503,
			"[-]data_corruption failed: alarm activated: CORRUPT\n[+]serializable_read ok\n[+]linearizable_read ok\n[+]non_learner ok\n\n"},
		{"corrupt, live", corrupt, "/livez", 200, "ok\n"},
		{"no space", member{leader: true, alarms: []string{"NOSPACE"}}, "/readyz", 200, "ok\n"},
		{"learner", member{leader: true, learner: true}, "/readyz/non_learner", 503, "[-]non_learner failed: not supported for learner\n\n"},
		{"one check", lost, "/readyz/data_corruption", 200, "ok\n"},
		{"one check in detail", lost, "/livez/serializable_read?verbose", 200, "[+]serializable_read ok\nok\n"},
		{"unknown check", healthy, "/livez/linearizable_read", 404, "404 page not found\n"},
		{"unknown path", healthy, "/readyz/", 404, "404 page not found\n"},
	}
	for _, c := range cases {
		t.Run(c.name, func(t *testing.T) {
			w := ask(newSurface(&c.member, Options{}, false).Monitoring(), "GET", c.target)
			if w.Code != c.code || w.Body.String() != c.body {
				t.Errorf("%d %q, want %d %q", w.Code, w.Body, c.code, c.body)
			}
			if w.Header().Get("Content-Type") != "text/plain; charset=utf-8" || w.Header().Get("X-Content-Type-Options") != "nosniff" {
				t.Errorf("headers %v", w.Header())
			}
		})
	}
}

func TestOnlyGet(t *testing.T) {
	s := newSurface(&member{leader: true}, Options{}, false)
	for _, path := range []string{"/health", "/livez", "/readyz", "/readyz/non_learner", "/version", "/debug/vars"} {
		for _, method := range []string{"POST", "PUT", "HEAD", "DELETE"} {
			w := ask(s.Client(), method, path)
			if w.Code != 405 || w.Header().Get("Allow") != "GET" || w.Body.String() != "Method Not Allowed\n" {
				t.Errorf("%s %s: %d %q, Allow %q", method, path, w.Code, w.Body, w.Header().Get("Allow"))
			}
		}
	}
}

func TestCheckMetricsAndLog(t *testing.T) {
	var log bytes.Buffer
	core := zapcore.NewCore(zapcore.NewJSONEncoder(zapcore.EncoderConfig{MessageKey: "msg", LevelKey: "level",
		EncodeLevel: zapcore.LowercaseLevelEncoder}), zapcore.AddSync(&log), zapcore.DebugLevel)
	s := newSurface(&member{learner: true}, Options{}, false)
	s.log = zap.New(core)
	ask(s.Client(), "GET", "/readyz")
	if want := `{"level":"error","msg":"Health check error","path":"/readyz","reason":"[-]non_learner failed: not supported for learner\n","status-code":503}` + "\n"; log.String() != want {
		t.Errorf("log %s", log.String())
	}
	scraped := ask(s.Client(), "GET", "/metrics").Body.String()
	for _, want := range []string{
		`etcd_server_healthcheck{name="non_learner",type="readyz"} 0`,
		`etcd_server_healthcheck{name="data_corruption",type="readyz"} 1`,
		`etcd_server_healthchecks_total{name="non_learner",status="error",type="readyz"} 1`,
		`etcd_server_healthchecks_total{name="serializable_read",status="success",type="readyz"} 1`,
	} {
		if !strings.Contains(scraped, want+"\n") {
			t.Errorf("metrics lack %s", want)
		}
	}
}

func TestVersion(t *testing.T) {
	s := newSurface(&member{}, Options{}, false)
	w := ask(s.Client(), "GET", "/version")
	if w.Body.String() != `{"etcdserver":"3.7.1","etcdcluster":"3.7.0","storage":"3.7.0"}` || w.Header().Get("Content-Type") != "application/json" {
		t.Errorf("%q %q", w.Body, w.Header().Get("Content-Type"))
	}
	s.versions = func() Versions { return Versions{Server: "3.7.1"} }
	if body := ask(s.Client(), "GET", "/version").Body.String(); body != `{"etcdserver":"3.7.1","etcdcluster":"not_decided","storage":"unknown"}` {
		t.Errorf("before the versions are known: %s", body)
	}
	if w := ask(s.Monitoring(), "GET", "/version"); w.Code != 404 {
		t.Errorf("the monitoring listener answers /version: %d", w.Code)
	}
}

func TestDebugEndpoints(t *testing.T) {
	cases := []struct {
		name    string
		options Options
		debug   bool
		path    string
		code    int
	}{
		{"no profiles by default", Options{}, false, "/debug/pprof/", 404},
		{"profiles", Options{Profiling: true}, false, "/debug/pprof/", 200},
		{"one profile", Options{Profiling: true}, false, "/debug/pprof/goroutine?debug=1", 200},
		{"profiles at debug level", Options{}, true, "/debug/pprof/cmdline", 200},
		{"no requests without debug level", Options{Profiling: true}, false, "/debug/requests", 404},
		{"vars", Options{}, false, "/debug/vars", 200},
		{"no v2 here", Options{}, false, "/v2/keys", 404},
	}
	for _, c := range cases {
		t.Run(c.name, func(t *testing.T) {
			s := newSurface(&member{}, c.options, c.debug)
			if w := ask(s.Client(), "GET", c.path); w.Code != c.code {
				t.Errorf("%s: %d, want %d", c.path, w.Code, c.code)
			}
			if w := ask(s.Monitoring(), "GET", c.path); w.Code != 404 {
				t.Errorf("%s is on the monitoring listener: %d", c.path, w.Code)
			}
		})
	}
	var vars map[string]json.RawMessage
	if err := json.Unmarshal(ask(newSurface(&member{}, Options{}, false).Client(), "GET", "/debug/vars").Body.Bytes(), &vars); err != nil {
		t.Fatal(err)
	}
	for _, name := range []string{"cmdline", "memstats", "file_descriptor_limit", "raft.status"} {
		if len(vars[name]) == 0 || string(vars[name]) == "null" {
			t.Errorf("/debug/vars lacks %s", name)
		}
	}
	if string(vars["raft.status"]) != `{"term":2}` {
		t.Errorf("raft.status %s", vars["raft.status"])
	}
}

func TestScrapeFormats(t *testing.T) {
	s := newSurface(&member{}, Options{}, false)
	plain := ask(s.Monitoring(), "GET", "/metrics")
	if !strings.HasPrefix(plain.Header().Get("Content-Type"), "text/plain; version=0.0.4") {
		t.Errorf("plain: %s", plain.Header().Get("Content-Type"))
	}
	r := httptest.NewRequest("GET", "/metrics", nil)
	r.Header.Set("Accept", "application/openmetrics-text; version=1.0.0")
	w := httptest.NewRecorder()
	s.Monitoring().ServeHTTP(w, r)
	if !strings.HasPrefix(w.Header().Get("Content-Type"), "application/openmetrics-text") || !strings.HasSuffix(w.Body.String(), "# EOF\n") {
		t.Errorf("OpenMetrics: %s", w.Header().Get("Content-Type"))
	}
	var _ prometheus.Collector = newGRPC(false)
}
