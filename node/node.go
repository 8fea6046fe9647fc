package node

import (
	"context"
	"fmt"
	"sync"
	"sync/atomic"
	"time"

	"go.etcd.io/raft/v3/raftpb"
	"google.golang.org/protobuf/proto"

	"keelson/command"
	"keelson/replica"
	"keelson/state"
	"keelson/state/auth"
	"keelson/state/tree"
)

// Node is one running member. All methods are safe for concurrent use.
type Node struct {
	o Options

	mover     *mover
	appender  *appender
	applier   *applier
	events    *inbox[replica.Event]
	appends   *inbox[replica.Effect] // bounded by what raft lets be uncommitted
	applies   *inbox[*replica.Apply] // bounded by replica's ApplyBytesMax
	proposals *proposals
	reads     *reads
	leases    *leases
	snapshots *snapshots
	integrity *integrity
	leader    *leadership
	commits   *commits
	received  received
	removed   sync.Once
	parting   sync.Once
	sweep     chan struct{} // capacity 1: something to remove or to truncate
	sweeps    *sweeps
	logged    chan struct{} // capacity 1: the log has grown by a good part of a segment

	status atomic.Pointer[Status]
	// lonely is the term in which this member leads alone and has committed: then every acknowledged write is applied
	// here, and nobody else can acknowledge any. A learner could: it may apply an entry sooner than its leader. 0: not so.
	lonely atomic.Uint64
	alone  atomic.Bool // this member leads, and nobody else votes or learns, as far as the last step knew

	stop    context.CancelFunc
	stopped context.Context
	fatal   sync.Once
	done    sync.WaitGroup
}

// Status is where the member stands.
type Status struct {
	ClusterID, MemberID uint64
	Leader              uint64 // 0: none known
	Term                uint64
	Committed, Applied  uint64 // Applied <= Committed
	Learner             bool
	Leading             bool
}

// Start runs a member from what its disk holds.
func Start(o Options) (*Node, error) {
	o = o.withDefaults()
	n := &Node{
		o:         o,
		events:    newInbox[replica.Event](),
		appends:   newInbox[replica.Effect](),
		applies:   newInbox[*replica.Apply](),
		proposals: newProposals(o.Chance.Uint64()),
		reads:     newReads(),
		leases:    newLeases(o.Lessor),
		sweep:     make(chan struct{}, 1),
		sweeps:    newSweeps(o.Machine.Compacted()),
		logged:    make(chan struct{}, 1),
		leader:    newLeadership(),
		commits:   newCommits(o.Network, o.Clock),
	}
	n.snapshots = newSnapshots(n)
	last, err := o.Log.LastIndex()
	if err != nil {
		return nil, fmt.Errorf("node: %w", err)
	}
	n.integrity = newIntegrity(&n.o, last)
	conf, err := configuration(o.Machine)
	if err != nil {
		return nil, err
	}
	r, err := replica.New(replica.Options{
		ID:             o.MemberID,
		Origin:         o.Chance.Uint64(),
		ElectionTicks:  int(o.Election / o.Heartbeat),
		HeartbeatTicks: 1,
		NoPreVote:      o.NoPreVote,
		Log:            o.Log,
		HardState:      o.Log.HardState(),
		ConfState:      conf,
		Applied:        o.Machine.Applied().Index,
		Refuses:        o.Machine.Refuses,
		Snapshot:       n.describeSnapshot,
		Logger:         o.Logger,
	})
	if err != nil {
		return nil, fmt.Errorf("node: %w", err)
	}
	n.stopped, n.stop = context.WithCancel(context.Background())
	n.mover, n.appender, n.applier = newMover(n, r), newAppender(n), newApplier(n)
	n.publishStatus(r)
	n.integrity.inherited = true // if there is an alarm at all
	n.checkIntegrity()
	for _, loop := range []func(){n.mover.loop, n.appender.loop, n.applier.loop, n.keep, n.sweepUp, n.tend, n.tellCommits} {
		n.done.Add(1)
		go func() {
			defer n.done.Done()
			loop()
		}()
	}
	n.Sweep()
	return n, nil
}

// configuration is raft's configuration as the machine has stored it.
func configuration(m *state.Machine) (*raftpb.ConfState, error) {
	view := m.View()
	defer view.Close()
	conf := new(raftpb.ConfState)
	if err := proto.Unmarshal(view.Members().ConfState(), conf); err != nil {
		return nil, fmt.Errorf("node: stored configuration: %w", err)
	}
	return conf, nil
}

// Propose puts a change into the log and waits until it has been applied here. What the machine refused stands in the
// result; an error says that there is no result, and that the change may still come to pass unless it is one of
// ErrTooLarge, ErrTooManyRequests and ErrDropped.
//
// It is done on behalf of the caller in ctx (auth.WithCaller). Without one it is nobody's, and the machine refuses it where
// users have to say who they are.
func (n *Node) Propose(ctx context.Context, op command.Op) (state.Result, error) {
	return n.proposeAndWait(ctx, op, false)
}

// ProposeOwn is Propose for what the member itself has to say, which is neither too large, nor one too many, nor subject to
// anybody's rights: it gets in when callers are refused.
func (n *Node) ProposeOwn(ctx context.Context, op command.Op) (state.Result, error) {
	return n.proposeAndWait(ctx, op, true)
}

func (n *Node) proposeAndWait(ctx context.Context, op command.Op, system bool) (state.Result, error) {
	var who auth.Caller // the member itself
	if !system {
		who = n.caller(ctx)
	}
	w, first, err := n.join(who, sender{ctx: ctx, op: op, system: system})
	if err != nil {
		return state.Result{}, err
	}
	if first {
		n.help()
	}
	return n.await(ctx, w)
}

// ProposeLater is Propose for a caller that does not wait: done is called with the outcome, perhaps before ProposeLater
// returns. If there is an error, done is not called.
func (n *Node) ProposeLater(ctx context.Context, op command.Op, r Runner, done LateOutcome) error {
	_, first, err := n.join(n.caller(ctx), sender{ctx: ctx, op: op, call: done})
	if first {
		r.Soon(func() { n.begin(r) })
	}
	return err
}

// Runner is a caller that does not wait, and runs functions all the same.
type Runner interface {
	// Soon runs f on the caller's goroutine, once that has done with what came together. f does not wait.
	Soon(f func())
	// Stay runs f on the caller's goroutine, after that, if nobody misses it there, and otherwise on another one. f waits for the disk, then
	// calls waited, then tells so many callers of their results. Only what Soon runs uses it.
	Stay(callers int, f func(waited func()))
	// Go runs f on another goroutine.
	Go(f func())
}

// Abandon counts a command whose caller does not wait for it any more, and returns the error that goes with the cause.
func (n *Node) Abandon(cause error) error {
	n.proposals.failed.Add(1)
	return givenUp(cause)
}

// caller is on whose behalf a command is proposed. Its revision is never 0, as the member's own is.
func (n *Node) caller(ctx context.Context) auth.Caller {
	users := n.o.Machine.Users()
	if users.Enabled() {
		if who, ok := auth.CallerOf(ctx); ok && who.Revision != 0 {
			return who
		}
	}
	return auth.Caller{Revision: users.Revision()}
}

// await waits for the result of a command.
func (n *Node) await(ctx context.Context, w *waiter) (state.Result, error) {
	if given := ctx.Done(); given != nil { // waiting for one thing costs half of what it costs for either of two
		select {
		case <-w.done:
		case <-given:
			return state.Result{}, n.Abandon(context.Cause(ctx))
		}
	} else {
		<-w.done
	}
	result, err := w.result, w.err
	w.release()
	return result, err
}

// givenUp is the error of a caller whose write is pending: by its own clock it has timed out like any other.
func givenUp(cause error) error {
	switch cause {
	case context.Canceled:
		return ErrCanceled
	case context.DeadlineExceeded:
		return ErrTimeout
	default:
		return cause
	}
}

// propose is for the member's own chores: nobody waits, and it gets in when callers are refused.
func (n *Node) propose(op command.Op) error {
	_, first, err := n.join(auth.Caller{}, sender{op: op, system: true})
	if first {
		n.help()
	}
	return err
}

var encodeBuffers = sync.Pool{New: func() any { return new([]byte) }}

// encodeBufferMax is the largest buffer that is kept for the next command.
const encodeBufferMax = 64 << 10

// join puts a command among the proposals. first says that the caller has to help.
func (n *Node) join(who auth.Caller, from sender) (w *waiter, first bool, err error) {
	c := command.Command{Time: n.o.Clock.Now().UnixNano(), User: who.User, AuthRevision: who.Revision, Op: from.op}
	buf := encodeBuffers.Get().(*[]byte)
	defer func() {
		if cap(*buf) <= encodeBufferMax {
			encodeBuffers.Put(buf)
		}
	}()
	*buf = c.Append((*buf)[:0])
	if len(*buf) > n.bytesMax(from.op) && !from.system {
		return nil, false, ErrTooLarge
	}
	return n.proposals.join(*buf, from, n.o.Clock.Monotonic())
}

// treeBytesMax bounds a write to the v2 tree, whose API has always taken larger ones than the other.
const treeBytesMax = 10<<20 + 64<<10

// commandBytesMax bounds any command: what is larger does not fit into a message to another member (package transport).
const commandBytesMax = 255 << 20

func (n *Node) bytesMax(op command.Op) int {
	most := min(n.o.MaxRequestBytes, commandBytesMax)
	if _, ok := op.(*command.TreePut); ok {
		return max(treeBytesMax, most)
	}
	return most
}

// Read opens a view that holds every write acknowledged, by any member, before Read was called. Close it.
func (n *Node) Read(ctx context.Context) (*state.View, error) {
	if n.lonely.Load() == 0 {
		if err := n.readIndex(ctx); err != nil {
			return nil, err
		}
	}
	return n.o.Machine.View(), nil
}

// ReadLater is Read for a caller that does not wait: now says that he may open a view at once; if not, and without an error,
// late is told when he may.
func (n *Node) ReadLater(late LateReader) (now bool, err error) {
	if n.lonely.Load() != 0 {
		return true, nil
	}
	first, err := n.reads.joinLate(late, n.o.Clock.Monotonic())
	if first {
		late.Soon(n.move)
	}
	return false, err
}

// readIndex waits until everything acknowledged before the call is applied here.
func (n *Node) readIndex(ctx context.Context) error {
	w, first, err := n.reads.join(n.o.Clock.Monotonic())
	if err != nil {
		return err
	}
	if first {
		n.events.signal()
	}
	select {
	case <-w.done:
		err := w.err
		w.release()
		return err
	case <-ctx.Done():
		return context.Cause(ctx)
	}
}

// ReadLocal opens a view of what this member has applied. Close it.
func (n *Node) ReadLocal() *state.View { return n.o.Machine.View() }

// Users is the users and roles that this member has applied. It costs next to nothing.
func (n *Node) Users() *auth.Set { return n.o.Machine.Users() }

// TreeState is how the v2 tree stands that this member has applied. It costs next to nothing.
func (n *Node) TreeState() tree.State { return n.o.Machine.TreeState() }

// Status tells where the member stands. It costs next to nothing.
func (n *Node) Status() Status { return *n.status.Load() }

// PendingProposals is the number of commands that have no result yet.
func (n *Node) PendingProposals() int { return n.proposals.pending() }

// FailedProposals is how many commands got no result, in total.
func (n *Node) FailedProposals() uint64 { return n.proposals.failed.Load() }

// ReadRounds is how many questions after an index took long, and how many got no answer, in total.
func (n *Node) ReadRounds() (slow, failed uint64) { return n.reads.slow.Load(), n.reads.failed.Load() }

// Queues are what waits inside a node.
type Queues struct {
	ProposedBytes int   // of commands that have no result yet
	ReceivedBytes int64 // of messages from other members that nobody has looked at
	Events        int   // for the mover, those messages included
	Appends       int   // for the log
	Applies       int   // committed runs of entries, for the machine
	Unswept       int64 // revisions below the compaction floor that may still be in the store
}

// Queues tells how long the queues are at about this moment.
func (n *Node) Queues() Queues {
	floor, _ := n.sweeps.at()
	return Queues{
		ProposedBytes: n.proposals.size(), ReceivedBytes: n.received.bytes.Load(),
		Events: n.events.len(), Appends: n.appends.len(), Applies: n.applies.len(),
		Unswept: max(n.o.Machine.Compacted()-floor, 0),
	}
}

// Waited is for how long this member has let no further commands into the log, as a leader whose followers or who himself was
// behind, in total.
func (n *Node) Waited() time.Duration { return time.Duration(n.mover.pace.waited.Load()) }

// Sweep tells the sweeper that there may be something to do: the store has flushed, or a compaction was applied.
// It does not wait.
func (n *Node) Sweep() {
	select {
	case n.sweep <- struct{}{}:
	default:
	}
}

// Stop ends all goroutines. Callers that still wait get ErrStopped.
func (n *Node) Stop() {
	n.refuse()
	n.stop()
	n.mover.turn.close() // a request that makes the move begins no goroutine from here on
	n.done.Wait()
	for _, t := range []*turn{&n.appender.turn, &n.applier.turn} {
		t.close() // requests may be making moves
	}
	n.refuse() // what joined meanwhile
}

// fail ends the member because of an error of its disk.
func (n *Node) fail(err error) {
	n.fatal.Do(func() {
		n.refuse()
		n.stop()
		n.o.Fatal(err)
	})
}

func (n *Node) refuse() {
	n.lonely.Store(0)
	n.proposals.close(ErrStopped)
	n.reads.close(ErrStopped)
}

// wait sleeps for d, or until the node stops: then it reports false.
func (n *Node) wait(d time.Duration) bool {
	t := n.o.Clock.NewTimer(d)
	defer t.Stop()
	select {
	case <-t.C():
		return true
	case <-n.stopped.Done():
		return false
	}
}
