package node

import (
	"time"

	"github.com/cockroachdb/pebble/v2/vfs"
)

// spareLookBytes is how far the log grows until the tender sees to its next segment.
const spareLookBytes = 4 << 20

// tellTender tells the tender that the log has grown. It does not wait.
func (n *Node) tellTender() {
	select {
	case n.logged <- struct{}{}:
	default:
	}
}

// tend is the tender's loop: it keeps a spare segment at hand for the log, and reads old segments again, slowly, to find
// damage while there may still be another copy.
func (n *Node) tend() {
	scrub := n.o.Clock.NewTimer(n.o.Scrub.Rest)
	defer scrub.Stop()
	for {
		var err error
		select {
		case <-n.logged:
			err = n.prepareSpare()
		case <-scrub.C():
			var pause time.Duration
			pause, err = n.scrubLog()
			scrub.Reset(pause)
		case <-n.stopped.Done():
			return
		}
		if err != nil {
			n.fail(err)
			return
		}
	}
}

// prepareSpare makes the log's next segment ahead of its use. That there is no space for it is only a warning: nothing
// depends on it yet.
func (n *Node) prepareSpare() error {
	err := n.o.Log.Prepare()
	if err == nil || !vfs.IsNoSpaceError(err) {
		return err
	}
	if n.o.Observe.NoSpare != nil {
		n.o.Observe.NoSpare(err)
	}
	return nil
}

// scrubLog checks the next part of the log, and returns how long to pause.
func (n *Node) scrubLog() (pause time.Duration, err error) {
	step, err := n.o.Log.Scrub(n.o.Scrub.Bytes)
	if err != nil {
		return 0, err
	}
	if step.Done {
		return n.o.Scrub.Rest, nil
	}
	return n.o.Scrub.Pause, nil
}
