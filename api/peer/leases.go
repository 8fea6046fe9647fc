package peer

import (
	"context"
	"errors"
	"io"
	"net/http"
	"sync"
	"sync/atomic"
	"time"

	pb "go.etcd.io/etcd/api/v3/etcdserverpb"
	"google.golang.org/protobuf/proto"

	"keelson/node"
	"keelson/state"
	"keelson/state/lease"
)

const (
	// renewalsMax is how many renewals go into one call.
	renewalsMax = 8192
	// renewalPatience is how long a call waits for renewals that can't be decided at once. They are asked for again in a
	// later call, so that others don't wait behind them.
	renewalPatience = 100 * time.Millisecond
	// renewalWorkers is how many renewals of one call may wait at the same time.
	renewalWorkers = 64
	// leaseBodyBytesMax bounds the body of a request about leases.
	leaseBodyBytesMax = renewalsMax * renewalBytesMax
)

// renewLeases renews leases for members that do not lead.
func (h *Handler) renewLeases(w http.ResponseWriter, r *http.Request) {
	body, ok := readBody(w, r, leaseBodyBytesMax)
	if !ok {
		return
	}
	ids, err := parseRenewals(body)
	if err != nil {
		http.Error(w, err.Error(), http.StatusBadRequest)
		return
	}
	if !h.o.Member.Status().Leading {
		writeError(w, node.ErrNotLeader)
		return
	}
	var reply []byte
	for _, one := range h.renewAll(r.Context(), ids) {
		reply = appendRenewed(reply, one)
	}
	w.Header().Set("Content-Type", "application/protobuf")
	w.Write(reply)
}

// renewAll renews leases, a few at a time. Most are decided at once; one that is not by the time the patience has run out
// is answered with an error.
func (h *Handler) renewAll(ctx context.Context, ids []lease.ID) []renewed {
	ctx, cancel := context.WithTimeout(ctx, renewalPatience)
	defer cancel()
	out := make([]renewed, len(ids))
	var next atomic.Int64
	var done sync.WaitGroup
	for range min(len(ids), renewalWorkers) {
		done.Go(func() {
			for i := int(next.Add(1)) - 1; i < len(ids); i = int(next.Add(1)) - 1 {
				out[i] = h.renewOne(ctx, ids[i])
			}
		})
	}
	done.Wait()
	return out
}

func (h *Handler) renewOne(ctx context.Context, id lease.ID) renewed {
	ttl, err := h.o.Lessor.renewHere(ctx, id)
	if errors.Is(err, state.ErrLeaseNotFound) {
		return renewed{id: id}
	}
	return renewed{id: id, ttlSeconds: ttl, err: err}
}

// leaseTimes tells members that do not lead how a lease stands. One that is not there has the TTL -1 and was granted none.
func (h *Handler) leaseTimes(w http.ResponseWriter, r *http.Request) {
	body, ok := readBody(w, r, leaseBodyBytesMax)
	if !ok {
		return
	}
	var ask pb.LeaseTimeToLiveRequest
	if err := proto.Unmarshal(body, &ask); err != nil {
		http.Error(w, err.Error(), http.StatusBadRequest)
		return
	}
	if !h.o.Member.Status().Leading {
		writeError(w, node.ErrNotLeader)
		return
	}
	t, ok, err := h.o.Lessor.timesHere(r.Context(), lease.ID(ask.ID))
	if err != nil {
		writeError(w, err)
		return
	}
	reply := &pb.LeaseTimeToLiveResponse{ID: ask.ID, TTL: -1}
	if ok {
		reply.TTL, reply.GrantedTTL = t.RemainingSeconds, t.TTLSeconds
	}
	b, err := proto.Marshal(reply)
	if err != nil {
		panic("peer: " + err.Error()) // three numbers always encode
	}
	w.Header().Set("Content-Type", "application/protobuf")
	w.Write(b)
}

// readBody reads the body of a request up to a bound. If that fails it has replied.
func readBody(w http.ResponseWriter, r *http.Request, bytesMax int64) (body []byte, ok bool) {
	body, err := io.ReadAll(http.MaxBytesReader(w, r.Body, bytesMax))
	if err == nil {
		return body, true
	}
	status := http.StatusBadRequest
	var tooLarge *http.MaxBytesError
	if errors.As(err, &tooLarge) {
		status = http.StatusRequestEntityTooLarge
	}
	http.Error(w, "error reading body", status)
	return nil, false
}
