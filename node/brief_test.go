package node

import (
	"bytes"
	"context"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/cockroachdb/pebble/v2/vfs"
	"github.com/cockroachdb/pebble/v2/vfs/errorfs"
	"go.etcd.io/raft/v3/raftpb"
	"google.golang.org/protobuf/proto"

	"keelson/command"
	"keelson/replica"
	"keelson/state"
)

// acknowledgements is a network that remembers up to where a member has acknowledged entries.
type acknowledgements struct{ index atomic.Uint64 }

func (a *acknowledgements) Send(ms []*raftpb.Message) {
	for _, m := range ms {
		if m.GetType() == raftpb.MsgAppResp && !m.GetReject() {
			a.index.Store(m.GetIndex())
		}
	}
}

func (a *acknowledgements) ConnectedSince(uint64) (time.Duration, bool) { return 0, true }

// led is member 2 of three, led by the test.
type led struct {
	*rig
	acknowledgements
	last  *raftpb.Entry
	apply sync.RWMutex // what is applied waits for it, once the machine has it
	stall atomic.Bool  // the disk of the log does not answer
	waits atomic.Int32 // who waits for it
}

func newLed(t *testing.T) *led {
	l := &led{last: &raftpb.Entry{Index: proto.Uint64(1), Term: proto.Uint64(1)}} // what a cluster is founded with
	fs := errorfs.Wrap(vfs.NewMem(), errorfs.InjectorFunc(func(op errorfs.Op) error {
		if strings.Contains(op.Path, "wal") && op.Kind == errorfs.OpFileSyncData {
			l.waits.Add(1)
			until(func() bool { return !l.stall.Load() })
			l.waits.Add(-1)
		}
		return nil
	}))
	l.rig = newMemberRig(t, 2, []uint64{1, 2, 3}, fs, "/", 1<<20, func(o *Options) {
		o.Network = l
		o.Heartbeat, o.Election = time.Minute, time.Hour // nothing comes between
		o.Observe.Applied = func(*state.Outcome, int, time.Duration) {
			l.apply.RLock()
			defer l.apply.RUnlock()
		}
	})
	l.hurry()
	return l
}

// hurry works until the log and the store count as quick, which shows when they were used; on a machine under load not at once.
func (l *led) hurry() {
	for !l.node.appender.quick.Load() || !l.node.applier.quick.Load() {
		l.append()
	}
}

// message appends ops, an entry for each.
func (l *led) message(ops ...command.Op) *raftpb.Message {
	const term = 5
	m := &raftpb.Message{
		Type: raftpb.MsgApp.Enum(), From: proto.Uint64(1), To: proto.Uint64(2), Term: proto.Uint64(term),
		Index: new(l.last.GetIndex()), LogTerm: new(l.last.GetTerm()),
	}
	for _, op := range ops {
		c := command.Command{Op: op}
		l.last = &raftpb.Entry{
			Type: raftpb.EntryNormal.Enum(), Term: proto.Uint64(term), Index: proto.Uint64(l.last.GetIndex() + 1),
			Data: command.AppendTo(command.BeginBatch(nil, command.BatchID{Origin: 1, Sequence: 1}), c.Append(nil)),
		}
		m.Entries = append(m.Entries, l.last)
	}
	return m
}

// append has the leader append ops, and commits them.
func (l *led) append(ops ...command.Op) {
	if len(ops) == 0 {
		ops = []command.Op{&command.Noop{}}
	}
	l.node.ReceiveEntries(l.message(ops...))
	until(func() bool { return l.index.Load() == l.last.GetIndex() })
	l.commit()
	until(func() bool { return l.node.Status().Applied == l.last.GetIndex() })
}

// commit tells that all is committed.
func (l *led) commit() {
	m := l.message()
	m.Commit = new(l.last.GetIndex())
	l.node.ReceiveEntries(m)
}

// A little that another member brings is written and applied by the goroutine that brings it.
func TestBriefEntriesAreDoneWhenTheyAreReceived(t *testing.T) {
	l := newLed(t)
	written, applied := 0, 0 // at once
	const rounds = 100
	for i := range rounds {
		l.hurry()
		key := []byte{byte(i)}
		l.node.ReceiveEntries(l.message(&command.Put{Key: key, Value: []byte("v")}, &command.DeleteRange{Key: key}, &command.Noop{}))
		if l.index.Load() == l.last.GetIndex() {
			written++
		}
		until(func() bool { return l.index.Load() == l.last.GetIndex() })
		l.commit()
		if l.node.Status().Applied == l.last.GetIndex() {
			applied++
		}
		until(func() bool { return l.node.Status().Applied == l.last.GetIndex() })
	}
	// Where another goroutine was still at a move that one went on.
	if written < rounds/2 || applied < rounds/2 {
		t.Errorf("of %d rounds %d were written at once and %d applied", rounds, written, applied)
	}
}

// What may take long to apply is applied by the goroutine that is there for it.
func TestLongApplicationHoldsUpNothing(t *testing.T) {
	for name, op := range map[string]command.Op{
		"a range":       &command.DeleteRange{Key: []byte("a"), End: []byte("z")},
		"a lease":       &command.LeaseRevoke{ID: 1},
		"many bytes":    &command.Put{Key: []byte("k"), Value: bytes.Repeat([]byte("v"), 2*briefBytesMax)},
		"a transaction": &command.Txn{Success: []command.Op{&command.DeleteRange{Key: []byte("a"), End: []byte("z")}}},
	} {
		t.Run(name, func(t *testing.T) {
			l := newLed(t)
			l.node.ReceiveEntries(l.message(op))
			until(func() bool { return l.index.Load() == l.last.GetIndex() })
			l.apply.Lock() // a long application
			l.commit()
			if l.node.Status().Applied == l.last.GetIndex() {
				t.Error("it is applied already")
			}
			l.node.ReceiveEntries(l.message(&command.Put{Key: []byte("b"), Value: []byte("v")})) // is taken all the same
			until(func() bool { return l.index.Load() == l.last.GetIndex() })
			l.apply.Unlock()
			l.commit()
			until(func() bool { return l.node.Status().Applied == l.last.GetIndex() })
		})
	}
}

// With a disk that is slow nobody waits who has something else to do, and much is nobody's to write but the appender's.
func TestSlowDiskHoldsUpNobodyWhoBringsEntries(t *testing.T) {
	put := func(bytes int) command.Op { return &command.Put{Key: []byte("k"), Value: make([]byte, bytes)} }
	l := newLed(t)
	stalled := func(m *raftpb.Message) (returned chan struct{}) {
		l.stall.Store(true)
		returned = make(chan struct{})
		go func() {
			defer close(returned)
			l.node.ReceiveEntries(m)
		}()
		return returned
	}
	settle := func() {
		l.stall.Store(false)
		until(func() bool { return l.index.Load() == l.last.GetIndex() })
	}

	<-stalled(l.message(put(2 * briefBytesMax)))
	settle()
	l.hurry()

	// It waits once: that is how it learns that the disk is slow.
	for tries := 0; tries == 0 || l.node.appender.quick.Load(); tries++ { // what waits may be the mark of an idle log instead
		if tries == 10 {
			t.Fatal("the disk counts as quick")
		}
		first := stalled(l.message(put(10)))
		until(func() bool { return l.waits.Load() > 0 })
		time.Sleep(2 * quickMove)
		settle()
		<-first
	}
	<-stalled(l.message(put(10)))
	settle()
	l.hurry()
}

// What takes long is left where it is, with all that is queued before and behind it.
func TestBriefMovesLeaveWhatIsLong(t *testing.T) {
	entries := func(bytes int) []*raftpb.Entry { return []*raftpb.Entry{{Data: make([]byte, bytes)}} }
	brief := &replica.Append{Entries: entries(briefBytesMax / 3)}
	for _, long := range []replica.Effect{&replica.Append{Entries: entries(briefBytesMax / 2)}, &replica.Install{Append: &replica.Append{}}} {
		q := newInbox[replica.Effect]()
		q.put(brief, long, brief)
		if got := q.takeIf(areBriefAppends, make([]replica.Effect, 9)); len(got) > 0 || q.len() != 3 {
			t.Errorf("took %v, left %d", got, q.len())
		}
		q.take(nil)
		q.put(brief, brief)
		if got := q.takeIf(areBriefAppends, nil); len(got) != 2 || q.len() != 0 {
			t.Errorf("took %v, left %d", got, q.len())
		}
	}
}

// soon is a Runner that tells what it was asked for and does nothing by itself.
type soon struct {
	soon, other []func()
	stay        []func(func())
	callers     []int // for whom it is to stay
}

func (s *soon) Soon(f func()) { s.soon = append(s.soon, f) }
func (s *soon) Stay(callers int, f func(func())) {
	s.stay, s.callers = append(s.stay, f), append(s.callers, callers)
}

func (s *soon) Go(f func()) { s.other = append(s.other, f) }

// The caller that does not wait makes the first move itself once it has looked at everything, and on a follower nothing is left then.
func TestProposalsOfOneMomentAreOneBatch(t *testing.T) {
	c := newCalmTrio(t)
	leader := c.leader()
	for i, r := range c.rigs {
		batches := func() uint64 {
			r.node.proposals.mu.Lock()
			defer r.node.proposals.mu.Unlock()
			return r.node.proposals.sequence
		}
		ok := false
		for tries := 0; !ok; tries++ { // a tick may take the batch at any moment
			if tries == 100 {
				t.Fatalf("member %d never made one batch of what came together, or had another goroutine make the move", i)
			}
			var s soon
			var done sync.WaitGroup
			var lone atomic.Bool
			before := batches()
			for range 10 {
				done.Add(1)
				r.must(r.node.ProposeLater(context.Background(), &command.Put{Key: []byte("k")}, &s, func(res *state.Result, alone bool, err error) {
					if err != nil || res.Refusal != nil {
						t.Errorf("%v, %v", res, err)
					}
					if alone {
						lone.Store(true)
					}
					done.Done()
				}))
			}
			ok = len(s.soon) == 1 && len(s.other) == 0 && len(s.stay) == 0
			for _, f := range s.soon {
				f()
			}
			ok = ok && batches() == before+1
			if i != leader {
				ok = ok && len(s.other) == 0
			}
			for _, f := range s.other {
				go f()
			}
			done.Wait()
			ok = ok && !lone.Load()
		}
	}
}

// Who does not wait stays for a write where no other member has to hear of it and the disk was quick, and nowhere else. It is told when the disk
// has it, before anybody is told of a result.
func TestTheCallerStaysForTheDisk(t *testing.T) {
	for name, c := range map[string]struct {
		members int
		slow    bool
		stays   bool
	}{
		"alone":      {1, false, true},
		"slow disk":  {1, true, false},
		"three":      {3, false, false},
		"three slow": {3, true, false},
	} {
		t.Run(name, func(t *testing.T) {
			var r *rig
			if c.members == 1 {
				r = newRig(t, nil)
				r.propose(&command.Put{Key: []byte("k")})
			} else {
				trio := newCalmTrio(t)
				r = trio.rigs[trio.leader()]
			}
			for tries := 0; ; tries++ { // a tick may take the batch at any moment
				if tries == 100 {
					t.Fatal("the caller has never had to see to anything")
				}
				r.node.appender.quick.Store(!c.slow)
				var s soon
				told := make(chan struct{}, 10)
				for range 3 {
					r.must(r.node.ProposeLater(context.Background(), &command.Put{Key: []byte("k")}, &s, func(*state.Result, bool, error) { told <- struct{}{} }))
				}
				before := r.syncs.Load()
				for _, f := range s.soon {
					f()
				}
				if len(s.stay) > 0 != c.stays && len(s.stay)+len(s.other) > 0 {
					t.Errorf("stays for %d, leaves %d to others", len(s.stay), len(s.other))
				}
				for _, f := range s.other {
					f()
				}
				waited := 0
				for i, f := range s.stay {
					if s.callers[i] < 3 {
						t.Errorf("for %d callers", s.callers[i])
					}
					f(func() {
						waited++
						if len(told) > 0 || r.syncs.Load() == before {
							t.Error("called too late, or before the disk has the write")
						}
					})
				}
				for range 3 {
					<-told
				}
				if !c.stays && len(s.other) > 0 || c.stays && waited == 1 {
					break
				}
			}
		})
	}
}
