package node

import (
	"errors"
	"testing"
	"time"

	"keelson/command"
)

// lateReader tells what it is told.
type lateReader chan error

func (l lateReader) Ready(err error)            { l <- err }
func (l lateReader) Soon(f func())              { f() }
func (l lateReader) Go(f func())                { go f() }
func (l lateReader) Stay(_ int, f func(func())) { go f(func() {}) }

// Who does not wait is told as soon as everything acknowledged before is applied here, on every member, and is told of the end.
func TestReadLater(t *testing.T) {
	c := newTrio(t)
	for i := range 30 {
		value := string(rune('a' + i))
		c.rigs[i%3].propose(&command.Put{Key: []byte("k"), Value: []byte(value)})
		r := c.rigs[(i+1)%3]
		told := make([]lateReader, 1+i%3*lateChunk)
		for j := range told {
			told[j] = make(lateReader, 2)
			if now, err := r.node.ReadLater(told[j]); now || err != nil {
				t.Fatalf("one of three may read at once: %v, %v", now, err)
			}
		}
		for _, l := range told {
			err := <-l
			for end := time.Now().Add(20 * time.Second); errors.Is(err, ErrLeaderChanged) && time.Now().Before(end); err = <-l {
				if now, err := r.node.ReadLater(l); now || err != nil {
					t.Fatalf("one of three may read at once: %v, %v", now, err)
				}
			}
			r.must(err)
		}
		v := r.node.ReadLocal()
		kv, err := v.Get([]byte("k"))
		v.Close()
		r.must(err)
		if string(kv.Value) != value {
			t.Fatalf("read %q after %q was acknowledged", kv.Value, value)
		}
	}
	follower := c.rigs[(c.leader()+1)%3]
	for _, r := range c.rigs {
		if r != follower {
			r.node.Stop()
		}
	}
	told := make(lateReader, 2)
	if now, err := follower.node.ReadLater(told); now || err != nil {
		t.Fatalf("without a quorum: %v, %v", now, err)
	}
	follower.node.Stop()
	if err := <-told; err == nil {
		t.Error("told that all is applied, by a member that was stopped without a quorum")
	}
	if _, err := follower.node.ReadLater(told); err != ErrStopped {
		t.Errorf("a stopped member: %v", err)
	}
}

// A lone voter needs to ask nobody.
func TestLoneVoterReadsAtOnce(t *testing.T) {
	r := newRig(t, nil)
	r.propose(&command.Put{Key: []byte("k"), Value: []byte("v")})
	until(func() bool {
		now, err := r.node.ReadLater(make(lateReader, 1))
		r.must(err)
		return now
	})
	r.node.Stop()
	if _, err := r.node.ReadLater(make(lateReader)); err != ErrStopped {
		t.Errorf("a stopped member: %v", err)
	}
}
