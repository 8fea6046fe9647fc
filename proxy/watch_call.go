package proxy

import (
	"context"
	"errors"
	"io"
	"sync"
	"time"

	pb "go.etcd.io/etcd/api/v3/etcdserverpb"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/metadata"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/proto"
)

// Questions for progress are repeated, because a member that is behind does not answer them, with pauses that double.
const pauseMin, pauseMax = 50 * time.Millisecond, 5 * time.Second

var errSlowWatcher = status.Errorf(codes.Unavailable,
	"proxy: the client reads its events too slowly: more than %d MiB wait for it; watch again from the revision that was reached", replyQueueBytes>>20)

// watchCall is a client's watch stream.
type watchCall struct {
	hub      *watchHub
	ctx      context.Context // with the client's metadata for members
	metadata metadata.MD     // the part that counts for groups
	identity string
	out      *replies
	over     chan struct{} // closed by end
	once     sync.Once
	err      error // why, once over is closed

	// Guarded by hub.mu.
	watchers map[int64]*watcher // by id; without those that the client has cancelled
	lastID   int64              // given to a watcher without a wish; -1 before the first
	own      *memberStream
	byOwnID  map[int64]*watcher // those at own, until the member has said that they are cancelled
	sent     int64              // newest revision that the client was told
	known    *pb.ResponseHeader // the newest on its own stream
	asked    bool               // the client waits for progress
	// What progress is known of since asked: up to which revision the client has all of watchers in groups, and of others; 0: not yet.
	throughGroups, throughOwn int64
	retry                     *time.Timer
	pause                     time.Duration
	closed                    bool
}

// watcher is one of a client.
type watcher struct {
	position // at the client's own stream to a member
	call     *watchCall
	id       int64 // as the client knows it
	ownID    int64 // at that stream; 0: it is in a group
	create   *pb.WatchCreateRequest
	what     string
	silent   bool   // that it was created there is not news for the client
	alone    bool   // it stays there
	waits    *group // it is on its way into this one
	group    *group // it is in this one
	from     int64  // and gets events from this revision on
}

// serve is the handler of a watch stream.
func (h *watchHub) serve(client grpc.ServerStream, change func([]byte) ([]byte, error)) error {
	ctx, cancel := context.WithCancel(forwarded(client.Context()))
	defer cancel()
	c := &watchCall{
		hub: h, ctx: ctx, over: make(chan struct{}), watchers: map[int64]*watcher{}, byOwnID: map[int64]*watcher{}, lastID: -1, pause: pauseMin,
	}
	c.metadata, c.identity = identityOf(ctx)
	c.out = newReplies(c.over)
	c.retry = time.AfterFunc(pauseMax, c.repeat)
	c.retry.Stop()
	go func() { // until the call has ended: this handler's return ends what it waits for
		if err := c.out.send(client); err != nil {
			c.end(err)
		}
	}()
	go func() { // likewise
		// A client that asks no more goes on being told.
		if err := c.receive(client, change); !errors.Is(err, io.EOF) {
			c.end(err)
		}
	}()
	select {
	case <-c.over:
	case <-client.Context().Done():
		c.end(status.FromContextError(client.Context().Err()).Err())
	}
	c.leave()
	return c.err
}

// end ends the call. Only the first reason counts.
func (c *watchCall) end(err error) {
	c.once.Do(func() {
		c.err = err
		close(c.over)
	})
}

// leave gives back everything that the call has.
func (c *watchCall) leave() {
	c.hub.mu.Lock()
	defer c.hub.mu.Unlock()
	c.closed = true
	c.retry.Stop()
	for _, list := range []map[int64]*watcher{c.watchers, c.byOwnID} {
		for _, w := range list {
			c.remove(w)
		}
	}
	if c.own != nil {
		c.own.cancel()
	}
}

// remove forgets a watcher.
func (c *watchCall) remove(w *watcher) {
	if c.watchers[w.id] == w {
		delete(c.watchers, w.id)
	}
	delete(c.byOwnID, w.ownID)
	for _, g := range []*group{w.group, w.waits} {
		if g != nil {
			g.leave(w)
		}
	}
}

// receive carries out what the client asks, until it asks no more, which is io.EOF.
func (c *watchCall) receive(client grpc.ServerStream, change func([]byte) ([]byte, error)) error {
	for c.out.room() { // who reads no answers is not asked what he wants
		var f frame
		if err := client.RecvMsg(&f); err != nil {
			return err
		}
		if change != nil {
			changed, err := change(f.bytes)
			if err != nil {
				return status.Error(codes.InvalidArgument, err.Error())
			}
			f.bytes = changed
		}
		r := new(pb.WatchRequest)
		if err := proto.Unmarshal(f.bytes, r); err != nil {
			return status.Error(codes.InvalidArgument, err.Error())
		}
		var busy *memberStream
		c.hub.mu.Lock()
		switch u := r.RequestUnion.(type) {
		case *pb.WatchRequest_CreateRequest:
			if u.CreateRequest != nil {
				c.create(u.CreateRequest)
				busy = c.own
			}
		case *pb.WatchRequest_CancelRequest:
			if u.CancelRequest != nil {
				c.cancel(u.CancelRequest.WatchId)
				busy = c.own
			}
		case *pb.WatchRequest_ProgressRequest:
			if u.ProgressRequest != nil && len(c.watchers) > 0 { // without watchers a member says nothing either
				c.asked, c.throughGroups, c.throughOwn, c.pause = true, 0, 0, pauseMin
				c.again()
			}
		}
		c.hub.mu.Unlock()
		if busy != nil {
			busy.requests.room(c.over, busy.done)
		}
	}
	return c.err
}

func (c *watchCall) create(r *pb.WatchCreateRequest) {
	id := r.WatchId
	if id == 0 {
		// Other than at a member, a creation that will be refused uses one up as well.
		for taken := true; taken; {
			c.lastID++
			_, taken = c.watchers[c.lastID]
		}
		id = c.lastID
	} else if _, taken := c.watchers[id]; taken {
		c.out.put(reply(&pb.WatchResponse{
			Header: c.header(c.sent), WatchId: noWatcher, Created: true, Canceled: true,
			CancelReason: "mvcc: duplicate watch ID provided on the WatchStream",
		}))
		return
	}
	what, shareable := watched(r)
	c.begin(&watcher{call: c, id: id, create: r, what: what, alone: !shareable})
}

// begin has a watcher created at the client's own stream.
func (c *watchCall) begin(w *watcher) {
	w.ownID = c.ownStream().create(w.create)
	c.watchers[w.id], c.byOwnID[w.ownID] = w, w
	c.throughOwn = 0
}

// goOn has a watcher whose group is gone go on at the client's own stream from a revision.
func (c *watchCall) goOn(w *watcher, next int64) {
	w.create = proto.Clone(w.create).(*pb.WatchCreateRequest)
	w.create.StartRevision = next
	w.position, w.from, w.silent = position{}, 0, true
	c.begin(w)
}

// header is for replies that no member has made.
func (c *watchCall) header(revision int64) *pb.ResponseHeader {
	h := &pb.ResponseHeader{Revision: revision}
	if c.known != nil {
		h = proto.Clone(c.known).(*pb.ResponseHeader)
	}
	if s := c.hub.shared[c.identity]; s != nil {
		h.Revision = max(h.Revision, s.header.GetRevision())
	}
	h.Revision = max(h.Revision, revision)
	return h
}

// ownStream is the client's own stream to a member.
func (c *watchCall) ownStream() *memberStream {
	if c.own == nil {
		var m *memberStream
		m = c.hub.openMember(c.ctx, func(r *pb.WatchResponse, raw []byte) {
			if !c.out.room() { // a slow client makes its own member wait
				return
			}
			c.hub.mu.Lock()
			defer c.hub.mu.Unlock()
			if c.own == m && !c.closed {
				c.receiveOwn(r, raw)
			}
		}, func(err error) {
			c.hub.mu.Lock()
			defer c.hub.mu.Unlock()
			if c.own == m {
				c.end(err)
			}
		})
		c.own = m
	}
	return c.own
}

func (c *watchCall) cancel(id int64) {
	w := c.watchers[id]
	switch {
	case w == nil: // a member says nothing either
	case w.group != nil:
		c.remove(w)
		c.out.put(reply(&pb.WatchResponse{Header: c.header(c.sent), WatchId: id, Canceled: true}))
	default:
		// Its id is free for the next creation at once: the member carries out requests in their order, too.
		delete(c.watchers, id)
		w.alone = true
		c.own.requests.cancel(w.ownID)
	}
}

// receiveOwn takes a message of the client's own stream.
func (c *watchCall) receiveOwn(r *pb.WatchResponse, raw []byte) {
	id := r.WatchId
	if r.Header.GetRevision() > 0 {
		c.known = r.Header
	}
	if r.Created {
		id = c.own.answered(r)
	} else if id == noWatcher && !r.Canceled {
		c.progressOfOwn(r.Header)
		return
	}
	w := c.byOwnID[id]
	switch {
	case w == nil && id == noWatcher:
		c.out.put(frame{bytes: raw})
		return
	case w == nil:
		return // it is in a group, which tells the same
	}
	isSilent := r.Created && w.silent
	if isSilent && r.Canceled {
		c.end(status.Errorf(codes.Unavailable, "proxy: a watch has to begin anew, and is refused: %s", r.CancelReason))
		return
	}
	shown := w.id
	if r.WatchId == noWatcher {
		shown = noWatcher
	}
	switch {
	case r.Canceled:
		c.remove(w)
		if r.CompactRevision > 0 {
			c.own.requests.cancel(id) // until then the member does not tell of progress
		}
	case r.Created:
		w.begin(w.create.StartRevision, r.Header.GetRevision(), c.own.unanswered())
		c.pause = pauseMin
		if !w.alone {
			c.again()
		}
	case !r.Fragment:
		w.advance(r)
	}
	if !r.Created {
		c.sent = max(c.sent, r.Header.GetRevision())
	}
	if isSilent {
		w.silent = false
	} else {
		c.out.put(withID(withoutID(raw), shown))
	}
	c.closeOwn()
}

// tell hands on what a group was told.
func (c *watchCall) tell(id int64, rest []byte, revision int64) {
	if !c.out.push(withID(rest, id)) {
		c.end(errSlowWatcher)
		return
	}
	c.sent = max(c.sent, revision)
}

// progressOfOwn takes what the client's own stream says about all watchers on it.
func (c *watchCall) progressOfOwn(h *pb.ResponseHeader) {
	rev, all := h.GetRevision(), true
	c.own.answers++
	defer func() {
		for _, w := range c.byOwnID {
			w.stale--
		}
	}()
	for _, w := range c.byOwnID {
		all = all && w.covers(rev)
	}
	if c.asked && all {
		c.throughOwn = rev
		c.settle(h)
	}
	for id, w := range c.byOwnID {
		if w.alone || !w.covers(rev) {
			continue
		}
		g := w.waits
		if g == nil {
			g = c.hub.want(w)
		}
		if g.join(w, rev) {
			c.own.requests.cancel(id)
			delete(c.byOwnID, id)
			w.ownID = 0
			c.throughGroups = 0 // it did not speak for this one
		}
	}
	c.schedule()
	c.closeOwn()
}

// progressOfGroups takes what the stream of groups says about all of them.
func (c *watchCall) progressOfGroups(h *pb.ResponseHeader) {
	if !c.asked {
		return
	}
	for _, w := range c.watchers {
		if w.group != nil && !w.group.covers(h.GetRevision()) {
			return
		}
	}
	c.throughGroups = h.GetRevision()
	c.settle(h)
}

// needs says whose progress an answer to the client takes.
func (c *watchCall) needs() (groups, own bool) {
	for _, w := range c.watchers {
		if w.group != nil {
			groups = true
			break
		}
	}
	return groups, len(c.byOwnID) > 0
}

// settle answers the client that asked for progress, if everything up to some revision has been put for it. Not after what is
// newer than that: to clients revisions only grow.
func (c *watchCall) settle(h *pb.ResponseHeader) {
	groups, own := c.needs()
	if groups && c.throughGroups == 0 || own && c.throughOwn == 0 {
		return
	}
	rev := h.GetRevision()
	if groups {
		rev = min(rev, c.throughGroups)
	}
	if own {
		rev = min(rev, c.throughOwn)
	}
	if rev < c.sent {
		c.throughGroups, c.throughOwn = 0, 0
		return
	}
	c.asked, c.sent = false, rev
	h = proto.Clone(h).(*pb.ResponseHeader)
	h.Revision = rev
	c.out.put(reply(&pb.WatchResponse{Header: h, WatchId: noWatcher}))
}

// again asks for progress: for the client, and for watchers that could be joined.
func (c *watchCall) again() {
	if c.closed {
		return
	}
	groups, own := c.needs()
	c.asked = c.asked && (groups || own)
	if c.asked && groups {
		if s := c.hub.shared[c.identity]; s != nil {
			s.requests.ask()
		}
	}
	if c.asked && own || c.joinable() {
		c.ownStream().requests.ask()
	}
	c.schedule()
}

func (c *watchCall) joinable() bool {
	for _, w := range c.byOwnID {
		if w.created && !w.alone {
			return true
		}
	}
	return false
}

// schedule has the question repeated as long as something waits for its answer.
func (c *watchCall) schedule() {
	if c.closed || !c.asked && !c.joinable() {
		c.retry.Stop()
		return
	}
	c.retry.Reset(c.pause)
}

func (c *watchCall) repeat() {
	c.hub.mu.Lock()
	defer c.hub.mu.Unlock()
	c.pause = min(2*c.pause, pauseMax)
	c.again()
}

// closeOwn closes the client's own stream when it has no use any more.
func (c *watchCall) closeOwn() {
	if c.own != nil && len(c.byOwnID) == 0 {
		c.own.cancel()
		c.own = nil
	}
}
