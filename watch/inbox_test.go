package watch

import (
	"fmt"
	"testing"
	"testing/synctest"
)

// manual collects the hub's tasks until they are run.
type manual struct{ tasks []func() }

func (m *manual) spawn(task func()) { m.tasks = append(m.tasks, task) }

func (m *manual) run() {
	for len(m.tasks) > 0 {
		m.step()
	}
}

// step runs the oldest task.
func (m *manual) step() {
	task := m.tasks[0]
	m.tasks = m.tasks[1:]
	task()
}

// While the dispatching task gets no processor the inbox stays bounded, because the publisher does its work. Without
// goroutines the whole package runs in an order of the test's choosing.
func TestPublishHelpsWhenDispatchingLags(t *testing.T) {
	const ringBytes = 8 << 10
	m := &manual{}
	run(t, Options{RingBytes: ringBytes, Spawn: m.spawn}, func(f *fixture) {
		r := f.stream()
		r.stream.Create(Request{Key: []byte("a")})
		r.stream.Create(Request{Key: []byte("b")})
		r.stream.Create(Request{Key: []byte("a"), Start: 150})
		m.run()
		f.expect(r, "0@1 created", "1@1 created", "2@1 created")
		lagged := false
		for range 200 {
			f.commit(put("a", "x"))
			if f.hub.inbox.bytes > ringBytes {
				t.Fatalf("%d bytes in the inbox", f.hub.inbox.bytes)
			}
			lagged = lagged || f.hub.inbox.bytes > ringBytes/2
		}
		if len(m.tasks) > 2 || !lagged {
			t.Errorf("%d tasks for dispatching and one stream; lagged: %v", len(m.tasks), lagged)
		}
		m.run()
		next := map[int64]int64{0: 2, 2: 150}
		for _, resp := range r.take() {
			for _, ev := range resp.events {
				if ev.Kv.ModRevision != next[resp.WatchID] {
					t.Fatalf("watcher %d got %d, want %d", resp.WatchID, ev.Kv.ModRevision, next[resp.WatchID])
				}
				next[resp.WatchID]++
			}
		}
		if fmt.Sprint(next) != "map[0:202 2:202]" {
			t.Errorf("next revisions %v", next)
		}
		f.commit(put("b", "x"))
		m.run()
		f.expect(r, "1@202 b=x@202")
	})
}

// A reset overtakes what was published before it and not dispatched yet.
func TestResetDropsWhatWaits(t *testing.T) {
	m := &manual{}
	run(t, Options{Spawn: m.spawn}, func(f *fixture) {
		r := f.stream()
		r.stream.Create(Request{Key: []byte("a")})
		m.run()
		f.expect(r, "0@1 created")
		f.puts("a", 2)
		f.store.commit(put("a", "in the snapshot"))
		f.hub.Reset(4)
		f.commit(put("a", "after"))
		m.run()
		f.expect(r, "0@5 a=0@2 a=1@3 a=in the snapshot@4 a=after@5")
		if f.hub.inbox.bytes != 0 {
			t.Errorf("%d bytes in the empty inbox", f.hub.inbox.bytes)
		}
	})
}

// Without watchers publishing needs no task at all, and still fills the ring for those who come.
func TestPublishWithoutWatchers(t *testing.T) {
	m := &manual{}
	run(t, Options{Spawn: m.spawn}, func(f *fixture) {
		f.puts("a", 10)
		if len(m.tasks) != 0 || len(f.hub.ring.chunks) != 10 {
			t.Errorf("%d tasks, %d chunks", len(m.tasks), len(f.hub.ring.chunks))
		}
		r := f.stream()
		r.stream.Create(Request{Key: []byte("a"), Start: 10})
		m.run()
		f.expect(r, "0@11 created", "0@11 a=8@10 a=9@11")
		if f.store.reads != 0 {
			t.Errorf("%d readings of history for what the ring has", f.store.reads)
		}
	})
}

// The ring lets go of what slow streams have not taken.
func TestRingLetsGo(t *testing.T) {
	const ringBytes = 16 << 10
	run(t, Options{RingBytes: ringBytes}, func(f *fixture) {
		r := f.stream()
		r.setStall(true)
		for i := range 20 {
			r.stream.Create(Request{Key: []byte("a"), End: []byte(fmt.Sprintf("b%d", i)), PrevKV: i%2 == 0})
		}
		for range 500 {
			f.commit(put("a", "some value"))
			f.hub.mu.Lock()
			bytes := f.hub.ring.bytes
			f.hub.mu.Unlock()
			if bytes > ringBytes {
				t.Fatalf("%d bytes in the ring", bytes)
			}
		}
		synctest.Wait()
		batches := 0
		f.hub.index.all(func(g *group) { batches += len(g.log) })
		if most := 20 * len(f.hub.ring.chunks); batches > most {
			t.Errorf("%d batches kept, at most %d are in the ring", batches, most)
		}
		r.setStall(false)
		checkEverything(t, f, r, 20)
	})
}
