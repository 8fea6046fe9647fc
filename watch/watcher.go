package watch

import "keelson/state/mvcc"

// watcher is one watch of one stream.
type watcher struct {
	stream   *Stream
	id       int64
	span     span
	variant  variant
	progress bool
	fragment bool
	// asked is the start revision of the request, 0 if it named none.
	asked mvcc.Revision
	// permit is the request's; nil: nobody forbids.
	permit func() (reason string)

	// The position. It belongs to the group (group.mu) while the watcher is parked, else to whoever moves the watcher: the
	// stream's draining goroutine, or the one that catches it up.
	next   mvcc.Revision // first revision still wanted; everything before has been handed on or does not match
	number uint64        // of the batch to read next; meaningless while parked

	group    *group // of the last membership; changes only while not joined, under hub.mu
	joined   bool   // written under hub.mu and group.mu, read under either
	parkedAt int    // place in group.parked, -1: not parked; guarded by group.mu

	// Guarded by stream.mu.
	state state
	// pending counts the wakes not dealt with yet; 0 for a live watcher means that it has sent everything.
	pending int
	// held keeps a woken watcher out of the ready queue until something else of it has left first; waiting says that it
	// was woken meanwhile.
	held, waiting bool
	// notified: events were sent since the last progress tick.
	notified bool
}

type state uint8

const (
	live      state = iota // a member of its group
	behind                 // catching up; it may already be a member, but held
	compacted              // cancelled for its position; the client has not cancelled it yet
	gone                   // cancelled by the client, or not permitted any more, or its stream closed
)

// forbidden is why the watcher is to end; "": it is not.
func (w *watcher) forbidden() (reason string) {
	if w.permit == nil || w.state == compacted {
		return ""
	}
	return w.permit()
}

// awaitsStart reports whether rev lies before the revision that the client asked to start from.
func (w *watcher) awaitsStart(rev mvcc.Revision) bool { return w.asked > rev }
