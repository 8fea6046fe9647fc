package node

import (
	"keelson/raftlog"
	"keelson/replica"
)

// append is the appender's loop: everything that queued up while the last sync ran is written under one sync.
func (n *Node) append() {
	var effects []replica.Effect
	var batches []raftlog.Batch
	var done []replica.Event
	for {
		effects = n.appends.take(effects)
		if len(effects) == 0 {
			select {
			case <-n.appends.wake:
				continue
			case <-n.stopped.Done():
				return
			}
		}
		batches, done = batches[:0], done[:0]
		for _, e := range effects {
			a := e.(*replica.Append)
			batches = append(batches, raftlog.Batch{HardState: a.HardState, Entries: a.Entries})
			done = append(done, replica.AppendDone{Append: a})
		}
		if err := n.o.Log.Append(batches...); err != nil {
			n.fail(err)
			return
		}
		n.events.put(done...)
	}
}
