package server

import (
	"sync"
	"time"

	"go.uber.org/zap"
)

// A member that was removed goes on answering for a while: so that those who wait for it hear of it, and so that others who
// have not heard of the removal yet, and still count with its vote, have it to elect the leader who tells them. Once all of
// them know, nobody needs it any more.
const (
	removalGraceMin       = time.Second
	removalGraceElections = 3
)

// farewells are those members that know that this one is removed: they refuse its streams.
type farewells struct {
	news chan struct{} // capacity 1: somebody was added

	mu sync.Mutex
	by map[uint64]bool
}

func newFarewells() *farewells {
	return &farewells{news: make(chan struct{}, 1), by: map[uint64]bool{}}
}

// note may be called from anywhere, and does not wait.
func (f *farewells) note(by uint64) {
	f.mu.Lock()
	f.by[by] = true
	f.mu.Unlock()
	select {
	case f.news <- struct{}{}:
	default:
	}
}

func (f *farewells) areComplete(others []uint64) bool {
	f.mu.Lock()
	defer f.mu.Unlock()
	for _, id := range others {
		if !f.by[id] {
			return false
		}
	}
	return true
}

// wait returns when all others have said farewell, but not before shortest and not after longest.
func (f *farewells) wait(others []uint64, shortest, longest time.Duration) {
	start := time.Now()
	over := time.After(longest)
	for !f.areComplete(others) {
		select {
		case <-f.news:
		case <-over:
			return
		}
	}
	time.Sleep(shortest - time.Since(start))
}

// linger is what a removed member does before it stops. First its state gets to the disk: whatever happens from here on, it knows
// at the next start that it was removed, and needs nobody to tell it.
func (s *Server) linger() {
	if err := s.engine.machine.Flush(); err != nil {
		s.logger.Warn("failed to save that this member was removed", zap.Error(err))
	}
	longest := max(removalGraceMin, removalGraceElections*s.config.Member.Election())
	s.farewells.wait(s.others(), removalGraceMin, longest)
}

// others are the members that this one knows of besides itself.
func (s *Server) others() []uint64 {
	view := s.node.ReadLocal()
	defer view.Close()
	var ids []uint64
	for _, m := range view.Members().List() {
		if m.ID != s.engine.dir.Identity.MemberID {
			ids = append(ids, m.ID)
		}
	}
	return ids
}
