package node

import (
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
	batchBytesMax   = 1 << 20  // a batch closes at this size; a single larger command makes a batch of its own
	pendingBytesMax = 64 << 20 // of all commands without a result, beyond which callers are refused
	systemBytesMax  = 16 << 20 // on top of that, for what the member itself proposes (revokes, compactions)
	spareBatches    = 8
)

// proposals gathers commands into batches and pairs each command's result with the caller who waits for it.
//
// A batch is queued (commands join the last one), then proposed (in the log, or on its way there), then settled.
// Callers join under a short lock; the mover takes the queue when the log is free; the applier settles.
//
// Safe for concurrent use. Invariant: bytes is the size of all batches that are not settled.
type proposals struct {
	origin uint64        // this incarnation: batches of other origins are not ours to settle
	failed atomic.Uint64 // commands that nobody got a result of, in total

	mu       sync.Mutex
	sequence uint64
	queue    []*batch          // oldest first; only the last one takes more commands
	proposed map[uint64]*batch // by sequence
	spare    []*batch
	bytes    int
	refusal  error // not nil: the member stops, no more commands
}

// batch is one raft entry in the making, with those who wait for it in the order of their commands.
type batch struct {
	id      command.BatchID
	data    []byte
	waiters []*waiter
	opened  time.Duration // monotonic: when its first command joined
	// change is set if the batch is a single command that changes raft's configuration as well: it takes no others.
	change *raftpb.ConfChangeV2
}

// LateOutcome is called with the outcome of a command that nobody waits for, once, by a goroutine that others wait for unless
// the command is alone.
type LateOutcome func(res state.Result, alone bool, err error)

// waiter is one caller. result and err are written before done is signalled.
type waiter struct {
	call   LateOutcome   // not nil: nobody waits, this is called instead
	done   chan struct{} // capacity 1
	result state.Result
	err    error
}

var waiterPool = sync.Pool{New: func() any { return &waiter{done: make(chan struct{}, 1)} }}

// release gives the waiter back. Only its caller may, and only after it received from done: a waiter that was given up
// is still going to be signalled.
func (w *waiter) release() {
	*w = waiter{done: w.done}
	waiterPool.Put(w)
}

func (w *waiter) settle(r state.Result, alone bool, err error) {
	if call := w.call; call != nil {
		w.release()
		call(r, alone, err)
		return
	}
	w.result, w.err = r, err
	w.done <- struct{}{}
}

func newProposals(origin uint64) *proposals {
	return &proposals{origin: origin, proposed: make(map[uint64]*batch)}
}

// join adds one encoded command and returns who waits for its result. first reports that the queue was empty, so that
// the mover has to be told. The bytes are copied.
func (p *proposals) join(encoded []byte, system bool, now time.Duration, call LateOutcome) (w *waiter, first bool, err error) {
	limit := pendingBytesMax
	if system {
		limit += systemBytesMax
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.refusal != nil {
		return nil, false, p.refusal
	}
	if p.bytes > 0 && p.bytes+len(encoded) > limit {
		return nil, false, ErrTooManyRequests
	}
	first = len(p.queue) == 0
	if first || !p.queue[len(p.queue)-1].takes(len(encoded)) {
		p.openBatch(now)
	}
	w = p.add(encoded)
	w.call = call
	return w, first, nil
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
	w = p.add(encoded)
	b := p.queue[len(p.queue)-1]
	b.change = change
	change.Context = b.data
	return w, first, nil
}

// takes reports whether a queued batch takes another command.
func (b *batch) takes(bytes int) bool { return b.change == nil && len(b.data)+bytes <= batchBytesMax }

// add puts a command into the newest batch.
func (p *proposals) add(encoded []byte) *waiter {
	w := waiterPool.Get().(*waiter)
	b := p.queue[len(p.queue)-1]
	before := len(b.data)
	b.data = command.AppendTo(b.data, encoded)
	b.waiters = append(b.waiters, w)
	p.bytes += len(b.data) - before
	return w
}

func (p *proposals) openBatch(now time.Duration) {
	b := &batch{}
	if n := len(p.spare); n > 0 {
		b, p.spare = p.spare[n-1], p.spare[:n-1]
	}
	p.sequence++
	b.id = command.BatchID{Origin: p.origin, Sequence: p.sequence}
	b.opened = now
	// The entry's bytes belong to raft and to the log's tail from here on: they are never reused.
	b.data = command.BeginBatch(make([]byte, 0, 4<<10), b.id)
	b.waiters = b.waiters[:0]
	p.queue = append(p.queue, b)
}

// take moves all queued batches to the proposed ones and appends to dst what is to be proposed. The batches themselves
// stay here: they may be failed at any time.
func (p *proposals) take(dst []replica.Event) []replica.Event {
	p.mu.Lock()
	defer p.mu.Unlock()
	for _, b := range p.queue {
		p.proposed[b.id.Sequence] = b
		if b.change != nil {
			dst = append(dst, replica.ProposeConfChange{ID: b.id.Sequence, Change: b.change})
		} else {
			dst = append(dst, replica.Propose{ID: b.id.Sequence, Data: b.data})
		}
	}
	clear(p.queue)
	p.queue = p.queue[:0]
	return dst
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
		w.settle(results[i], len(b.waiters) == 1, nil)
	}
	p.recycle(b)
}

// fail tells those who wait for a batch that it has no result.
func (p *proposals) fail(id command.BatchID, err error) {
	b := p.remove(id)
	if b == nil {
		return
	}
	p.failed.Add(uint64(len(b.waiters)))
	for _, w := range b.waiters {
		w.settle(state.Result{}, false, err)
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
		p.bytes -= b.commandBytes()
	}
	return b
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

// expire fails every batch that was opened before the given moment with the error that goes with when it was opened, and
// returns the ids of those that were proposed.
func (p *proposals) expire(before time.Duration, why func(opened time.Duration) error) (proposed []uint64) {
	p.mu.Lock()
	type expired struct {
		id     command.BatchID
		opened time.Duration
	}
	var old []expired // a batch is recycled as soon as it is settled
	kept := p.queue[:0]
	for _, b := range p.queue {
		if b.opened < before {
			p.proposed[b.id.Sequence] = b
		} else {
			kept = append(kept, b)
		}
	}
	clear(p.queue[len(kept):])
	p.queue = kept
	for _, b := range p.proposed {
		if b.opened < before {
			old = append(old, expired{b.id, b.opened})
		}
	}
	p.mu.Unlock()
	for _, e := range old {
		p.fail(e.id, why(e.opened))
		proposed = append(proposed, e.id.Sequence)
	}
	return proposed
}

// close refuses all further commands with err, and fails all that are waiting with it.
func (p *proposals) close(err error) {
	p.mu.Lock()
	p.refusal = err
	p.mu.Unlock()
	p.expire(1<<63-1, func(time.Duration) error { return err })
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
	return p.bytes
}

// pending is the number of commands without a result.
func (p *proposals) pending() (commands int) {
	p.mu.Lock()
	defer p.mu.Unlock()
	for _, b := range p.queue {
		commands += len(b.waiters)
	}
	for _, b := range p.proposed {
		commands += len(b.waiters)
	}
	return commands
}
