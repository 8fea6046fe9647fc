package node

import (
	"testing"

	"keelson/command"
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
