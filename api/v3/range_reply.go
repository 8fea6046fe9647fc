package v3

import (
	"context"
	"sync"

	"google.golang.org/grpc/mem"
	"google.golang.org/protobuf/encoding/protowire"

	"keelson/state/mvcc"
)

const (
	// firstPieceBytes is the size of a list's first piece, which is not counted in the budget.
	firstPieceBytes = 4 << 10
	// pieceBytes is the size of the following ones.
	pieceBytes = 64 << 10
	// tailBytes is room for what follows the pairs: more and count.
	tailBytes = 2 + 11
	// headerBytesMax is the most that a header takes.
	headerBytesMax = 2 + 4*11
	// splitBytes is up to how large a pair is moved to the next piece rather than cut at the end of one.
	splitBytes = 4 << 10
)

// chunks hands out the pieces that replies are made of. It is the mem.BufferPool that gets them back when they are sent.
type chunks struct {
	budget   *budget
	pool     sync.Pool // of *[]byte with a capacity of pieceBytes
	replyMax int       // bytes of one reply
}

func newChunks(b *budget) *chunks { return &chunks{budget: b, replyMax: mvcc.AnswerBytesMax} }

// Get implements mem.BufferPool. The bytes have been taken from the budget.
func (c *chunks) Get(n int) *[]byte {
	if p, ok := c.pool.Get().(*[]byte); ok {
		*p = (*p)[:n]
		return p
	}
	b := make([]byte, n, pieceBytes)
	return &b
}

// Put implements mem.BufferPool.
func (c *chunks) Put(p *[]byte) {
	c.pool.Put(p)
	c.budget.release(pieceBytes)
}

// rangeReply encodes a RangeResponse as its pairs come: the pairs, then more and count, with the header at either end.
// The first piece is small and the reply's own; the next ones come from chunks. Pieces are filled in order, and pairs
// cut where one ends, so that nothing is copied twice and little is wasted.
type rangeReply struct {
	chunks *chunks
	ctx    context.Context
	head   header // written in front, if leads
	leads  bool
	single bool  // at most one pair is expected: the first piece fits it exactly
	turn   *turn // from the second piece on
	done   mem.BufferSlice
	piece  []byte  // the one that is being filled
	pooled *[]byte // where piece comes from; nil: it is the reply's own
	err    error   // why no more pairs are taken
	kvs    int     // pairs so far
	size   int     // and their bytes
	kept   int64   // bytes of what is kept to be sorted
	taken  int64   // from the budget for it
}

// begin starts a reply. ctx ends the wait for room.
func (c *chunks) begin(ctx context.Context, head *header, single bool) *rangeReply {
	r := &rangeReply{chunks: c, ctx: ctx, single: single}
	if head != nil {
		r.head, r.leads = *head, true
	}
	return r
}

// open makes the first piece, for a reply that begins with n bytes.
func (r *rangeReply) open(n int) {
	size := firstPieceBytes
	if r.single && n <= pieceBytes {
		size = n + tailBytes
		if r.leads {
			size += r.head.sizeField()
		}
	}
	r.piece = make([]byte, 0, size)
	if r.leads {
		r.piece = r.head.appendField(r.piece)
	}
}

// add writes one pair; false means that the reply can't be completed, see err.
func (r *rangeReply) add(kv *mvcc.KeyValue) bool {
	n := sizeKV(kv)
	total := sizeMessage(n)
	r.kvs++
	r.size += total
	if r.size > r.chunks.replyMax { // nobody could be sent it, however much memory it is given
		r.err = mvcc.ErrTooLarge
		return false
	}
	if r.piece == nil {
		r.open(total)
	}
	room := cap(r.piece) - len(r.piece)
	if total > room && total <= splitBytes {
		if !r.nextPiece() {
			return false
		}
		room = pieceBytes
	}
	if total <= room {
		r.piece = appendKV(appendLength(r.piece, 2, n), kv)
		return true
	}
	return r.split(kv, n)
}

// split writes a pair over several pieces. n is its size.
func (r *rangeReply) split(kv *mvcc.KeyValue, n int) bool {
	var buf [64]byte
	b := appendLength(buf[:0], 2, n)
	if len(kv.Key) > 0 {
		b = appendLength(b, 1, len(kv.Key))
	}
	if !r.write(b) || !r.write(kv.Key) {
		return false
	}
	b = appendNumber(buf[:0], 2, uint64(kv.CreateRevision))
	b = appendNumber(b, 3, uint64(kv.ModRevision))
	b = appendNumber(b, 4, uint64(kv.Version))
	if len(kv.Value) > 0 {
		b = appendLength(b, 5, len(kv.Value))
	}
	return r.write(b) && r.write(kv.Value) && r.write(appendNumber(buf[:0], 6, uint64(kv.Lease)))
}

func (r *rangeReply) write(b []byte) bool {
	for {
		n := copy(r.piece[len(r.piece):cap(r.piece)], b)
		r.piece = r.piece[:len(r.piece)+n]
		b = b[n:]
		if len(b) == 0 {
			return true
		}
		if !r.nextPiece() {
			return false
		}
	}
}

// keep waits for room in the budget for what is kept to be sorted. It is an mvcc.Room. As much as a reply's first piece is not counted.
func (r *rangeReply) keep(bytes int64) error {
	r.kept += bytes
	for r.kept > firstPieceBytes+r.taken {
		if !r.take() {
			return r.err
		}
		r.taken += pieceBytes
	}
	return nil
}

// take waits for room for a piece.
func (r *rangeReply) take() bool {
	if r.turn == nil {
		r.turn = r.chunks.budget.begin(r.ctx)
	}
	if r.err = r.ctx.Err(); r.err == nil {
		r.err = r.turn.take(r.ctx, pieceBytes)
	}
	return r.err == nil
}

// nextPiece waits for room in the budget.
func (r *rangeReply) nextPiece() bool {
	if !r.take() {
		return false
	}
	r.seal()
	r.pooled = r.chunks.Get(0)
	r.piece = *r.pooled
	return true
}

// seal moves the piece to the finished ones.
func (r *rangeReply) seal() {
	switch {
	case r.pooled != nil:
		*r.pooled = r.piece
		r.done = append(r.done, mem.NewBuffer(r.pooled, r.chunks))
	case len(r.piece) > 0:
		r.done = append(r.done, mem.SliceBuffer(r.piece))
	}
	r.piece, r.pooled = nil, nil
}

// finish ends a complete reply: more, count and, if it was not written in front, the header.
func (r *rangeReply) finish(h *header, more bool, count int64) (*encoded, error) {
	if r.piece == nil {
		r.open(0)
	}
	var buf [tailBytes + headerBytesMax]byte
	b := appendNumber(appendBool(buf[:0], 3, more), 4, uint64(count))
	if !r.leads {
		b = h.appendField(b)
	}
	if !r.write(b) {
		return nil, r.abort(r.err)
	}
	return r.end(), nil
}

// end ends a reply without more and count.
func (r *rangeReply) end() *encoded {
	if len(r.done) == 0 && r.pooled == nil {
		r.endTurn()
		return encodedBytes(r.piece)
	}
	r.seal()
	r.endTurn()
	return &encoded{pieces: r.done}
}

// abort gives everything back and returns err.
func (r *rangeReply) abort(err error) error {
	r.seal()
	r.endTurn()
	r.done.Free()
	return err
}

func (r *rangeReply) endTurn() {
	if r.turn != nil {
		if r.taken > 0 {
			r.chunks.budget.release(r.taken)
			r.taken = 0
		}
		r.turn.end()
		r.turn = nil
	}
}

// wrap puts a finished RangeResponse into a RangeStreamResponse.
func wrap(e *encoded) *encoded {
	pieces := e.take()
	b := protowire.AppendVarint([]byte{1<<3 | 2}, uint64(pieces.Len()))
	e.pieces = append(mem.BufferSlice{mem.SliceBuffer(b)}, pieces...)
	return e
}
