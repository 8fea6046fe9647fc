package ops

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"slices"
	"strconv"
	"strings"

	"go.uber.org/zap"
)

// Member is what health depends on.
type Member interface {
	// Alarms are the names of the alarms that are raised: NOSPACE, CORRUPT.
	Alarms() []string
	// HasLeader reports whether this member knows a leader.
	HasLeader() bool
	// IsLearner reports whether this member has no vote.
	IsLearner() bool
	// Probe reads one key, without regard to users, within ctx and the request timeout: through consensus, or
	// (serializable) from what this member has.
	Probe(ctx context.Context, serializable bool) error
}

const (
	alarmNoSpace = "NOSPACE"
	alarmCorrupt = "CORRUPT"
)

// health answers /health.
//
// Source: v3 API specification, 9.4.
func (s *Surface) health(w http.ResponseWriter, r *http.Request) {
	if !onlyGet(w, r) {
		return
	}
	reason := s.unhealthy(r)
	if reason == "" {
		s.metrics.HealthSuccess.Inc()
		w.Header().Set("Content-Type", contentTypeText)
		fmt.Fprint(w, `{"health":"true","reason":""}`)
		return
	}
	s.metrics.HealthFailures.Inc()
	s.log.Warn("serving /health false", zap.String("reason", reason))
	http.Error(w, fmt.Sprintf(`{"health":"false","reason":%s}`, strconv.Quote(reason)), http.StatusServiceUnavailable)
}

// unhealthy is why the member is not healthy; empty: it is.
func (s *Surface) unhealthy(r *http.Request) string {
	query := r.URL.Query()
	serializable := query.Get("serializable") == "true"
	excluded := query["exclude"]
	for _, alarm := range s.member.Alarms() {
		if slices.Contains(excluded, alarm) {
			continue
		}
		switch alarm {
		case alarmNoSpace, alarmCorrupt:
			return "ALARM " + alarm
		}
		return "ALARM UNKNOWN"
	}
	if !serializable && !s.member.HasLeader() {
		return "RAFT NO LEADER"
	}
	if err := s.member.Probe(r.Context(), serializable); err != nil {
		return "RANGE ERROR:" + err.Error()
	}
	return ""
}

// check is one question that /livez or /readyz asks.
type check struct {
	name string
	ask  func(ctx context.Context, m Member) error
}

var (
	errCorrupt = errors.New("alarm activated: CORRUPT")
	errLearner = errors.New("not supported for learner")
)

var serializableRead = check{"serializable_read", func(ctx context.Context, m Member) error { return m.Probe(ctx, true) }}

var (
	liveChecks  = []check{serializableRead}
	readyChecks = []check{
		{"data_corruption", func(_ context.Context, m Member) error {
			if slices.Contains(m.Alarms(), alarmCorrupt) {
				return errCorrupt
			}
			return nil
		}},
		serializableRead,
		{"linearizable_read", func(ctx context.Context, m Member) error { return m.Probe(ctx, false) }},
		{"non_learner", func(_ context.Context, m Member) error {
			if m.IsLearner() {
				return errLearner
			}
			return nil
		}},
	}
)

// registerChecks answers /kind and /kind/check.
func (s *Surface) registerChecks(mux *http.ServeMux, kind string, checks []check) {
	mux.HandleFunc("/"+kind, func(w http.ResponseWriter, r *http.Request) { s.answer(w, r, kind, checks) })
	for _, c := range checks {
		mux.HandleFunc("/"+kind+"/"+c.name, func(w http.ResponseWriter, r *http.Request) { s.answer(w, r, kind, []check{c}) })
	}
}

// answer asks every check that the request does not exclude. Details are shown if something failed or on request.
//
// Source: v3 API specification, 9.5.
func (s *Surface) answer(w http.ResponseWriter, r *http.Request, kind string, checks []check) {
	if !onlyGet(w, r) {
		return
	}
	query := r.URL.Query()
	var details, failures strings.Builder
	for _, c := range checks {
		if slices.Contains(query["exclude"], c.name) {
			continue
		}
		err := c.ask(r.Context(), s.member)
		s.metrics.check(kind, c.name, err == nil)
		if err == nil {
			fmt.Fprintf(&details, "[+]%s ok\n", c.name)
			continue
		}
		fmt.Fprintf(&details, "[-]%s failed: %v\n", c.name, err)
		fmt.Fprintf(&failures, "[-]%s failed: %v\n", c.name, err)
	}
	header := w.Header()
	header.Set("Content-Type", contentTypeText)
	header.Set("X-Content-Type-Options", "nosniff")
	if failures.Len() > 0 {
		s.log.Error("Health check error", zap.String("path", r.URL.Path), zap.String("reason", failures.String()),
			zap.Int("status-code", http.StatusServiceUnavailable))
		http.Error(w, details.String(), http.StatusServiceUnavailable) // which ends with one more line, as etcd's does
		return
	}
	if query.Has("verbose") {
		fmt.Fprint(w, details.String())
	}
	fmt.Fprint(w, "ok\n")
}

// onlyGet refuses every method but GET.
func onlyGet(w http.ResponseWriter, r *http.Request) bool {
	if r.Method == http.MethodGet {
		return true
	}
	w.Header().Set("Allow", http.MethodGet)
	http.Error(w, "Method Not Allowed", http.StatusMethodNotAllowed)
	return false
}
