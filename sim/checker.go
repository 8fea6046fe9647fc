package sim

import (
	"bytes"
	"errors"
	"hash/crc64"
	"maps"
	"time"

	"keelson/command"
	"keelson/state"
	"keelson/state/lease"
	"keelson/state/mvcc"
)

// checker knows what the outside world has seen, and so what must be true from now on.
//
// A member that is alone applies only what is on its disk. So whatever it has applied once, acknowledged or not, must be
// applied again in the same way after every crash.
type checker struct {
	w     *world
	model *model
	// records holds what was first seen of each entry that was ever applied, by index from 1.
	records []record

	acked         uint64        // the newest entry that a client was told of
	ackedRevision mvcc.Revision // the newest revision that anybody was told of
	served        int           // linearizable reads
	events        map[mvcc.Revision][]mvcc.Event
	hashes        map[hashedAt]uint32
	deadlines     map[int64]time.Duration // of the leases that there are: none may run out before
}

type record struct {
	term     uint64
	data     uint64 // checksum
	results  string
	events   string
	revision mvcc.Revision // after it
	floor    mvcc.Revision
	leases   map[int64]modelLease
	hash     uint64 // of the state; 0: not seen
}

type hashedAt struct{ revision, floor mvcc.Revision }

func newChecker(w *world) *checker {
	c := &checker{
		w:         w,
		model:     newModel(),
		events:    map[mvcc.Revision][]mvcc.Event{},
		hashes:    map[hashedAt]uint32{},
		deadlines: map[int64]time.Duration{},
	}
	// The entry that a bootstrap stands for.
	c.records = make([]record, 2)
	c.records[1] = record{term: 1, revision: 1, floor: -1, leases: map[int64]modelLease{}}
	return c
}

// last is the newest entry ever applied.
func (c *checker) last() uint64 { return uint64(len(c.records)) - 1 }

func checksum(b []byte) uint64 { return crc64.Checksum(b, crcTable) }

// applied compares what a run of entries did with the model, or with what they did the first time.
func (c *checker) applied(m *member, entries []state.Entry, out *state.Outcome) {
	w := c.w
	batches, events := out.Batches, ""
	for i := range entries {
		e := &entries[i]
		m.unflushed += len(e.Data)*2 + 200
		var got []state.Result
		if len(e.Data) > 0 {
			got, batches = batches[0].Results, batches[1:]
		}
		if e.Index > c.last() {
			c.applyToModel(e)
		} else {
			w.reach("an entry was applied again", true)
		}
		rec := &c.records[e.Index]
		if rec.term != e.Term || rec.data != checksum(e.Data) {
			w.violate("entry %d of term %d is not the entry of term %d that was applied there before", e.Index, e.Term, rec.term)
		}
		if s := renderResults(got); s != rec.results {
			w.violate("entry %d gives\n%s\nwant\n%s", e.Index, s, rec.results)
		}
		events += rec.events
		c.acknowledge(m, e)
	}
	if s := renderEvents(out.Events); s != events {
		w.violate("entries up to %d give events\n%s\nwant\n%s", entries[len(entries)-1].Index, s, events)
	}
	m.observeLeases(out.Leases)
	at := m.machine.Applied()
	rec := &c.records[at.Index]
	if out.Revision != rec.revision || m.machine.Revision() != rec.revision || m.machine.Compacted() != rec.floor {
		w.violate("after entry %d: revision %d (%d), floor %d, want %d and %d",
			at.Index, out.Revision, m.machine.Revision(), m.machine.Compacted(), rec.revision, rec.floor)
	}
	c.checkHash(m)
}

// applyToModel applies an entry for the first time.
func (c *checker) applyToModel(e *state.Entry) {
	if e.Index != c.last()+1 {
		c.w.violate("entry %d is applied after %d", e.Index, c.last())
	}
	before := c.records[c.last()].leases
	results, events := c.model.apply(e.Index, e.Term, e.Data)
	rec := record{
		term: e.Term, data: checksum(e.Data), results: renderResults(results), events: renderEvents(events),
		revision: c.model.revision, floor: c.model.floor, leases: before,
	}
	if !maps.Equal(before, c.model.leases) {
		rec.leases = maps.Clone(c.model.leases)
	}
	c.records = append(c.records, rec)
	for _, ev := range events {
		rev := ev.KV.ModRevision
		c.events[rev] = append(c.events[rev], ev)
	}
	c.observeLeases(e, results)
}

// observeLeases checks that no lease runs out early.
func (c *checker) observeLeases(e *state.Entry, results []state.Result) {
	if len(e.Data) == 0 {
		return
	}
	b, err := command.OpenBatch(e.Data)
	if err != nil {
		c.w.violate("entry %d: %v", e.Index, err)
	}
	for i := range results {
		cmd, _, err := b.Next()
		if err != nil {
			c.w.violate("entry %d: %v", e.Index, err)
		}
		if results[i].Refusal != nil {
			if o, ok := cmd.Op.(*command.LeaseRevoke); ok {
				_, there := c.deadlines[o.ID]
				c.w.reach("an expiry of an older term was void", o.Term != 0 && o.Term < e.Term)
				c.w.reach("an expiry met a later lease of the same id", there && o.Term >= e.Term)
			}
			continue
		}
		switch o := cmd.Op.(type) {
		case *command.LeaseGrant:
			c.deadlines[o.ID] = c.w.now + time.Duration(o.TTLSeconds)*time.Second
		case *command.LeaseRevoke:
			c.w.reach("a lease ran out", o.Term != 0)
			if o.Term != 0 && c.w.now < c.deadlines[o.ID] {
				c.w.violate("lease %d runs out %v early", o.ID, c.deadlines[o.ID]-c.w.now)
			}
			delete(c.deadlines, o.ID)
		}
	}
}

// acknowledge answers whoever waits for an entry.
func (c *checker) acknowledge(m *member, e *state.Entry) {
	if len(e.Data) == 0 {
		return
	}
	b, err := command.OpenBatch(e.Data)
	if err != nil {
		c.w.violate("entry %d: %v", e.Index, err)
	}
	if b.ID.Origin != uint64(m.run) || !m.proposals[b.ID.Sequence] {
		return
	}
	delete(m.proposals, b.ID.Sequence)
	c.acked = max(c.acked, e.Index)
	c.ackedRevision = max(c.ackedRevision, c.records[e.Index].revision)
}

// checkHash compares the state's hash with the one seen first at the same index.
func (c *checker) checkHash(m *member) {
	index, hash := m.machine.StateHash()
	rec := &c.records[index]
	if rec.hash == 0 {
		rec.hash = hash
	}
	if rec.hash != hash {
		c.w.violate("the state's hash at entry %d is %x, was %x", index, hash, rec.hash)
	}
	c.w.tracef("applied %d: %x", index, hash)
}

// checkStarted checks what a start has found on the disk.
func (c *checker) checkStarted(m *member) {
	w := c.w
	first, _ := m.log.FirstIndex()
	last, _ := m.log.LastIndex()
	at := m.machine.Applied()
	switch {
	case last < c.acked:
		w.violate("entry %d was acknowledged, but the log ends at %d", c.acked, last)
	case last < c.last():
		w.violate("entry %d was applied, but the log ends at %d", c.last(), last)
	case first > at.Index+1 || at.Index > last:
		w.violate("the state is at %d, the log holds %d to %d", at.Index, first, last)
	case at.Index > c.last():
		w.violate("the state is at %d, but only %d was ever applied", at.Index, c.last())
	case at.Term != c.records[at.Index].term:
		w.violate("the state is at %d of term %d, want %d", at.Index, at.Term, c.records[at.Index].term)
	}
	w.reach("the state on disk is behind", at.Index < c.last())
	for i := first; i <= c.last(); i++ {
		es, err := m.log.Entries(i, i+1, 1<<30)
		if err != nil || len(es) != 1 || es[0].GetTerm() != c.records[i].term || checksum(es[0].GetData()) != c.records[i].data {
			w.violate("entry %d of the log is not what was applied: %v", i, err)
		}
	}
	c.checkHash(m)
	c.checkDump(m)
}

// checkDump compares everything that the state holds with the model.
func (c *checker) checkDump(m *member) {
	w := c.w
	index := m.machine.Applied().Index
	rec := &c.records[index]
	view := m.machine.View()
	defer view.Close()
	if view.Revision() != rec.revision || view.Compacted() != rec.floor {
		w.violate("state at entry %d: revision %d, floor %d, want %d and %d",
			index, view.Revision(), view.Compacted(), rec.revision, rec.floor)
	}
	for rev := max(rec.floor, rec.revision-3, 1); rev <= rec.revision; rev++ {
		c.compare(view, &command.Range{Key: []byte{0}, End: []byte{0}, Revision: rev})
	}
	got := map[int64]modelLease{}
	err := view.Leases(func(l lease.Lease) bool {
		got[l.ID] = modelLease{ttl: l.TTLSeconds, remaining: l.RemainingSeconds, grant: l.Grant}
		attached := ""
		err := view.LeaseKeys(l.ID, func(key []byte) bool { attached += string(key) + " "; return true })
		want := ""
		for _, kv := range c.model.selected([]byte{0}, []byte{0}, rec.revision) {
			if kv.Lease == l.ID {
				want += string(kv.Key) + " "
			}
		}
		if err != nil || attached != want {
			w.violate("keys %q hang on lease %d at entry %d, want %q: %v", attached, l.ID, index, want, err)
		}
		return true
	})
	if err != nil || !maps.Equal(got, rec.leases) {
		w.violate("leases at entry %d: %v, want %v: %v", index, got, rec.leases, err)
	}
	if n := int64(len(c.model.selected([]byte{0}, []byte{0}, rec.revision))); m.machine.LiveKeys() != n {
		w.violate("%d live keys at entry %d, want %d", m.machine.LiveKeys(), index, n)
	}
}

// compare asks a view and the model the same question.
func (c *checker) compare(view *state.View, q *command.Range) {
	var kvs []mvcc.KeyValue
	sum, err := view.Range(*q, func(kv *mvcc.KeyValue) bool {
		k := *kv
		k.Key, k.Value = bytes.Clone(kv.Key), bytes.Clone(kv.Value)
		kvs = append(kvs, k)
		return true
	})
	rev := q.Revision
	if rev <= 0 {
		rev = view.Revision()
	}
	floor := view.Compacted() // what a view could read when it was opened, it can read until it is closed
	var want error
	switch {
	case rev > view.Revision():
		want = mvcc.ErrFuture
	case rev < floor:
		want = mvcc.ErrCompacted
	}
	if !errors.Is(err, want) || want == nil && err != nil {
		c.w.violate("%+v at %d (floor %d): %v, want %v", q, view.Revision(), floor, err, want)
	}
	if err != nil {
		return
	}
	wantKVs, count, more := c.model.query(q, view.Revision())
	if got, want := renderKVs(kvs), renderKVs(wantKVs); got != want || sum.Count != count || sum.More != more {
		c.w.violate("%+v at %d gives %d, more %t:\n%s\nwant %d, more %t:\n%s", q, view.Revision(), sum.Count, sum.More, got, count, more, want)
	}
}

// checkRunning is checked after every event.
func (c *checker) checkRunning(m *member) {
	st := m.replica.Status()
	at := m.machine.Applied()
	last, _ := m.log.LastIndex()
	switch {
	case st.Applied > at.Index:
		c.w.violate("the replica believes in %d applied, the state is at %d", st.Applied, at.Index)
	case at.Index > last:
		c.w.violate("applied up to %d, but the log ends at %d", at.Index, last)
	case m.machine.Revision() < m.seen:
		c.w.violate("the revision went back from %d to %d", m.seen, m.machine.Revision())
	}
	m.seen = m.machine.Revision()
}

// checkHistory compares what changed between two revisions.
func (c *checker) checkHistory(m *member, from, to mvcc.Revision, maxBytes int) {
	w := c.w
	floor := m.machine.Compacted()
	var got []mvcc.Event
	next, err := m.machine.Changes(from, to, nil, nil, maxBytes, func(e *mvcc.Event) error {
		got = append(got, cloneEvent(e))
		return nil
	})
	if from < floor {
		if !errors.Is(err, mvcc.ErrCompacted) {
			w.violate("changes from %d below the floor %d: %v", from, floor, err)
		}
		return
	}
	if err != nil {
		w.violate("changes %d..%d: %v", from, to, err)
	}
	var want []mvcc.Event
	for rev := from; rev < next; rev++ {
		for _, e := range c.events[rev] {
			if rev-1 < floor {
				e.Prev = nil
			}
			want = append(want, e)
		}
	}
	if renderEvents(got) != renderEvents(want) {
		w.violate("changes %d..%d up to %d, floor %d:\n%s\nwant\n%s", from, to, next, floor, renderEvents(got), renderEvents(want))
	}
	if maxBytes == 0 && next != min(to, m.machine.Revision())+1 {
		w.violate("changes %d..%d of %d end at %d", from, to, m.machine.Revision(), next)
	}
}

func cloneEvent(e *mvcc.Event) mvcc.Event {
	c := *e
	c.KV.Key, c.KV.Value = bytes.Clone(e.KV.Key), bytes.Clone(e.KV.Value)
	if e.Prev != nil {
		p := *e.Prev
		p.Key, p.Value = bytes.Clone(p.Key), bytes.Clone(p.Value)
		c.Prev = &p
	}
	return c
}

// checkHashKV checks that a hash never changes, whatever was removed meanwhile.
func (c *checker) checkHashKV(m *member, rev mvcc.Revision) {
	h, err := m.machine.HashKV(rev)
	if err != nil {
		if rev < m.machine.Compacted() && errors.Is(err, mvcc.ErrCompacted) {
			return
		}
		c.w.violate("hash at %d: %v", rev, err)
	}
	at := hashedAt{h.Revision, h.Compacted}
	if was, ok := c.hashes[at]; ok && was != h.Hash {
		c.w.violate("the pairs at %d (floor %d) hash to %x, did to %x", rev, h.Compacted, h.Hash, was)
	} else if ok {
		c.w.reach("a hash was made again", true)
	}
	c.hashes[at] = h.Hash
}
