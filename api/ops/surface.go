package ops

import (
	"encoding/json"
	"net/http"
	"net/http/pprof"

	"go.uber.org/zap"
	"golang.org/x/net/trace"
)

const (
	contentTypeText = "text/plain; charset=utf-8"
	contentTypeJSON = "application/json"
)

// Versions are what /version shows.
type Versions struct {
	Server  string // our API level, such as 3.7.1
	Cluster string // empty: not decided yet
	Storage string // empty: not known yet
}

// Parts are what a Surface needs. All fields are needed unless their comment says otherwise.
type Parts struct {
	Options  Options
	Debug    bool // the log is at level debug, which opens profiles and traces
	Member   Member
	Metrics  *Metrics
	Versions func() Versions
	Raft     func() any // the status shown in /debug/vars, as something JSON can encode
	Log      *zap.Logger
}

// Surface is the operational endpoints of one member.
type Surface struct {
	member   Member
	metrics  *Metrics
	versions func() Versions
	raft     func() any
	log      *zap.Logger

	client, monitoring http.Handler
}

// NewSurface makes the endpoints.
func NewSurface(p Parts) *Surface {
	s := &Surface{member: p.Member, metrics: p.Metrics, versions: p.Versions, raft: p.Raft, log: p.Log}
	scrape := p.Metrics.handler()

	monitoring := http.NewServeMux()
	s.registerMonitoring(monitoring, scrape)
	s.monitoring = monitoring

	client := http.NewServeMux()
	s.registerMonitoring(client, scrape)
	client.HandleFunc("/version", s.version)
	client.HandleFunc("/debug/vars", s.vars)
	if p.Options.Profiling || p.Debug {
		registerProfiles(client)
	}
	if p.Debug {
		client.HandleFunc("/debug/requests", trace.Traces)
		client.HandleFunc("/debug/events", trace.Events)
	}
	s.client = client
	return s
}

// Client is the handler for client listeners: everything. Paths it does not know get 404.
func (s *Surface) Client() http.Handler { return s.client }

// Monitoring is the handler for listeners that serve metrics and health only.
func (s *Surface) Monitoring() http.Handler { return s.monitoring }

func (s *Surface) registerMonitoring(mux *http.ServeMux, scrape http.Handler) {
	mux.Handle("/metrics", scrape)
	mux.HandleFunc("/health", s.health)
	s.registerChecks(mux, "livez", liveChecks)
	s.registerChecks(mux, "readyz", readyChecks)
}

// version answers /version.
//
// Source: v3 API specification, 9.6.
func (s *Surface) version(w http.ResponseWriter, r *http.Request) {
	if !onlyGet(w, r) {
		return
	}
	v := s.versions()
	body := struct {
		Server  string `json:"etcdserver"`
		Cluster string `json:"etcdcluster"`
		Storage string `json:"storage"`
	}{v.Server, v.Cluster, v.Storage}
	if body.Cluster == "" {
		body.Cluster = "not_decided"
	}
	if body.Storage == "" {
		body.Storage = "unknown"
	}
	data, err := json.Marshal(body)
	if err != nil {
		panic("ops: version: " + err.Error()) // three strings always encode
	}
	w.Header().Set("Content-Type", contentTypeJSON)
	w.Write(data)
}

func registerProfiles(mux *http.ServeMux) {
	mux.HandleFunc("/debug/pprof/", pprof.Index)
	mux.HandleFunc("/debug/pprof/cmdline", pprof.Cmdline)
	mux.HandleFunc("/debug/pprof/profile", pprof.Profile)
	mux.HandleFunc("/debug/pprof/symbol", pprof.Symbol)
	mux.HandleFunc("/debug/pprof/trace", pprof.Trace)
	for _, name := range []string{"heap", "goroutine", "threadcreate", "block", "mutex"} {
		mux.Handle("/debug/pprof/"+name, pprof.Handler(name))
	}
}
