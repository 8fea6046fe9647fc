package node

import (
	"slices"
	"testing"
	"time"

	"keelson/command"
	"keelson/state"
)

// Known bug L10: when callers have filled what may wait, the member's own revokes still go through, up to a bound of theirs.
func TestOwnProposalsHaveRoomOfTheirOwn(t *testing.T) {
	c := newCrowd(t)
	for i := 0; ; i++ {
		if err := c.send(string(rune(i)), &command.DeleteRange{}, batchBytesMax/2); err != nil {
			break
		}
	}
	own := func(bytes int) error {
		_, _, err := c.join(make([]byte, bytes), sender{op: &command.LeaseRevoke{}, system: true}, 0)
		return err
	}
	n := 0
	for ; own(batchBytesMax/2) == nil; n++ {
	}
	if n < systemBytesMax/batchBytesMax || c.bytes > underWayBytesMax+systemBytesMax {
		t.Errorf("%d of the member's own, %d bytes under way", n, c.bytes)
	}
	if err := own(2 * batchBytesMax); err != ErrTooManyRequests {
		t.Errorf("the member's own beyond their bound: %v", err)
	}
}

// Each command and each reader is given its time, however long those have waited who came before.
func TestEachWaitsForItsOwnTime(t *testing.T) {
	p := newProposals(1)
	var failed []string
	send := func(name string, now time.Duration) {
		t.Helper()
		call := func(_ *state.Result, _ bool, err error) {
			if err != nil {
				failed = append(failed, name)
			}
		}
		if _, _, err := p.join([]byte(name), sender{op: &command.Put{}, call: call}, now); err != nil {
			t.Fatal(err)
		}
	}
	expire := func(before time.Duration, want ...string) (proposed []uint64) {
		t.Helper()
		failed = nil
		proposed = p.expire(before, func(time.Duration) error { return ErrTimeout })
		if slices.Sort(failed); !slices.Equal(failed, want) {
			t.Errorf("before %v: %q failed, want %q", before, failed, want)
		}
		return proposed
	}
	send("a", 0) // nobody leads
	send("b", joinableFor/2)
	send("c", 10*time.Second)
	expire(joinableFor/2, "a")
	send("d", 10*time.Second+joinableFor)
	expire(10*time.Second, "b")
	if events := p.take(nil, 20*time.Second); len(events) != 2 || p.pending() != 2 {
		t.Fatalf("what nobody waits for is proposed: %v", events)
	}
	send("e", 20*time.Second)
	send("f", 20*time.Second+joinableFor/2)
	p.take(nil, 21*time.Second)
	if gone := expire(20*time.Second+1, "c", "d", "e"); len(gone) != 2 || p.pending() != 1 {
		t.Errorf("%d batches given up, %d pending", len(gone), p.pending())
	}
	if gone := expire(21*time.Second, "f"); len(gone) != 1 || p.pending() != 0 || p.size() != 0 {
		t.Errorf("%d batches given up, %d pending", len(gone), p.pending())
	}
}

func TestEachReaderWaitsForItsOwnTime(t *testing.T) {
	r := newReads()
	join := func(now time.Duration) *waiter {
		t.Helper()
		w, _, err := r.join(now)
		if err != nil {
			t.Fatal(err)
		}
		return w
	}
	early, late := join(0), join(6*time.Second) // nobody leads
	r.expire(time.Second, ErrTimeout)
	if len(early.done) != 1 || early.err != ErrTimeout || len(late.done) != 0 {
		t.Fatalf("early: %d, %v; late: %d", len(early.done), early.err, len(late.done))
	}
	later := join(7 * time.Second)
	ticket, ok := r.begin()
	if _, again := r.begin(); !ok || again {
		t.Fatalf("begun: %v, and again: %v", ok, again)
	}
	r.ready(ticket, 5, 5)
	if len(late.done) != 1 || late.err != nil || len(later.done) != 1 || later.err != nil || r.readers != 0 {
		t.Errorf("%d, %v; %d, %v; %d readers", len(late.done), late.err, len(later.done), later.err, r.readers)
	}
}

// A message that is larger than all that may wait is looked at, when nothing else waits: it would be sent again for ever.
func TestAnyMessageIsReceived(t *testing.T) {
	var r received
	if !r.admit(3 * receivedBytesMax) {
		t.Fatal("the large one is lost")
	}
	if r.admit(1) {
		t.Error("and so much waits that there is no room for more")
	}
	r.bytes.Add(-3 * receivedBytesMax) // it was looked at
	if !r.admit(receivedBytesMax) || r.admit(1) || r.dropped.Load() != 2 || r.bytes.Load() != receivedBytesMax {
		t.Errorf("%d bytes, %d lost", r.bytes.Load(), r.dropped.Load())
	}
}
