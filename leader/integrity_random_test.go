package leader

import (
	"fmt"
	"maps"
	"math/rand/v2"
	"slices"
	"testing"
	"time"

	"keelson/command"
	"keelson/state/alarm"
)

// Whatever happens in whatever order: nobody healthy is accused, nobody states a hash twice. When the faults end, everybody
// corrupt is found.
func TestIntegrityRandom(t *testing.T) {
	s := *seedFlag
	if s == 0 {
		s = rand.Uint64()
	}
	t.Logf("-seed=%d", s)
	r := rand.New(rand.NewPCG(s, 0))
	var sum struct{ alarms, verdicts, spoiled int }
	rounds := max(*roundsFlag/10, 1)
	for round := range rounds {
		h := newHall(t, fmt.Sprintf("round %d", round), r, 3+2*r.IntN(2))
		h.lossPct, h.delay = r.IntN(30), time.Duration(r.IntN(2000))*time.Millisecond
		corruptMax := r.IntN(len(h.seats) + 1)
		for range 600 {
			h.step(corruptMax)
		}
		h.settle()
		sum.alarms += len(h.raised)
		sum.verdicts += len(h.verdicts)
		sum.spoiled += len(h.ever)
	}
	t.Logf("%d rounds: %d members spoiled, %d verdicts, %d alarms", rounds, sum.spoiled, sum.verdicts, sum.alarms)
	if rounds >= 30 && (sum.alarms == 0 || sum.verdicts == 0) {
		t.Error("nothing was found in any round")
	}
}

// any draws a member.
func (h *hall) any() *seat {
	ids := slices.Sorted(maps.Keys(h.seats))
	return h.seats[ids[h.r.IntN(len(ids))]]
}

// step does something and lets a little time pass.
func (h *hall) step(corruptMax int) {
	s := h.any()
	switch n := h.r.IntN(1000); {
	case n < 200 && h.leads != 0:
		h.write()
	case n < 205 && len(h.ever) < corruptMax:
		h.spoil(s.id, s.id)
	case n < 215:
		s.down = !s.down
		if s.down && h.leads == s.id {
			h.elect(0)
		}
	case n < 225 && s.id != h.leads:
		h.restart(s, uint64(h.r.Int64N(int64(s.applied-s.ring+1)))+s.ring)
	case n < 230 && s.id != h.leads:
		if from := h.any(); from.corruptFrom == 0 && from.applied > s.applied {
			h.install(s, from)
		}
	case n < 240:
		h.changeMembers(s)
	case n < 245 && h.leads != 0:
		h.append(&command.Alarm{Member: s.id, Type: int32(alarm.Corrupt)})
	case n < 255 || h.leads == 0 && n < 400:
		if now := h.configAt(h.last()); !s.down && slices.Contains(now.voters, s.id) {
			h.elect(s.id)
		}
	}
	h.land()
	h.each(func(s *seat) {
		if h.r.IntN(3) > 0 {
			h.apply(s, uint64(h.r.IntN(10)))
		}
	})
	h.each(h.tick)
	h.now += time.Duration(h.r.IntN(300)) * time.Millisecond
}

func (h *hall) changeMembers(s *seat) {
	if h.leads == 0 {
		return
	}
	now := h.configAt(h.last())
	switch {
	case slices.Contains(now.learners, s.id):
		h.append(&command.MemberPromote{ID: s.id})
	case len(now.learners) == 0 && len(now.voters) < 6:
		id := uint64(len(h.log) + 100)
		h.append(&command.MemberAdd{ID: id, IsLearner: true})
		h.join(id)
		h.installFromHealthy(h.seats[id])
	case len(now.voters) > 2 && s.id != h.leads:
		h.append(&command.MemberRemove{ID: s.id})
		delete(h.seats, s.id)
	}
}

// installFromHealthy gives a new member its first state. It is well if there is nobody healthy to have it from.
func (h *hall) installFromHealthy(s *seat) {
	for _, id := range slices.Sorted(maps.Keys(h.seats)) {
		if from := h.seats[id]; from != s && from.corruptFrom == 0 {
			h.install(s, from)
			return
		}
	}
}

// settle ends the faults and checks that everybody corrupt is found then.
func (h *hall) settle() {
	h.lossPct = 0
	for _, s := range h.seats {
		s.down = false
	}
	now := h.configAt(h.last())
	h.elect(now.voters[h.r.IntN(len(now.voters))])
	h.pass(5 * time.Second)
	for _, id := range h.configAt(h.last()).alarmed {
		h.append(&command.Alarm{Member: id, Type: int32(alarm.Corrupt)})
	}
	for range 10 {
		h.write()
		h.pass(3 * time.Second)
	}
	now = h.configAt(h.last())
	corrupt := h.corruptNow()
	healthy := 0
	for _, id := range now.voters {
		if !slices.Contains(corrupt, id) {
			healthy++
		}
	}
	switch {
	case len(corrupt) == 0:
		if len(now.alarmed) > 0 {
			h.failf("nobody is corrupt; alarms for %d", now.alarmed)
		}
	case healthy < len(now.voters)/2+1:
		if !slices.Contains(now.alarmed, 0) {
			h.failf("%d are corrupt of %d; alarms for %d", corrupt, now.voters, now.alarmed)
		}
	default:
		for _, id := range corrupt {
			if _, knows := h.seats[id].g.Corrupt(); !knows || !slices.Contains(now.alarmed, id) {
				h.failf("%d are corrupt of %d; alarms for %d; %d knows of itself: %v", corrupt, now.voters, now.alarmed, id, knows)
			}
		}
	}
}
