package mvcc

import (
	"runtime"
	"sync"
	"sync/atomic"
	"testing"

	"keelson/storage"
)

// TestGateShut: once the channel is closed nobody is inside, and nobody gets in any more; before that, it is not closed.
func TestGateShut(t *testing.T) {
	for range 200 {
		var g gate
		var inside atomic.Int64
		var empty atomic.Bool
		var all sync.WaitGroup
		for range 3 {
			all.Go(func() {
				for e := g.enter(); e != gateShut; e = g.enter() {
					inside.Add(1)
					if empty.Load() {
						t.Error("inside of a gate that was said to be empty")
					}
					runtime.Gosched()
					inside.Add(-1)
					g.leave(e)
				}
			})
		}
		for g.drained() {
			g.turn()
			runtime.Gosched()
		}
		<-g.shut()
		empty.Store(true)
		if n := inside.Load(); n != 0 {
			t.Fatalf("%d are inside", n)
		}
		all.Wait()
	}
}

func TestGateShutWaitsForBothEpochs(t *testing.T) {
	var g gate
	a := g.enter()
	g.turn()
	b := g.enter()
	empty := g.shut()
	for _, e := range []uint64{a, b} {
		select {
		case <-empty:
			t.Fatal("empty with readers inside")
		default:
		}
		if g.enter() != gateShut || g.join(e) {
			t.Fatal("somebody got through a shut gate")
		}
		g.leave(e)
	}
	<-empty
}

// TestRetiredStore: what is open goes on, what is new is turned away, cursors go over to the store that comes next.
func TestRetiredStore(t *testing.T) {
	old, next := newMachine(t, storage.Options{}, Options{}), newMachine(t, storage.Options{}, Options{})
	put := func(m *machine, keys ...string) {
		m.run(func(tx *Tx) {
			for _, k := range keys {
				if _, err := tx.Put([]byte(k), []byte(k), 0, false, false); err != nil {
					t.Fatal(err)
				}
				tx.EndCommand()
			}
		})
	}
	put(old, "a", "b", "c", "d")
	put(next, "a", "b", "c", "d", "e")
	v := old.s.View()
	c, err := v.Cursor(Query{Key: []byte{0}, End: []byte{0}})
	if err != nil {
		t.Fatal(err)
	}
	var paged string
	page := func() bool {
		done, err := c.Next(1, func(kv *KeyValue) bool { paged += string(kv.Key); return true })
		if err != nil {
			t.Fatal(err)
		}
		return done
	}
	page()
	old.s.Retire(next.s)
	if old.s.View() != nil {
		t.Error("a retired store opens views")
	}
	for what, err := range map[string]error{
		"changes": second(old.s.Changes(1, 9, nil, nil, 0, nil)),
		"hash":    second(old.s.HashKV(0)),
		"hash of all": func() error {
			_, _, err := old.s.Hash()
			return err
		}(),
		"removal": func() error {
			_, _, err := old.s.CompactStep(1)
			return err
		}(),
	} {
		if err != ErrRetired {
			t.Errorf("%s: %v", what, err)
		}
	}
	for !page() {
	}
	if paged != "abcd" { // "e" is of a later revision
		t.Errorf("paged %q", paged)
	}
	if kv, err := v.Get([]byte("d")); err != nil || kv == nil {
		t.Errorf("a view of before: %v, %v", kv, err)
	}
	select {
	case <-old.s.Drained():
		t.Error("drained with a view open")
	default:
	}
	v.Close()
	old.s.Wait()
}

func second[T any](_ T, err error) error { return err }
