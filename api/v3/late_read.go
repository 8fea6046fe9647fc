package v3

import (
	"context"

	pb "go.etcd.io/etcd/api/v3/etcdserverpb"

	"keelson/command/wire"
	"keelson/rpc"
	"keelson/state"
	"keelson/state/mvcc"
)

// lateRead is a Range whose answer is deferred: no goroutine waits while a quorum is asked, and a pair that is in memory is
// answered by whoever comes by.
type lateRead struct {
	k   *kv
	ctx context.Context
	d   *rpc.Deferred
	r   *pb.RangeRequest
}

// lateBytesMax is the largest value that is answered without a goroutine of its own: for it no read has to wait for room.
const lateBytesMax = 32 << 10

// readLater answers a Range on the goroutine that reads the connection, which must not wait, or sees to it that it is answered.
func (k *kv) readLater(ctx context.Context, d *rpc.Deferred, r *pb.RangeRequest) (any, error) {
	l := &lateRead{k: k, ctx: ctx, d: d, r: r}
	if len(r.RangeEnd) > 0 {
		d.Go(l.whole)
		return d, nil
	}
	now, err := true, error(nil)
	if !r.Serializable {
		now, err = k.s.o.Member.ReadLater(l)
	}
	switch {
	case err != nil:
		return nil, wireError(err)
	case !now:
		d.OnEnd(wireError)
		return d, nil
	}
	e, found, err := l.recall(k.s.o.Member.ReadLocal())
	if found != answered {
		d.Go(l.local)
		return d, nil
	}
	return some(e, err)
}

// Soon implements node.Runner.
func (l *lateRead) Soon(f func()) { l.d.Soon(f) }

// Stay implements node.Runner.
func (l *lateRead) Stay(callers int, f func(func())) { l.d.Stay(callers, f) }

// Go implements node.Runner.
func (l *lateRead) Go(f func()) { l.d.Go(f) }

// Ready implements node.LateReader.
func (l *lateRead) Ready(err error) {
	if err != nil {
		l.d.Complete(nil, wireError(err))
		return
	}
	switch e, found, err := l.recall(l.k.s.o.Member.ReadLocal()); found {
	case answered:
		l.complete(e, err)
	case notInMemory:
		l.stored()
	case notConfirmed: // which may take a quorum: others share this goroutine
		l.d.Go(l.local)
	}
}

// recalled is what came of looking for a pair in memory.
type recalled uint8

const (
	answered recalled = iota
	notInMemory
	notConfirmed // users and roles are others by now than the ones that the call was let in by
)

// recall answers from memory, if it can, and closes the view. An error is an answer.
func (l *lateRead) recall(v *state.View) (e *encoded, found recalled, err error) {
	defer v.Close()
	if !isConfirmed(l.ctx, v) {
		return nil, notConfirmed, nil
	}
	h := l.k.s.header(v.Revision())
	reply := l.k.s.reads.begin(l.ctx, &h, true)
	large := false
	sum, known, err := v.Recall(*wire.Range(l.r), func(kv *mvcc.KeyValue) bool {
		if large = len(kv.Key)+len(kv.Value) > lateBytesMax; large {
			return false
		}
		return reply.add(kv)
	})
	if !known || large {
		return nil, notInMemory, nil
	}
	if err != nil {
		return nil, answered, wireError(err)
	}
	e, err = reply.finish(&h, sum.More, sum.Count)
	return e, answered, wireError(err)
}

// stored answers with a look into the store, if it is confirmed still that the caller may have it.
func (l *lateRead) stored() {
	v := l.k.s.o.Member.ReadLocal()
	if !isConfirmed(l.ctx, v) {
		v.Close()
		l.d.Go(l.local)
		return
	}
	l.complete(l.k.read(l.ctx, v, l.r))
}

// whole answers with all that it takes, on a goroutine that may wait.
func (l *lateRead) whole() {
	l.complete(l.k.readNow(l.ctx, l.r))
}

// local answers from what the member has, on a goroutine that may wait.
func (l *lateRead) local() {
	v := l.k.s.o.Member.ReadLocal()
	if err := l.k.s.confirm(l.ctx, v); err != nil {
		v.Close()
		l.d.Complete(nil, wireError(err))
		return
	}
	l.complete(l.k.read(l.ctx, v, l.r))
}

func (l *lateRead) complete(e *encoded, err error) {
	if err != nil {
		l.d.CompleteAndWrite(nil, err)
		return
	}
	if !l.d.CompleteAndWrite(e, nil) {
		e.free()
	}
}
