package watch

import (
	"testing"
	"testing/synctest"
	"time"
)

// fixed is a chance that always draws the same.
type fixed uint64

func (c fixed) Uint64() uint64 { return uint64(c) }

func TestProgressNotifications(t *testing.T) {
	run(t, Options{ProgressInterval: time.Minute, Chance: fixed(0)}, func(f *fixture) {
		r := f.stream()
		r.stream.Create(Request{WatchID: 1, Key: []byte("a"), ProgressNotify: true})
		r.stream.Create(Request{WatchID: 2, Key: []byte("b"), ProgressNotify: true})
		r.stream.Create(Request{WatchID: 3, Key: []byte("b")})
		f.expect(r, "1@1 created", "2@1 created", "3@1 created")
		time.Sleep(59 * time.Second)
		f.expect(r)
		f.commit(put("a", "x"))
		f.expect(r, "1@2 a=x@2")
		time.Sleep(2 * time.Second) // 61 s
		f.expect(r, "2@2")
		f.commit(put("c", "x"))
		time.Sleep(time.Minute)
		f.expect(r, "1@3", "2@3")
		r.stream.Cancel(1)
		f.expect(r, "1@3 canceled")
		time.Sleep(time.Minute)
		f.expect(r, "2@3")
	})
}

func TestProgressTimerEndsWithTheLastWatcherThatAsks(t *testing.T) {
	run(t, Options{ProgressInterval: time.Minute}, func(f *fixture) {
		running := func() bool {
			synctest.Wait()
			f.hub.ticks.mu.Lock()
			defer f.hub.ticks.mu.Unlock()
			return f.hub.ticks.running
		}
		r, other := f.stream(), f.stream()
		r.stream.Create(Request{Key: []byte("a")})
		if running() {
			t.Error("the timer runs though nobody asked")
		}
		for range 3 {
			r.stream.Create(Request{WatchID: 7, Key: []byte("a"), ProgressNotify: true})
			other.stream.Create(Request{Key: []byte("a"), ProgressNotify: true})
			if !running() {
				t.Fatal("the timer does not run")
			}
			r.stream.Cancel(7)
			if !running() {
				t.Fatal("the timer does not run for the other stream")
			}
			other.stream.Close()
			if running() {
				t.Fatal("the timer runs on")
			}
			other = f.stream()
		}
	})
}

func TestProgressPeriodIsLengthenedAtRandom(t *testing.T) {
	for draw, want := range map[uint64]time.Duration{0: time.Minute, 6_000_000_000: 66 * time.Second, 6_000_000_001: time.Minute} {
		h := NewHub(newStore(), Options{ProgressInterval: time.Minute, Chance: fixed(draw)})
		if got := h.ticks.period(); got != want {
			t.Errorf("drawn %d: %v, want %v", draw, got, want)
		}
		h.Close()
	}
	h := NewHub(newStore(), Options{ProgressInterval: time.Millisecond, Chance: fixed(0)})
	defer h.Close()
	if got := h.ticks.period(); got != 100*time.Millisecond {
		t.Errorf("shortest period %v", got)
	}
}

func TestNoProgressWhileStalled(t *testing.T) {
	run(t, Options{ProgressInterval: time.Minute, StreamQueueLen: 3}, func(f *fixture) {
		r := f.stream()
		r.stream.Create(Request{Key: []byte("a"), ProgressNotify: true})
		f.expect(r, "0@1 created")
		r.setStall(true)
		for range 20 {
			time.Sleep(time.Minute)
			r.stream.Progress()
		}
		r.setStall(false)
		if n := len(r.take()); n < 2 || n > 4 { // one was under way
			t.Errorf("%d progress responses were queued", n)
		}
	})
}

func TestNoProgressWhileBehind(t *testing.T) {
	run(t, Options{RingBytes: 1, ResponseBytes: 1, ProgressInterval: time.Minute}, func(f *fixture) {
		f.puts("a", 5)
		r := f.stream()
		r.setStall(true)
		r.stream.Create(Request{Key: []byte("a"), Start: 2, ProgressNotify: true})
		synctest.Wait()
		r.stream.Progress()
		time.Sleep(5 * time.Minute)
		r.setStall(false)
		f.expect(r, "0@6 created", "0@6 a=0@2", "0@6 a=1@3", "0@6 a=2@4", "0@6 a=3@5", "0@6 a=4@6")
		r.stream.Progress()
		f.expect(r, "-1@6")
	})
}
