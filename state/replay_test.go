package state

import (
	"fmt"
	"math/rand/v2"
	"slices"
	"testing"

	"keelson/command"
	"keelson/command/commandtest"
)

// randomLog makes entries that follow on the bootstrap position: batches, empty ones, and changes of the configuration.
func randomLog(t testing.TB, r *rand.Rand, entries int, wild bool) []Entry {
	g := commandtest.Generator{R: r, Keys: 1 + r.IntN(12), Leases: 4, Members: 6, Tree: true, Users: true, Wild: wild}
	membership := newMemberModel()
	var log []Entry
	at := bootstrapPosition
	for range entries {
		if r.IntN(15) == 0 {
			at.Term++
		}
		var e Entry
		switch r.IntN(20) {
		case 0:
			e = Entry{Index: at.Index + 1, Term: at.Term}
		case 1, 2, 3:
			e, _, _ = membership.confEntry(t, r, &g, at)
		default:
			var commands []command.Command
			for range r.IntN(5) {
				g.Revision = int64(len(log))                       // about
				g.AuthRevision = 1 + r.Uint64N(uint64(len(log)+1)) // about
				commands = append(commands, commandFor(&g, g.Op()))
				membership.plain(commands[len(commands)-1].Op)
			}
			if r.IntN(40) == 0 { // more changes than a record of them takes
				for i := range 150 {
					commands = append(commands, commandFor(&g, &command.Put{Key: fmt.Appendf(nil, "many/%040d", i%30)}))
				}
			}
			e = entryOf(at, commands...)
		}
		log = append(log, e)
		at.Index++
	}
	return log
}

// applyFrom applies what is left of the log, in calls of random size. A change of the configuration ends a call.
func (x *member) applyFrom(r *rand.Rand, log []Entry, calls int, seen func(Outcome)) {
	for ; calls > 0; calls-- {
		next := x.m.Applied().Index + 1 - log[0].Index
		if next == uint64(len(log)) {
			return
		}
		n := min(1+r.IntN(6), len(log)-int(next))
		part := log[next : int(next)+n]
		if i := slices.IndexFunc(part, func(e Entry) bool { return e.ConfChange }); i >= 0 {
			part = part[:i+1]
		}
		out := x.apply(part...)
		if seen != nil {
			seen(out)
		}
	}
}

// One log, applied one entry at a time, in groups, and by a member that flushes, restarts, crashes and compacts at any
// point: the same hash at every index, the same results, the same records (G10-G12; known bugs A1, A2, A11).
func TestSameLogSameState(t *testing.T) {
	r := random(t)
	for round := range *roundsFlag {
		log := randomLog(t, r, 120, round%2 == 1)
		one, grouped, crashing := newMember(t), newMember(t), newMember(t)
		hashes := map[uint64]uint64{}
		var oneSaw, groupedSaw string
		for _, e := range log {
			oneSaw += sprintResults(one.apply(e))
			_, hashes[e.Index] = one.m.StateHash()
		}
		grouped.applyFrom(r, log, len(log), func(out Outcome) { groupedSaw += sprintResults(out) })
		if oneSaw != groupedSaw {
			t.Fatalf("round %d: results differ:\n%s\nwant\n%s", round, groupedSaw, oneSaw)
		}
		crashing.applyCrashing(r, log, func() {
			t.Helper()
			index, hash := crashing.m.StateHash()
			if index > 1 && hash != hashes[index] {
				t.Fatalf("round %d: hash at %d is %x, want %x", round, index, hash, hashes[index])
			}
		})
		for name, x := range map[string]*member{"grouped": grouped, "crashing": crashing} {
			x.checkLeases()
			index, hash := x.m.StateHash()
			if index != log[len(log)-1].Index || hash != hashes[index] {
				t.Fatalf("round %d, %s: hash at %d is %x, want %x", round, name, index, hash, hashes[index])
			}
			one.compactAll()
			x.compactAll()
			if got, want := x.dump(nameRemoval), one.dump(nameRemoval); got != want {
				t.Fatalf("round %d, %s: state\n%s\nwant\n%s", round, name, got, want)
			}
		}
	}
}

// sprintResults prints all results, apart from how they were grouped.
func sprintResults(out Outcome) string {
	s := ""
	for _, b := range out.Batches {
		s += fmt.Sprintf("batch %d\n", b.ID.Sequence)
		for i := range b.Results {
			s += sprintResult(&b.Results[i])
		}
	}
	if out.ConfRefused || out.Removed != nil {
		s += fmt.Sprintf("configuration refused: %v, removed %d\n", out.ConfRefused, out.Removed)
	}
	return s
}

// applyCrashing applies the log while all kinds of things happen, and calls check after each.
func (x *member) applyCrashing(r *rand.Rand, log []Entry, check func()) {
	last := log[len(log)-1].Index
	for x.m.Applied().Index < last {
		x.applyFrom(r, log, 1+r.IntN(5), nil)
		check()
		before := x.m.Applied()
		revision, floor := x.m.Revision(), x.m.Compacted()
		durable, err := x.m.DurableApplied()
		if err != nil {
			x.t.Fatal(err)
		}
		if durable.Index > before.Index {
			x.t.Fatalf("durable %d, applied %d", durable.Index, before.Index)
		}
		switch r.IntN(6) {
		case 0:
			x.flush()
			if durable, err = x.m.DurableApplied(); err != nil || durable != before {
				x.t.Fatalf("after a flush durable is %v, want %v; %v", durable, before, err)
			}
			x.crash(r)
			if x.m.Applied() != before || x.m.Revision() != revision || x.m.Compacted() != floor {
				x.t.Fatalf("after a flush and a crash at %v, want %v", x.m.Applied(), before)
			}
		case 1:
			x.crash(r)
			if at := x.m.Applied(); at.Index < durable.Index || at.Index > before.Index {
				x.t.Fatalf("after a crash at %d, was at %d, durable %d", at.Index, before.Index, durable.Index)
			}
		case 2:
			x.reopen()
		case 3:
			x.compactAll()
		case 4:
			if _, _, err := x.m.CompactStep(1 + r.IntN(3)); err != nil {
				x.t.Fatal(err)
			}
		}
		check()
	}
}

// Events and lease changes do not depend on the grouping either.
func TestEventsDoNotDependOnGrouping(t *testing.T) {
	r := random(t)
	for range *roundsFlag {
		log := randomLog(t, r, 80, true)
		one, grouped := newMember(t), newMember(t)
		var want, got changes
		for _, e := range log {
			want.add(one.apply(e))
		}
		grouped.applyFrom(r, log, len(log), got.add)
		if got != want {
			t.Fatalf("got\n%v\nwant\n%v", got, want)
		}
	}
}

// changes are the events and lease changes of several calls of Apply, one after the other.
type changes struct{ events, leases string }

func (c *changes) add(out Outcome) {
	for i := range out.Events {
		e := &out.Events[i]
		c.events += fmt.Sprintf("%d.%d %d %s", e.KV.ModRevision, e.Sub, e.Kind, printPair(&e.KV))
		if e.Prev != nil {
			c.events += " was " + printPair(e.Prev)
		}
		c.events += "\n"
	}
	for _, l := range out.Leases {
		c.leases += fmt.Sprintln(l)
	}
}

// Different logs do not end in the same hash: each part of an entry counts.
func TestHashCoversEverything(t *testing.T) {
	put := &command.Put{Key: []byte("a"), Value: []byte("1")}
	base := func() Entry { return entryAfter(bootstrapPosition, put) }
	remove := confEntryAfter(t, bootstrapPosition, testIdentity.ConfState, &command.MemberRemove{ID: 1})
	hashes := map[uint64]string{}
	for name, change := range map[string]func(*Entry){
		"base":                func(*Entry) {},
		"term":                func(e *Entry) { e.Term++ },
		"value":               func(e *Entry) { *e = entryAfter(bootstrapPosition, &command.Put{Key: []byte("a"), Value: []byte("2")}) },
		"two":                 func(e *Entry) { *e = entryAfter(bootstrapPosition, put, put) },
		"empty":               func(e *Entry) { e.Data = nil },
		"noop":                func(e *Entry) { *e = entryAfter(bootstrapPosition, &command.Noop{}) },
		"a change":            func(e *Entry) { *e = remove },
		"raft can't":          func(e *Entry) { *e = remove; e.ConfState = nil },
		"a change of nothing": func(e *Entry) { *e = remove; e.Data = nil },
		"another": func(e *Entry) {
			*e = confEntryAfter(t, bootstrapPosition, testIdentity.ConfState, &command.MemberRemove{ID: 2})
		},
	} {
		x := newMember(t)
		e := base()
		change(&e)
		x.apply(e)
		_, hash := x.m.StateHash()
		if other, ok := hashes[hash]; ok {
			t.Errorf("%s and %s have the same hash", name, other)
		}
		hashes[hash] = name
	}
}

// What was before counts, even if the entries after it are the same.
func TestHashIsChained(t *testing.T) {
	a, b := newMember(t), newMember(t)
	a.do(&command.Noop{})
	b.do(&command.Noop{}, &command.Noop{})
	for _, x := range []*member{a, b} {
		x.do(&command.Put{Key: []byte("a")})
	}
	_, ha := a.m.StateHash()
	if _, hb := b.m.StateHash(); ha == hb {
		t.Errorf("the hash has forgotten what was before")
	}
}

// The same entry on a different state gives a different hash, though the answer is the same: a pair that differs shows as
// soon as it is touched.
func TestHashShowsDifferentState(t *testing.T) {
	var hashes []uint64
	for _, value := range []string{"1", "2"} {
		x := newMember(t)
		x.putBehindItsBack("a", value)
		x.do(&command.Put{Key: []byte("a"), IgnoreValue: true})
		_, hash := x.m.StateHash()
		hashes = append(hashes, hash)
	}
	if hashes[0] == hashes[1] {
		t.Errorf("the hash does not show that a pair differs")
	}
}

// putBehindItsBack writes a pair without an entry of the log.
func (x *member) putBehindItsBack(key, value string) {
	b := x.db.NewBatch()
	tx := x.m.kv.Begin(b)
	if _, err := tx.Put([]byte(key), []byte(value), 0, false, false); err != nil {
		x.t.Fatal(err)
	}
	tx.EndCommand()
	tx.Finish()
	if err := b.Commit(); err != nil {
		x.t.Fatal(err)
	}
	x.m.kv.Publish(tx)
}
