package v2

import (
	"net/http"

	"keelson/state/tree"
)

// wait answers a long poll: headers at once, then the first event that matches, or with stream all of them. If the wait
// has to end before, the body ends without one, and clients ask again.
//
// Source: v2 API specification, 9.
func (h *Handler) wait(w http.ResponseWriter, r *http.Request, q *request) {
	waiter, index, refusal, err := h.hub.await(q.path, q.recursive, q.stream, q.waitIndex)
	if err != nil {
		refusal = failureOf(err)
	}
	if refusal != nil {
		writeError(w, refusal)
		return
	}
	h.setHeaders(w.Header(), index)
	parks := !q.stream && r.ProtoMajor == 1 && r.ProtoAtLeast(1, 1) && !h.hub.isServed(waiter)
	if parks {
		w.Header().Set("Connection", "close")
	}
	w.WriteHeader(http.StatusOK)
	out := http.NewResponseController(w)
	if out.Flush() != nil {
		h.hub.leave(waiter)
		return
	}
	if parks {
		if conn, _, err := out.Hijack(); err == nil {
			h.park(conn, q, waiter)
			return
		}
	}
	h.serveWait(w, r, q, waiter, out)
}

// serveWait writes what comes for a waiter until its wait has ended.
func (h *Handler) serveWait(w http.ResponseWriter, r *http.Request, q *request, waiter *waiter, out *http.ResponseController) {
	defer func() { h.hub.leave(waiter) }()
	for {
		events, ended := h.hub.take(waiter)
		for _, e := range events {
			if _, err := w.Write(appendEvent(nil, e)); err != nil {
				return
			}
		}
		if len(events) > 0 && out.Flush() != nil {
			return
		}
		switch ended {
		case notEnded:
		case endedReset:
			if waiter = h.again(q, waiter, events); waiter == nil {
				return
			}
			continue
		default:
			return
		}
		select {
		case <-waiter.ready:
		case <-r.Context().Done():
			return
		}
	}
}

// again registers a wait anew, from where it stood. It is nil if what was missed can't be found out any more.
func (h *Handler) again(q *request, was *waiter, got []*tree.Event) *waiter {
	from := was.since
	if len(got) > 0 {
		from = max(from, got[len(got)-1].Index()+1)
	}
	next, _, refusal, err := h.hub.await(q.path, q.recursive, q.stream, from)
	if err != nil || refusal != nil {
		return nil
	}
	return next
}
