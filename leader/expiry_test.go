package leader

import (
	"errors"
	"testing"
)

// deadline is a tree of one node.
type deadline struct {
	at  int64
	err error
}

func (d deadline) TreeDue(now int64) (bool, error) { return d.at <= now, d.err }

func TestTreeExpiryIsStamped(t *testing.T) {
	if c, err := TreeExpiry(deadline{at: 100}, 99); c != nil || err != nil {
		t.Errorf("too early: %+v, %v", c, err)
	}
	c, err := TreeExpiry(deadline{at: 100}, 100)
	if err != nil || c == nil || c.Stamp != 100 || c.Limit != treeExpiriesMax {
		t.Errorf("in time: %+v, %v", c, err)
	}
	failure := errors.New("disk")
	if c, err := TreeExpiry(deadline{at: 100, err: failure}, 100); c != nil || err != failure {
		t.Errorf("a failure: %+v, %v", c, err)
	}
}
