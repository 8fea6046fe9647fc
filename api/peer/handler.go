package peer

import (
	"context"
	"encoding/json"
	"fmt"
	"net/http"
	"strconv"

	"go.uber.org/zap"

	"keelson/state/auth"
	"keelson/state/members"
)

// HandlerOptions are the parts of a Handler. All are required.
type HandlerOptions struct {
	Member  Member
	Cluster Cluster
	Lessor  *Lessor
	Store   Store
	// Caller finds out on whose behalf a request is made, by the token in the context's metadata. Errors: those of
	// package identity.
	Caller func(ctx context.Context) (auth.Caller, error)
	// Versions are what /version shows.
	Versions func() Versions
	Log      *zap.Logger
}

// Versions are what /version shows.
type Versions struct {
	Server  string // our API level, such as 3.7.1
	Cluster string // empty: not decided yet
	Storage string // empty: not known yet
	// Downgrading: the cluster is on its way to an earlier version.
	Downgrading bool
}

// Handler answers other members on the peer port.
type Handler struct {
	o      HandlerOptions
	mux    *http.ServeMux
	hashes chan struct{} // capacity 1: held by whoever has a hash computed
}

// NewHandler makes a handler. Paths it does not know get 404; the server mounts the streams beside it.
func NewHandler(o HandlerOptions) *Handler {
	h := &Handler{o: o, mux: http.NewServeMux(), hashes: make(chan struct{}, 1)}
	h.handle("/members", http.MethodGet, h.members)
	h.handle("/members/promote/", http.MethodPost, h.promote)
	h.handle("/members/hashkv", http.MethodGet, h.hashKV)
	h.handle("/leases", http.MethodPost, h.renewLeases)
	h.handle("/leases/internal", http.MethodPost, h.leaseTimes)
	h.handle("/version", http.MethodGet, h.version)
	h.handle("/downgrade/enabled", http.MethodGet, h.downgradeEnabled)
	return h
}

// handle registers a path that has one method.
func (h *Handler) handle(path, method string, serve http.HandlerFunc) {
	h.mux.HandleFunc(path, func(w http.ResponseWriter, r *http.Request) {
		if r.Method != method {
			w.Header().Set("Allow", method)
			http.Error(w, "Method Not Allowed", http.StatusMethodNotAllowed)
			return
		}
		serve(w, r)
	})
}

// ServeHTTP implements http.Handler. Every reply names the cluster; a request for another one is refused.
func (h *Handler) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	local := strconv.FormatUint(h.o.Member.Status().ClusterID, 16)
	w.Header().Set(clusterHeader, local)
	if asked := r.Header.Get(clusterHeader); asked != "" && asked != local {
		h.o.Log.Warn("request cluster ID mismatch",
			zap.String("local-member-cluster-id", local), zap.String("remote-peer-cluster-id", asked),
			zap.String("remote-address", r.RemoteAddr), zap.String("path", r.URL.Path))
		writeError(w, ErrOtherCluster)
		return
	}
	h.mux.ServeHTTP(w, r)
}

// memberJSON is a member as the peer port shows it.
type memberJSON struct {
	ID         uint64   `json:"id"`
	PeerURLs   []string `json:"peerURLs"`
	IsLearner  bool     `json:"isLearner,omitempty"`
	Name       string   `json:"name,omitempty"`
	ClientURLs []string `json:"clientURLs,omitempty"`
}

// members lists the members as this one knows them.
func (h *Handler) members(w http.ResponseWriter, _ *http.Request) {
	v := h.o.Member.ReadLocal()
	defer v.Close()
	writeMembers(w, v.Members().List())
}

func writeMembers(w http.ResponseWriter, list []members.Member) {
	out := make([]memberJSON, len(list))
	for i, m := range list {
		out[i] = memberJSON{m.ID, m.PeerURLs, m.IsLearner, m.Name, m.ClientURLs}
	}
	writeJSON(w, out)
}

// parseMembers reads what writeMembers wrote.
func parseMembers(b []byte) ([]members.Member, error) {
	var in []memberJSON
	if err := json.Unmarshal(b, &in); err != nil {
		return nil, err
	}
	list := make([]members.Member, len(in))
	for i, m := range in {
		list[i] = members.Member{ID: m.ID, Name: m.Name, PeerURLs: m.PeerURLs, ClientURLs: m.ClientURLs, IsLearner: m.IsLearner}
	}
	return list, nil
}

func writeJSON(w http.ResponseWriter, v any) {
	b, err := json.Marshal(v)
	if err != nil {
		panic("peer: " + err.Error()) // numbers, strings and lists of them always encode
	}
	w.Header().Set("Content-Type", "application/json")
	w.Write(b)
}

// version answers as /version of the client port does.
func (h *Handler) version(w http.ResponseWriter, _ *http.Request) {
	v := h.o.Versions()
	if v.Cluster == "" {
		v.Cluster = "not_decided"
	}
	if v.Storage == "" {
		v.Storage = "unknown"
	}
	writeJSON(w, struct {
		Server  string `json:"etcdserver"`
		Cluster string `json:"etcdcluster"`
		Storage string `json:"storage"`
	}{v.Server, v.Cluster, v.Storage})
}

// downgradeEnabled says whether the cluster is on its way to an earlier version.
func (h *Handler) downgradeEnabled(w http.ResponseWriter, _ *http.Request) {
	w.Header().Set("Content-Type", "text/plain; charset=utf-8")
	fmt.Fprint(w, h.o.Versions().Downgrading)
}
