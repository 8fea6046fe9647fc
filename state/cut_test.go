package state

import (
	"bytes"
	"testing"

	"keelson/command"
	"keelson/state/mvcc"
)

// A result that would fit into no reply is cut, and the command is carried out: more than memory holds must not be
// gathered on every member.
func TestResultsThatFitIntoNoReply(t *testing.T) {
	value := bytes.Repeat([]byte("v"), 100)
	all := command.Range{Key: []byte("k"), End: []byte("l")}
	gone := &command.DeleteRange{Key: []byte("k"), End: []byte("l"), PrevKV: true}
	txn := func(ops ...command.Op) *command.Txn { return &command.Txn{Success: ops} }
	for _, c := range []struct {
		name  string
		limit int
		op    command.Op
		cut   bool
		pairs int // in the result
		left  int // keys afterwards
	}{
		{"a delete that fits", 1020, gone, false, 10, 0},
		{"a delete", 1019, gone, true, 9, 0},
		{"a delete without the pairs", 1, &command.DeleteRange{Key: []byte("k"), End: []byte("l")}, false, 0, 0},
		{"a range that fits", 1020, txn(&all), false, 10, 10},
		{"a range", 1019, txn(&all, &command.Put{Key: []byte("kz"), Value: value}), true, 9, 11},
		{"a range twice", 2039, txn(&all, txn(&all)), true, 19, 10},
		{"a delete within", 500, txn(gone, &command.Put{Key: []byte("kz"), Value: value}), true, 4, 1},
	} {
		x := newMember(t)
		for i := range 10 {
			x.do(&command.Put{Key: []byte{'k', byte('0' + i)}, Value: value})
		}
		x.m.replyMax = c.limit
		res := x.do(c.op)[0]
		pairs := len(res.Prevs)
		var count func(*TxnResult)
		count = func(r *TxnResult) {
			if r == nil {
				return
			}
			for _, o := range r.Responses {
				pairs += len(o.KVs)
				count(o.Txn)
			}
		}
		count(res.Txn)
		if res.Refusal != nil || res.Cut != c.cut || pairs != c.pairs {
			t.Errorf("%s: %v, cut %v with %d pairs, want %v with %d", c.name, res.Refusal, res.Cut, pairs, c.cut, c.pairs)
		}
		v := x.m.View()
		sum, err := v.Range(mvcc.Query{Key: []byte("k"), End: []byte("l"), CountOnly: true}, nil)
		v.Close()
		if err != nil || sum.Count != int64(c.left) {
			t.Errorf("%s: %d keys are left, want %d (%v)", c.name, sum.Count, c.left, err)
		}
	}
}
