package sim

import (
	"bytes"
	"errors"
	"hash/crc64"
	"maps"
	"slices"
	"time"

	"keelson/command"
	"keelson/replica"
	"keelson/state"
	"keelson/state/auth"
	"keelson/state/lease"
	"keelson/state/mvcc"
	"keelson/state/tree"
)

// checker knows what the outside world has seen, and so what must be true from now on.
//
// What any member has applied once, acknowledged or not, must be applied in the same way by everybody, and again after
// every crash.
type checker struct {
	w     *world
	model *model
	// records holds what was first seen of each entry that was ever applied, by index from 1.
	records []record
	*consensus
	*lifetimes

	known         uint64                     // the newest entry that anybody was told of: a write acknowledged, or a read
	knownRevision mvcc.Revision              // the newest revision
	ackedBy       map[uint64]int             // writes, by member
	servedBy      map[uint64]int             // linearizable reads, by member
	batches       map[command.BatchID]uint64 // entries that hold them
	refused       map[command.BatchID]bool   // that must not become entries
	events        map[mvcc.Revision][]mvcc.Event
	hashes        map[hashedAt]uint32
}

type record struct {
	term      uint64
	committed uint64 // the newest term that had a leader when it was first applied: it was committed in that one or before
	data      uint64 // checksum
	results   string
	events    string
	revision  mvcc.Revision // after it
	floor     mvcc.Revision
	leases    map[int64]modelLease
	hash      uint64 // of the state; 0: not seen
	roster    *roster
	users     *users
	tree      *forest
	tokens    string // what it says of tokens
	nodes     string // what it changes in the v2 tree
	// before are the voters before the last change, which was made at a time.
	before  []uint64
	changed time.Duration
}

type hashedAt struct{ revision, floor mvcc.Revision }

func newChecker(w *world) *checker {
	c := &checker{
		w:         w,
		model:     newModel(w.founders()),
		consensus: newConsensus(w),
		lifetimes: newLifetimes(w),
		ackedBy:   map[uint64]int{},
		servedBy:  map[uint64]int{},
		batches:   map[command.BatchID]uint64{},
		refused:   map[command.BatchID]bool{},
		events:    map[mvcc.Revision][]mvcc.Event{},
		hashes:    map[hashedAt]uint32{},
	}
	// What a member has that waits to be given a state, and the entry that a bootstrap stands for.
	c.records = []record{
		{revision: 1, floor: -1, leases: map[int64]modelLease{}, roster: newRoster(nil, nil), users: newUsers(), tree: &forest{}},
		{term: 1, revision: 1, floor: -1, leases: map[int64]modelLease{}, roster: c.model.roster, users: c.model.users, tree: c.model.tree.clone()},
	}
	return c
}

// last is the newest entry ever applied.
func (c *checker) last() uint64 { return uint64(len(c.records)) - 1 }

func checksum(b []byte) uint64 { return crc64.Checksum(b, crcTable) }

// applied compares what a run of entries did with the model, or with what they did the first time.
func (c *checker) applied(m *member, entries []state.Entry, out *state.Outcome) {
	w := c.w
	batches, events, tokens, nodes := out.Batches, "", "", ""
	for i := range entries {
		e := &entries[i]
		m.unflushed += len(e.Data)*2 + 200
		var got []state.Result
		if len(e.Data) > 0 {
			got, batches = batches[0].Results, batches[1:]
		}
		if !m.host.ledger.has(e.Index, e.Term) {
			w.violate("%v applies entry %d of term %d, which is not on its disk", m, e.Index, e.Term)
		}
		if e.Index > c.last() {
			c.checkCommitted(e)
			c.applyToModel(e)
		}
		w.reach("an entry was applied again", e.Index <= m.host.applied)
		m.host.applied = max(m.host.applied, e.Index)
		rec := &c.records[e.Index]
		if rec.term != e.Term || rec.data != checksum(e.Data) {
			w.violate("entry %d of term %d is not the entry of term %d that was applied there before", e.Index, e.Term, rec.term)
		}
		if s := renderResults(got); s != rec.results {
			w.violate("entry %d gives\n%s\nwant\n%s", e.Index, s, rec.results)
		}
		events += rec.events
		tokens += rec.tokens
		nodes += rec.nodes
		c.acknowledge(m, e, got)
	}
	if s := renderEvents(out.Events); s != events {
		w.violate("entries up to %d give events\n%s\nwant\n%s", entries[len(entries)-1].Index, s, events)
	}
	if s := renderTokens(out.Tokens); s != tokens {
		w.violate("entries up to %d say of tokens\n%s\nwant\n%s", entries[len(entries)-1].Index, s, tokens)
	}
	if s := renderTreeEvents(out.Tree); s != nodes {
		w.violate("entries up to %d change the v2 tree\n%s\nwant\n%s", entries[len(entries)-1].Index, s, nodes)
	}
	w.reach("users and roles were changed", out.Users)
	w.reach("a token was assigned", len(out.Tokens) > 0)
	w.reach("the v2 tree was changed", len(out.Tree) > 0)
	w.reach("nodes of the v2 tree ran out", out.Counts.Tree.Expired > 0)
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
	last := &c.records[c.last()]
	before := last.leases
	c.once(e)
	results, events := c.model.apply(e.Index, e.Term, e.Data)
	rec := record{
		term: e.Term, committed: c.newest, data: checksum(e.Data), results: renderResults(results), events: renderEvents(events),
		revision: c.model.revision, floor: c.model.floor, leases: before,
		roster: c.model.roster, before: last.before, changed: last.changed,
		users: c.model.users, tree: last.tree, tokens: c.model.tokens, nodes: c.model.nodes,
	}
	if !slices.Equal(rec.roster.voters, last.roster.voters) {
		rec.before, rec.changed = last.roster.voters, c.w.now
	}
	if !maps.Equal(before, c.model.leases) {
		rec.leases = maps.Clone(c.model.leases)
	}
	if c.model.grown {
		rec.tree = c.model.tree.clone()
	}
	c.w.reach("somebody may not do what he asks for", refusals(results, auth.ErrDenied))
	c.w.reach("somebody was admitted by rights that had changed", refusals(results, auth.ErrOldRevision))
	c.records = append(c.records, rec)
	for _, ev := range events {
		rev := ev.KV.ModRevision
		c.events[rev] = append(c.events[rev], ev)
	}
	c.observe(e, results)
}

// refusals reports whether some result is a certain refusal.
func refusals(results []state.Result, err error) bool {
	return slices.ContainsFunc(results, func(r state.Result) bool { return errors.Is(r.Refusal, err) })
}

// once checks that a batch becomes an entry once, and not after its proposer was told that it will not.
func (c *checker) once(e *state.Entry) {
	id := batchID(e.Data)
	if id == (command.BatchID{}) {
		return
	}
	if before, ok := c.batches[id]; ok {
		c.w.violate("entry %d is the batch %v that entry %d was", e.Index, id, before)
	}
	if c.refused[id] {
		c.w.violate("entry %d is the batch %v, which was refused", e.Index, id)
	}
	c.batches[id] = e.Index
}

// dropped notes that a proposer was told that its batch will not become an entry.
func (c *checker) dropped(m *member, d *replica.ProposalDropped) {
	if errors.Is(d.Err, replica.ErrSkipped) {
		return // nobody knows
	}
	id := m.batchID(d.ID)
	if at, ok := c.batches[id]; ok {
		c.w.violate("%v: the batch %v is refused (%v), but was entry %d", m, id, d.Err, at)
	}
	c.refused[id] = true
	c.w.registers.dropped(id)
}

// acknowledge answers whoever waits for an entry.
func (c *checker) acknowledge(m *member, e *state.Entry, results []state.Result) {
	id := batchID(e.Data)
	if _, waits := m.proposals[id.Sequence]; !waits || id.Origin != uint64(m.run) {
		return
	}
	delete(m.proposals, id.Sequence)
	c.ackedBy[m.host.id]++
	c.w.reach("a follower acknowledged a write", m.leading == 0)
	c.w.reach("a write was acknowledged in a later term", e.Term > c.terms[id])
	c.w.reach("a write was acknowledged in a ring", c.w.network.ring)
	c.learn(e.Index, c.records[e.Index].revision)
	c.w.registers.done(id, results)
}

// learn notes that somebody outside knows of an entry.
func (c *checker) learn(index uint64, revision mvcc.Revision) {
	c.known = max(c.known, index)
	c.knownRevision = max(c.knownRevision, revision)
}

// served checks a linearizable read as it is answered.
func (c *checker) served(m *member, r *read, at uint64, revision mvcc.Revision) {
	if at < r.entry || revision < r.revision {
		c.w.violate("%v: a linearizable read sees entry %d, revision %d; but %d and %d were known when it began",
			m, at, revision, r.entry, r.revision)
	}
	c.learn(at, revision)
	c.servedBy[m.host.id]++
	c.w.reach("a follower served a read", m.leading == 0)
	c.w.tracef("%v read at %d", m, revision)
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
	c.w.tracef("%v applied %d: %x", m, index, hash)
}

// checkStarted checks what a start has found on the disk.
func (c *checker) checkStarted(m *member) {
	w := c.w
	first, _ := m.log.FirstIndex()
	last, _ := m.log.LastIndex()
	at := m.machine.Applied()
	m.host.ledger.reopen(m)
	switch {
	case last < m.host.applied:
		w.violate("%v has applied entry %d, but its log ends at %d", m, m.host.applied, last)
	case first > at.Index+1 || at.Index > last:
		w.violate("the state is at %d, the log holds %d to %d", at.Index, first, last)
	case at.Index > m.host.applied:
		w.violate("the state is at %d, but only %d was ever applied", at.Index, m.host.applied)
	case at.Term != c.records[at.Index].term:
		w.violate("the state is at %d of term %d, want %d", at.Index, at.Term, c.records[at.Index].term)
	}
	w.reach("the state on disk is behind", at.Index < m.host.applied)
	for i := first; i <= m.host.applied; i++ {
		es, err := m.log.Entries(i, i+1, 1<<30)
		if err != nil || len(es) != 1 || es[0].GetTerm() != c.records[i].term ||
			checksum(state.AppendEntries(nil, es, nil)[0].Data) != c.records[i].data {
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
		got[l.ID] = modelLease{ttl: l.TTLSeconds, remaining: l.RemainingSeconds, grant: l.Grant, checkpoint: l.CheckpointIndex}
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
	if why := rec.roster.differs(view); why != "" {
		w.violate("members at entry %d: %s", index, why)
	}
	if why := rec.users.differs(view.Users()); why != "" {
		w.violate("users at entry %d: %s", index, why)
	}
	nodes := c.openTree(view)
	if why := rec.tree.differs(nodes); why != "" {
		w.violate("v2 tree at entry %d: %s", index, why)
	}
	_ = nodes.Close()
	if n := int64(len(c.model.selected([]byte{0}, []byte{0}, rec.revision))); m.machine.LiveKeys() != n {
		w.violate("%d live keys at entry %d, want %d", m.machine.LiveKeys(), index, n)
	}
}

func (c *checker) openTree(view *state.View) *tree.View {
	v, err := view.Tree()
	if err != nil {
		c.w.violate("v2 tree: %v", err)
	}
	return v
}

// compareTree asks a member that is at an entry for a node of the v2 tree.
func (c *checker) compareTree(m *member, path string) {
	view := m.machine.View()
	defer view.Close()
	nodes := c.openTree(view)
	index := m.machine.Applied().Index
	if why := c.records[index].tree.differsAt(nodes, path); why != "" {
		c.w.violate("v2 tree at entry %d: %s", index, why)
	}
	_ = nodes.Close()
}

// compareRights asks a member that is at an entry whether somebody may have what he asks for.
func (c *checker) compareRights(m *member, who auth.Caller, request auth.Request) {
	index := m.machine.Applied().Index
	rec := &c.records[index]
	view := m.machine.View()
	defer view.Close()
	got := view.Authorize(who, request)
	want := rec.users.admit(who.User, who.Revision, request, func(id int64) []string { return c.model.keysAt(id, rec.revision) })
	if !errors.Is(got, want) || want == nil && got != nil {
		c.w.violate("%+v asks at entry %d for %T %+v: %v, want %v", who, index, request, request, got, want)
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
