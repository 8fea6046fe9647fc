package node

import (
	"context"
	"fmt"
	"sync"
	"time"

	"go.etcd.io/raft/v3"
	"go.etcd.io/raft/v3/raftpb"
	"google.golang.org/protobuf/proto"

	"keelson/replica"
)

// Snapshots moves whole states between members.
type Snapshots interface {
	// Send gives the receiver of m a state that is not older than the snapshot that m describes, and tells it m with the
	// description of what was sent. It returns when the receiver has it, or when ctx ends.
	Send(ctx context.Context, m *raftpb.Message) error
	// Install replaces this member's state by the one received that the snapshot describes, and its log by an empty one
	// behind it with the hard state, all or nothing in a crash. Nobody applies or appends meanwhile.
	Install(s *raftpb.Snapshot, hs *raftpb.HardState) error
}

// snapshotsMax is how many members are given a state at the same time.
const snapshotsMax = 2

// snapshotPause lies between an attempt that failed and the next one.
const snapshotPause = time.Second

// snapshots sends states to members that are too far behind for the log.
type snapshots struct {
	n *Node

	mu      sync.Mutex
	sending map[uint64]bool
}

func newSnapshots(n *Node) *snapshots { return &snapshots{n: n, sending: make(map[uint64]bool)} }

// send begins to send, unless the receiver is being sent to, or too many are: then raft is told that it has failed, and
// tries again later.
func (s *snapshots) send(m *raftpb.Message) {
	to := m.GetTo()
	s.mu.Lock()
	busy := s.sending[to] || len(s.sending) >= snapshotsMax || s.n.o.Snapshots == nil || s.n.stopped.Err() != nil
	if !busy {
		s.sending[to] = true
	}
	s.mu.Unlock()
	if busy {
		s.n.events.put(replica.SnapshotSent{ID: to, Failed: true})
		return
	}
	s.n.done.Add(1)
	go func() {
		defer s.n.done.Done()
		err := s.n.o.Snapshots.Send(s.n.stopped, m)
		if err != nil {
			s.n.wait(snapshotPause)
		}
		s.mu.Lock()
		delete(s.sending, to)
		s.mu.Unlock()
		if s.n.o.Observe.SnapshotSent != nil {
			s.n.o.Observe.SnapshotSent(to, err)
		}
		s.n.tell(replica.SnapshotSent{ID: to, Failed: err != nil})
	}()
}

// ReceiveSnapshot takes the message that goes with a state which this member was given, and reports whether the state is
// waited for: it will be asked for by Install. Otherwise it never will, or has been.
func (n *Node) ReceiveSnapshot(m *raftpb.Message) (awaited bool) {
	n.received.bytes.Add(messageBytes(m))
	n.events.put(replica.Message{Message: m})
	n.mover.turn.take(func() {
		n.mover.step()
		awaited = n.mover.replica.Awaits(m.GetSnapshot())
	})
	n.appends.nudge()
	n.applies.nudge()
	return awaited
}

// describeSnapshot describes what a member behind the log would be sent: raft needs it to know from where to go on. What
// is sent in the end may be newer.
func (n *Node) describeSnapshot() (*raftpb.Snapshot, error) {
	if n.o.Snapshots == nil {
		return nil, raft.ErrSnapshotTemporarilyUnavailable
	}
	at := n.o.Machine.Applied()
	conf, err := configuration(n.o.Machine)
	if err != nil {
		return nil, err
	}
	return &raftpb.Snapshot{Metadata: &raftpb.SnapshotMetadata{
		ConfState: conf, Index: proto.Uint64(at.Index), Term: proto.Uint64(at.Term),
	}}, nil
}

// install makes a received snapshot this member's state. It is part of the append move.
func (a *appender) install(in *replica.Install) error {
	n := a.n
	if n.o.Snapshots == nil {
		return fmt.Errorf("node: a snapshot, and no way to install it")
	}
	if n.o.Observe.TokensLost != nil { // before users can be seen by whom they may have ended
		n.o.Observe.TokensLost()
	}
	var err error
	// Everything handed out before is applied, and nothing more is until this is reported done: the turn is free.
	n.applier.turn.take(func() { err = n.o.Snapshots.Install(in.Snapshot, in.HardState) })
	if err != nil {
		return fmt.Errorf("node: install snapshot at %d: %w", in.Snapshot.GetMetadata().GetIndex(), err)
	}
	n.integrity.installed(n.o.Machine.Applied().Index)
	n.o.Hub.Review()
	n.o.Hub.Reset(n.o.Machine.Revision())
	n.membersChanged()
	if n.o.Observe.Installed != nil {
		n.o.Observe.Installed(in.Snapshot)
	}
	return nil
}
