package sim

import (
	"bytes"
	"fmt"
	"maps"
	"slices"

	"keelson/command"
	"keelson/state"
	"keelson/state/lease"
	"keelson/state/mvcc"
)

// model is what the state machine should be: the rules of the specification in the plainest form, every version of
// every key for ever, nothing on disk, no regard for speed. It knows the state as of every revision.
type model struct {
	revision mvcc.Revision
	floor    mvcc.Revision
	keys     map[string][]version // oldest first
	leases   map[int64]modelLease
	roster   *roster
	users    *users
	tree     *forest

	place   lease.Grant // of the command under way
	changed bool        // it has changed a pair
	sub     uint32
	events  []mvcc.Event // of the entry under way
	tokens  string       // what it says of tokens
	nodes   string       // what it changes in the v2 tree
	grown   bool         // it does change something there
}

type version struct {
	kv   mvcc.KeyValue
	dead bool
}

type modelLease struct {
	ttl, remaining int64
	grant          lease.Grant
	checkpoint     uint64 // entry of the newest one
}

func newModel(founders *roster) *model {
	return &model{
		revision: 1, floor: -1, keys: map[string][]version{}, leases: map[int64]modelLease{}, roster: founders,
		users: newUsers(), tree: newForest(len(founders.list)),
	}
}

// current is the revision that a read within the command under way is at.
func (m *model) current() mvcc.Revision {
	if m.changed {
		return m.revision + 1
	}
	return m.revision
}

// at returns the version of a key as of a revision, nil if there is none or it is deleted.
func (m *model) at(key string, rev mvcc.Revision) *mvcc.KeyValue {
	vs := m.keys[key]
	for i := len(vs) - 1; i >= 0; i-- {
		if vs[i].kv.ModRevision <= rev {
			if vs[i].dead {
				return nil
			}
			kv := vs[i].kv
			return &kv
		}
	}
	return nil
}

func (m *model) get(key []byte) *mvcc.KeyValue { return m.at(string(key), m.current()) }

// selected returns the live pairs of a selector as of a revision, in order.
func (m *model) selected(key, end []byte, rev mvcc.Revision) (kvs []mvcc.KeyValue) {
	sel := mvcc.Selector{Key: key, End: end}
	for _, k := range slices.Sorted(maps.Keys(m.keys)) {
		if sel.Contains([]byte(k)) {
			if kv := m.at(k, rev); kv != nil {
				kvs = append(kvs, *kv)
			}
		}
	}
	return kvs
}

func (m *model) event(e mvcc.Event) {
	e.Sub = m.sub
	m.sub++
	m.changed = true
	m.events = append(m.events, e)
}

func (m *model) write(key, value []byte, leaseID int64) {
	prev := m.get(key)
	kv := mvcc.KeyValue{
		Key: bytes.Clone(key), Value: bytes.Clone(value), Lease: leaseID,
		CreateRevision: m.revision + 1, ModRevision: m.revision + 1, Version: 1,
	}
	if prev != nil {
		kv.CreateRevision, kv.Version = prev.CreateRevision, prev.Version+1
	}
	m.keys[string(key)] = append(m.keys[string(key)], version{kv: kv})
	e := mvcc.Event{Kind: mvcc.Put, KV: kv}
	if kv.CreateRevision != kv.ModRevision {
		e.Prev = m.before(key)
	}
	m.event(e)
}

// before is the pair as an event reports it: as of the revision before.
func (m *model) before(key []byte) *mvcc.KeyValue { return m.at(string(key), m.revision) }

func (m *model) remove(key []byte) {
	kv := mvcc.KeyValue{Key: bytes.Clone(key), ModRevision: m.revision + 1}
	m.keys[string(key)] = append(m.keys[string(key)], version{kv: kv, dead: true})
	m.event(mvcc.Event{Kind: mvcc.Delete, KV: kv, Prev: m.before(key)})
}

// apply applies an entry and returns the results of its commands and the events.
func (m *model) apply(index, term uint64, data []byte) (results []state.Result, events []mvcc.Event) {
	m.events, m.tokens, m.nodes, m.grown = nil, "", "", false
	if len(data) == 0 {
		return nil, nil
	}
	b, err := command.OpenBatch(data)
	for m.place = (lease.Grant{Index: index}); err == nil; m.place.Ordinal++ {
		var c command.Command
		var ok bool
		if c, ok, err = b.Next(); !ok {
			break
		}
		m.changed, m.sub = false, 0
		var r state.Result
		if refusal := m.command(term, &c, &r); refusal != nil {
			r = state.Result{Refusal: refusal}
		}
		m.revision = m.current()
		m.changed = false
		r.Revision = m.revision
		results = append(results, r)
	}
	if err != nil {
		panic(fmt.Sprintf("sim: an entry that does not decode: %v", err))
	}
	return results, m.events
}

// command carries out a command, unless its maker may not.
func (m *model) command(term uint64, c *command.Command, r *state.Result) error {
	if err := m.users.admit(c.User, c.AuthRevision, c.Op, m.keysOf); err != nil {
		return err
	}
	next, tokens, known, err := m.users.after(c.Op)
	if known {
		m.users, m.tokens, r.Index = next, m.tokens+tokens, m.place.Index
		return err
	}
	if before := m.tree.index; m.treeOp(c, r) {
		m.grown = m.grown || m.tree.index != before
		return nil
	}
	return m.execute(term, c.Op, r)
}

// keysOf are the keys that hang on a lease.
func (m *model) keysOf(id int64) []string { return m.keysAt(id, m.current()) }

func (m *model) keysAt(id int64, rev mvcc.Revision) (keys []string) {
	for _, kv := range m.selected([]byte{0}, []byte{0}, rev) {
		if kv.Lease == id {
			keys = append(keys, string(kv.Key))
		}
	}
	return keys
}

func (m *model) treeOp(c *command.Command, r *state.Result) bool {
	events, known := m.tree.apply(c.Op, c.Time, r)
	m.nodes += renderTreeEvents(events)
	return known
}

func (m *model) execute(term uint64, op command.Op, r *state.Result) error {
	switch o := op.(type) {
	case *command.Put:
		return m.put(o, r)
	case *command.DeleteRange:
		if len(o.Key) == 0 {
			return state.ErrEmptyKey
		}
		r.Deleted, r.Prevs = m.deleteRange(o)
	case *command.Txn:
		return m.txn(o, r)
	case *command.Compact:
		switch {
		case o.Revision <= m.floor:
			return mvcc.ErrCompacted
		case o.Revision > m.revision:
			return mvcc.ErrFuture
		}
		m.floor = o.Revision
	case *command.LeaseGrant:
		if _, ok := m.leases[o.ID]; ok || o.ID == 0 {
			return state.ErrLeaseExists
		}
		m.leases[o.ID] = modelLease{ttl: o.TTLSeconds, grant: m.place}
		r.Lease, r.TTLSeconds = o.ID, o.TTLSeconds
	case *command.LeaseRevoke:
		return m.revoke(term, o, r)
	case *command.LeaseCheckpoint:
		if o.Term != 0 && o.Term < term {
			return state.ErrStaleTerm
		}
		for _, c := range o.Leases {
			l, ok := m.leases[c.ID]
			known := l.grant == lease.Grant{Index: c.GrantIndex, Ordinal: c.GrantOrdinal} && l.checkpoint == c.CheckpointIndex
			if ok && (c.GrantIndex == 0 || known) {
				l.remaining, l.checkpoint = c.RemainingSeconds, m.place.Index
				m.leases[c.ID] = l
			}
		}
	case *command.MemberAdd, *command.MemberRemove, *command.MemberPromote, *command.MemberUpdate:
		next, err := m.roster.after(o)
		if err != nil {
			return err
		}
		m.roster = next
	case *command.Noop:
	default:
		panic(fmt.Sprintf("sim: the model does not know %T", op))
	}
	return nil
}

func (m *model) put(o *command.Put, r *state.Result) error {
	if err := m.checkPut(o); err != nil {
		return err
	}
	if prev := m.carryOut(o); o.PrevKV {
		r.Prev = prev
	}
	return nil
}

func (m *model) checkPut(o *command.Put) error {
	if len(o.Key) == 0 {
		return state.ErrEmptyKey
	}
	if _, ok := m.leases[o.Lease]; !ok && o.Lease != 0 && !o.IgnoreLease {
		return state.ErrLeaseNotFound
	}
	if (o.IgnoreValue || o.IgnoreLease) && m.get(o.Key) == nil {
		return mvcc.ErrKeyNotFound
	}
	return nil
}

// carryOut carries out a put that was checked. What it is to keep may be gone by now, in a transaction.
func (m *model) carryOut(o *command.Put) (prev *mvcc.KeyValue) {
	prev = m.get(o.Key)
	value, id := o.Value, o.Lease
	if o.IgnoreValue {
		value = nil
		if prev != nil {
			value = prev.Value
		}
	}
	if o.IgnoreLease {
		id = 0
		if prev != nil {
			id = prev.Lease
		}
	}
	m.write(o.Key, value, id)
	return prev
}

func (m *model) deleteRange(o *command.DeleteRange) (n int64, prevs []mvcc.KeyValue) {
	for _, kv := range m.selected(o.Key, o.End, m.current()) {
		m.remove(kv.Key)
		n++
		if o.PrevKV {
			prevs = append(prevs, kv)
		}
	}
	return n, prevs
}

func (m *model) revoke(term uint64, o *command.LeaseRevoke, r *state.Result) error {
	if o.Term != 0 && o.Term < term {
		return state.ErrStaleTerm
	}
	l, ok := m.leases[o.ID]
	if named := (lease.Grant{Index: o.GrantIndex, Ordinal: o.GrantOrdinal}); !ok || o.GrantIndex != 0 && l.grant != named {
		return state.ErrLeaseNotFound
	}
	for _, kv := range m.selected([]byte{0}, []byte{0}, m.current()) {
		if kv.Lease == o.ID {
			m.remove(kv.Key)
			r.Deleted++
		}
	}
	delete(m.leases, o.ID)
	r.Lease = lease.ID(o.ID)
	return nil
}
