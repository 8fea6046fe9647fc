package watch

import (
	"fmt"
	"strings"
	"testing"
	"testing/synctest"
)

// run runs a test in a bubble of its own time, in which synctest.Wait tells when nothing moves any more.
func run(t *testing.T, o Options, f func(f *fixture)) {
	t.Helper()
	synctest.Test(t, func(t *testing.T) {
		x := newFixture(t, o)
		defer func() {
			x.hub.Close()
			if s, w, slow, p := x.hub.Streams(), x.hub.Watchers(), x.hub.SlowWatchers(), x.hub.PendingEvents(); s+w+slow+p != 0 {
				t.Errorf("after Close: %d streams, %d watchers, %d slow, %d pending events", s, w, slow, p)
			}
			if n := x.hub.index.len(); n != 0 {
				t.Errorf("after Close: %d groups", n)
			}
			if n := x.hub.catchUps.streams; n != 0 {
				t.Errorf("after Close: %d streams catch up", n)
			}
		}()
		f(x)
	})
}

func TestCreatedPrecedesEvents(t *testing.T) {
	run(t, Options{}, func(f *fixture) {
		r := f.stream()
		f.commit(put("a", "0"))
		r.setStall(true)
		r.stream.Create(Request{Key: []byte("a")})
		f.commit(put("a", "1"))
		f.commit(put("b", "1"))
		f.commit(put("a", "2"), put("b", "2"))
		synctest.Wait() // until both have been dispatched: then they leave together
		r.setStall(false)
		f.expect(r, "0@2 created", "0@5 a=1@3 a=2@5")
	})
}

func TestLiveResponsesCarryTheirOwnRevision(t *testing.T) {
	run(t, Options{}, func(f *fixture) {
		r := f.stream()
		r.stream.Create(Request{Key: []byte("a")})
		f.expect(r, "0@1 created")
		f.commit(put("a", "1"))
		f.expect(r, "0@2 a=1@2")
		f.commit(put("b", "1"))
		f.expect(r)
		f.commit(put("a", "2"))
		f.expect(r, "0@4 a=2@4")
	})
}

func TestRangeSelectors(t *testing.T) {
	keys := []string{"\x00", "a", "a\x00", "ab", "b", "c", "\xff"}
	tests := []struct {
		name, key, end string
		want           string
	}{
		{"key alone", "a", "", "a"},
		{"half-open range", "a", "b", "a a\x00 ab"},
		{"from key on", "b", "\x00", "b c \xff"},
		{"everything", "\x00", "\x00", strings.Join(keys, " ")},
		{"empty key is the lowest key", "", "", "\x00"},
		{"empty key, open end", "", "\x00", strings.Join(keys, " ")},
		{"range of one key", "a", "a\x00", "a"},
		{"key is the lowest, range", "\x00", "ab", "\x00 a a\x00"},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			run(t, Options{}, func(f *fixture) {
				r := f.stream()
				r.stream.Create(Request{Key: []byte(test.key), End: []byte(test.end)})
				for _, key := range keys {
					f.commit(put(key, "v"))
				}
				r.stream.Create(Request{WatchID: 9, Key: []byte(test.key), End: []byte(test.end), Start: 1})
				got := make(map[int64][]string)
				for _, resp := range r.take() {
					for _, ev := range resp.events {
						got[resp.WatchID] = append(got[resp.WatchID], string(ev.Kv.Key))
					}
				}
				for _, id := range []int64{0, 9} {
					if g := strings.Join(got[id], " "); g != test.want {
						t.Errorf("watcher %d got %q, want %q", id, g, test.want)
					}
				}
			})
		})
	}
}

func TestRefusals(t *testing.T) {
	denied := "rpc error: code = PermissionDenied desc = etcdserver: permission denied"
	deny := func(key, end []byte) string { return denied }
	refused := func(reason string) string { return fmt.Sprintf("-1@1 created canceled reason=%q", reason) }
	run(t, Options{}, func(f *fixture) {
		r := f.stream()
		for range 3 {
			r.stream.Create(Request{Key: []byte("b"), End: []byte("a")})
		}
		f.expect(r, refused(ReasonEmptyRange), refused(ReasonEmptyRange), refused(ReasonEmptyRange))
		r.stream.Create(Request{Key: []byte("b"), End: []byte("b")})
		f.expect(r, refused(ReasonEmptyRange))
		// A refusal does not use up the id.
		r.stream.Create(Request{Key: []byte("a")})
		f.expect(r, "0@1 created")
		r.stream.Create(Request{WatchID: -7, Key: []byte("a")})
		r.stream.Create(Request{WatchID: -7, Key: []byte("a")})
		f.expect(r, "-7@1 created", refused(ReasonDuplicateID))
		// The order in which a request is checked: start, authorization, range, id.
		r.stream.Create(Request{WatchID: -7, Key: []byte("b"), End: []byte("a"), Start: -1, Authorize: deny})
		r.stream.Create(Request{WatchID: -7, Key: []byte("b"), End: []byte("a"), Authorize: deny})
		r.stream.Create(Request{WatchID: -7, Key: []byte("b"), End: []byte("a")})
		f.expect(r, refused(ReasonCompacted), refused(denied), refused(ReasonEmptyRange))
		f.commit(put("a", "1"))
		f.expectAnyOrder(r, "0@2 a=1@2", "-7@2 a=1@2")
	})
}

func TestAuthorizeSeesTheRangeAsSent(t *testing.T) {
	run(t, Options{}, func(f *fixture) {
		r := f.stream()
		var seen []string
		r.stream.Create(Request{End: []byte{0}, Authorize: func(key, end []byte) string {
			seen = append(seen, fmt.Sprintf("%q %q", key, end))
			return ""
		}})
		f.expect(r, "0@1 created")
		if len(seen) != 1 || seen[0] != `"\x00" "\x00"` {
			t.Errorf("asked for %v", seen)
		}
	})
}

func TestIdsPerStream(t *testing.T) {
	run(t, Options{}, func(f *fixture) {
		r, other := f.stream(), f.stream()
		other.stream.Create(Request{Key: []byte("a")})
		f.expect(other, "0@1 created")
		r.stream.Create(Request{WatchID: 1, Key: []byte("a")})
		r.stream.Create(Request{Key: []byte("a")})
		r.stream.Create(Request{Key: []byte("a")}) // 1 is taken
		f.expect(r, "1@1 created", "0@1 created", "2@1 created")
		r.stream.Cancel(1)
		r.stream.Cancel(1)
		r.stream.Cancel(77)
		f.expect(r, "1@1 canceled")
		r.stream.Create(Request{WatchID: 1, Key: []byte("a")})
		r.stream.Create(Request{Key: []byte("a")})
		f.expect(r, "1@1 created", "3@1 created")
	})
}

func TestFutureStartRevision(t *testing.T) {
	run(t, Options{}, func(f *fixture) {
		r := f.stream()
		r.stream.Create(Request{Key: []byte("a"), Start: 4})
		f.commit(put("a", "2"))
		f.commit(del("a"))
		f.expect(r, "0@1 created")
		f.commit(put("a", "4"))
		f.expect(r, "0@4 a=4@4")
		f.commit(put("a", "5"))
		f.expect(r, "0@5 a=5@5")
	})
}

func TestCatchUpShowsTheCurrentRevision(t *testing.T) {
	for _, ringBytes := range []int{1, 1 << 20} { // from history, from the ring
		run(t, Options{RingBytes: ringBytes}, func(f *fixture) {
			f.puts("a", 3)
			f.commit(put("b", "x"))
			synctest.Wait()
			r := f.stream()
			r.stream.Create(Request{Key: []byte("a"), Start: 3})
			f.expect(r, "0@5 created", "0@5 a=1@3 a=2@4")
			f.commit(put("a", "3"))
			f.commit(put("a", "4"))
		})
	}
}

func TestCatchUpTakesThousandRevisionsAtMost(t *testing.T) {
	for _, ringBytes := range []int{1, 1 << 30} {
		run(t, Options{RingBytes: ringBytes}, func(f *fixture) {
			f.puts("a", 2500)
			synctest.Wait()
			r := f.stream()
			r.stream.Create(Request{Key: []byte("a"), Start: 2})
			next := int64(2)
			for _, resp := range r.take() {
				if len(resp.events) > responseRevisionsMax {
					t.Errorf("%d revisions in a response", len(resp.events))
				}
				for _, ev := range resp.events {
					if ev.Kv.ModRevision != next {
						t.Fatalf("revision %d, want %d", ev.Kv.ModRevision, next)
					}
					next++
				}
			}
			if next != 2502 {
				t.Errorf("up to revision %d", next-1)
			}
		})
	}
}

func TestFilters(t *testing.T) {
	run(t, Options{}, func(f *fixture) {
		r := f.stream()
		r.stream.Create(Request{WatchID: 1, Key: []byte("a"), NoPut: true})
		r.stream.Create(Request{WatchID: 2, Key: []byte("a"), NoDelete: true})
		r.stream.Create(Request{WatchID: 3, Key: []byte("a"), NoPut: true, NoDelete: true})
		f.expect(r, "1@1 created", "2@1 created", "3@1 created")
		f.commit(put("a", "1"))
		f.expect(r, "2@2 a=1@2")
		f.commit(del("a"))
		f.expect(r, "1@3 -a@3")
		r.stream.Progress()
		f.expect(r, "-1@3")
		r.stream.Create(Request{WatchID: 4, Key: []byte("a"), Start: 2, NoPut: true})
		r.stream.Create(Request{WatchID: 5, Key: []byte("a"), Start: 2, NoPut: true, NoDelete: true})
		f.expectAnyOrder(r, "4@3 created", "5@3 created", "4@3 -a@3")
		r.stream.Progress()
		f.expect(r, "-1@3")
	})
}

func TestPrevKV(t *testing.T) {
	run(t, Options{}, func(f *fixture) {
		r := f.stream()
		r.stream.Create(Request{WatchID: 1, Key: []byte("a"), PrevKV: true})
		r.stream.Create(Request{WatchID: 2, Key: []byte("a"), End: []byte("b")})
		f.expect(r, "1@1 created", "2@1 created")
		f.commit(put("a", "1"))
		f.expectAnyOrder(r, "1@2 a=1@2", "2@2 a=1@2")
		f.commit(put("a", "2"))
		f.expectAnyOrder(r, "1@3 a=2@3(1@2)", "2@3 a=2@3")
		f.commit(del("a"))
		f.expectAnyOrder(r, "1@4 -a@4(2@3)", "2@4 -a@4")
	})
}

// The pair before an event at the compaction floor is compacted, wherever the event is read from.
func TestPrevKVBelowTheFloorIsAbsent(t *testing.T) {
	for _, ringBytes := range []int{1, 1 << 20} {
		run(t, Options{RingBytes: ringBytes}, func(f *fixture) {
			f.puts("a", 3)
			f.store.compact(3)
			synctest.Wait()
			r := f.stream()
			r.stream.Create(Request{Key: []byte("a"), Start: 3, PrevKV: true})
			f.expect(r, "0@4 created", "0@4 a=1@3 a=2@4(1@3)")
		})
	}
}

func TestTransactionArrivesWhole(t *testing.T) {
	run(t, Options{ResponseBytes: 1}, func(f *fixture) {
		r := f.stream()
		r.stream.Create(Request{Key: []byte("a"), End: []byte("z")})
		f.commit(put("c", "1"), put("b", "1"), put("zz", "1"), put("a", "1"))
		f.expect(r, "0@1 created", "0@2 c=1@2 b=1@2 a=1@2")
		r.stream.Create(Request{Key: []byte("a"), End: []byte("z"), Start: 2})
		f.expect(r, "1@2 created", "1@2 c=1@2 b=1@2 a=1@2")
	})
}

// One publication may hold many revisions; they leave in responses of bounded size, none of them split.
func TestLargePublicationIsCutBetweenRevisions(t *testing.T) {
	run(t, Options{ResponseBytes: 2 * eventOverhead}, func(f *fixture) {
		r := f.stream()
		r.stream.Create(Request{Key: []byte("a")})
		r.stream.Create(Request{Key: []byte("a"), End: []byte("b")})
		f.expect(r, "0@1 created", "1@1 created")
		var events = f.store.commit(put("a", "1"))
		for range 3 {
			events = append(events, f.store.commit(put("a", "2"), put("a1", "2"))...)
		}
		f.hub.Publish(events, f.store.Revision())
		got := make(map[int64][]string)
		for _, resp := range r.take() {
			got[resp.WatchID] = append(got[resp.WatchID], resp.String())
		}
		want := "0@3 a=1@2 a=2@3|0@5 a=2@4 a=2@5"
		if g := strings.Join(got[0], "|"); g != want {
			t.Errorf("received %s, want %s", g, want)
		}
		want = "1@3 a=1@2 a=2@3 a1=2@3|1@4 a=2@4 a1=2@4|1@5 a=2@5 a1=2@5"
		if g := strings.Join(got[1], "|"); g != want {
			t.Errorf("received %s, want %s", g, want)
		}
	})
}

func TestCancelWhileBehindAndWhileSlow(t *testing.T) {
	run(t, Options{RingBytes: 1}, func(f *fixture) {
		f.puts("a", 5)
		r := f.stream()
		r.stream.Create(Request{Key: []byte("a")})
		f.expect(r, "0@6 created")
		r.setStall(true)
		f.puts("a", 5) // the watcher is slow now, and its response under way
		synctest.Wait()
		r.stream.Create(Request{Key: []byte("a"), Start: 2})
		r.stream.Cancel(1)
		r.stream.Cancel(0)
		f.puts("a", 5)
		synctest.Wait()
		if n := f.hub.Watchers(); n != 0 {
			t.Errorf("%d watchers after cancel", n)
		}
		r.setStall(false)
		for _, resp := range r.take() {
			if resp.Canceled {
				break
			}
			if resp.WatchID == 0 && len(resp.events) > 0 && resp.events[0].Kv.ModRevision != 7 {
				t.Errorf("more than what was under way: %v", resp)
			}
		}
	})
}

func TestSlowStreamHoldsUpNobody(t *testing.T) {
	run(t, Options{RingBytes: 8 << 10}, func(f *fixture) {
		slow, fast := f.stream(), f.stream()
		slow.stream.Create(Request{Key: []byte("a")})
		fast.stream.Create(Request{Key: []byte("a")})
		f.expect(slow, "0@1 created")
		f.expect(fast, "0@1 created")
		slow.setStall(true)
		for i := range 200 {
			rev := f.commit(put("a", fmt.Sprint(i)))
			f.expect(fast, fmt.Sprintf("0@%d a=%d@%d", rev, i, rev))
		}
		if n := len(f.hub.ring.chunks); n > 20 || n == 0 {
			t.Errorf("%d chunks in a ring of 8 KiB", n)
		}
		if n := len(f.hub.index.find(span{lower: "a", upper: "a\x00"}).log); n > 20 {
			t.Errorf("%d batches in the log of a group", n)
		}
		slow.setStall(false)
		next := int64(2)
		for _, resp := range slow.take() {
			for _, ev := range resp.events {
				if ev.Kv.ModRevision != next {
					t.Fatalf("revision %d, want %d", ev.Kv.ModRevision, next)
				}
				next++
			}
		}
		if next != 202 {
			t.Errorf("up to %d", next-1)
		}
	})
}

func TestSendErrorClosesTheStream(t *testing.T) {
	run(t, Options{}, func(f *fixture) {
		r := f.stream()
		r.stream.Create(Request{Key: []byte("a")})
		f.expect(r, "0@1 created")
		r.setStall(true)
		f.commit(put("a", "1"))
		synctest.Wait()
		r.breakOff()
		r.stream.Wait()
		if f.hub.Streams() != 0 || f.hub.Watchers() != 0 {
			t.Errorf("%d streams, %d watchers", f.hub.Streams(), f.hub.Watchers())
		}
		r.stream.Create(Request{Key: []byte("a")}) // without effect
		r.stream.Cancel(0)
		r.stream.Progress()
		f.expect(r)
	})
}

func TestCreateWaitsForRoom(t *testing.T) {
	run(t, Options{StreamQueueLen: 4}, func(f *fixture) {
		r := f.stream()
		r.setStall(true)
		done := make(chan struct{})
		go func() {
			defer close(done)
			for range 20 {
				r.stream.Create(Request{Key: []byte("a")})
			}
		}()
		synctest.Wait()
		if n := f.hub.Watchers(); n != 5 { // one reply is under way
			t.Errorf("%d watchers though nobody reads", n)
		}
		r.setStall(false)
		<-done
		if n := len(r.take()); n != 20 {
			t.Errorf("%d replies", n)
		}
		r.setStall(true)
		go func() {
			for range 20 {
				r.stream.Create(Request{Key: []byte("a")})
			}
		}()
		synctest.Wait()
		r.stream.Close() // lets the one who waits go
		r.breakOff()
		r.stream.Wait()
	})
}

func TestHistoryFailureIsReportedOnce(t *testing.T) {
	var failures []error
	run(t, Options{RingBytes: 1, Failed: func(err error) { failures = append(failures, err) }}, func(f *fixture) {
		f.puts("a", 5)
		f.store.fail = errBroken
		r := f.stream()
		r.stream.Create(Request{Key: []byte("a"), Start: 2})
		r.stream.Create(Request{Key: []byte("a"), Start: 2})
		f.expect(r, "0@6 created", "1@6 created")
		if len(failures) != 1 || !strings.Contains(failures[0].Error(), "watch: catch up watcher from revision 2: connection broken") {
			t.Errorf("failures: %v", failures)
		}
	})
}

// A watcher that has fallen off the ring, and whose turn has not come yet, has not stopped waiting.
func TestPendingEventsBeyondTheRing(t *testing.T) {
	run(t, Options{RingBytes: 2000}, func(f *fixture) {
		r := f.stream()
		r.stream.Create(Request{Key: []byte("a")})
		f.expect(r, "0@1 created")
		r.setStall(true)
		for range 40 {
			f.commit(put("a", strings.Repeat("x", 100)))
			synctest.Wait()
		}
		if n := f.hub.PendingEvents(); n == 0 || n > 39 || f.hub.Stats().RingFrom < 5 {
			t.Errorf("%d pending events, the ring begins with %d", n, f.hub.Stats().RingFrom)
		}
		r.setStall(false)
		r.take()
		if n := f.hub.PendingEvents(); n != 0 {
			t.Errorf("%d pending events after all were sent", n)
		}
	})
}

// What is left of a watcher whose response is under way is pending, too.
func TestPendingEventsOfTheWatcherInHand(t *testing.T) {
	run(t, Options{ResponseBytes: 1}, func(f *fixture) {
		r := f.stream()
		r.stream.Create(Request{Key: []byte("a")})
		f.expect(r, "0@1 created")
		r.setStall(true)
		f.commit(put("a", "1"))
		f.puts("a", 4)
		synctest.Wait()
		if n := f.hub.PendingEvents(); n != 4 {
			t.Errorf("%d pending events", n)
		}
		r.setStall(false)
		r.take()
		if n := f.hub.PendingEvents(); n != 0 {
			t.Errorf("%d pending events after all were sent", n)
		}
	})
}

func TestPendingEvents(t *testing.T) {
	run(t, Options{}, func(f *fixture) {
		r := f.stream()
		r.stream.Create(Request{Key: []byte("a")})
		r.stream.Create(Request{Key: []byte("a"), End: []byte("b")})
		f.expect(r, "0@1 created", "1@1 created")
		r.setStall(true)
		f.commit(put("a", "1"))
		synctest.Wait() // one watcher's response is under way
		f.puts("a", 3)
		synctest.Wait()
		if n := f.hub.PendingEvents(); n != 4+3 {
			t.Errorf("%d pending events", n)
		}
		r.setStall(false)
		r.take()
		if n := f.hub.PendingEvents(); n != 0 {
			t.Errorf("%d pending events after all were sent", n)
		}
		if n := f.hub.EventsSent(); n != 8 {
			t.Errorf("%d events sent", n)
		}
	})
}

func TestResetCatchesUp(t *testing.T) {
	run(t, Options{}, func(f *fixture) {
		r := f.stream()
		r.stream.Create(Request{Key: []byte("a")})
		r.stream.Create(Request{Key: []byte("a"), Start: 5})
		f.commit(put("a", "2"))
		f.expect(r, "0@1 created", "1@1 created", "0@2 a=2@2")
		f.store.commit(put("a", "3")) // arrives as part of a snapshot
		f.store.commit(put("b", "4"))
		f.hub.Reset(4)
		f.expect(r, "0@4 a=3@3")
		f.commit(put("a", "5"))
		f.expectAnyOrder(r, "0@5 a=5@5", "1@5 a=5@5")
	})
}

func TestResetBeyondTheFloorCancels(t *testing.T) {
	run(t, Options{}, func(f *fixture) {
		r := f.stream()
		r.stream.Create(Request{Key: []byte("a")})
		f.expect(r, "0@1 created")
		for range 5 {
			f.store.commit(put("a", "x"))
		}
		f.store.compact(5)
		f.hub.Reset(6)
		f.expect(r, "0@0 canceled compacted=5")
	})
}

// Light events send those whom they concern to history, and nobody else.
func TestLightEvents(t *testing.T) {
	run(t, Options{}, func(f *fixture) {
		r := f.stream()
		r.stream.Create(Request{Key: []byte("a"), PrevKV: true})
		r.stream.Create(Request{Key: []byte("b"), PrevKV: true})
		r.stream.Create(Request{Key: []byte("a"), PrevKV: true, Start: 5})
		f.commit(put("a", "2"))
		f.commit(put("b", "3"))
		f.expect(r, "0@1 created", "1@1 created", "2@1 created", "0@2 a=2@2", "1@3 b=3@3")
		reads := f.store.reads
		f.hub.PublishLight(lighten(f.store.commit(put("a", "4"))), 4)
		f.expect(r, "0@4 a=4@4(2@2)")
		if n := f.store.reads - reads; n != 1 {
			t.Errorf("history was read %d times", n)
		}
		f.hub.PublishLight(lighten(f.store.commit(put("c", "5"))), 5)
		f.commit(put("b", "6"))
		f.commit(put("a", "7"))
		f.expectAnyOrder(r, "1@6 b=6@6(3@3)", "0@7 a=7@7(4@4)", "2@7 a=7@7(4@4)")
		if n := f.store.reads - reads; n != 1 {
			t.Errorf("history was read %d times", n)
		}
	})
}
