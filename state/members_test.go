package state

import (
	"errors"
	"fmt"
	"maps"
	"math/rand/v2"
	"reflect"
	"slices"
	"testing"

	"go.etcd.io/raft/v3/confchange"
	"go.etcd.io/raft/v3/raftpb"
	"go.etcd.io/raft/v3/tracker"
	"google.golang.org/protobuf/proto"

	"keelson/command"
	"keelson/command/commandtest"
	"keelson/state/alarm"
	"keelson/state/members"
	"keelson/storage"
)

// leadsTo is the configuration that raft makes of another by the change that op comes with; nil: raft can't.
func leadsTo(t testing.TB, conf []byte, op command.Op) []byte {
	var cs raftpb.ConfState
	if err := proto.Unmarshal(conf, &cs); err != nil {
		t.Fatal(err)
	}
	change := &raftpb.ConfChangeSingle{}
	switch o := op.(type) {
	case *command.MemberAdd:
		change.NodeId, change.Type = &o.ID, raftpb.ConfChangeAddNode.Enum()
		if o.IsLearner {
			change.Type = raftpb.ConfChangeAddLearnerNode.Enum()
		}
	case *command.MemberPromote:
		change.NodeId, change.Type = &o.ID, raftpb.ConfChangeAddNode.Enum()
	case *command.MemberRemove:
		change.NodeId, change.Type = &o.ID, raftpb.ConfChangeRemoveNode.Enum()
	default:
		t.Fatalf("%T changes no configuration", op)
	}
	c := confchange.Changer{Tracker: tracker.MakeProgressTracker(1, 0), LastIndex: 1}
	var err error
	if c.Tracker.Config, c.Tracker.Progress, err = confchange.Restore(c, &cs); err != nil {
		t.Fatal(err)
	}
	if c.Tracker.Config, c.Tracker.Progress, err = c.Simple(change); err != nil {
		return nil
	}
	next, err := proto.MarshalOptions{Deterministic: true}.Marshal(c.Tracker.ConfState())
	if err != nil {
		t.Fatal(err)
	}
	return next
}

// confEntryAfter makes the change of the configuration conf that follows on p and carries op.
func confEntryAfter(t testing.TB, p Position, conf []byte, op command.Op) Entry {
	e := entryAfter(p, op)
	e.ConfChange, e.ConfState = true, leadsTo(t, conf, op)
	return e
}

// change applies a membership change as raft would hand it out.
func (x *member) change(op command.Op) Outcome {
	e := confEntryAfter(x.t, x.m.Applied(), x.members().ConfState(), op)
	before, _ := x.m.StateHash()
	refuses := x.refuses(e)
	if after, _ := x.m.StateHash(); after != before {
		x.t.Fatal("asking what becomes of a change has changed the state")
	}
	out := x.apply(e)
	if out.ConfRefused != refuses {
		x.t.Fatalf("%T: refused: %v, foretold: %v", op, out.ConfRefused, refuses)
	}
	return out
}

// refuses asks the machine what would become of a change, as raft has it.
func (x *member) refuses(e Entry) bool {
	data, err := proto.Marshal(&raftpb.ConfChangeV2{Context: e.Data})
	if err != nil {
		x.t.Fatal(err)
	}
	var conf *raftpb.ConfState
	if e.ConfState != nil {
		conf = &raftpb.ConfState{}
		if err := proto.Unmarshal(e.ConfState, conf); err != nil {
			x.t.Fatal(err)
		}
	}
	refuses, err := x.m.Refuses(&raftpb.Entry{Type: raftpb.EntryConfChangeV2.Enum(), Data: data}, conf)
	if err != nil {
		x.t.Fatal(err)
	}
	return refuses
}

func (x *member) members() *members.Set {
	v := x.m.View()
	defer v.Close()
	return v.Members()
}

// memberModel is the membership as the specification tells it.
type memberModel struct {
	list    map[uint64]members.Member
	removed map[uint64]bool
	version string
	target  string // of a downgrade
}

func newMemberModel() *memberModel {
	m := &memberModel{list: map[uint64]members.Member{}, removed: map[uint64]bool{}}
	for _, x := range testIdentity.Members {
		m.list[x.ID] = x
	}
	return m
}

// conf is the configuration that fits the list.
func (m *memberModel) conf() *raftpb.ConfState {
	cs := &raftpb.ConfState{}
	for _, id := range slices.Sorted(maps.Keys(m.list)) {
		if m.list[id].IsLearner {
			cs.Learners = append(cs.Learners, id)
		} else {
			cs.Voters = append(cs.Voters, id)
		}
	}
	return cs
}

func (m *memberModel) encodedConf() []byte {
	b, err := proto.Marshal(m.conf())
	if err != nil {
		panic(err)
	}
	return b
}

func (m *memberModel) inUse(id uint64, urls []string) bool {
	for _, other := range m.list {
		for _, u := range urls {
			if other.ID != id && slices.Contains(other.PeerURLs, u) {
				return true
			}
		}
	}
	return false
}

// plain applies what stands in ordinary entries; ok is false if it is not about members.
func (m *memberModel) plain(op command.Op) (refusal error, ok bool) {
	switch o := op.(type) {
	case *command.MemberAdd, *command.MemberRemove, *command.MemberPromote:
		return ErrMisplaced, true
	case *command.MemberPublish:
		x, ok := m.list[o.ID]
		if !ok {
			return members.ErrNotFound, true
		}
		x.Name, x.ClientURLs = o.Name, o.ClientURLs
		m.list[o.ID] = x
	case *command.MemberUpdate:
		x, ok := m.list[o.ID]
		if !ok {
			return members.ErrNotFound, true
		}
		if m.inUse(o.ID, o.PeerURLs) {
			return members.ErrPeerURLExists, true
		}
		x.PeerURLs = slices.Sorted(slices.Values(o.PeerURLs))
		m.list[o.ID] = x
	case *command.ClusterVersion:
		m.version = o.Version
	case *command.Downgrade:
		switch {
		case o.Target != "" && m.target != "":
			return members.ErrDowngrading, true
		case o.Target == "" && m.target == "":
			return members.ErrNotDowngrading, true
		}
		m.target = o.Target
	default:
		return nil, false
	}
	return nil, true
}

// change applies what stands in a change of the configuration that leads to conf.
func (m *memberModel) change(op command.Op, conf []byte) error {
	next := &memberModel{list: maps.Clone(m.list), removed: maps.Clone(m.removed), version: m.version, target: m.target}
	if err := next.carryOut(op); err != nil {
		return err
	}
	var cs raftpb.ConfState
	if conf == nil || proto.Unmarshal(conf, &cs) != nil || cs.Equivalent(next.conf()) != nil {
		return members.ErrConfiguration
	}
	*m = *next
	return nil
}

func (m *memberModel) carryOut(op command.Op) error {
	switch o := op.(type) {
	case *command.MemberAdd:
		_, taken := m.list[o.ID]
		switch {
		case m.removed[o.ID]:
			return members.ErrNotFound
		case taken || o.ID == 0:
			return members.ErrExists
		case m.inUse(o.ID, o.PeerURLs):
			return members.ErrPeerURLExists
		case o.IsLearner && int64(len(m.conf().GetLearners())) >= o.LearnersMax:
			return members.ErrTooManyLearners
		}
		urls := slices.Sorted(slices.Values(o.PeerURLs))
		m.list[o.ID] = members.Member{ID: o.ID, PeerURLs: urls, IsLearner: o.IsLearner, AutoPromote: o.AutoPromote && o.IsLearner}
	case *command.MemberRemove:
		x, ok := m.list[o.ID]
		if !ok {
			return members.ErrNotFound
		}
		if !x.IsLearner && len(m.conf().GetVoters()) == 1 {
			return members.ErrLastVoter
		}
		delete(m.list, o.ID)
		m.removed[o.ID] = true
	case *command.MemberPromote:
		x, ok := m.list[o.ID]
		if !ok {
			return members.ErrNotFound
		}
		if !x.IsLearner {
			return members.ErrNotLearner
		}
		x.IsLearner, x.AutoPromote = false, false
		m.list[o.ID] = x
	default:
		return ErrMisplaced
	}
	return nil
}

// compare compares with what a machine has.
func (m *memberModel) compare(x *member) {
	x.t.Helper()
	s := x.members()
	if len(s.List()) != len(m.list) {
		x.t.Fatalf("members %+v, want %+v", s.List(), m.list)
	}
	for _, got := range s.List() {
		if want := m.list[got.ID]; fmt.Sprint(got) != fmt.Sprint(want) {
			x.t.Fatalf("member %+v, want %+v", got, want)
		}
	}
	for id := range m.removed {
		if !s.Removed(id) {
			x.t.Fatalf("%d is not removed any more", id)
		}
	}
	var cs raftpb.ConfState
	if err := proto.Unmarshal(s.ConfState(), &cs); err != nil {
		x.t.Fatal(err)
	}
	if err := cs.Equivalent(m.conf()); err != nil {
		x.t.Fatal(err)
	}
	if s.Version() != m.version {
		x.t.Fatalf("version %q, want %q", s.Version(), m.version)
	}
}

// confEntry makes a change of the configuration, often one that can't be carried out, and tells the model. op is what is
// to get a result; nil: nothing.
func (m *memberModel) confEntry(t testing.TB, r *rand.Rand, g *commandtest.Generator, at Position) (e Entry, op command.Op, want error) {
	op = g.MembershipChange()
	e = confEntryAfter(t, at, m.encodedConf(), op)
	switch r.IntN(16) {
	case 0:
		e.ConfState = nil
	case 1:
		e.ConfState = leadsTo(t, m.encodedConf(), g.MembershipChange())
	case 2:
		op = &command.Noop{}
		e.Data = entryAfter(at, op).Data
		return e, op, ErrMisplaced
	case 3:
		e.Data = e.Data[:r.IntN(len(e.Data))]
		return e, nil, nil
	case 4:
		e.Data = entryAfter(at, op, op).Data
		return e, nil, nil
	}
	return e, op, m.change(op, e.ConfState)
}

// Which changes can't be carried out, and that raft is told so. Whatever is wrong, nobody stops (G11).
func TestConfChangesThatAreRefused(t *testing.T) {
	add := &command.MemberAdd{ID: 4, PeerURLs: []string{"http://d:2380"}}
	at := bootstrapPosition
	good := confEntryAfter(t, at, testIdentity.ConfState, add)
	none := &memberModel{list: map[uint64]members.Member{1: {ID: 1}, 2: {ID: 2}, 4: {ID: 4, IsLearner: true}}}
	for name, c := range map[string]struct {
		change func(*Entry)
		want   error // nil: there is no result at all
	}{
		"raft can't":               {func(e *Entry) { e.ConfState = nil }, members.ErrConfiguration},
		"raft does something else": {func(e *Entry) { e.ConfState = none.encodedConf() }, members.ErrConfiguration},
		"no configuration":         {func(e *Entry) { e.ConfState = []byte{0xff} }, members.ErrConfiguration},
		"an empty configuration":   {func(e *Entry) { e.ConfState = []byte{} }, members.ErrConfiguration},
		"not a change":             {func(e *Entry) { e.Data = entryAfter(at, &command.Noop{}).Data }, ErrMisplaced},
		"an update":                {func(e *Entry) { e.Data = entryAfter(at, &command.MemberUpdate{ID: 1}).Data }, ErrMisplaced},
		"a put":                    {func(e *Entry) { e.Data = entryAfter(at, &command.Put{Key: key("a")}).Data }, ErrMisplaced},
		"raft can't, and a put":    {func(e *Entry) { e.ConfState = nil; e.Data = entryAfter(at, &command.Put{Key: key("a")}).Data }, ErrMisplaced},
		"two changes":              {func(e *Entry) { e.Data = entryAfter(at, add, add).Data }, nil},
		"a change and a put":       {func(e *Entry) { e.Data = entryAfter(at, add, &command.Put{Key: key("a")}).Data }, nil},
		"an empty batch":           {func(e *Entry) { e.Data = entryAfter(at).Data }, nil},
		"nothing":                  {func(e *Entry) { e.Data = nil }, nil},
		"nothing, and raft can't":  {func(e *Entry) { e.Data, e.ConfState = nil, nil }, nil},
		"damage":                   {func(e *Entry) { e.Data = []byte("damage") }, nil},
		"a change cut off":         {func(e *Entry) { e.Data = e.Data[:len(e.Data)-1] }, nil},
		"a change and damage":      {func(e *Entry) { e.Data = append(slices.Clone(e.Data), 0xff) }, nil},
	} {
		x := newMember(t)
		before := x.dump(nameApplied)
		e := good
		c.change(&e)
		out := x.apply(e)
		if x.dump(nameApplied) != before || out.Members || len(out.Removed) > 0 || out.Revision != 1 || x.m.Applied().Index != 2 {
			t.Errorf("%s: something has changed: %+v", name, out)
		}
		var got error
		if len(out.Batches) == 1 && len(out.Batches[0].Results) == 1 {
			got = out.Batches[0].Results[0].Refusal
		}
		if got != c.want || !out.ConfRefused || len(out.Batches) > 0 != (c.want != nil) {
			t.Errorf("%s: refused %v for %v, want %v", name, out.ConfRefused, got, c.want)
		}
		// The member goes on, and raft's configuration, which stayed, can be changed again.
		if out := x.change(add); out.ConfRefused || !out.Members {
			t.Errorf("%s: afterwards: %+v", name, out)
		}
	}
}

// The reverse: a change of members that raft does not know of.
func TestMembershipChangesInOrdinaryEntriesAreRefused(t *testing.T) {
	x := newMember(t)
	before := x.dump(nameApplied)
	out := x.apply(entryAfter(x.m.Applied(),
		&command.MemberAdd{ID: 4, PeerURLs: []string{"http://d:2380"}}, &command.MemberRemove{ID: 1}, &command.MemberPromote{ID: 3}))
	for i, res := range out.Batches[0].Results {
		if res.Refusal != ErrMisplaced {
			t.Errorf("command %d: %v", i, res.Refusal)
		}
	}
	if x.dump(nameApplied) != before || out.ConfRefused || out.Members || out.Removed != nil || out.Counts.Refusals != 3 {
		t.Errorf("something has changed: %+v", out)
	}
}

func TestOutcomeOfConfChanges(t *testing.T) {
	x := newMember(t)
	put := entryAfter(x.m.Applied(), &command.Put{Key: key("a")})
	after := Position{Index: put.Index, Term: put.Term}
	remove := &command.MemberRemove{ID: 2}
	out := x.apply(put, confEntryAfter(t, after, testIdentity.ConfState, remove))
	if out.ConfRefused || !out.Members || !slices.Equal(out.Removed, []uint64{2}) || len(out.Batches) != 2 || out.Revision != 2 {
		t.Errorf("%+v", out)
	}
	want := BatchResult{ID: command.BatchID{Origin: 5, Sequence: after.Index}, Results: []Result{{Revision: 2}}}
	if !reflect.DeepEqual(out.Batches[1], want) {
		t.Errorf("%+v, want %+v", out.Batches[1], want)
	}
	// An entry that has nothing to do with it says nothing about it.
	if out := x.apply(entryAfter(x.m.Applied(), &command.Noop{})); out.ConfRefused || out.Members || out.Removed != nil {
		t.Errorf("%+v", out)
	}
	if out := x.change(remove); !out.ConfRefused || out.Members || out.Removed != nil {
		t.Errorf("again: %+v", out)
	}
}

// What the caller must not do: nobody could tell whether the first of two changes was refused when the second was made.
func TestConfChangesOutOfPlacePanic(t *testing.T) {
	noop := entryAfter(bootstrapPosition, &command.Noop{})
	unmarked := noop
	unmarked.ConfState = testIdentity.ConfState
	conf := confEntryAfter(t, bootstrapPosition, testIdentity.ConfState, &command.MemberRemove{ID: 1})
	follows := entryAfter(Position{Index: 2, Term: 1}, &command.Noop{})
	for name, entries := range map[string][]Entry{
		"entries behind a change": {conf, follows}, "a configuration without a change": {unmarked},
	} {
		func() {
			defer func() {
				if recover() == nil {
					t.Errorf("%s: no panic", name)
				}
			}()
			newMember(t).m.Apply(entries)
		}()
	}
}

// M1: removed members came back. Here: not by any change, not after a restart, not under another role.
func TestM1RemovedMembersStayAway(t *testing.T) {
	x := newMember(t)
	x.change(&command.MemberRemove{ID: 2})
	for round := range 2 {
		for _, op := range []command.Op{
			&command.MemberAdd{ID: 2, PeerURLs: []string{"http://new:2380"}},
			&command.MemberAdd{ID: 2, PeerURLs: []string{"http://new:2380"}, IsLearner: true, LearnersMax: 5},
			&command.MemberRemove{ID: 2},
			&command.MemberPromote{ID: 2},
		} {
			if out := x.change(op); !out.ConfRefused || out.Batches[0].Results[0].Refusal != members.ErrNotFound {
				t.Errorf("%T: %+v", op, out)
			}
		}
		for _, op := range []command.Op{
			&command.MemberUpdate{ID: 2, PeerURLs: []string{"http://b:2380"}},
			&command.MemberPublish{ID: 2, Name: "zombie"},
		} {
			if res := x.do(op)[0]; res.Refusal != members.ErrNotFound {
				t.Errorf("%T: %+v", op, res)
			}
		}
		if s := x.members(); !s.Removed(2) || len(s.List()) != 2 {
			t.Errorf("round %d: %+v", round, s)
		}
		x.flush()
		x.crash(random(t))
	}
	// Its address is free again, for a member with an id of its own.
	if out := x.change(&command.MemberAdd{ID: 4, PeerURLs: []string{"http://b:2380"}}); out.ConfRefused {
		t.Errorf("%+v", out)
	}
}

// A member takes its alarms with it: nobody could act on them any more, and CORRUPT would refuse every write until somebody
// found out that it is to be disarmed. What is raised for it later, by who did not know, is void.
func TestRemovedMembersHaveNoAlarms(t *testing.T) {
	x := newMember(t)
	raise := func(member uint64, typ alarm.Type) *command.Alarm {
		return &command.Alarm{Member: member, Type: int32(typ), Raise: true}
	}
	x.do(raise(2, alarm.Corrupt), raise(2, alarm.NoSpace), raise(2, 7), raise(1, alarm.NoSpace), raise(0, 7))
	put := &command.Put{Key: []byte("a"), Value: []byte("b")}
	if res := x.do(put)[0]; res.Refusal != ErrCorrupt {
		t.Errorf("a put while a member is corrupt: %+v", res)
	}
	if out := x.change(&command.MemberRemove{ID: 2}); out.ConfRefused || !out.Alarms {
		t.Errorf("remove: %+v", out)
	}
	want := []alarm.Alarm{{Member: 0, Type: 7}, {Member: 1, Type: alarm.NoSpace}}
	for range 2 {
		if res := x.do(raise(2, alarm.Corrupt))[0]; res.Refusal != nil || res.Alarm != nil {
			t.Errorf("raised for a member that is gone: %+v", res)
		}
		if res := x.do(put)[0]; res.Refusal != ErrNoSpace {
			t.Errorf("a put while another member is full: %+v", res)
		}
		v := x.m.View()
		if got := v.Alarms().List(alarm.None); !slices.Equal(got, want) {
			t.Errorf("alarms %v, want %v", got, want)
		}
		v.Close()
		x.flush()
		x.reopen()
	}
	x.do(&command.Alarm{Member: 1, Type: int32(alarm.NoSpace)})
	if res := x.do(put)[0]; res.Refusal != nil {
		t.Errorf("a put when all is well: %+v", res)
	}
}

// M2: a promotion was kept in one of two stores only, and the voter was a learner again after an upgrade.
// M3: new peer URLs made a voter of a learner. Here: each thing changes what it is about, before and after a restart.
func TestM2M3ChangesStickToWhatTheyAreAbout(t *testing.T) {
	x := newMember(t)
	x.do(&command.MemberPublish{ID: 3, Name: "c", ClientURLs: []string{"http://c:2379"}})
	want := members.Member{
		ID: 3, Name: "c", PeerURLs: []string{"http://c2:2380"}, ClientURLs: []string{"http://c:2379"}, IsLearner: true,
	}
	check := func(what string) {
		t.Helper()
		for range 2 {
			got, _ := x.members().Get(3)
			if !reflect.DeepEqual(got, want) {
				t.Errorf("%s: %+v, want %+v", what, got, want)
			}
			x.flush()
			x.reopen()
		}
	}
	if res := x.do(&command.MemberUpdate{ID: 3, PeerURLs: want.PeerURLs})[0]; res.Refusal != nil {
		t.Errorf("update: %+v", res)
	}
	check("update")
	if out := x.change(&command.MemberPromote{ID: 3}); out.ConfRefused {
		t.Errorf("promote: %+v", out)
	}
	want.IsLearner = false
	check("promote")
	want.PeerURLs = []string{"http://c3:2380"}
	x.do(&command.MemberUpdate{ID: 3, PeerURLs: want.PeerURLs})
	check("update of a voter")
}

// M10: two stores of the membership were out of step. Here there is one, and a power cut after any entry finds the
// members and the configuration of the same moment.
func TestM10MembersAndConfigurationAreOne(t *testing.T) {
	r := random(t)
	ops := []command.Op{
		&command.MemberAdd{ID: 4, PeerURLs: []string{"http://d:2380"}, IsLearner: true, LearnersMax: 2},
		&command.MemberPromote{ID: 4},
		&command.MemberRemove{ID: 1},
		&command.MemberPromote{ID: 3},
		&command.MemberRemove{ID: 2},
	}
	for range 20 {
		x, model := newMember(t), newMemberModel()
		flushed := r.IntN(len(ops))
		for i, op := range ops {
			if i == flushed {
				x.flush()
			}
			if out := x.change(op); out.ConfRefused {
				t.Fatalf("%T: %+v", op, out)
			}
		}
		x.crash(r)
		found := x.m.Applied().Index - bootstrapPosition.Index
		if found < uint64(flushed) {
			t.Fatalf("%d changes found, %d were flushed", found, flushed)
		}
		for _, op := range ops[:found] {
			if err := model.change(op, leadsTo(t, model.encodedConf(), op)); err != nil {
				t.Fatal(err)
			}
		}
		model.compare(x)
	}
}

// A member whose membership differs is found out by the next change of it, though the answers are alike.
func TestHashShowsDifferentMembership(t *testing.T) {
	var hashes []uint64
	for _, name := range []string{"b", "x"} {
		x := newMember(t)
		b := x.db.NewBatch()
		tx := members.Begin(b, x.members())
		if err := tx.Publish(2, name, nil); err != nil {
			t.Fatal(err)
		}
		if err := b.Commit(); err != nil {
			t.Fatal(err)
		}
		x.openMachine()
		x.do(&command.MemberPublish{ID: 1, Name: "a"})
		_, hash := x.m.StateHash()
		hashes = append(hashes, hash)
	}
	if hashes[0] == hashes[1] {
		t.Errorf("the hash does not show that a member differs")
	}
}

// Damage that no change could have led to is found when the state is opened.
func TestOpenFindsDisagreement(t *testing.T) {
	x := newMember(t)
	b := x.db.NewBatch()
	b.DeleteRange(storage.Members, nil, nil)
	if err := b.Commit(); err != nil {
		t.Fatal(err)
	}
	if _, err := Open(x.db, Options{}); err == nil || errors.Is(err, ErrNotBootstrapped) {
		t.Errorf("opened: %v", err)
	}
}

// Whatever a change of the configuration carries, and wherever it leads, Apply refuses it or carries it out.
func FuzzConfChange(f *testing.F) {
	ops := []command.Op{
		&command.MemberAdd{ID: 4, PeerURLs: []string{"http://d:2380"}},
		&command.MemberAdd{ID: 4, PeerURLs: []string{"http://d:2380"}, IsLearner: true, LearnersMax: 2, AutoPromote: true},
		&command.MemberRemove{ID: 1},
		&command.MemberRemove{ID: 9},
		&command.MemberPromote{ID: 3},
	}
	for _, op := range ops {
		e := confEntryAfter(f, bootstrapPosition, testIdentity.ConfState, op)
		f.Add(e.Data, e.ConfState, true)
		f.Add(e.Data, []byte{}, false)
	}
	f.Add(entryAfter(bootstrapPosition, &command.Put{Key: key("a")}).Data, testIdentity.ConfState, true)
	f.Add([]byte{}, testIdentity.ConfState, true)
	f.Fuzz(func(t *testing.T, data, conf []byte, possible bool) {
		if !possible {
			conf = nil
		}
		x := newMember(t)
		before := x.dump(nameApplied)
		out, err := x.m.Apply([]Entry{{Index: 2, Term: 1, Data: data, ConfChange: true, ConfState: conf}})
		if err != nil {
			t.Fatal(err)
		}
		if out.ConfRefused == out.Members || out.ConfRefused != (x.dump(nameApplied) == before) {
			t.Fatalf("refused %v, changed %v", out.ConfRefused, out.Members)
		}
		x.flush()
		x.reopen() // which finds members and configuration that disagree
	})
}
