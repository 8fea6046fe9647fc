package state

import (
	"errors"
	"fmt"

	"keelson/command"
	"keelson/state/mvcc"
)

// reader is what a transaction reads from: a view, or the batch with its own writes.
type reader interface {
	Get(key []byte) (*mvcc.KeyValue, error)
	Range(q mvcc.Query, yield func(*mvcc.KeyValue) bool) (mvcc.Summary, error)
	Revision() mvcc.Revision
	Compacted() mvcc.Revision
}

// txn is one transaction under way, in three steps: compare takes the path through it, check looks for what speaks
// against that path, execute goes it. The first two only read, and the last one can't be refused any more.
type txn struct {
	from reader
	to   *run // nil: the transaction only reads

	// held is how many bytes of pairs the result has. Beyond heldMax there are no more (Result.Cut).
	held, heldMax int
	cut           bool

	// path has one element for each transaction on the path, in the order in which one meets them: whether its
	// compares hold. check and execute follow it by step.
	path []bool
	step int
}

// replyMax is how many bytes of pairs a result has. What is beyond could not be told to anybody, and would be in the memory of
// every member. All members must have the same: results are in the hash.
const replyMax = mvcc.AnswerBytesMax

func (r *run) applyTxn(o *command.Txn, res *Result) (err error) {
	r.out.Counts.Txns++
	t := &txn{from: r.kv, to: r, heldMax: r.m.replyMax}
	res.Txn, err = t.run(o)
	res.Cut = t.cut
	return err
}

func (t *txn) run(o *command.Txn) (*TxnResult, error) {
	if err := t.compare(o); err != nil {
		return nil, err
	}
	if err := t.check(o); err != nil {
		return nil, err
	}
	t.step = 0
	res, err := t.execute(o)
	if isRefusal(err) && t.to != nil {
		panic(fmt.Sprintf("state: transaction refused after its checks: %v", err))
	}
	return res, err
}

// compare evaluates the compares of a transaction, and of those within on the path that they choose. All of them see
// the state before the transaction.
func (t *txn) compare(o *command.Txn) error {
	succeeded := true
	for i := range o.Compares {
		ok, err := holds(t.from, &o.Compares[i])
		if err != nil {
			return err
		}
		if !ok {
			succeeded = false
			break
		}
	}
	t.path = append(t.path, succeeded)
	for _, op := range branch(o, succeeded) {
		if inner, ok := op.(*command.Txn); ok {
			if err := t.compare(inner); err != nil {
				return err
			}
		}
	}
	return nil
}

func branch(o *command.Txn, succeeded bool) []command.Op {
	if succeeded {
		return o.Success
	}
	return o.Failure
}

// next is the next turn of the path.
func (t *txn) next() bool {
	t.step++
	return t.path[t.step-1]
}

// check looks at the ops on the path, in order, and returns the first refusal. It sees the state before the transaction.
func (t *txn) check(o *command.Txn) error {
	for _, op := range branch(o, t.next()) {
		var err error
		switch o := op.(type) {
		case *command.Range:
			err = t.checkRange(o)
		case *command.Put:
			err = t.checkPut(o)
		case *command.DeleteRange:
			if len(o.Key) == 0 {
				err = ErrEmptyKey
			}
		case *command.Txn:
			err = t.check(o)
		}
		if err != nil {
			return err
		}
	}
	return nil
}

// checkRange refuses revisions that can't be read. Only 0 is the newest here: a negative number is a revision, below
// every floor but the one of a store that was never compacted. (So it is in etcd.)
func (t *txn) checkRange(o *command.Range) error {
	switch {
	case len(o.Key) == 0:
		return ErrEmptyKey
	case o.Revision > t.from.Revision():
		return mvcc.ErrFuture
	case o.Revision != 0 && o.Revision < t.from.Compacted():
		return mvcc.ErrCompacted
	}
	return nil
}

func (t *txn) checkPut(o *command.Put) error {
	if err := t.to.checkPut(o); err != nil {
		return err
	}
	if !o.IgnoreValue && !o.IgnoreLease {
		return nil
	}
	kv, err := t.from.Get(o.Key)
	if err == nil && kv == nil {
		err = mvcc.ErrKeyNotFound
	}
	return err
}

// execute carries out the ops on the path. Later ones see what earlier ones have written.
func (t *txn) execute(o *command.Txn) (*TxnResult, error) {
	res := &TxnResult{Succeeded: t.next()}
	ops := branch(o, res.Succeeded)
	res.Responses = make([]OpResult, len(ops))
	for i, op := range ops {
		if err := t.op(op, &res.Responses[i]); err != nil {
			return nil, err
		}
	}
	res.Revision = t.from.Revision()
	return res, nil
}

func (t *txn) op(op command.Op, res *OpResult) (err error) {
	switch o := op.(type) {
	case *command.Range:
		res.Kind = OpRange
		err = t.readRange(o, res)
	case *command.Put:
		res.Kind = OpPut
		err = t.put(o, res)
	case *command.DeleteRange:
		res.Kind = OpDeleteRange
		res.Count, res.KVs, err = t.to.deleteRange(o, t.take)
	case *command.Txn:
		res.Kind = OpTxn
		if t.to != nil {
			t.to.out.Counts.Txns++
		}
		res.Txn, err = t.execute(o)
	default:
		panic(fmt.Sprintf("state: op %T in a transaction", op))
	}
	res.Revision = t.from.Revision()
	return err
}

func (t *txn) readRange(o *command.Range, res *OpResult) error {
	if t.to != nil {
		t.to.out.Counts.Ranges++
	}
	s, err := t.from.Range(*o, func(kv *mvcc.KeyValue) bool {
		if !t.take(kv) {
			return false
		}
		res.KVs = append(res.KVs, clone(kv))
		return true
	})
	if errors.Is(err, mvcc.ErrTooLarge) {
		t.cut, err = true, nil
	}
	res.Count, res.More = s.Count, s.More
	return err
}

// take counts a pair of the result. False: it does not fit any more, nor does any later one.
func (t *txn) take(kv *mvcc.KeyValue) bool {
	t.held += len(kv.Key) + len(kv.Value)
	t.cut = t.cut || t.held > t.heldMax
	return !t.cut
}

// put carries out a put. The key whose value or lease it is to keep was there before the transaction, but an earlier op
// may have deleted it: then there is nothing to keep.
func (t *txn) put(o *command.Put, res *OpResult) error {
	prev, err := t.to.put(o)
	if err == mvcc.ErrKeyNotFound {
		plain := *o
		if o.IgnoreValue {
			plain.Value = nil
		}
		if o.IgnoreLease {
			plain.Lease = 0
		}
		plain.IgnoreValue, plain.IgnoreLease = false, false
		prev, err = t.to.put(&plain)
	}
	if o.PrevKV {
		res.Prev = prev
	}
	return err
}

// clone copies a pair that is valid only for a moment, its bytes into one allocation.
func clone(kv *mvcc.KeyValue) mvcc.KeyValue {
	c := *kv
	b := make([]byte, len(kv.Key)+len(kv.Value))
	n := copy(b, kv.Key)
	copy(b[n:], kv.Value)
	c.Key, c.Value = b[:n:n], b[n:]
	return c
}
