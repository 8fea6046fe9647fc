package node

import "testing"

// Known bug L10: when callers have filled what may wait, the member's own revokes still go through, up to a bound of theirs.
func TestOwnProposalsHaveRoomOfTheirOwn(t *testing.T) {
	p := newProposals(1)
	join := func(system bool, bytes int) error {
		_, _, err := p.join(make([]byte, bytes), system, 0, nil)
		return err
	}
	for p.bytes+batchBytesMax <= pendingBytesMax {
		if err := join(false, batchBytesMax/2); err != nil {
			t.Fatal(err)
		}
	}
	if err := join(false, 2*batchBytesMax); err != ErrTooManyRequests {
		t.Errorf("a caller beyond the bound: %v", err)
	}
	own := 0
	for join(true, batchBytesMax/2) == nil {
		own++
	}
	if own < systemBytesMax/batchBytesMax || p.bytes > pendingBytesMax+systemBytesMax {
		t.Errorf("%d of the member's own, %d bytes in all", own, p.bytes)
	}
	if err := join(true, 2*batchBytesMax); err != ErrTooManyRequests {
		t.Errorf("the member's own beyond their bound: %v", err)
	}
}
