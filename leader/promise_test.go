package leader

import (
	"fmt"
	"math/rand/v2"
	"testing"
	"time"

	"github.com/cockroachdb/pebble/v2/vfs"

	"keelson/command"
	"keelson/state"
	"keelson/state/lease"
	"keelson/storage"
)

// Checkpoints, and commands that forget them, are under way in any number; they arrive in any order, several in an entry,
// in a later term, or never. Leases are renewed, revoked and granted again meanwhile, and leaders change. Whatever a client
// was promised, the next leader keeps to it, within the second that a checkpoint rounds off.
func TestPromisesOutliveLeaders(t *testing.T) {
	s := *seedFlag
	if s == 0 {
		s = rand.Uint64()
	}
	t.Logf("-seed=%d", s)
	r := rand.New(rand.NewPCG(s, 0))
	recorded, forgotten := 0, 0
	for round := range *roundsFlag / 10 {
		h := newPromises(t, fmt.Sprintf("round %d", round), r)
		for range 200 {
			h.step()
			h.check()
		}
		recorded, forgotten = recorded+h.recorded, forgotten+h.forgotten
		h.db.Close()
	}
	if *roundsFlag >= 300 && (recorded < 100 || forgotten < 100) {
		t.Errorf("%d checkpoints took effect, %d were forgotten", recorded, forgotten)
	}
}

// promises is a leader, the state, and what is under way between them.
type promises struct {
	t    *testing.T
	name string
	r    *rand.Rand
	o    LessorOptions
	l    *Lessor
	db   *storage.DB
	m    *state.Machine

	now      time.Duration
	term     uint64
	underWay []command.Op
	expiry   map[lease.ID]time.Duration // as the client that holds it was told

	recorded, forgotten int
}

func newPromises(t *testing.T, name string, r *rand.Rand) *promises {
	db, err := storage.Open(storage.Options{FS: vfs.NewMem(), Dir: "db", Manual: true, MemtableBytes: 1 << 20, CacheBytes: 1 << 20})
	if err != nil {
		t.Fatal(err)
	}
	if err := state.BootstrapEmpty(db, 7); err != nil {
		t.Fatal(err)
	}
	m, err := state.Open(db, state.Options{})
	if err != nil {
		t.Fatal(err)
	}
	h := &promises{t: t, name: name, r: r, db: db, m: m, expiry: map[lease.ID]time.Duration{}}
	h.o = LessorOptions{CheckpointInterval: time.Duration(1+r.IntN(20)) * time.Second}
	h.elect()
	return h
}

// elect makes the next leader, by what has been applied.
func (h *promises) elect() {
	h.term++
	h.l = h.successor()
}

func (h *promises) successor() *Lessor {
	l := NewLessor(h.o)
	v := h.m.View()
	defer v.Close()
	var all []lease.Lease
	if err := v.Leases(func(g lease.Lease) bool { all = append(all, g); return true }); err != nil {
		h.t.Fatal(err)
	}
	l.Promote(h.now, h.term, all)
	return l
}

func (h *promises) step() {
	h.now += time.Duration(h.r.IntN(3000)) * time.Millisecond
	id := 1 + h.r.Int64N(3)
	switch n := h.r.IntN(100); {
	case n < 40:
		h.renew(id)
	case n < 60:
		for c := h.l.Checkpoint(h.now); c != nil; c = h.l.Checkpoint(h.now) {
			h.underWay = append(h.underWay, c)
		}
	case n < 90:
		h.arrive(1 + h.r.IntN(2))
	case n < 95 && len(h.underWay) > 0:
		h.take() // it is lost
	case n < 98:
		h.apply(&command.LeaseRevoke{ID: id}, &command.LeaseGrant{ID: id, TTLSeconds: 20 + h.r.Int64N(40)})
	case n < 99:
		h.elect()
	default: // whoever asked the old leader still wants it forgotten
		h.underWay = append(h.underWay, &command.LeaseCheckpoint{Leases: []command.LeaseRemaining{{ID: id}}})
	}
}

func (h *promises) renew(id lease.ID) {
	switch ttl, status := h.l.Renew(id, h.now); status {
	case Renewed:
		h.expiry[id] = h.now + time.Duration(ttl)*time.Second
	case Recorded:
		h.underWay = append(h.underWay, &command.LeaseCheckpoint{Leases: []command.LeaseRemaining{{ID: id}}})
	case NotFound:
		h.apply(&command.LeaseGrant{ID: id, TTLSeconds: 20 + h.r.Int64N(40)})
	case Pending:
		h.apply(&command.LeaseRevoke{ID: id})
	}
}

// take takes one of the commands under way, whichever.
func (h *promises) take() command.Op {
	i := h.r.IntN(len(h.underWay))
	op := h.underWay[i]
	h.underWay[i] = h.underWay[len(h.underWay)-1]
	h.underWay = h.underWay[:len(h.underWay)-1]
	return op
}

// arrive lets up to n commands arrive, in one entry.
func (h *promises) arrive(n int) {
	var ops []command.Op
	for range min(n, len(h.underWay)) {
		ops = append(ops, h.take())
	}
	h.apply(ops...)
}

// apply applies an entry of the present term and tells the leader.
func (h *promises) apply(ops ...command.Op) {
	data := command.BeginBatch(nil, command.BatchID{})
	for _, op := range ops {
		c := command.Command{Op: op}
		data = command.AppendTo(data, c.Append(nil))
	}
	out, err := h.m.Apply([]state.Entry{{Index: h.m.Applied().Index + 1, Term: h.term, Data: data}})
	if err != nil {
		h.t.Fatal(err)
	}
	for _, c := range out.Leases {
		switch c.Kind {
		case state.LeaseGranted:
			h.l.Granted(c.ID, c.Grant, c.TTLSeconds, h.now)
			h.expiry[c.ID] = h.now + time.Duration(c.TTLSeconds)*time.Second
		case state.LeaseRevoked:
			h.l.Revoked(c.ID)
			delete(h.expiry, c.ID)
		case state.LeaseCheckpointed:
			h.l.Checkpointed(c.ID, c.RemainingSeconds, c.CheckpointIndex)
			if c.RemainingSeconds > 0 {
				h.recorded++
			} else {
				h.forgotten++
			}
		}
	}
}

// check looks at what this leader thinks of each promise, and at what the next one would, if this one were gone now.
func (h *promises) check() {
	for who, l := range map[string]*Lessor{"this leader": h.l, "the next leader": h.successor()} {
		for id, expiry := range h.expiry {
			left := int64((expiry - h.now) / time.Second)
			if got, ok := l.Remaining(id, h.now); !ok || got.RemainingSeconds < left-1 && left > 0 {
				h.t.Fatalf("%s, at %v: lease %d was promised %d s more, %s has %d (%v)",
					h.name, h.now, id, left, who, got.RemainingSeconds, ok)
			}
		}
	}
}
