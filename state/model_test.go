package state

import (
	"bytes"
	"cmp"
	"fmt"
	"maps"
	"math/rand/v2"
	"slices"
	"strings"
	"testing"

	"keelson/command"
	"keelson/command/commandtest"
	"keelson/state/alarm"
	"keelson/state/lease"
	"keelson/state/mvcc"
)

// model is the state machine as the specification tells it, without a thought for speed: it keeps a copy of all pairs
// for every revision, and tries a transaction on a copy.
type model struct {
	revision, floor int64
	history         map[int64]map[string]mvcc.KeyValue // pairs after each revision
	leases          map[int64]lease.Lease
	alarms          map[alarm.Alarm]bool
	members         *memberModel
	users           *userModel

	// Of the command under way.
	pairs   map[string]mvcc.KeyValue
	changed bool
	at      lease.Grant
}

func newModel() *model {
	return &model{
		revision: 1, floor: -1, history: map[int64]map[string]mvcc.KeyValue{1: {}},
		leases: map[int64]lease.Lease{}, alarms: map[alarm.Alarm]bool{}, members: newMemberModel(),
		users: newUserModel(),
	}
}

// apply applies one command of the entry at index.
func (m *model) apply(c *command.Command, index, term uint64, ordinal uint32) Result {
	op := c.Op
	m.pairs, m.changed = maps.Clone(m.history[m.revision]), false
	m.at = lease.Grant{Index: index, Ordinal: ordinal}
	var res Result
	if res.Refusal = m.forbidden(op); res.Refusal == nil {
		res.Refusal = m.users.admit(c, m.keysOf)
	}
	if known, err := false, error(nil); res.Refusal == nil {
		if known, err = m.users.apply(op); known {
			res.Refusal = err
		}
	}
	if res.Refusal == nil {
		res.Refusal = m.execute(op, term, &res)
	}
	if res.Refusal != nil {
		res = Result{Refusal: res.Refusal}
	} else if m.changed {
		m.revision++
		m.history[m.revision] = m.pairs
	}
	res.Revision = m.revision
	return res
}

func (m *model) raised(t alarm.Type) bool {
	for a := range m.alarms {
		if a.Type == t {
			return true
		}
	}
	return false
}

func (m *model) forbidden(op command.Op) error {
	kind := strings.TrimPrefix(fmt.Sprintf("%T", op), "*command.")
	if m.raised(alarm.Corrupt) && strings.Contains("Put DeleteRange Txn Compact LeaseGrant LeaseRevoke", kind) {
		return ErrCorrupt
	}
	if m.raised(alarm.NoSpace) && (kind == "Put" || kind == "LeaseGrant" || kind == "Txn" && countPuts(op) > 0) {
		return ErrNoSpace
	}
	return nil
}

func countPuts(op command.Op) int {
	n := 0
	switch o := op.(type) {
	case *command.Put:
		n = 1
	case *command.Txn:
		for _, op := range append(slices.Clone(o.Success), o.Failure...) {
			n += countPuts(op)
		}
	}
	return n
}

func (m *model) execute(op command.Op, term uint64, res *Result) error {
	switch o := op.(type) {
	case *command.Put:
		prev, err := m.put(o, m.pairs)
		if err == nil && o.PrevKV {
			res.Prev = prev
		}
		return err
	case *command.DeleteRange:
		if len(o.Key) == 0 {
			return ErrEmptyKey
		}
		deleted := m.deleteRange(o.Key, o.End)
		res.Deleted = int64(len(deleted))
		if o.PrevKV {
			res.Prevs = deleted
		}
	case *command.Txn:
		return m.txn(o, res)
	case *command.Compact:
		if o.Revision <= m.floor {
			return mvcc.ErrCompacted
		}
		if o.Revision > m.revision {
			return mvcc.ErrFuture
		}
		m.floor = o.Revision
	case *command.LeaseGrant:
		if _, ok := m.leases[o.ID]; ok || o.ID == 0 {
			return ErrLeaseExists
		}
		m.leases[o.ID] = lease.Lease{ID: o.ID, TTLSeconds: o.TTLSeconds, Grant: m.at}
		res.Lease, res.TTLSeconds = o.ID, o.TTLSeconds
	case *command.LeaseRevoke:
		if o.Term > 0 && o.Term < term {
			return ErrStaleTerm
		}
		l, ok := m.leases[o.ID]
		if named := (lease.Grant{Index: o.GrantIndex, Ordinal: o.GrantOrdinal}); !ok || o.GrantIndex > 0 && l.Grant != named {
			return ErrLeaseNotFound
		}
		delete(m.leases, o.ID)
		for _, k := range m.sorted([]byte{0}, []byte{0}) {
			if k.Lease == o.ID {
				m.deleteRange(k.Key, nil)
				res.Deleted++
			}
		}
		res.Lease = o.ID
	case *command.LeaseCheckpoint:
		if o.Term > 0 && o.Term < term {
			return ErrStaleTerm
		}
		for _, c := range o.Leases {
			l, ok := m.leases[c.ID]
			named := lease.Grant{Index: c.GrantIndex, Ordinal: c.GrantOrdinal}
			if ok && (c.GrantIndex == 0 || named == l.Grant && l.CheckpointIndex == c.CheckpointIndex) {
				l.RemainingSeconds, l.CheckpointIndex = c.RemainingSeconds, m.at.Index
				m.leases[c.ID] = l
			}
		}
	case *command.Alarm:
		a := alarm.Alarm{Member: o.Member, Type: alarm.Type(o.Type)}
		if o.Raise && a.Type != alarm.None && !m.members.removed[o.Member] {
			m.alarms[a] = true
			res.Alarm = &a
		}
		if !o.Raise && m.alarms[a] {
			delete(m.alarms, a)
			res.Alarm = &a
		}
	default:
		refusal, _ := m.members.plain(op)
		return refusal
	}
	return nil
}

// put checks against the pairs before, and writes.
func (m *model) put(o *command.Put, before map[string]mvcc.KeyValue) (*mvcc.KeyValue, error) {
	if len(o.Key) == 0 {
		return nil, ErrEmptyKey
	}
	if _, ok := m.leases[o.Lease]; o.Lease != 0 && !o.IgnoreLease && !ok {
		return nil, ErrLeaseNotFound
	}
	if _, ok := before[string(o.Key)]; !ok && (o.IgnoreValue || o.IgnoreLease) {
		return nil, mvcc.ErrKeyNotFound
	}
	next := m.revision + 1
	kv := mvcc.KeyValue{Key: o.Key, Value: o.Value, Lease: o.Lease, CreateRevision: next, ModRevision: next, Version: 1}
	old, ok := m.pairs[string(o.Key)]
	if ok {
		kv.CreateRevision, kv.Version = old.CreateRevision, old.Version+1
	}
	if o.IgnoreValue {
		kv.Value = old.Value
	}
	if o.IgnoreLease {
		kv.Lease = old.Lease
	}
	m.pairs[string(o.Key)], m.changed = kv, true
	if !ok {
		return nil, nil
	}
	return &old, nil
}

// sorted returns the selected pairs in key order.
func (m *model) sorted(key, end []byte) []mvcc.KeyValue { return selected(m.pairs, key, end) }

func selected(pairs map[string]mvcc.KeyValue, key, end []byte) []mvcc.KeyValue {
	var list []mvcc.KeyValue
	for _, kv := range pairs {
		in := bytes.Equal(kv.Key, key)
		if len(end) > 0 {
			in = bytes.Compare(kv.Key, key) >= 0 && (string(end) == "\x00" || bytes.Compare(kv.Key, end) < 0)
		}
		if in {
			list = append(list, kv)
		}
	}
	slices.SortFunc(list, func(a, b mvcc.KeyValue) int { return bytes.Compare(a.Key, b.Key) })
	return list
}

func (m *model) deleteRange(key, end []byte) []mvcc.KeyValue {
	deleted := m.sorted(key, end)
	for _, kv := range deleted {
		delete(m.pairs, string(kv.Key))
		m.changed = true
	}
	return deleted
}

// txn runs a transaction on a copy, which a refusal throws away.
func (m *model) txn(o *command.Txn, res *Result) (err error) {
	before := maps.Clone(m.pairs)
	if m.emptyCompare(o, before) {
		return ErrEmptyKey
	}
	res.Txn, err = m.branch(o, before)
	return err
}

// emptyCompare reports whether a compare that is looked at has no key.
func (m *model) emptyCompare(o *command.Txn, before map[string]mvcc.KeyValue) bool {
	holds := true
	for _, c := range o.Compares {
		if len(c.Key) == 0 {
			return true
		}
		if holds = modelHolds(&c, before); !holds {
			break
		}
	}
	for _, op := range branch(o, holds) {
		if inner, ok := op.(*command.Txn); ok && m.emptyCompare(inner, before) {
			return true
		}
	}
	return false
}

func (m *model) branch(o *command.Txn, before map[string]mvcc.KeyValue) (*TxnResult, error) {
	res := &TxnResult{Succeeded: true}
	for i := range o.Compares {
		res.Succeeded = res.Succeeded && modelHolds(&o.Compares[i], before)
	}
	for _, op := range branch(o, res.Succeeded) {
		var r OpResult
		var err error
		switch o := op.(type) {
		case *command.Range:
			r.Kind = OpRange
			err = m.readRange(o, &r)
		case *command.Put:
			r.Kind = OpPut
			var prev *mvcc.KeyValue
			if prev, err = m.put(o, before); o.PrevKV {
				r.Prev = prev
			}
		case *command.DeleteRange:
			r.Kind = OpDeleteRange
			if len(o.Key) == 0 {
				return nil, ErrEmptyKey
			}
			deleted := m.deleteRange(o.Key, o.End)
			if r.Count = int64(len(deleted)); o.PrevKV {
				r.KVs = deleted
			}
		case *command.Txn:
			r.Kind = OpTxn
			r.Txn, err = m.branch(o, before)
		}
		if err != nil {
			return nil, err
		}
		r.Revision = m.current()
		res.Responses = append(res.Responses, r)
	}
	res.Revision = m.current()
	return res, nil
}

func (m *model) current() int64 {
	if m.changed {
		return m.revision + 1
	}
	return m.revision
}

func (m *model) readRange(o *command.Range, r *OpResult) error {
	if len(o.Key) == 0 {
		return ErrEmptyKey
	}
	if o.Revision > m.revision {
		return mvcc.ErrFuture
	}
	if o.Revision != 0 && o.Revision < m.floor {
		return mvcc.ErrCompacted
	}
	pairs := m.pairs
	if o.Revision > 0 {
		pairs = m.history[o.Revision]
	}
	all := selected(pairs, o.Key, o.End)
	r.Count = int64(len(all))
	if o.CountOnly {
		return nil
	}
	var list []mvcc.KeyValue
	for _, kv := range all {
		if (o.ModRevisionMin != 0 && kv.ModRevision < o.ModRevisionMin) || (o.ModRevisionMax != 0 && kv.ModRevision > o.ModRevisionMax) ||
			(o.CreateRevisionMin != 0 && kv.CreateRevision < o.CreateRevisionMin) ||
			(o.CreateRevisionMax != 0 && kv.CreateRevision > o.CreateRevisionMax) {
			continue
		}
		list = append(list, kv)
	}
	r.KVs, r.More = sortAndCut(o, list)
	for i := range r.KVs {
		if o.KeysOnly {
			r.KVs[i].Value = nil
		}
	}
	return nil
}

// sortAndCut sorts and limits. Without an order but with a target, and without filters, the limit cuts first, at one
// more than it says.
func sortAndCut(o *command.Range, list []mvcc.KeyValue) ([]mvcc.KeyValue, bool) {
	filtered := o.ModRevisionMin != 0 || o.ModRevisionMax != 0 || o.CreateRevisionMin != 0 || o.CreateRevisionMax != 0
	if o.Limit > 0 && o.SortOrder == 0 && !filtered && int64(len(list)) > o.Limit {
		list = list[:o.Limit+1]
	}
	sign := 1
	if o.SortOrder == 2 {
		sign = -1
	}
	slices.SortStableFunc(list, func(a, b mvcc.KeyValue) int {
		switch o.SortTarget {
		case 1:
			return sign * cmp.Compare(a.Version, b.Version)
		case 2:
			return sign * cmp.Compare(a.CreateRevision, b.CreateRevision)
		case 3:
			return sign * cmp.Compare(a.ModRevision, b.ModRevision)
		case 4:
			return sign * bytes.Compare(a.Value, b.Value)
		}
		return sign * bytes.Compare(a.Key, b.Key)
	})
	if o.Limit > 0 && int64(len(list)) > o.Limit {
		return list[:o.Limit], true
	}
	return list, false
}

func modelHolds(c *command.Compare, pairs map[string]mvcc.KeyValue) bool {
	list := selected(pairs, c.Key, c.End)
	if len(list) == 0 {
		if c.Target == 3 {
			return false
		}
		list = append(list, mvcc.KeyValue{})
	}
	for _, kv := range list {
		number := map[int32]int64{0: kv.Version, 1: kv.CreateRevision, 2: kv.ModRevision, 4: kv.Lease}[c.Target]
		order := cmp.Compare(number, c.Number)
		if c.Target == 3 {
			order = bytes.Compare(kv.Value, c.Value)
		}
		if ok := map[int32]bool{0: order == 0, 1: order > 0, 2: order < 0, 3: order != 0}[c.Result]; !ok {
			return false
		}
	}
	return true
}

func sprintResult(res *Result) string {
	var b strings.Builder
	printResult(&b, res)
	return b.String()
}

// aim lets most expiries and checkpoints be of the present term, and name the grant and the checkpoint that their lease
// has before the entry, or a place next to it.
func (m *model) aim(r *rand.Rand, op command.Op, term uint64) command.Op {
	switch o := op.(type) {
	case *command.LeaseRevoke:
		if o.GrantIndex == 0 || r.IntN(4) == 0 {
			break
		}
		at := m.leases[o.ID].Grant
		o.Term, o.GrantIndex, o.GrantOrdinal = term, at.Index, at.Ordinal
		switch r.IntN(6) {
		case 0:
			o.GrantIndex++
		case 1:
			o.GrantOrdinal++
		}
	case *command.LeaseCheckpoint:
		if o.Term > 0 && r.IntN(4) > 0 {
			o.Term = term
		}
		for i := range o.Leases {
			c := &o.Leases[i]
			if c.GrantIndex == 0 || r.IntN(4) == 0 {
				continue
			}
			l := m.leases[c.ID]
			c.GrantIndex, c.GrantOrdinal, c.CheckpointIndex = l.Grant.Index, l.Grant.Ordinal, l.CheckpointIndex
			switch r.IntN(8) {
			case 0:
				c.GrantOrdinal++
			case 1:
				c.CheckpointIndex++
			}
		}
	}
	return op
}

// Random commands, in random batches, over restarts and compactions: every result is the model's.
func TestApplyAgainstModel(t *testing.T) {
	r := random(t)
	for round := range *roundsFlag {
		x, m := newMember(t), newModel()
		g := commandtest.Generator{R: r, Keys: 1 + r.IntN(12), Leases: 4, Members: 6, Users: round%2 == 1}
		term := uint64(1)
		if g.Users {
			for i, op := range everybodyNamed {
				e := entryAfter(x.m.Applied(), op)
				x.apply(e)
				if want := m.apply(&command.Command{Op: op}, e.Index, term, 0); want.Refusal != nil {
					t.Fatalf("op %d to begin with: %v", i, want.Refusal)
				}
			}
		}
		for range 60 {
			if r.IntN(10) == 0 {
				term++
			}
			at := x.m.Applied()
			at.Term = term
			if r.IntN(4) == 0 {
				m.applyConfChange(x, r, &g, at)
				continue
			}
			var commands []command.Command
			for range 1 + r.IntN(6) {
				g.Revision, g.AuthRevision = m.revision, m.users.revision
				commands = append(commands, commandFor(&g, m.aim(r, g.Op(), term)))
			}
			e := entryOf(at, commands...)
			out := x.apply(e)
			for i, res := range out.Batches[0].Results {
				want := m.apply(&commands[i], e.Index, term, uint32(i))
				if got, want := sprintResult(&res), sprintResult(&want); got != want {
					t.Fatalf("round %d, entry %d, command %d (%T %+v of %q at %d):\ngot\n%swant\n%s", round, e.Index, i,
						commands[i].Op, commands[i].Op, commands[i].User, commands[i].AuthRevision, got, want)
				}
			}
			if out.Revision != m.revision {
				t.Fatalf("round %d: revision %d, want %d", round, out.Revision, m.revision)
			}
			switch r.IntN(12) {
			case 0:
				x.flush()
				x.reopen()
			case 1:
				x.compactAll()
			case 2:
				x.checkLeases()
				m.compare(x)
			}
		}
		m.compare(x)
	}
}

// applyConfChange applies a change of the configuration, and compares what came of it.
func (m *model) applyConfChange(x *member, r *rand.Rand, g *commandtest.Generator, at Position) {
	x.t.Helper()
	e, op, refusal := m.members.confEntry(x.t, r, g, at)
	if o, ok := op.(*command.MemberRemove); ok && refusal == nil {
		maps.DeleteFunc(m.alarms, func(a alarm.Alarm, _ bool) bool { return a.Member == o.ID })
	}
	out := x.apply(e)
	if out.ConfRefused != (op == nil || refusal != nil) || len(out.Batches) > 0 != (op != nil) {
		x.t.Fatalf("entry %d, %T %+v: refused %v, want %v", e.Index, op, op, out.ConfRefused, refusal)
	}
	if op == nil {
		return
	}
	want := Result{Refusal: refusal, Revision: m.revision}
	if got := out.Batches[0].Results; len(got) != 1 || sprintResult(&got[0]) != sprintResult(&want) {
		x.t.Fatalf("entry %d, %T %+v: got %+v, want %+v", e.Index, op, op, got, want)
	}
}

// compare compares all there is to read.
func (m *model) compare(x *member) {
	x.t.Helper()
	m.members.compare(x)
	m.users.compare(x)
	m.pairs = m.history[m.revision]
	if got, want := fmt.Sprint(x.pairs()), fmt.Sprint(m.sorted([]byte{0}, []byte{0})); got != want {
		x.t.Fatalf("pairs\n%s, want\n%s", got, want)
	}
	v := x.m.View()
	defer v.Close()
	if v.Revision() != m.revision || v.Compacted() != m.floor || x.m.LiveKeys() != int64(len(m.pairs)) {
		x.t.Fatalf("revision %d, floor %d, %d keys; want %d, %d, %d", v.Revision(), v.Compacted(), x.m.LiveKeys(), m.revision, m.floor, len(m.pairs))
	}
	leases := map[int64]lease.Lease{}
	if err := v.Leases(func(l lease.Lease) bool { leases[l.ID] = l; return true }); err != nil {
		x.t.Fatal(err)
	}
	if !maps.Equal(leases, m.leases) {
		x.t.Fatalf("leases\n%v, want\n%v", leases, m.leases)
	}
	for _, a := range v.Alarms().List(alarm.None) {
		if !m.alarms[a] {
			x.t.Fatalf("alarm %v", a)
		}
	}
	if len(v.Alarms().List(alarm.None)) != len(m.alarms) {
		x.t.Fatalf("alarms %v, want %v", v.Alarms().List(alarm.None), m.alarms)
	}
}
