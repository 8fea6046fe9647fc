package v3

import (
	"context"
	"errors"
	"fmt"

	pb "go.etcd.io/etcd/api/v3/etcdserverpb"

	"keelson/state/lease"
)

// sessionTTLSeconds is what a lease lives that is granted because the client brought none.
const sessionTTLSeconds = 60

// contest is what locks and elections have in common: keys under one prefix, each bound to a lease. Whose key was created
// first has won; the others wait in the order in which theirs were created.
type contest struct {
	inner
	name []byte
}

// prefix is what the keys of the contest begin with.
func (c contest) prefix() []byte { return append(c.name[:len(c.name):len(c.name)], '/') }

// prefixEnd is the end of the range of all keys that begin with a prefix which ends in '/'.
func prefixEnd(prefix []byte) []byte {
	end := append([]byte(nil), prefix...)
	end[len(end)-1]++
	return end
}

// first asks for the key that was created first.
func (c contest) first() *pb.RangeRequest {
	prefix := c.prefix()
	return &pb.RangeRequest{
		Key: prefix, RangeEnd: prefixEnd(prefix),
		SortTarget: pb.RangeRequest_CREATE, SortOrder: pb.RangeRequest_ASCEND, Limit: 1,
	}
}

// candidate is one key of a contest.
type candidate struct {
	contest
	key   []byte
	lease int64
	// revision is the one at which the key was created. It rises with each that wins.
	revision int64
	// entered: the key was created by this call. Otherwise the same lease had one already.
	entered bool
	// won: nobody's key was created before.
	won bool
	// value of the key, and the header of the reply that told of it.
	value  []byte
	header *pb.ResponseHeader
}

// enter creates the key of a lease, or finds it. A change that is under way goes on when the client does not wait for it
// any more, so that it is known what there is to take back.
func (c contest) enter(ctx context.Context, leaseID int64, value []byte) (*candidate, error) {
	ctx = context.WithoutCancel(ctx)
	k := &candidate{contest: c, lease: leaseID, key: fmt.Appendf(c.prefix(), "%x", leaseID)}
	put := &pb.PutRequest{Key: k.key, Value: value, Lease: leaseID}
	reply, err := c.txn(ctx, &pb.TxnRequest{
		Compare: []*pb.Compare{createdAt(k.key, 0)},
		Success: []*pb.RequestOp{opPut(put), opRange(c.first())},
		Failure: []*pb.RequestOp{opRange(&pb.RangeRequest{Key: k.key}), opRange(c.first())},
	})
	if err != nil {
		return nil, err
	}
	k.header, k.revision, k.entered, k.value = reply.Header, reply.Header.Revision, reply.Succeeded, value
	if !reply.Succeeded {
		own := reply.Responses[0].GetResponseRange().Kvs[0]
		k.revision, k.value = own.CreateRevision, own.Value
	}
	k.won = reply.Responses[1].GetResponseRange().Kvs[0].CreateRevision == k.revision
	return k, nil
}

// errGone is what wait ends with when the key has gone, and its lease with it.
var errGone = errors.New("v3: the key of a contest has gone")

// await returns when nobody is in front of k any more, and its lease lives. Otherwise it takes k out of the contest.
func (k *candidate) await(ctx context.Context) error {
	waited := !k.won
	for !k.won {
		if err := k.awaitNext(ctx); err != nil {
			k.leave(ctx)
			return err
		}
	}
	err := k.confirm(ctx, waited)
	if err != nil && (waited || k.entered) {
		k.leave(ctx)
	}
	return err
}

// awaitNext waits until the key right before k goes, or finds that there is none. What this member has is enough for that:
// it has k. Whoever gives up in front of k wakes nobody but the one behind.
func (k *candidate) awaitNext(ctx context.Context) error {
	prefix := k.prefix()
	reply, err := k.get(ctx, &pb.RangeRequest{
		Key: prefix, RangeEnd: prefixEnd(prefix), MaxCreateRevision: k.revision - 1, Serializable: true, KeysOnly: true,
		SortTarget: pb.RangeRequest_CREATE, SortOrder: pb.RangeRequest_DESCEND, Limit: 1,
	})
	if err != nil {
		return err
	}
	if len(reply.Kvs) == 0 {
		k.won = true
		return nil
	}
	from := reply.Header.Revision + 1
	noPut := []pb.WatchCreateRequest_FilterType{pb.WatchCreateRequest_NOPUT}
	w := k.watch(ctx, &pb.WatchCreateRequest{Key: reply.Kvs[0].Key, StartRevision: from, Filters: noPut},
		&pb.WatchCreateRequest{Key: k.key, StartRevision: from, Filters: noPut})
	defer w.close()
	for {
		r, err := w.next()
		switch {
		case err != nil:
			return err
		case r.Canceled && r.CompactRevision == 0:
			return errors.New(r.CancelReason)
		case len(r.Events) > 0 && r.WatchId == 1:
			return errGone
		case r.Canceled, len(r.Events) > 0:
			return nil // look again
		}
	}
}

// confirm makes sure that k has won and has a lease that lives, as the whole cluster sees it. The key of a lease that has run
// out may still be there, but not for long. waited: time has passed since k was seen.
func (k *candidate) confirm(ctx context.Context, waited bool) error {
	if waited {
		reply, err := k.get(ctx, &pb.RangeRequest{Key: k.key})
		if err != nil {
			return err
		}
		if len(reply.Kvs) == 0 || reply.Kvs[0].CreateRevision != k.revision {
			return errGone
		}
		k.header = reply.Header
	}
	t, ok, err := k.s.o.Lessor.LeaseTimes(ctx, lease.ID(k.lease))
	if err == nil && (!ok || t.RemainingSeconds <= 0) {
		err = errGone
	}
	return err
}

// leave takes k out of the contest, also when the client does not wait any more. If that fails, the end of the lease does it.
func (k *candidate) leave(ctx context.Context) {
	_, _ = k.remove(context.WithoutCancel(ctx), k.key, k.revision)
}

// remove deletes a key if it is the one that was created at revision.
func (i inner) remove(ctx context.Context, key []byte, revision int64) (*pb.TxnResponse, error) {
	return i.txn(ctx, &pb.TxnRequest{
		Compare: []*pb.Compare{createdAt(key, revision)},
		Success: []*pb.RequestOp{deletion(key)},
	})
}

func deletion(key []byte) *pb.RequestOp {
	return &pb.RequestOp{Request: &pb.RequestOp_RequestDeleteRange{RequestDeleteRange: &pb.DeleteRangeRequest{Key: key}}}
}

// session grants a lease to a client that brought none. end gives it back if the call has failed.
func (c contest) session(ctx context.Context, id int64) (leaseID int64, end func(error), err error) {
	if id != 0 {
		return id, func(error) {}, nil
	}
	ctx = context.WithoutCancel(ctx)
	id, err = c.grant(ctx, sessionTTLSeconds)
	return id, func(err error) {
		if err != nil {
			_ = c.revoke(ctx, id) // else it runs out
		}
	}, err
}

func createdAt(key []byte, revision int64) *pb.Compare {
	return &pb.Compare{
		Key: key, Target: pb.Compare_CREATE, Result: pb.Compare_EQUAL,
		TargetUnion: &pb.Compare_CreateRevision{CreateRevision: revision},
	}
}

func opPut(r *pb.PutRequest) *pb.RequestOp {
	return &pb.RequestOp{Request: &pb.RequestOp_RequestPut{RequestPut: r}}
}

func opRange(r *pb.RangeRequest) *pb.RequestOp {
	return &pb.RequestOp{Request: &pb.RequestOp_RequestRange{RequestRange: r}}
}
