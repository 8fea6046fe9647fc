package watch

import (
	"runtime"
	"sync/atomic"
	"testing"
)

// Two close a stream at the same time, as the end of a call and that of its context do: both return when it is gone.
func TestCloseTwiceAtOnce(t *testing.T) {
	f := newFixture(t, Options{})
	s := f.hub.NewStream(nil)
	f.hub.mu.Lock() // whoever closes the stream does not get through
	var mayBeGone atomic.Bool
	var closing atomic.Int32
	early, done := make(chan bool, 2), make(chan int, 2)
	for range 2 {
		go func() {
			closing.Add(1)
			s.Close()
			early <- !mayBeGone.Load()
			done <- f.hub.Streams()
		}()
	}
	for closing.Load() < 2 {
		runtime.Gosched()
	}
	for range 1000 { // time for one that does not wait
		runtime.Gosched()
	}
	mayBeGone.Store(true)
	f.hub.mu.Unlock()
	for range 2 {
		if <-early {
			t.Error("returned while the stream was there")
		}
		if n := <-done; n != 0 {
			t.Errorf("%d streams are left over", n)
		}
	}
}
