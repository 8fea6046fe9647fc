package v3

import (
	"context"
	"errors"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"keelson/node"
)

func TestBudgetLetsTheFirstInLineOn(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := newBudget(100, 10)
		first, second := b.begin(t.Context()), b.begin(t.Context())
		for range 3 { // far over the limit
			if err := first.take(t.Context(), 80); err != nil {
				t.Fatal(err)
			}
		}
		granted := false
		go func() {
			if err := second.take(t.Context(), 30); err != nil {
				t.Error(err)
			}
			granted = true
		}()
		synctest.Wait()
		if granted {
			t.Fatal("the second gets on while the first is over the limit")
		}
		first.end() // its bytes are still being sent, but now the second is the first in line
		synctest.Wait()
		if !granted || b.used != 270 {
			t.Fatalf("granted %v, used %d", granted, b.used)
		}
		second.end()
		b.release(270)
	})
}

func TestBudgetGrantsInOrder(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := newBudget(100, 10)
		head := b.begin(t.Context())
		if err := head.take(t.Context(), 100); err != nil {
			t.Fatal(err)
		}
		var mu sync.Mutex
		var order []int
		turns := []*turn{b.begin(t.Context()), b.begin(t.Context()), b.begin(t.Context())}
		for i, n := range []int64{60, 30, 10} {
			go func() {
				if err := turns[i].take(t.Context(), n); err != nil {
					t.Error(err)
				}
				mu.Lock()
				order = append(order, i)
				mu.Unlock()
			}()
			synctest.Wait()
		}
		b.release(50) // would do for the second and the third, but the first comes first
		synctest.Wait()
		if len(order) != 0 {
			t.Fatalf("%v got ahead", order)
		}
		b.release(10)
		synctest.Wait()
		if len(order) != 1 || order[0] != 0 {
			t.Fatalf("%v got on, want the first alone", order)
		}
		b.release(40)
		synctest.Wait()
		if len(order) != 3 {
			t.Fatalf("only %v got on", order)
		}
	})
}

func TestBudgetForgetsWhoGaveUp(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := newBudget(100, 10)
		head, impatient, patient := b.begin(t.Context()), b.begin(t.Context()), b.begin(t.Context())
		if err := head.take(t.Context(), 95); err != nil {
			t.Fatal(err)
		}
		ctx, cancel := context.WithCancel(t.Context())
		var gaveUp error
		granted := false
		go func() { gaveUp = impatient.take(ctx, 50) }()
		synctest.Wait()
		go func() { granted = patient.take(t.Context(), 5) == nil }()
		synctest.Wait()
		if granted {
			t.Fatal("the last in line got ahead of one who waits")
		}
		cancel()
		synctest.Wait()
		if !errors.Is(gaveUp, context.Canceled) || !granted || b.used != 100 || len(b.waiting) != 0 {
			t.Errorf("gave up with %v; the next in line granted: %v; used %d, %d wait", gaveUp, granted, b.used, len(b.waiting))
		}
	})
}

// TestBudgetUnderLoad: many readers of any size, some of which give up, all get an answer and leave nothing behind.
func TestBudgetUnderLoad(t *testing.T) {
	rnd := seeded(t)
	b := newBudget(50, 3)
	var wg sync.WaitGroup
	for i := range 200 {
		ctx, cancel := context.WithCancel(context.Background())
		pieces, impatient := rnd.IntN(10), rnd.IntN(4) == 0
		wg.Add(1)
		go func() {
			defer wg.Done()
			turn := b.begin(node.WithFlow(ctx, i%5))
			var held int64
			for range pieces {
				if turn.take(ctx, 20) != nil {
					break
				}
				held += 20
			}
			turn.end()
			if held > 0 {
				b.release(held)
			}
		}()
		if impatient {
			cancel()
		} else {
			defer cancel()
		}
	}
	wg.Wait()
	if b.used != 0 || len(b.waiting) != 0 || b.working != 0 || b.turns.Len() != 0 {
		t.Errorf("left over: %d bytes, %d waiting, %d turns", b.used, len(b.waiting), b.turns.Len())
	}
}

// TestBudgetTakesTurns: the readers of a flow share its part, however many they are, and not more than the budget allows work at a
// time.
func TestBudgetTakesTurns(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := newBudget(1<<40, 1)
		var mu sync.Mutex
		ended := map[string]int{}
		var others int // of the many's readers that had ended when the one's first did
		working := 0
		list := func(flow string) {
			turn := b.begin(node.WithFlow(t.Context(), flow))
			for range 64 { // four shares
				if err := turn.take(t.Context(), pieceBytes); err != nil {
					t.Error(err)
				}
				mu.Lock()
				working = max(working, b.working)
				mu.Unlock()
			}
			turn.end()
			mu.Lock()
			defer mu.Unlock()
			ended[flow]++
			if flow == "one" {
				others = ended["many"]
			}
		}
		hold := b.begin(t.Context()) // until all wait
		if err := hold.take(t.Context(), 1); err != nil {
			t.Fatal(err)
		}
		for range 50 {
			go list("many")
		}
		synctest.Wait()
		go list("one")
		synctest.Wait()
		hold.end()
		synctest.Wait()
		if ended["many"] != 50 || ended["one"] != 1 || working != 1 {
			t.Fatalf("ended: %v; up to %d at a time", ended, working)
		}
		if others > 1 {
			t.Errorf("%d of the other client's lists went before", others)
		}
		if b.working != 0 || b.turns.Len() != 0 {
			t.Errorf("%d work and %d turns are left over", b.working, b.turns.Len())
		}
	})
}

// TestBudgetOvertakesWhoTakesNothing: a reader that looks through much without an answer does not keep others waiting.
func TestBudgetOvertakesWhoTakesNothing(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := newBudget(1<<40, 1)
		silent, other := b.begin(t.Context()), b.begin(t.Context())
		if err := silent.take(t.Context(), pieceBytes); err != nil {
			t.Fatal(err)
		}
		var granted, again atomic.Bool
		go func() { granted.Store(other.take(t.Context(), pieceBytes) == nil) }()
		synctest.Wait()
		if granted.Load() {
			t.Fatal("two work at a time")
		}
		time.Sleep(2 * shareTime)
		synctest.Wait()
		if !granted.Load() || b.working != 1 {
			t.Fatalf("granted %v, %d work", granted.Load(), b.working)
		}
		go func() { again.Store(silent.take(t.Context(), pieceBytes) == nil) }() // it has to wait like others now
		synctest.Wait()
		if again.Load() {
			t.Error("who was overtaken goes on as if it had not been")
		}
		other.end()
		synctest.Wait()
		silent.end()
		if !again.Load() || b.working != 0 {
			t.Errorf("it went on: %v; %d work", again.Load(), b.working)
		}
		b.release(3 * pieceBytes)
	})
}
