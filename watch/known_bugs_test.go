package watch

import (
	"fmt"
	"math/rand/v2"
	"strings"
	"testing"
	"testing/synctest"
	"time"
)

// Bugs that other implementations of this API had, each as the situation in which it showed.

// A watcher that changed between catching up and being live was no longer found by its key.
func TestW2WatcherStaysInItsIndex(t *testing.T) {
	run(t, Options{RingBytes: 4 << 10}, func(f *fixture) {
		r, other := f.stream(), f.stream()
		other.stream.Create(Request{Key: []byte("a")}) // keeps the group, or leaves it, at other times than r
		r.stream.Create(Request{Key: []byte("a")})
		r.stream.Create(Request{Key: []byte("a"), End: []byte("c")})
		r.take()
		next := [2]int64{2, 2}
		for round := range 6 {
			r.setStall(round%2 == 0)
			other.setStall(round%3 == 0)
			for range 30 {
				f.commit(put("a", "x"))
				synctest.Wait()
			}
			r.setStall(false)
			other.setStall(false)
			synctest.Wait()
			if round == 2 {
				f.hub.Reset(f.store.Revision())
			}
			for _, resp := range r.take() {
				for _, ev := range resp.events {
					if ev.Kv.ModRevision != next[resp.WatchID] {
						t.Fatalf("round %d: watcher %d got %d, want %d", round, resp.WatchID, ev.Kv.ModRevision, next[resp.WatchID])
					}
					next[resp.WatchID]++
				}
			}
			if want := f.store.Revision() + 1; next != [2]int64{want, want} {
				t.Fatalf("round %d: next revisions %d, want %d", round, next, want)
			}
		}
	})
}

// A watcher on a future revision broke the server when the state was replaced; another bug sent it what came before.
func TestW3FutureWatcherSurvivesReset(t *testing.T) {
	run(t, Options{}, func(f *fixture) {
		r := f.stream()
		r.stream.Create(Request{Key: []byte("a"), Start: 100})
		r.stream.Create(Request{Key: []byte("a"), Start: 4})
		f.expect(r, "0@1 created", "1@1 created")
		for range 8 {
			f.store.commit(put("a", "x"))
		}
		f.hub.Reset(9)
		f.expect(r, "1@9 a=x@4 a=x@5 a=x@6 a=x@7 a=x@8 a=x@9")
		r.stream.Cancel(1)
		f.expect(r, "1@9 canceled")
		f.puts("a", 90)
		f.expect(r)
		f.commit(put("a", "100"))
		f.expect(r, "0@100 a=100@100")
	})
}

// Progress overtook events: those of a stalled stream, of a coalesced response cut short, and those not yet dispatched.
func TestW5ProgressNeverOvertakesEvents(t *testing.T) {
	run(t, Options{ResponseBytes: 1, ProgressInterval: time.Minute}, func(f *fixture) {
		r := f.stream()
		r.stream.Create(Request{Key: []byte("a"), ProgressNotify: true})
		f.expect(r, "0@1 created")
		r.setStall(true)
		f.puts("a", 3)
		r.stream.Progress()
		time.Sleep(2 * time.Minute)
		r.setStall(false)
		f.expect(r, "0@2 a=0@2", "0@3 a=1@3", "0@4 a=2@4", "-1@4")

		events := f.store.commit(put("a", "x")) // visible in the store, but not published
		r.stream.Progress()
		f.expect(r)
		f.hub.Publish(events, 5)
		f.expect(r, "0@5 a=x@5", "-1@5")
	})
}

// A slow watcher on a stream with others lost events when its revision was compacted, instead of being cancelled.
func TestW6SlowWatcherIsCancelledNotSkipped(t *testing.T) {
	run(t, Options{RingBytes: 1, ResponseBytes: 1}, func(f *fixture) {
		r := f.stream()
		r.stream.Create(Request{Key: []byte("a")})
		r.stream.Create(Request{Key: []byte("b")})
		f.expect(r, "0@1 created", "1@1 created")
		r.setStall(true)
		f.putsOneByOne("a", 10) // revisions 2 to 11
		f.store.compact(8)
		f.commit(put("b", "x"))
		r.setStall(false)
		got := lines(r.take())
		next := 2
		for _, line := range got {
			switch {
			case strings.HasPrefix(line, "1@"):
				if line != "1@12 b=x@12" {
					t.Errorf("the other watcher got %s", line)
				}
			case strings.Contains(line, "compacted"):
				if line != "0@0 canceled compacted=8" || next >= 8 {
					t.Errorf("after revision %d: %s", next-1, line)
				}
				next = 1000
			default:
				if want := fmt.Sprintf("a=%d@%d", next-2, next); !strings.HasSuffix(line, want) {
					t.Fatalf("got %s, want %s", line, want)
				}
				next++
			}
		}
		if next != 1000 || len(got) < 2 {
			t.Errorf("not cancelled: %v", got)
		}
	})
}

// An idle watcher has missed nothing, however long ago its last event was: compaction does not concern it, not even when
// the next event finds it too slow.
func TestW6IdleWatcherIsNotCancelled(t *testing.T) {
	run(t, Options{RingBytes: 1}, func(f *fixture) {
		r := f.stream()
		r.stream.Create(Request{Key: []byte("a")})
		f.expect(r, "0@1 created")
		f.putsOneByOne("b", 50)
		f.store.compact(51)
		f.commit(put("a", "x")) // does not stay in the ring: the watcher catches up
		f.expect(r, "0@52 a=x@52")
		f.putsOneByOne("b", 50)
		f.store.compact(102)
		f.store.commit(put("a", "y"))
		f.hub.Reset(103)
		f.expect(r, "0@103 a=y@103")
	})
}

// Events came twice where a watcher passed from catching up to live delivery.
func TestW10NoEventTwice(t *testing.T) {
	const revisions = 1200
	for _, ringBytes := range []int{1, 8 << 10, 1 << 20} {
		run(t, Options{RingBytes: ringBytes, ResponseBytes: 2 << 10}, func(f *fixture) {
			done := make(chan struct{})
			go func() {
				defer close(done)
				for i := range revisions {
					f.commit(put("a", fmt.Sprint(i)))
					if i%5 == 0 {
						time.Sleep(100 * time.Microsecond) // of the bubble
					}
				}
			}()
			var clients []*recorder
			for range 10 {
				r := f.stream()
				clients = append(clients, r)
				time.Sleep(time.Millisecond)
				r.stream.Create(Request{Key: []byte("a"), Start: max(1, f.store.Revision()-20)})
				r.stream.Create(Request{Key: []byte("a"), Start: f.store.Revision() + 1})
				r.stream.Create(Request{Key: []byte("a"), Start: f.store.Revision() + 20})
			}
			<-done
			for _, r := range clients {
				checkEverything(t, f, r, 3)
			}
		})
	}
}

// checkEverything checks that each watcher of r, all on key a, got every revision from its first event on.
func checkEverything(t *testing.T, f *fixture, r *recorder, watchers int) {
	t.Helper()
	next := make(map[int64]int64)
	for _, resp := range r.take() {
		for _, ev := range resp.events {
			if n := next[resp.WatchID]; n != 0 && n != ev.Kv.ModRevision {
				t.Fatalf("watcher %d got revision %d, want %d", resp.WatchID, ev.Kv.ModRevision, n)
			}
			next[resp.WatchID] = ev.Kv.ModRevision + 1
		}
	}
	for id := range int64(watchers) {
		if next[id] != f.store.Revision()+1 {
			t.Errorf("watcher %d got revisions up to %d of %d", id, next[id]-1, f.store.Revision())
		}
	}
}

// The fix for events lost in a failed apply made them come twice; here: the same revisions published again are a broken
// invariant, which must not pass unseen.
func TestA13PublishingTwicePanics(t *testing.T) {
	run(t, Options{}, func(f *fixture) {
		events := f.store.commit(put("a", "x"))
		f.hub.Publish(events, 2)
		defer func() {
			if got := fmt.Sprint(recover()); got != "watch: published revisions 2..2 after 2" {
				t.Errorf("panic: %s", got)
			}
		}()
		f.hub.Publish(events, 2)
	})
}

// Watch id 0 is an id like any other, to cancel as well.
func TestW11WatchIDZero(t *testing.T) {
	run(t, Options{}, func(f *fixture) {
		r := f.stream()
		r.stream.Create(Request{WatchID: 5, Key: []byte("b")})
		r.stream.Create(Request{Key: []byte("b"), End: []byte("a")})
		r.stream.Create(Request{Key: []byte("a")})
		f.expect(r, "5@1 created", `-1@1 created canceled reason="mvcc: watcher range is empty"`, "0@1 created")
		r.stream.Cancel(NoWatcher)
		f.commit(put("a", "x"), put("b", "x"))
		f.expectAnyOrder(r, "0@2 a=x@2", "5@2 b=x@2")
		r.stream.Cancel(0)
		f.expect(r, "0@2 canceled")
		f.commit(put("a", "x"), put("b", "x"))
		f.expect(r, "5@3 b=x@3")
	})
}

// A watcher that never had an event got no progress either.
func TestW12ProgressWithoutEvents(t *testing.T) {
	run(t, Options{ProgressInterval: time.Minute}, func(f *fixture) {
		r := f.stream()
		r.stream.Create(Request{Key: []byte("a"), ProgressNotify: true})
		f.expect(r, "0@1 created")
		r.stream.Progress()
		f.expect(r, "-1@1")
		f.puts("b", 3)
		r.stream.Progress()
		f.expect(r, "-1@4")
		time.Sleep(67 * time.Second)
		f.expect(r, "0@4")
	})
}

// A negative start revision made the server catch up for ever.
func TestW13NegativeStart(t *testing.T) {
	run(t, Options{}, func(f *fixture) {
		r := f.stream()
		for _, start := range []int64{-1, -1 << 63} {
			r.stream.Create(Request{Key: []byte("a"), Start: start})
			f.expect(r, fmt.Sprintf("-1@1 created canceled reason=%q", ReasonCompacted))
		}
		if f.hub.Watchers() != 0 || f.hub.SlowWatchers() != 0 {
			t.Errorf("%d watchers, %d slow", f.hub.Watchers(), f.hub.SlowWatchers())
		}
		r.stream.Create(Request{Key: []byte("a"), Start: 1<<63 - 1})
		f.commit(put("a", "x"))
		f.expect(r, "0@1 created")
	})
}

// A response named a revision lower than the start that was asked for.
func TestW15NoRevisionBelowTheStart(t *testing.T) {
	run(t, Options{ProgressInterval: time.Minute}, func(f *fixture) {
		r := f.stream()
		r.stream.Create(Request{Key: []byte("a"), Start: 4, ProgressNotify: true})
		f.expect(r, "0@1 created")
		for range 2 { // at revisions 2 and 3
			f.commit(put("b", "x"))
			r.stream.Progress()
			time.Sleep(3 * time.Minute)
			f.expect(r)
		}
		f.commit(put("b", "x"))
		r.stream.Progress()
		f.expect(r, "-1@4")
		time.Sleep(67 * time.Second)
		f.expect(r, "0@4")
	})
}

// Cancelled watchers stayed behind, hundreds of compacted ones for ever.
func TestW16NothingLeaks(t *testing.T) {
	run(t, Options{RingBytes: 1, ProgressInterval: time.Second}, func(f *fixture) {
		r := f.stream()
		f.puts("a", 20)
		f.store.compact(10)
		const watchers = 1500
		go func() {
			for i := range watchers {
				r.stream.Create(Request{Key: []byte("a"), Start: 2, ProgressNotify: i%100 == 0})
			}
		}()
		cancelled := 0
		for _, resp := range r.take() {
			if resp.CompactRevision == 10 {
				cancelled++
			}
		}
		if cancelled != watchers || f.hub.SlowWatchers() != 0 || f.hub.Watchers() != watchers {
			t.Errorf("%d cancelled, %d slow, %d watchers", cancelled, f.hub.SlowWatchers(), f.hub.Watchers())
		}
		for id := range int64(watchers) {
			r.stream.Cancel(id)
		}
		if n := len(r.take()); n != watchers || f.hub.Watchers() != 0 {
			t.Errorf("%d replies, %d watchers", n, f.hub.Watchers())
		}
		// All sorts at once, and the stream closed under them.
		for round := range 3 {
			c := f.stream()
			c.setStall(round == 1)
			for i := range 100 {
				c.stream.Create(Request{Key: []byte("a"), Start: int64(i), ProgressNotify: true})
			}
			f.puts("a", 50)
			if round > 0 {
				synctest.Wait()
			}
			c.stream.Close()
			c.breakOff()
			c.stream.Wait()
			synctest.Wait()
			if n := f.hub.Watchers() + f.hub.SlowWatchers() + f.hub.index.len() + f.hub.catchUps.streams; n != 0 {
				t.Errorf("round %d: %d left", round, n)
			}
		}
	})
}

// The response that cancels a compacted watcher lacked its flag; and the watcher's id stays in use.
func TestW17CompactedWatchIsMarkedCancelled(t *testing.T) {
	run(t, Options{}, func(f *fixture) {
		f.puts("a", 9)
		f.store.compact(5)
		synctest.Wait()
		r := f.stream()
		r.stream.Create(Request{WatchID: 3, Key: []byte("a"), Start: 4})
		f.expect(r, "3@10 created", "3@0 canceled compacted=5")
		r.stream.Create(Request{WatchID: 3, Key: []byte("a")})
		f.expect(r, fmt.Sprintf("-1@10 created canceled reason=%q", ReasonDuplicateID))
		r.stream.Create(Request{WatchID: 4, Key: []byte("a"), Start: 5})
		f.expect(r, "4@10 created", "4@10 a=3@5 a=4@6 a=5@7 a=6@8 a=7@9 a=8@10")
		r.stream.Progress() // the compacted one is in the way
		f.expect(r)
		r.stream.Cancel(3)
		r.stream.Progress()
		f.expect(r, "3@10 canceled", "-1@10")
		r.stream.Create(Request{WatchID: 3, Key: []byte("a")})
		f.expect(r, "3@10 created")
	})
}

// Buffers of one response were used again for another while it was still being sent. The model test compares bytes too.
func TestW14SharedBytesNeverChange(t *testing.T) {
	eachSeed(t, func(t *testing.T, rnd *rand.Rand) {
		run(t, Options{RingBytes: 4 << 10, ResponseBytes: 1 << 10}, func(f *fixture) {
			var clients []*recorder
			for range 4 {
				r := f.stream()
				r.stream.Create(Request{Key: []byte("a"), PrevKV: rnd.IntN(2) == 0})
				r.stream.Create(Request{Key: []byte("a"), End: []byte("c"), PrevKV: rnd.IntN(2) == 0, Start: 1})
				clients = append(clients, r)
			}
			for range 50 {
				f.commit(put("a", strings.Repeat("x", rnd.IntN(50)+1)), put("b", "y"))
				if rnd.IntN(3) == 0 {
					synctest.Wait()
				}
			}
			for _, r := range clients {
				for _, resp := range r.take() {
					if string(resp.copied) != strings.Join(stringsOf(resp.raw), "") {
						t.Fatalf("changed: %v", resp)
					}
				}
			}
		})
	})
}

func stringsOf(slices [][]byte) (s []string) {
	for _, b := range slices {
		s = append(s, string(b))
	}
	return s
}
