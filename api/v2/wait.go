package v2

import (
	"net/http"

	"keelson/state/tree"
)

// wait answers a long poll: headers at once, then the first event that matches, or with stream all of them. If the wait
// has to end before, the body ends without one, and clients ask again.
//
// Source: v2 API specification, 9.
func (h *Handler) wait(q *request, out outlet) {
	waiter, index, refusal, err := h.hub.await(q.path, q.recursive, q.stream, q.waitIndex)
	if err != nil {
		refusal = failureOf(err)
	}
	if refusal != nil {
		writeError(out, refusal)
		return
	}
	out.poll(h.head(index), q, waiter)
}

// poll writes what comes for a waiter until its wait has ended.
func (o *httpOutlet) poll(head answerHead, q *request, waiter *waiter) {
	h := o.h
	defer func() { h.hub.leave(waiter) }()
	o.begin(head)
	out := http.NewResponseController(o.w)
	if out.Flush() != nil {
		return
	}
	for {
		events, ended := h.hub.take(waiter)
		if len(events) > 0 {
			if _, err := o.w.Write(appendEvents(nil, events)); err != nil || out.Flush() != nil {
				return
			}
		}
		switch ended {
		case notEnded:
		case endedReset:
			next := h.again(q, waiter, events)
			if next == nil {
				return
			}
			waiter = next
			continue
		default:
			return
		}
		select {
		case <-waiter.ready:
		case <-o.r.Context().Done():
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
