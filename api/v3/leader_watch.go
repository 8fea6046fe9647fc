package v3

import (
	"sync"
	"time"

	"go.etcd.io/etcd/api/v3/v3rpc/rpctypes"

	"keelson/env"
)

// leaderlessLooksMax is how often in a row no leader is seen before streams that insist on one are ended.
const leaderlessLooksMax = 3

// leaderWatch ends the streams that insist on a leader when there has been none for a while. While there are such
// streams, one goroutine looks for the leader once in a period.
type leaderWatch struct {
	clock  env.Clock
	period time.Duration
	leader func() bool // whether one is known

	mu      sync.Mutex
	streams map[*openStream]struct{}
	stop    chan struct{} // ends the goroutine; nil: it does not run
	done    chan struct{} // closed when the goroutine has ended
	closed  bool
}

func newLeaderWatch(clock env.Clock, period time.Duration, leader func() bool) *leaderWatch {
	return &leaderWatch{clock: clock, period: period, leader: leader, streams: map[*openStream]struct{}{}}
}

func (w *leaderWatch) add(s *openStream) {
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.closed {
		return // the stream is about to be ended
	}
	w.streams[s] = struct{}{}
	if w.stop == nil {
		w.stop, w.done = make(chan struct{}), make(chan struct{})
		go w.look(w.stop, w.done)
	}
}

func (w *leaderWatch) remove(s *openStream) {
	w.mu.Lock()
	defer w.mu.Unlock()
	delete(w.streams, s)
	if len(w.streams) == 0 && w.stop != nil {
		close(w.stop)
		w.stop = nil
	}
}

func (w *leaderWatch) look(stop <-chan struct{}, done chan<- struct{}) {
	defer close(done)
	t := w.clock.NewTicker(w.period)
	defer t.Stop()
	leaderless := 0
	for {
		select {
		case <-stop:
			return
		case <-t.C():
		}
		if w.leader() {
			leaderless = 0
			continue
		}
		if leaderless++; leaderless >= leaderlessLooksMax {
			w.endAll(rpctypes.ErrGRPCNoLeader)
			leaderless = 0
		}
	}
}

func (w *leaderWatch) endAll(cause error) {
	w.mu.Lock()
	defer w.mu.Unlock()
	for s := range w.streams {
		s.end(cause)
	}
}

// close ends the goroutine and waits for it.
func (w *leaderWatch) close() {
	w.mu.Lock()
	w.closed = true
	if w.stop != nil {
		close(w.stop)
		w.stop = nil
	}
	done := w.done
	w.mu.Unlock()
	if done != nil {
		<-done
	}
}
