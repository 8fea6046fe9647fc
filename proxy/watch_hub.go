package proxy

import (
	"context"
	"slices"
	"sync"

	pb "go.etcd.io/etcd/api/v3/etcdserverpb"
	"google.golang.org/grpc/metadata"
	"google.golang.org/protobuf/proto"
)

// noWatcher is the watch id of what is about no watcher: refusals, and progress of a whole stream.
const noWatcher = -1

// watchHub joins watchers of several clients that watch the same into one towards the cluster.
//
//	create ──► at the client's own stream to a member ──► in a group
//	             every reply is the member's                once progress says that nothing before
//	             (refusals, the past, compactions)          what the group will tell is missing
//
// A watcher is joined when the group's watcher exists and has told nothing beyond the revision up to which the watcher's own
// stream is known to be complete. From there on it gets what the group gets, but for events that it has had. So it makes no
// difference to it when, or whether, it is joined. A client's own stream is closed when all its watchers are in groups.
//
// A group belongs to clients that show the same token: the member decides with it what may be watched, and ends the watch when
// that right is gone. Watchers that asked for fragments stay alone.
//
// mu guards everything here, in groups, and in calls but for their queues. Under it nothing waits: messages are put into queues.
type watchHub struct {
	open    opener
	change  func([]byte) ([]byte, error) // of replies; nil: none
	metrics *watchMetrics

	mu     sync.Mutex
	shared map[string]*sharedStream // by who clients say they are
}

func newWatchHub(open opener, change func([]byte) ([]byte, error), metrics *watchMetrics) *watchHub {
	return &watchHub{open: open, change: change, metrics: metrics, shared: map[string]*sharedStream{}}
}

// sharedStream is the stream to a member for the groups of clients with one identity.
type sharedStream struct {
	*memberStream
	hub      *watchHub
	identity string
	groups   map[string]*group // by what they watch
	byID     map[int64]*group
	calls    map[*watchCall]int // with the number of their watchers in groups
	header   *pb.ResponseHeader // the newest
}

// group is one watcher at a member, and those who get what it gets.
type group struct {
	position
	stream  *sharedStream
	what    string
	id      int64
	members map[*watcher]struct{}
	waiting map[*watcher]struct{} // for it to be created, and for progress
}

// identities are the parts of a call's metadata that decide what its stream may do.
var identities = []string{"token", "authorization", "hasleader"}

// identityOf returns the metadata for a stream that is opened for all who show the same, and the same as a string.
func identityOf(ctx context.Context) (metadata.MD, string) {
	all, _ := metadata.FromOutgoingContext(ctx)
	md := metadata.MD{}
	var key []byte
	for _, name := range identities {
		for _, v := range all[name] {
			md.Append(name, v)
			key = append(append(append(append(key, name...), 0), v...), 0)
		}
	}
	return md, string(key)
}

// watched is what a request watches and how, as a string; shareable says whether others may share it.
func watched(c *pb.WatchCreateRequest) (what string, shareable bool) {
	c = proto.Clone(c).(*pb.WatchCreateRequest)
	c.WatchId, c.StartRevision = 0, 0
	slices.Sort(c.Filters)
	c.Filters = slices.Compact(c.Filters)
	raw, err := proto.MarshalOptions{Deterministic: true}.Marshal(c)
	return string(raw), err == nil && !c.Fragment
}

// want has w wait for the group of what it watches, which is made if there is none.
func (h *watchHub) want(w *watcher) *group {
	call := w.call
	s := h.shared[call.identity]
	if s == nil {
		s = &sharedStream{
			hub: h, identity: call.identity, groups: map[string]*group{}, byID: map[int64]*group{}, calls: map[*watchCall]int{},
		}
		// It outlives the call that it was opened for.
		ctx := metadata.NewOutgoingContext(context.WithoutCancel(call.ctx), call.metadata)
		s.memberStream = h.openMember(ctx, s.receive, s.ended)
		h.shared[call.identity] = s
	}
	g := s.groups[w.what]
	if g == nil {
		g = &group{stream: s, what: w.what, members: map[*watcher]struct{}{}, waiting: map[*watcher]struct{}{}}
		c := proto.Clone(w.create).(*pb.WatchCreateRequest)
		c.StartRevision = 0 // what comes next: of a watcher from a revision to come a member tells no progress
		g.id = s.create(c)
		s.groups[w.what], s.byID[g.id] = g, g
	}
	g.waiting[w] = struct{}{}
	w.waits = g
	return g
}

// join makes w a member, which has had every event up to rev. False: not yet.
func (g *group) join(w *watcher, rev int64) bool {
	if !g.created || g.next > rev+1 {
		return false
	}
	delete(g.waiting, w)
	g.members[w] = struct{}{}
	g.stream.calls[w.call]++
	g.stream.hub.metrics.watchers.Inc()
	w.waits, w.group, w.from = nil, g, max(rev+1, w.next)
	return true
}

// leave takes w out, and ends what nobody needs any more.
func (g *group) leave(w *watcher) {
	s := g.stream
	if _, ok := g.members[w]; ok {
		delete(g.members, w)
		if s.calls[w.call]--; s.calls[w.call] == 0 {
			delete(s.calls, w.call)
		}
		s.hub.metrics.watchers.Dec()
	}
	delete(g.waiting, w)
	w.group, w.waits = nil, nil
	if len(g.members) > 0 || len(g.waiting) > 0 || s.byID[g.id] != g {
		return
	}
	s.drop(g)
	s.requests.cancel(g.id)
	if len(s.groups) == 0 {
		s.close()
	}
}

func (s *sharedStream) drop(g *group) {
	delete(s.byID, g.id)
	delete(s.groups, g.what)
}

func (s *sharedStream) close() {
	if s.hub.shared[s.identity] == s {
		delete(s.hub.shared, s.identity)
	}
	s.cancel()
}

// receive hands a member's message to those it is for.
func (s *sharedStream) receive(r *pb.WatchResponse, raw []byte) {
	s.hub.mu.Lock()
	defer s.hub.mu.Unlock()
	s.header = r.Header
	if r.Created {
		s.created(r)
		return
	}
	if r.WatchId == noWatcher && !r.Canceled {
		for call := range s.calls {
			call.progressOfGroups(r.Header)
		}
		return
	}
	g := s.byID[r.WatchId]
	switch {
	case g == nil: // it was left by all
	case r.Canceled:
		g.canceled(r, raw)
	default:
		g.tell(r, raw)
	}
}

func (s *sharedStream) created(r *pb.WatchResponse) {
	g := s.byID[s.answered(r)]
	switch {
	case g == nil:
	case r.Canceled:
		// Their own watchers tell them why, if it is about them as well.
		s.drop(g)
		for w := range g.waiting {
			w.waits, w.alone = nil, true
		}
		if len(s.groups) == 0 {
			s.close()
		}
	default:
		g.begin(0, r.Header.GetRevision(), 0)
		for w := range g.waiting {
			w.call.again()
		}
	}
}

// canceled ends the watchers of a group, for the reason that the member gave. Its compaction is none of those that had come further
// than the group when they were joined: the group's member may have been behind the one that they come from.
func (g *group) canceled(r *pb.WatchResponse, raw []byte) {
	s := g.stream
	s.drop(g)
	if r.CompactRevision > 0 {
		s.requests.cancel(g.id) // until then the member does not tell of progress
	}
	rest := withoutID(raw)
	for w := range g.waiting {
		w.waits = nil // it finds, or makes, another one
	}
	for w := range g.members {
		w.call.remove(w)
		if next := max(w.from, g.next); r.CompactRevision > 0 && next >= r.CompactRevision {
			w.call.goOn(w, next)
			continue
		}
		w.call.out.put(withID(rest, w.id))
	}
	if len(s.groups) == 0 {
		s.close()
	}
}

// tell hands events, or progress, to the members.
func (g *group) tell(r *pb.WatchResponse, raw []byte) {
	g.advance(r)
	rest := withoutID(raw)
	if len(r.Events) > 0 && len(g.members) > 1 {
		g.stream.hub.metrics.events.Add(float64(len(r.Events) * (len(g.members) - 1)))
	}
	for w := range g.members {
		if len(r.Events) == 0 && r.Header.GetRevision() < w.from-1 {
			continue // the group's member is behind the one that w was joined from
		}
		part := rest
		if len(r.Events) > 0 && r.Events[0].Kv.ModRevision < w.from {
			var err error
			if part, err = since(r, w.from); err != nil {
				w.call.end(err)
				continue
			}
		}
		if part != nil {
			w.call.tell(w.id, part, r.Header.GetRevision())
		}
	}
}

// ended ends the calls that depended on the stream: their clients watch again from where they are.
func (s *sharedStream) ended(err error) {
	s.hub.mu.Lock()
	defer s.hub.mu.Unlock()
	s.close()
	for _, g := range s.groups {
		for w := range g.waiting {
			w.waits = nil
		}
	}
	for call := range s.calls {
		call.end(err)
	}
}
