package v3

import (
	"context"

	pb "go.etcd.io/etcd/api/v3/etcdserverpb"
	"go.etcd.io/etcd/api/v3/v3rpc/rpctypes"

	"keelson/command"
	"keelson/command/wire"
	"keelson/rpc"
	"keelson/state"
	"keelson/state/auth"
)

// kv is the service KV.
type kv struct{ s *Services }

// Range answers a read.
func (k *kv) Range(ctx context.Context, r *pb.RangeRequest) (any, error) {
	if err := checkRange(r); err != nil {
		return nil, err
	}
	if d := rpc.Defer(ctx); d != nil {
		return k.readLater(ctx, d, r)
	}
	return some(k.readNow(ctx, r))
}

// readNow answers a Range on a goroutine that may wait.
func (k *kv) readNow(ctx context.Context, r *pb.RangeRequest) (*encoded, error) {
	v, err := k.s.view(ctx, r.Serializable)
	if err != nil {
		return nil, err
	}
	return k.read(ctx, v, r)
}

// some keeps a nil *encoded from becoming a reply that is not nil.
func some(e *encoded, err error) (any, error) {
	if err != nil {
		return nil, err
	}
	return e, nil
}

// read answers from a view and closes it.
func (k *kv) read(ctx context.Context, v *state.View, r *pb.RangeRequest) (*encoded, error) {
	defer v.Close()
	h := k.s.header(v.Revision())
	reply := k.s.reads.begin(ctx, &h, len(r.RangeEnd) == 0)
	sum, err := v.RangeIn(reply.keep, *wire.Range(r), reply.add)
	if reply.err != nil {
		err = reply.err
	}
	if err != nil {
		return nil, reply.abort(wireError(err))
	}
	e, err := reply.finish(&h, sum.More, sum.Count)
	return e, wireError(err)
}

// Put writes a pair.
func (k *kv) Put(ctx context.Context, r *pb.PutRequest) (any, error) {
	if !k.s.admitCost(ctx, putCost(r)) {
		return nil, rpctypes.ErrGRPCNoSpace
	}
	if err := checkPut(r); err != nil {
		return nil, err
	}
	return k.s.change(ctx, wire.Put(r), putCost(r), func(h header, res *state.Result) *encoded { return putReply(&h, res.Prev) })
}

// DeleteRange removes pairs.
func (k *kv) DeleteRange(ctx context.Context, r *pb.DeleteRangeRequest) (any, error) {
	if err := checkDeleteRange(r); err != nil {
		return nil, err
	}
	return k.s.change(ctx, wire.DeleteRange(r), 0, func(h header, res *state.Result) *encoded {
		return deleteReply(&h, res.Deleted, res.Prevs)
	})
}

// Txn carries out a transaction. One that only reads does not enter the log.
func (k *kv) Txn(ctx context.Context, r *pb.TxnRequest) (any, error) {
	if !k.s.admitCost(ctx, txnCost(r)) {
		return nil, rpctypes.ErrGRPCNoSpace
	}
	if err := checkTxn(r, k.s.o.MaxTxnOps); err != nil {
		return nil, err
	}
	if readOnly(r) {
		return k.answerRead(ctx, r)
	}
	return k.s.change(ctx, wire.Txn(r), txnCost(r), func(h header, res *state.Result) *encoded { return txnReply(&h, res.Txn) })
}

// answerRead is readTxn on a goroutine that may wait.
func (k *kv) answerRead(ctx context.Context, r *pb.TxnRequest) (any, error) {
	read := func() (any, error) { return some(k.readTxn(ctx, r)) }
	if d := rpc.Defer(ctx); d != nil {
		d.Go(func() { d.CompleteAndWrite(read()) })
		return d, nil
	}
	return read()
}

func (k *kv) readTxn(ctx context.Context, r *pb.TxnRequest) (*encoded, error) {
	v, err := k.s.view(ctx, serializable(r))
	if err != nil {
		return nil, err
	}
	defer v.Close()
	res, err := v.Txn(wire.Txn(r))
	if err != nil {
		return nil, wireError(err)
	}
	h := k.s.header(res.Revision)
	return txnReply(&h, res), nil
}

// Compact makes old revisions unreadable. A physical compaction is answered when they are gone from disk, also by the
// compaction that went before, if this one is refused because of it.
func (k *kv) Compact(ctx context.Context, r *pb.CompactionRequest) (any, error) {
	res, err := k.s.propose(ctx, &command.Compact{Revision: r.Revision})
	if r.Physical && (err == nil || err == rpctypes.ErrGRPCCompacted) {
		if waitErr := k.s.o.Member.WaitSwept(ctx); err == nil {
			err = wireError(waitErr)
		}
	}
	if err != nil {
		return nil, err
	}
	h := k.s.header(res.Revision)
	return headerReply(&h), nil
}

// propose puts op into the log and waits for its result, on behalf of the caller in ctx. The error has its status.
func (s *Services) propose(ctx context.Context, op command.Op) (state.Result, error) {
	if sizeCommand(op) > s.o.MaxRequestBytes {
		return state.Result{}, rpctypes.ErrGRPCRequestTooLarge
	}
	for {
		res, err := s.o.Member.Propose(ctx, op)
		if err == nil {
			err = ended(&res)
		}
		if err == auth.ErrOldRevision {
			if again, ok := s.readmit(ctx); ok {
				ctx = again
				continue
			}
		}
		return res, wireError(err)
	}
}
