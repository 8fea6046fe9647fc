package node

import (
	"go.etcd.io/raft/v3/raftpb"
	"google.golang.org/protobuf/proto"

	"keelson/replica"
	"keelson/state"
)

// applyBytesMax bounds the entries applied in one storage batch, so that results do not wait for too many others.
const applyBytesMax = 4 << 20

// apply is the applier's loop.
func (n *Node) apply() {
	var queued []*replica.Apply
	var entries []state.Entry
	for {
		queued = n.applies.take(queued)
		if len(queued) == 0 {
			select {
			case <-n.applies.wake:
				continue
			case <-n.stopped.Done():
				return
			}
		}
		for rest := queued; len(rest) > 0; {
			var run []*replica.Apply
			run, rest = splitRun(rest)
			entries = entries[:0]
			for _, a := range run {
				entries = appendEntries(entries, a)
			}
			if err := n.applyRun(entries); err != nil {
				n.fail(err)
				return
			}
			for _, a := range run {
				n.events.put(replica.ApplyDone{Apply: a})
			}
			clear(entries)
		}
	}
}

// splitRun cuts off what is applied together: at least one Apply, up to applyBytesMax.
func splitRun(queued []*replica.Apply) (run, rest []*replica.Apply) {
	size := 0
	for i, a := range queued {
		for _, e := range a.Entries {
			size += len(e.GetData())
		}
		if i > 0 && size > applyBytesMax {
			return queued[:i], queued[i:]
		}
	}
	return queued, nil
}

// appendEntries turns an Apply's entries into the machine's.
func appendEntries(entries []state.Entry, a *replica.Apply) []state.Entry {
	for i, e := range a.Entries {
		s := state.Entry{Index: e.GetIndex(), Term: e.GetTerm()}
		if e.GetType() == raftpb.EntryNormal {
			s.Data = e.GetData()
		} else if i == len(a.Entries)-1 && a.ConfState != nil {
			conf, err := proto.MarshalOptions{Deterministic: true}.Marshal(a.ConfState)
			if err != nil {
				panic("node: configuration can't be encoded: " + err.Error())
			}
			s.ConfState = conf
		}
		entries = append(entries, s)
	}
	return entries
}

// applyRun applies, then tells everybody, in the order of the package comment.
func (n *Node) applyRun(entries []state.Entry) error {
	start := n.o.Clock.Monotonic()
	out, err := n.o.Machine.Apply(entries)
	if err != nil {
		return err
	}
	now := n.o.Clock.Monotonic()
	n.leases.observe(out.Leases, now)
	for _, b := range out.Batches {
		n.proposals.settle(b.ID, b.Results)
	}
	n.o.Hub.Publish(out.Events, out.Revision)
	if out.Floor {
		n.Sweep()
	}
	if n.o.Observe.Applied != nil {
		n.o.Observe.Applied(&out, len(entries), now-start)
	}
	return nil
}
