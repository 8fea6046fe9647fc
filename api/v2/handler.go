package v2

import (
	"net/http"
	"slices"
	"strconv"
	"strings"

	"go.uber.org/zap/zapcore"

	"keelson/env"
)

// Options are the parts of a Handler. All fields are needed unless their comment says otherwise.
type Options struct {
	Member  Member
	Cluster Cluster
	Hub     *Hub
	Clock   env.Clock
	Stats   *Stats

	ClusterID uint64
	// Access decides who may do what; nil: everybody may.
	Access *Access
	// Quota bounds the store; nil: nothing does.
	Quota Quota
	// Corrupt reports whether this member's state is known to be wrong; nil: never.
	Corrupt func() bool
	// Token makes the name of a new registry, which nobody can guess; nil: none can be made.
	Token func() string
	// SetLogLevel changes the lowest level that is logged; nil: it stays as it is.
	SetLogLevel func(zapcore.Level)
	// Fields are header lines, each with its end, that answers of ServeHTTP1 have beside their own; may be empty.
	Fields string
}

// Handler answers requests under /v2/.
type Handler struct {
	o         Options
	hub       *Hub
	forms     largeForms
	clusterID []string // as a header
	fields    []byte   // header lines of every answer by ServeHTTP1
}

// NewHandler makes a handler.
func NewHandler(o Options) *Handler {
	id := strconv.FormatUint(o.ClusterID, 16)
	return &Handler{
		o: o, hub: o.Hub, forms: make(largeForms, largeFormsMax), clusterID: []string{id},
		fields: []byte(o.Fields + "Content-Type: application/json\r\nX-Etcd-Cluster-Id: " + id + "\r\n"),
	}
}

// Serves reports whether a path is under /v2, or is one of those that belong to it.
func Serves(path string) bool {
	return path == "/v2" || strings.HasPrefix(path, "/v2/") || path == newTokenPath || path == logPath
}

// ServeHTTP answers a request for which Serves is true.
func (h *Handler) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	path := r.URL.Path
	switch {
	case under(path, keysPrefix):
		h.keys(w, r)
	case under(path, membersPath):
		h.members(w, r)
	case path == "/v2/machines":
		h.machines(w, r)
	case path == "/v2/stats/self", path == "/v2/stats/leader", path == "/v2/stats/store":
		h.stats(w, r, path[len("/v2/stats/"):])
	case path == newTokenPath:
		h.newToken(w, r)
	case path == logPath:
		h.logLevel(w, r)
	case under(path, authPath):
		h.auth(w, r)
	default:
		http.NotFound(w, r)
	}
}

// under reports whether a path is base or below it.
func under(path, base string) bool {
	return strings.HasPrefix(path, base) && (len(path) == len(base) || path[len(base)] == '/')
}

// allowed refuses every method but those.
//
// Source: v2 API specification, 1.
func allowed(w http.ResponseWriter, r *http.Request, methods ...string) bool {
	if slices.Contains(methods, r.Method) {
		return true
	}
	w.Header().Set("Allow", strings.Join(methods, ","))
	http.Error(w, "Method Not Allowed", http.StatusMethodNotAllowed)
	return false
}
