package node

import (
	"bytes"
	"context"
	"math"
	"sync"
	"sync/atomic"
	"time"

	"go.etcd.io/raft/v3/raftpb"

	"keelson/command"
	"keelson/replica"
	"keelson/state"
)

// Bounds of what waits for the log, in bytes of commands.
const (
	batchBytesMax = 1 << 20 // a batch closes at this size; a single larger command makes a batch of its own
	// Of callers' commands so many may be in batches that are not settled, beyond which they are held. It is as much as keeps a
	// disk and a network busy: what is in a batch has had its turn.
	underWayBytesMax    = 8 << 20
	underWayCommandsMax = 2 << 10
	// systemBytesMax is room on top of that, for what the member itself proposes (revokes, compactions).
	systemBytesMax = 16 << 20
	spareBatches   = 8
	roomBytesKept  = 512 << 10 // the largest room for a batch that is used again
)

// proposals gathers commands into batches and pairs each command's result with the caller who waits for it.
//
// A batch is queued (commands join the last one), then proposed (in the log, or on its way there), then settled.
// Callers join under a short lock; the mover takes the queue when the log is free; the applier settles. When too much is under
// way, commands are held, and join in turns when the mover takes the queue: something has been settled then.
//
// Safe for concurrent use. Invariants: bytes and commands are those of all batches that are not settled; something is held only
// if there is such a batch, or the mover is going to be told that one was settled.
type proposals struct {
	origin uint64        // this incarnation: batches of other origins are not ours to settle
	failed atomic.Uint64 // commands that nobody got a result of, in total

	mu       sync.Mutex
	sequence uint64
	queue    []*batch          // oldest first; only the last one takes more commands
	proposed map[uint64]*batch // by sequence
	spare    []*batch
	room     []byte // empty, where the next batch grows; nil: with one
	bytes    int
	commands int
	unheard  int // of the commands: nobody waits for them any more
	held     held
	refusal  error // not nil: the member stops, no more commands
}

// batch is one raft entry in the making, with those who wait for it in the order of their commands.
type batch struct {
	id      command.BatchID
	data    []byte
	waiters []*waiter     // nil: has been told that there is no result in time
	unheard int           // how many are nil
	begun   time.Duration // monotonic: when its first command joined
	opened  time.Duration // monotonic: when the oldest came of the commands that are waited for
	// change is set if the batch is a single command that changes raft's configuration as well: it takes no others.
	change *raftpb.ConfChangeV2
}

// LateOutcome is called with the outcome of a command that nobody waits for, once, by a goroutine that others wait for unless
// the command is alone. The result is nil with an error, and belongs to others when it returns.
type LateOutcome func(res *state.Result, alone bool, err error)

// waiter is one caller. result and err are written before done is signalled.
type waiter struct {
	at     time.Duration // monotonic: when the command came
	call   LateOutcome   // not nil: nobody waits, this is called instead
	done   chan struct{} // capacity 1
	result state.Result
	err    error
}

var waiterPool = sync.Pool{New: func() any { return &waiter{done: make(chan struct{}, 1)} }}

func newWaiter(call LateOutcome, at time.Duration) *waiter {
	w := waiterPool.Get().(*waiter)
	w.call, w.at = call, at
	return w
}

// release gives the waiter back. Only its caller may, and only after it received from done: a waiter that was given up
// is still going to be signalled.
func (w *waiter) release() {
	*w = waiter{done: w.done}
	waiterPool.Put(w)
}

func (w *waiter) settle(r *state.Result, alone bool, err error) {
	if call := w.call; call != nil {
		w.release()
		call(r, alone, err)
		return
	}
	if w.err = err; r != nil {
		w.result = *r
	}
	w.done <- struct{}{}
}

func newProposals(origin uint64) *proposals {
	return &proposals{origin: origin, proposed: make(map[uint64]*batch)}
}

// sender is where a command comes from.
type sender struct {
	ctx    context.Context // of which the flow is asked if it matters
	op     command.Op      // of which the class is asked if it matters
	system bool            // the member itself: neither held nor refused with others
	call   LateOutcome     // nil: somebody waits
}

// join adds one encoded command and returns who waits for its result. first reports that the queue was empty, so that
// the mover has to be told. The bytes are copied.
func (p *proposals) join(encoded []byte, from sender, now time.Duration) (w *waiter, first bool, err error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.refusal != nil {
		return nil, false, p.refusal
	}
	if !from.system && (p.held.commands > 0 || !p.hasRoom(len(encoded))) {
		w, err := p.hold(encoded, from, now)
		return w, false, err
	}
	if p.bytes > 0 && p.bytes+len(encoded) > underWayBytesMax+systemBytesMax {
		return nil, false, ErrTooManyRequests
	}
	first = len(p.queue) == 0
	w = newWaiter(from.call, now)
	p.add(encoded, w, now)
	return w, first, nil
}

// hasRoom reports whether a command may join those that are under way.
func (p *proposals) hasRoom(bytes int) bool {
	return p.bytes == 0 || p.bytes+bytes <= underWayBytesMax && p.commands < underWayCommandsMax
}

// hold has a command wait for its turn.
func (p *proposals) hold(encoded []byte, from sender, now time.Duration) (*waiter, error) {
	flow, c := FlowOf(from.ctx), classOf(from.op)
	if !p.held.admits(flow, c, len(encoded)) {
		return nil, ErrTooManyRequests
	}
	w := newWaiter(from.call, now)
	p.held.put(flow, c, heldCommand{bytes.Clone(encoded), w})
	return w, nil
}

// letIn has held commands join as far as there is room.
func (p *proposals) letIn(now time.Duration) {
	for {
		size, ok := p.held.peek()
		if !ok || !p.hasRoom(size) {
			return
		}
		h := p.held.next()
		p.add(h.encoded, h.w, now)
	}
}

// joinChange adds one encoded command that changes raft's configuration as well.
func (p *proposals) joinChange(encoded []byte, change *raftpb.ConfChangeV2, now time.Duration) (w *waiter, first bool, err error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.refusal != nil {
		return nil, false, p.refusal
	}
	first = len(p.queue) == 0
	p.openBatch(now)
	w = newWaiter(nil, now)
	p.addToLast(encoded, w)
	b := p.queue[len(p.queue)-1]
	b.change = change
	return w, first, nil
}

// joinableFor is how long a batch takes commands while there is no leader. What has been waited for in vain is not proposed any
// more, but that can only be decided for a batch as a whole.
const joinableFor = 250 * time.Millisecond

// takes reports whether a queued batch takes another command.
func (b *batch) takes(bytes int, now time.Duration) bool {
	return b.change == nil && len(b.data)+bytes <= batchBytesMax && now-b.begun < joinableFor
}

// add puts a command into the last batch, if that takes it, or into a new one.
func (p *proposals) add(encoded []byte, w *waiter, now time.Duration) {
	if len(p.queue) == 0 || !p.queue[len(p.queue)-1].takes(len(encoded), now) {
		p.openBatch(now)
	}
	p.addToLast(encoded, w)
}

func (p *proposals) addToLast(encoded []byte, w *waiter) {
	b := p.queue[len(p.queue)-1]
	before := len(b.data)
	b.data = command.AppendTo(b.data, encoded)
	b.waiters = append(b.waiters, w)
	b.opened = min(b.opened, w.at)
	p.bytes += len(b.data) - before
	p.commands++
}

func (p *proposals) openBatch(now time.Duration) {
	b := &batch{}
	if n := len(p.spare); n > 0 {
		b, p.spare = p.spare[n-1], p.spare[:n-1]
	}
	p.sequence++
	b.id = command.BatchID{Origin: p.origin, Sequence: p.sequence}
	b.begun, b.opened = now, now
	b.data = command.BeginBatch(p.room, b.id)
	p.room = nil
	b.waiters, b.unheard = b.waiters[:0], 0
	p.queue = append(p.queue, b)
}

// take lets in what is held, moves all queued batches to the proposed ones and appends to dst what is to be proposed. The batches themselves
// stay here: they may be failed at any time.
func (p *proposals) take(dst []replica.Event, now time.Duration) []replica.Event {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.letIn(now)
	for _, b := range p.queue {
		p.proposed[b.id.Sequence] = b
		p.seal(b)
		if b.change != nil {
			b.change.Context = b.data
			dst = append(dst, replica.ProposeConfChange{ID: b.id.Sequence, Change: b.change})
		} else {
			dst = append(dst, replica.Propose{ID: b.id.Sequence, Data: b.data})
		}
	}
	clear(p.queue)
	p.queue = p.queue[:0]
	return dst
}

// seal gives a batch bytes of its own, which belong to raft and to the log's tail from here on and are never used again, and
// keeps the room in which it has grown for others.
func (p *proposals) seal(b *batch) {
	grown := b.data
	b.data = bytes.Clone(grown)
	if cap(grown) <= roomBytesKept {
		p.room = grown[:0]
	}
}

// wait reports whether commands wait to be taken.
func (p *proposals) wait() bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	return len(p.queue) > 0 || p.held.commands > 0
}

// settle gives the results of an applied batch to those who wait for them.
func (p *proposals) settle(id command.BatchID, results []state.Result) {
	b := p.remove(id)
	if b == nil {
		return // proposed by another incarnation, or given up
	}
	if len(results) != len(b.waiters) {
		panic("node: a batch of other length than its results")
	}
	for i, w := range b.waiters {
		if w != nil {
			w.settle(&results[i], len(b.waiters) == 1, nil)
		}
	}
	p.recycle(b)
}

// fail tells those who wait for a batch that it has no result.
func (p *proposals) fail(id command.BatchID, err error) {
	b := p.remove(id)
	if b == nil {
		return
	}
	for _, w := range b.waiters {
		if w != nil {
			p.failed.Add(1)
			w.settle(nil, false, err)
		}
	}
	p.recycle(b)
}

func (p *proposals) remove(id command.BatchID) *batch {
	if id.Origin != p.origin {
		return nil
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	b := p.proposed[id.Sequence]
	if b != nil {
		delete(p.proposed, id.Sequence)
		p.leave(b)
	}
	return b
}

// leave takes a batch out of the sums. The lock must be held.
func (p *proposals) leave(b *batch) {
	p.bytes -= b.commandBytes()
	p.commands -= len(b.waiters)
	p.unheard -= b.unheard
}

// commandBytes is what join has counted for the batch.
func (b *batch) commandBytes() int { return len(b.data) - len(command.BeginBatch(nil, b.id)) }

func (p *proposals) recycle(b *batch) {
	b.data, b.change = nil, nil
	clear(b.waiters)
	p.mu.Lock()
	defer p.mu.Unlock()
	if len(p.spare) < spareBatches {
		p.spare = append(p.spare, b)
	}
}

// expire tells those who wait for commands that came before the given moment the error that goes with when that was. A batch that
// nobody waits for any more goes; it returns the ids of those that were proposed.
func (p *proposals) expire(before time.Duration, why func(came time.Duration) error) (proposed []uint64) {
	p.mu.Lock()
	var old []*waiter
	kept := p.queue[:0]
	for _, b := range p.queue {
		if old = p.expireIn(b, before, old); b.isWanted() {
			kept = append(kept, b)
		} else {
			p.leave(b)
		}
	}
	clear(p.queue[len(kept):])
	p.queue = kept
	for sequence, b := range p.proposed {
		if old = p.expireIn(b, before, old); !b.isWanted() {
			delete(p.proposed, sequence)
			p.leave(b)
			proposed = append(proposed, sequence)
		}
	}
	for _, h := range p.held.expire(before) {
		old = append(old, h.w)
	}
	p.mu.Unlock()
	p.failed.Add(uint64(len(old)))
	for _, w := range old {
		w.settle(nil, false, why(w.at))
	}
	return proposed
}

// expireIn takes those who wait for commands that came before the given moment out of a batch, and appends them to old. The lock
// must be held.
func (p *proposals) expireIn(b *batch, before time.Duration, old []*waiter) []*waiter {
	if b.opened >= before {
		return old
	}
	b.opened = math.MaxInt64
	for i, w := range b.waiters {
		switch {
		case w == nil:
		case w.at < before:
			old = append(old, w)
			b.waiters[i] = nil
			b.unheard++
			p.unheard++
		default:
			b.opened = min(b.opened, w.at)
		}
	}
	return old
}

// isWanted reports whether anybody waits for the batch.
func (b *batch) isWanted() bool { return b.opened != math.MaxInt64 }

// close refuses all further commands with err, and fails all that are waiting with it.
func (p *proposals) close(err error) {
	p.mu.Lock()
	p.refusal = err
	p.mu.Unlock()
	p.expire(math.MaxInt64, func(time.Duration) error { return err })
}

// own picks the sequence numbers of this incarnation's batches.
func (p *proposals) own(batches []state.BatchResult) (sequences []uint64) {
	for i := range batches {
		if id := batches[i].ID; id.Origin == p.origin {
			sequences = append(sequences, id.Sequence)
		}
	}
	return sequences
}

// size is the bytes of all commands without a result.
func (p *proposals) size() int {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.bytes + p.held.bytes
}

// pending is the number of commands without a result.
func (p *proposals) pending() (commands int) {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.commands - p.unheard + p.held.commands
}
