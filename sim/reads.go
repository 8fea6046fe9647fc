package sim

import (
	"slices"
	"time"

	"keelson/replica"
	"keelson/state"
)

// read is a linearizable read of a client, or a question of the member's own that needs as much certainty.
type read struct {
	ticket   uint64
	begun    time.Duration
	entry    uint64 // the newest entry that anybody knew of when it began
	revision int64  // the newest revision
	index    uint64 // what has to be applied
	ready    bool
	then     func()                 // nil: a client's
	look     func(view *state.View) // what a client is after; nil: anything
}

// read asks for a linearizable read.
func (m *member) read(then func()) { m.ask(&read{then: then}) }

// readWith asks for a linearizable read of a client.
func (m *member) readWith(look func(view *state.View)) { m.ask(&read{look: look}) }

func (m *member) ask(r *read) {
	m.ticket++
	r.ticket, r.begun, r.entry, r.revision = m.ticket, m.w.now, m.w.known, m.w.knownRevision
	m.reads = append(m.reads, r)
	m.step(replica.ReadIndex{Ticket: m.ticket})
}

// lookedAt is what a client sees of a view: the view, but for the bug of a member that answers from one it has kept.
func (m *member) lookedAt(view *state.View) *state.View {
	if m.w.bug("answer-from-kept-view") && len(m.views) > 0 {
		return m.views[0].view
	}
	return view
}

func (m *member) readsReady(through, index uint64) {
	for _, r := range m.reads {
		if !r.ready && r.ticket <= through {
			r.ready, r.index = true, index
		}
	}
}

// readsDropped is what becomes of reads when the leader changes: clients are told so.
func (m *member) readsDropped(through uint64) {
	m.w.reach("reads were dropped", true)
	m.reads = slices.DeleteFunc(m.reads, func(r *read) bool {
		if r.ready || r.ticket > through {
			return false
		}
		if r.then != nil {
			m.confirm = false
		}
		return true
	})
}

// serveReads answers the reads whose index is applied.
func (m *member) serveReads() {
	at := m.machine.Applied().Index
	var served []*read
	waiting := m.reads[:0]
	for _, r := range m.reads {
		if r.ready && (r.index <= at || m.w.bug("read-before-applied")) {
			served = append(served, r)
		} else {
			waiting = append(waiting, r)
		}
	}
	m.reads = waiting
	for _, r := range served {
		if r.then != nil {
			r.then()
			continue
		}
		view := m.machine.View()
		m.w.served(m, r, at, view.Revision())
		if r.look != nil {
			r.look(m.lookedAt(view))
		}
		m.w.compare(view, m.w.load.rangeOp(m.w.rng, view.Revision()))
		if len(m.views) < 3 && m.w.rng.IntN(10) == 0 {
			m.views = append(m.views, heldView{view, m.origin, m.w.now + time.Duration(m.w.rng.Int64N(int64(3*time.Second)))})
			continue
		}
		view.Close()
	}
}
