package node

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"sync"
	"testing"
	"time"

	"keelson/command"
	"keelson/leader"
	"keelson/state"
	"keelson/state/alarm"
	"keelson/storage"
)

// audit is what the members of a trio report about their states.
type audit struct {
	mu       sync.Mutex
	compared map[uint64]int // by member: comparisons with another member's hash that came out equal
	unequal  map[uint64]int
	disputes []leader.Verdict
	corrupt  map[uint64]leader.Corruption
}

// newAuditedTrio is a trio whose leader begins checks more often, and that reports.
func newAuditedTrio(t *testing.T) (*trio, *audit) {
	c := newTrio(t)
	a := &audit{compared: map[uint64]int{}, unequal: map[uint64]int{}, corrupt: map[uint64]leader.Corruption{}}
	for i, r := range c.rigs {
		tune := r.tune
		r.tune = func(o *Options) {
			tune(o)
			o.Integrity.Interval = 10 * time.Millisecond
			o.Observe.Applied = func(out *state.Outcome, _ int, _ time.Duration) { a.compare(r.id, out.Checks) }
			o.Observe.Corrupt = func(found leader.Corruption) {
				a.mu.Lock()
				defer a.mu.Unlock()
				a.corrupt[r.id] = found
			}
			o.Observe.Disputed = func(v leader.Verdict) {
				a.mu.Lock()
				defer a.mu.Unlock()
				a.disputes = append(a.disputes, v)
			}
		}
		c.restart(i, nil)
	}
	return c, a
}

func (a *audit) compare(id uint64, checks []state.HashCheck) {
	a.mu.Lock()
	defer a.mu.Unlock()
	for _, f := range checks {
		switch {
		case !f.Known || f.From == id:
		case f.Theirs == f.Ours:
			a.compared[id]++
		default:
			a.unequal[id]++
		}
	}
}

// restart stops a member, lets something happen to its disk, and starts it again.
func (c *trio) restart(i int, meanwhile func(*storage.DB)) {
	r := c.rigs[i]
	r.must(r.db.Flush())
	r.stop()
	if meanwhile != nil {
		db, err := storage.Open(storage.Options{FS: r.fs, Dir: r.fs.PathJoin(r.root, "state")})
		r.must(err)
		meanwhile(db)
		r.must(db.Flush())
		r.must(db.Close())
	}
	r.start()
	c.plug(r.id, r.node)
}

// lose takes a stored pair away.
func lose(t *testing.T, key string, revision int64) func(*storage.DB) {
	return func(db *storage.DB) {
		b := db.NewBatch()
		b.DeleteVersion(storage.Versions, []byte(key), storage.Version{Main: revision})
		if err := b.Commit(); err != nil {
			t.Fatal(err)
		}
	}
}

// alarms are the members that a member thinks a CORRUPT alarm is raised for.
func (r *rig) alarms() (ids []uint64) {
	view := r.node.ReadLocal()
	defer view.Close()
	for _, a := range view.Alarms().List(alarm.Corrupt) {
		ids = append(ids, a.Member)
	}
	return ids
}

// A member whose store has lost a pair is found by the next write that touches it, follower or leader; it alone knows that
// it is corrupt, at once after a restart too, and it does not lead.
func TestCorruptMemberIsFound(t *testing.T) {
	for _, leads := range []bool{false, true} {
		t.Run(fmt.Sprintf("leading %v", leads), func(t *testing.T) {
			c, a := newAuditedTrio(t)
			bad := (c.leader() + 1) % 3
			revision := c.rigs[0].propose(&command.Put{Key: []byte("a"), Value: []byte("1")}).Revision
			c.rigs[bad].get("a")
			c.restart(bad, lose(t, "a", int64(revision)))
			victim, others := c.rigs[bad], []*rig{c.rigs[(bad+1)%3], c.rigs[(bad+2)%3]}
			if leads {
				c.lead(bad)
			} else if c.leader() == bad {
				c.lead((bad + 1) % 3)
			}
			others[0].propose(&command.Put{Key: []byte("a"), Value: []byte("2")})
			until(victim.node.Corrupt)
			for _, r := range c.rigs {
				until(func() bool { return len(r.alarms()) > 0 })
				if got := r.alarms(); !slices.Equal(got, []uint64{victim.id}) {
					t.Errorf("%d sees alarms for %d, want one for %d", r.id, got, victim.id)
				}
			}
			result, err := others[0].node.Propose(context.Background(), &command.Put{Key: []byte("a"), Value: []byte("3")})
			if err != nil || !errors.Is(result.Refusal, state.ErrCorrupt) {
				t.Errorf("a write: %v, %v", result.Refusal, err)
			}
			until(func() bool { return c.leader() != bad })
			until(func() bool { a.mu.Lock(); defer a.mu.Unlock(); return len(a.disputes) > 2 })
			a.check(t, victim.id)
			for _, r := range others {
				if r.node.Corrupt() {
					t.Errorf("%d thinks that it is corrupt", r.id)
				}
			}
			c.restart(bad, nil)
			if !victim.node.Corrupt() {
				t.Error("after a restart it has forgotten that it is corrupt")
			}
		})
	}
}

// lead makes a member lead.
func (c *trio) lead(i int) {
	for {
		l := c.leader()
		if l == i || c.rigs[l].node.MoveLeader(context.Background(), c.rigs[i].id) == nil && c.leader() == i {
			return
		}
	}
}

// check checks what was reported with one corrupt member.
func (a *audit) check(t *testing.T, victim uint64) {
	a.mu.Lock()
	defer a.mu.Unlock()
	found, ok := a.corrupt[victim]
	if !ok || len(a.corrupt) != 1 || found.Ours == found.Right {
		t.Errorf("members that know they are corrupt: %+v", a.corrupt)
	}
	for _, v := range a.disputes {
		if !v.Decided || !slices.Equal(v.Corrupt, []uint64{victim}) || len(v.Unchecked) > 0 {
			t.Errorf("verdict %+v, want one about %d", v, victim)
		}
	}
}

// Members that restart, lead in turns and apply in different runs agree, and their hashes are compared all the time.
func TestHealthyMembersAgree(t *testing.T) {
	c, a := newAuditedTrio(t)
	for i := range c.rigs {
		c.lead(i)
		c.write([]int{0, 1, 2}, func() {
			a.mu.Lock()
			before := a.compared[c.rigs[(i+1)%3].id]
			a.mu.Unlock()
			until(func() bool {
				a.mu.Lock()
				defer a.mu.Unlock()
				return a.compared[c.rigs[(i+1)%3].id] > before+3
			})
		})
		c.restart((i+1)%3, nil)
	}
	c.leader()
	a.mu.Lock()
	defer a.mu.Unlock()
	if len(a.unequal) > 0 || len(a.disputes) > 0 || len(a.corrupt) > 0 {
		t.Errorf("differences %v, disputes %+v, corrupt %+v", a.unequal, a.disputes, a.corrupt)
	}
}

// An alarm that a member is started with says that it is corrupt, for as long as it stands.
func TestInheritedAlarm(t *testing.T) {
	r := newRig(t, nil)
	r.propose(&command.Alarm{Member: testMember, Type: int32(alarm.Corrupt), Raise: true})
	if r.node.Corrupt() {
		t.Error("an alarm that somebody raised makes the member think it is corrupt")
	}
	r.stop()
	r.start()
	until(r.node.Corrupt)
	r.node.integrity.installed(r.node.o.Machine.Applied().Index)
	r.propose(&command.Alarm{Member: testMember, Type: int32(alarm.Corrupt)})
	until(func() bool { return !r.node.Corrupt() })
}
