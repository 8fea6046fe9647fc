package sim

import (
	"fmt"
	"math/rand/v2"
	"time"

	"keelson/command"
	"keelson/snapshot"
	"keelson/state"
	"keelson/state/auth"
)

// load is what clients ask for: how often each kind of request comes.
type load struct {
	put, delete, txn, compact, grant, revoke, renew, read, tree, users int

	keys       int
	valueBytes int
	waitingMax int  // proposals under way
	named      bool // everybody has to say who he is, almost from the beginning
	quiet      bool // only what the member does by itself
	written    int
}

func drawLoad(rng *rand.Rand) load {
	weight := func(most int) int { // of every five kinds, one is left out
		if rng.IntN(5) == 0 {
			return 0
		}
		return rng.IntN(most) + 1
	}
	l := load{
		put: 1 + rng.IntN(100), delete: weight(30), txn: weight(40), compact: weight(8), grant: weight(15), revoke: weight(4),
		renew: weight(20), read: weight(60), tree: weight(40),
		keys: 2 + rng.IntN(20), valueBytes: []int{4, 40, 700}[rng.IntN(3)], waitingMax: 1 + rng.IntN(20),
	}
	if rng.IntN(2) == 0 { // most clusters have no users
		l.users, l.named = 1+rng.IntN(15), rng.IntN(2) == 0
	}
	return l
}

// draw draws one kind of request.
func (l *load) draw(rng *rand.Rand) int {
	weights := []int{l.put, l.delete, l.txn, l.compact, l.grant, l.revoke, l.renew, l.read, l.tree, l.users}
	sum := 0
	for _, w := range weights {
		sum += w
	}
	n := rng.IntN(sum)
	for i, w := range weights {
		if n < w {
			return i
		}
		n -= w
	}
	panic("sim: weights do not add up")
}

func (l *load) key(rng *rand.Rand) []byte { return fmt.Appendf(nil, "k%02d", rng.IntN(l.keys)) }

// selector is one key most of the time, sometimes a range, sometimes an empty one, sometimes everything.
func (l *load) selector(rng *rand.Rand) (key, end []byte) {
	switch key = l.key(rng); rng.IntN(8) {
	case 0:
		return key, []byte{0}
	case 1, 2:
		return key, l.key(rng)
	case 3:
		return []byte("b"), []byte{0} // but for registers
	}
	return key, nil
}

// value is unique.
func (l *load) value(rng *rand.Rand) []byte {
	l.written++
	v := fmt.Appendf(nil, "v%d", l.written)
	for n := rng.IntN(l.valueBytes); len(v) < n; {
		v = append(v, '.')
	}
	return v
}

var leaseIDs = []int64{1, 2, 3, -1, 1 << 62}

func leaseID(rng *rand.Rand) int64 { return leaseIDs[rng.IntN(len(leaseIDs))] }

func (l *load) putOp(rng *rand.Rand) *command.Put {
	o := &command.Put{Key: l.key(rng), PrevKV: rng.IntN(3) == 0}
	if rng.IntN(3) == 0 {
		o.Lease = leaseID(rng)
	}
	switch rng.IntN(10) {
	case 0:
		o.IgnoreLease, o.Lease = true, 0
	case 1:
		o.IgnoreValue = true
		return o
	}
	o.Value = l.value(rng)
	return o
}

func (l *load) deleteOp(rng *rand.Rand) *command.DeleteRange {
	key, end := l.selector(rng)
	return &command.DeleteRange{Key: key, End: end, PrevKV: rng.IntN(2) == 0}
}

// rangeOp is a read with any options, as of about now.
func (l *load) rangeOp(rng *rand.Rand, now int64) *command.Range {
	o := &command.Range{}
	o.Key, o.End = l.selector(rng)
	if rng.IntN(3) == 0 {
		o.Revision = max(0, now-rng.Int64N(20)+2)
	}
	if rng.IntN(3) == 0 {
		o.Limit = rng.Int64N(5)
	}
	if rng.IntN(3) == 0 {
		o.SortOrder, o.SortTarget = int32(rng.IntN(3)), int32(rng.IntN(5))
	}
	o.KeysOnly, o.CountOnly = rng.IntN(8) == 0, rng.IntN(8) == 0
	if rng.IntN(8) == 0 {
		o.ModRevisionMin, o.ModRevisionMax = now-rng.Int64N(20), now-rng.Int64N(5)
	}
	if rng.IntN(8) == 0 {
		o.CreateRevisionMin, o.CreateRevisionMax = now-rng.Int64N(20), now-rng.Int64N(5)
	}
	return o
}

func (l *load) compareOp(rng *rand.Rand, now int64) command.Compare {
	c := command.Compare{Target: int32(rng.IntN(5)), Result: int32(rng.IntN(4))}
	c.Key, c.End = l.selector(rng)
	switch c.Target {
	case 0:
		c.Number = rng.Int64N(4)
	case 1, 2:
		c.Number = max(0, now-rng.Int64N(10))
	case 3:
		c.Value = fmt.Appendf(nil, "v%d", max(1, l.written-rng.IntN(10)))
	case 4:
		c.Number = leaseID(rng)
	}
	return c
}

func (l *load) txnOp(rng *rand.Rand, now int64, depth int) *command.Txn {
	o := &command.Txn{}
	for range rng.IntN(3) {
		o.Compares = append(o.Compares, l.compareOp(rng, now))
	}
	for _, list := range []*[]command.Op{&o.Success, &o.Failure} {
		for range rng.IntN(4) {
			*list = append(*list, l.innerOp(rng, now, depth))
		}
	}
	return o
}

func (l *load) innerOp(rng *rand.Rand, now int64, depth int) command.Op {
	switch n := rng.IntN(10); {
	case n < 4:
		return l.putOp(rng)
	case n < 6:
		return l.deleteOp(rng)
	case n < 8 || depth == 2:
		return l.rangeOp(rng, now)
	}
	return l.txnOp(rng, now, depth+1)
}

// request is what clients do.
func (m *member) request() {
	w, rng, l := m.w, m.w.rng, &m.w.load
	if l.quiet || len(m.proposals) >= l.waitingMax {
		return
	}
	if l.named && m.leading != 0 {
		l.named = false
		m.propose(everybodyNamed()...)
		return
	}
	var ops []command.Op
	for range 1 + rng.IntN(4) {
		switch l.draw(rng) {
		case 0:
			ops = append(ops, l.putOp(rng))
		case 1:
			ops = append(ops, l.deleteOp(rng))
		case 2:
			ops = append(ops, l.txnOp(rng, w.model.revision, 0))
		case 3:
			ops = append(ops, &command.Compact{Revision: max(0, w.model.revision+1-rng.Int64N(20))})
		case 4:
			ops = append(ops, &command.LeaseGrant{ID: leaseID(rng), TTLSeconds: 1 + rng.Int64N(m.w.ttlMax)})
		case 5:
			ops = append(ops, &command.LeaseRevoke{ID: leaseID(rng)})
		case 6:
			m.renewal(leaseID(rng))
		case 7:
			m.read(nil)
		case 8:
			ops = append(ops, l.treeOp(rng, w.model.tree, m.host.date()))
		case 9:
			g := generator(rng)
			ops = append(ops, l.usersOp(&g))
		}
	}
	if len(ops) > 0 {
		list := commandsOf(ops)
		for i := range list {
			list[i].User, list[i].AuthRevision = m.caller()
		}
		m.proposeCommands(list)
	}
}

// replace is, now and then, a client that replaces a lease by a new one of the same id, just before its expiry is proposed.
func (m *member) replace(id int64) {
	rng, l := m.w.rng, &m.w.load
	if l.quiet || len(m.proposals) >= l.waitingMax || rng.IntN(4) > 0 {
		return
	}
	m.propose(&command.LeaseRevoke{ID: id}, &command.LeaseGrant{ID: id, TTLSeconds: 1 + rng.Int64N(m.w.ttlMax)})
}

// heldView is a view that a slow reader keeps open.
type heldView struct {
	view   *state.View
	origin snapshot.Store // which state of the member's it is of
	until  time.Duration
}

// readLocal is everything that reads what this member happens to have.
func (m *member) readLocal() {
	w, rng := m.w, m.w.rng
	view := m.machine.View()
	w.compare(view, w.load.rangeOp(rng, view.Revision()))
	view.Close()
	held := m.views[:0]
	for _, h := range m.views {
		w.compare(h.view, w.load.rangeOp(rng, h.view.Revision()))
		if w.now >= h.until {
			h.view.Close()
			w.reach("an old view was read", true)
			w.reach("a view of a replaced state was read", h.origin != m.origin)
			continue
		}
		held = append(held, h)
	}
	m.views = held
	w.compareTree(m, w.load.path(rng, w.model.tree))
	if user, revision := m.caller(); revision > 0 {
		w.compareRights(m, auth.Caller{User: user, Revision: revision}, w.load.anyRequest(rng, view.Revision()))
	}
	now := m.machine.Revision()
	from := max(1, now-rng.Int64N(15))
	w.checkHistory(m, from, min(now, from+rng.Int64N(15)), []int{0, 1, 300}[rng.IntN(3)])
	if rng.IntN(4) == 0 {
		w.checkHashKV(m, max(1, now-rng.Int64N(6)))
	}
}

// compact removes some of what a compaction has left over.
func (m *member) compact() {
	removed, more, err := m.machine.CompactStep(1 + m.w.rng.IntN(30))
	if err != nil {
		m.w.violate("compact step: %v", err)
	}
	m.w.reach("compacted versions were removed", removed > 0)
	m.w.reach("a compaction took several steps", removed > 0 && more)
}

// upkeep is what the log wants done now and then.
func (m *member) upkeep() {
	m.retireDrained()
	var err error
	switch m.w.rng.IntN(3) {
	case 0:
		err = m.log.MarkIdle()
	case 1:
		err = m.log.Prepare()
	case 2:
		_, err = m.log.Scrub(1 << 12)
	}
	if err != nil {
		m.host.diskFailed(err)
	}
}
