package watch

import (
	"fmt"
	"testing"
	"testing/synctest"
)

// These tests run the hub's tasks by hand, so that what rarely meets does.

// A watcher that is cancelled while it is being read for must not join its group any more.
func TestCancelWhileBeingReadFor(t *testing.T) {
	for _, ringBytes := range []int{1, 1 << 20} {
		m := &manual{}
		run(t, Options{RingBytes: ringBytes, Spawn: m.spawn}, func(f *fixture) {
			f.puts("a", 3)
			m.run()
			r := f.stream()
			r.stream.Create(Request{Key: []byte("a"), Start: 2})
			f.store.asked = func() { r.stream.Cancel(0) }
			m.run()
			f.expect(r, "0@4 created", "0@4 canceled")
			if n := f.hub.index.len() + f.hub.Watchers() + f.hub.SlowWatchers() + f.hub.catchUps.streams; n != 0 {
				t.Errorf("%d left", n)
			}
		})
	}
}

// The same for a stream that is closed.
func TestCloseWhileBeingReadFor(t *testing.T) {
	m := &manual{}
	run(t, Options{Spawn: m.spawn}, func(f *fixture) {
		f.puts("a", 3)
		r := f.stream()
		r.stream.Create(Request{Key: []byte("a"), Start: 2})
		r.stream.Create(Request{Key: []byte("a"), Start: 2})
		f.store.asked = r.stream.Close
		m.run()
		f.expect(r, "0@4 created", "1@4 created")
	})
}

// Streams that wait for a reader when the hub closes no longer count as catching up.
func TestHubCloseWithStreamQueued(t *testing.T) {
	m := &manual{}
	run(t, Options{Spawn: m.spawn}, func(f *fixture) {
		f.puts("a", 3)
		r := f.stream()
		r.stream.Create(Request{Key: []byte("a"), Start: 2})
		m.step() // sends the reply, and asks for a reader
		if n := f.hub.catchUps.streams; n != 1 {
			t.Fatalf("%d streams catch up", n)
		}
		closed := make(chan struct{})
		go func() { f.hub.Close(); close(closed) }()
		synctest.Wait()
		m.run()
		<-closed
		f.expect(r, "0@4 created")
	})
}

// A stream closed between preparing a batch and sending it no longer counts as catching up.
func TestCloseWithBatchPrepared(t *testing.T) {
	m := &manual{}
	run(t, Options{Spawn: m.spawn}, func(f *fixture) {
		f.puts("a", 3)
		r := f.stream()
		r.stream.Create(Request{Key: []byte("b")})
		r.stream.Create(Request{Key: []byte("a"), Start: 2})
		m.run()
		f.expect(r, "0@4 created", "1@4 created", "1@4 a=0@2 a=1@3 a=2@4")
		r.stream.Create(Request{Key: []byte("a"), Start: 2})
		r.pause = func() {
			r.pause = nil
			f.commit(put("b", "x")) // something to send, during which the next batch is prepared
			r.pause = func() {
				r.pause = nil
				m.run()
				if r.stream.prepared == nil {
					t.Error("nothing is prepared")
				}
				r.stream.Close()
			}
			m.run()
		}
		m.run()
		r.take()
	})
}

// On one stream, a watcher that always has something to send and one that catches up get ahead by turns.
func TestLiveAndCatchingUpTakeTurns(t *testing.T) {
	const batches = 20
	m := &manual{}
	run(t, Options{ResponseBytes: 1, Spawn: m.spawn}, func(f *fixture) {
		f.puts("b", batches)
		r := f.stream()
		r.stream.Create(Request{Key: []byte("a")})
		m.run()
		f.expect(r, "0@21 created")
		r.stream.Create(Request{Key: []byte("b"), Start: 2})
		r.pause = func() {
			if len(r.received) < 2*batches+10 {
				f.commit(put("a", fmt.Sprint(len(r.received))))
				m.run()
			}
		}
		m.run()
		longest, run, last := 0, 0, int64(-1)
		count := make(map[int64]int)
		for _, resp := range r.take() {
			if len(resp.events) == 0 {
				continue
			}
			if count[resp.WatchID]++; resp.WatchID != last {
				run, last = 0, resp.WatchID
			}
			if run++; count[1] < batches {
				longest = max(longest, run)
			}
		}
		if count[1] != batches || count[0] < batches || longest > 2 {
			t.Errorf("%d live and %d other responses, up to %d of one in a row", count[0], count[1], longest)
		}
	})
}

// However little all streams may hold together, each gets its batches, whole revisions at least.
func TestCatchUpShare(t *testing.T) {
	h := NewHub(newStore(), Options{CatchUpBytes: 1 << 20, ResponseBytes: 256 << 10})
	defer h.Close()
	for _, test := range []struct{ streams, want int }{{1, 256 << 10}, {4, 256 << 10}, {8, 128 << 10}, {1000, 16 << 10}} {
		h.catchUps.streams = test.streams
		h.catchUps.queue.push(&Stream{})
		if _, limit := h.nextCatchUp(); limit != test.want {
			t.Errorf("%d streams: %d bytes each, want %d", test.streams, limit, test.want)
		}
	}
}
