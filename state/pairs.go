package state

import (
	"keelson/command"
	"keelson/state/mvcc"
)

func (r *run) applyPut(o *command.Put, res *Result) error {
	if err := r.checkPut(o); err != nil {
		return err
	}
	prev, err := r.put(o)
	if o.PrevKV {
		res.Prev = prev
	}
	return err
}

// checkPut returns what speaks against a put, apart from a missing key that ignore_value or ignore_lease refer to.
func (r *run) checkPut(o *command.Put) error {
	if len(o.Key) == 0 {
		return ErrEmptyKey
	}
	if o.Lease == 0 || o.IgnoreLease {
		return nil
	}
	ok, err := r.leases.Exists(o.Lease)
	if err == nil && !ok {
		err = ErrLeaseNotFound
	}
	return err
}

// put writes a pair and moves its key to its lease. Refusal: mvcc.ErrKeyNotFound.
func (r *run) put(o *command.Put) (prev *mvcc.KeyValue, err error) {
	prev, err = r.kv.Put(o.Key, o.Value, o.Lease, o.IgnoreValue, o.IgnoreLease)
	if err != nil {
		return nil, err
	}
	r.out.Counts.Puts++
	r.out.Counts.PutBytes += len(o.Key) + len(o.Value)
	var from int64
	if prev != nil {
		from = prev.Lease
	}
	if !o.IgnoreLease {
		r.leases.Move(o.Key, from, o.Lease)
	}
	return prev, nil
}

func (r *run) applyDeleteRange(o *command.DeleteRange, res *Result) (err error) {
	if len(o.Key) == 0 {
		return ErrEmptyKey
	}
	t := txn{heldMax: r.m.replyMax}
	res.Deleted, res.Prevs, err = r.deleteRange(o, t.take)
	res.Cut = t.cut
	return err
}

// deleteRange removes pairs and takes their keys off their leases. It returns the pairs only if the op asks for them, and those
// that take agrees to.
func (r *run) deleteRange(o *command.DeleteRange, take func(*mvcc.KeyValue) bool) (n int64, prevs []mvcc.KeyValue, err error) {
	n, err = r.kv.DeleteRange(o.Key, o.End, o.PrevKV, func(prev *mvcc.KeyValue) {
		r.leases.Move(prev.Key, prev.Lease, 0)
		if o.PrevKV && take(prev) {
			prevs = append(prevs, *prev)
		}
	})
	r.out.Counts.Deletes++
	return n, prevs, err
}
