package differential

import (
	"fmt"
	"slices"

	pb "go.etcd.io/etcd/api/v3/etcdserverpb"
)

// answerable reports whether a progress request must be answered: there are watchers, and each has all there is.
func (r *Run) answerable(p *pair) bool {
	some := false
	for _, e := range p.expected {
		if e.rejected || e.cancelled {
			continue
		}
		if e.compacted || e.future(r.revision) {
			return false
		}
		some = true
	}
	return some
}

func (r *Run) progress(p *pair, send func() error) (string, error) {
	if !r.answerable(p) {
		if err := send(); err != nil {
			return "", err
		}
		return r.dealtWith(p)
	}
	p.asked++
	if err := send(); err != nil {
		return "", err
	}
	answered := func(i int) bool {
		for _, reply := range p.sides[i].progressSeen()[p.checked[i]:] {
			if reply.response.Header.GetRevision() == r.revision {
				return true
			}
		}
		return false
	}
	fault := r.wait(fmt.Sprintf("a progress reply for revision %d", r.revision), func() bool {
		return answered(0) && answered(1)
	}, func() error {
		p.asked++
		return send()
	})
	if fault != "" {
		fault = fmt.Sprintf("%s (reference: %v, candidate: %v)", fault, answered(0), answered(1))
		for _, e := range p.expected {
			if !e.rejected && !e.cancelled {
				fault += fmt.Sprintf("\n    watcher %d from %d {%s}", e.id, e.start, printed(e.request))
			}
		}
		return fault, nil
	}
	// The check counts the events behind a reply in the history, which must therefore be there.
	if fault, err := r.syncHistory(); fault != "" || err != nil {
		return fault, err
	}
	if fault := r.checkProgress(p); fault != "" {
		return fault, nil
	}
	for _, e := range p.expected {
		e.caughtUp = true
	}
	return "", nil
}

// dealtWith waits until both sides have taken note of all requests on a stream: a create request that is refused is
// answered behind them. Otherwise a progress request could be looked at late, when the revision that some watcher waits
// for has come, and be answered after all.
func (r *Run) dealtWith(p *pair) (string, error) {
	if !slices.ContainsFunc(p.expected, func(e *expectation) bool { return !e.rejected && !e.cancelled && e.future(r.revision) }) {
		return "", nil
	}
	refused := &pb.WatchCreateRequest{Key: []byte("a"), StartRevision: -1}
	request := &pb.WatchRequest{RequestUnion: &pb.WatchRequest_CreateRequest{CreateRequest: refused}}
	return r.create(Op{Kind: KindWatch, Request: request}, p, refused, func() error { return r.send(p, request) })
}

func progressRequest() *pb.WatchRequest {
	return &pb.WatchRequest{RequestUnion: &pb.WatchRequest_ProgressRequest{ProgressRequest: &pb.WatchProgressRequest{}}}
}

// checkProgress verifies the progress replies not looked at before: of the stream, asked for, no revision of the
// future, and behind all events they speak for.
func (r *Run) checkProgress(p *pair) string {
	for i, st := range p.sides {
		all := st.progressSeen()
		if len(all) > p.asked {
			return fmt.Sprintf("%s: %d progress replies to %d requests that could have one", r.sides[i].name, len(all), p.asked)
		}
		for _, reply := range all[p.checked[i]:] {
			revision := reply.response.Header.GetRevision()
			if revision < 1 || revision > r.revision {
				return fmt.Sprintf("%s: at revision %d a progress reply {%s}", r.sides[i].name, r.revision, printed(reply.response))
			}
			for index, e := range p.expected {
				had, known := reply.events[st.watcherAt(index)]
				if !known || e.rejected || e.compacted {
					continue
				}
				if want := len(r.selected(e, revision)); had < want {
					return fmt.Sprintf("%s: progress %d came to watcher %d after %d of %d events", r.sides[i].name, revision, e.id, had, want)
				}
			}
		}
		p.checked[i] = len(all)
	}
	return ""
}
