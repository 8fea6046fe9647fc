package sim

import (
	"bytes"
	"cmp"
	"math"
	"slices"

	"keelson/command"
	"keelson/state"
	"keelson/state/mvcc"
)

// txn carries out a transaction: the path first, then the checks along it, then the ops.
func (m *model) txn(o *command.Txn, r *state.Result) error {
	taken := map[*command.Txn]bool{}
	m.choose(o, taken)
	if err := m.checkPath(o, taken); err != nil {
		return err
	}
	r.Txn = m.walk(o, taken)
	return nil
}

func (m *model) choose(o *command.Txn, taken map[*command.Txn]bool) {
	taken[o] = true
	for i := range o.Compares {
		taken[o] = taken[o] && m.holds(&o.Compares[i])
	}
	for _, op := range chosen(o, taken) {
		if inner, ok := op.(*command.Txn); ok {
			m.choose(inner, taken)
		}
	}
}

func chosen(o *command.Txn, taken map[*command.Txn]bool) []command.Op {
	if taken[o] {
		return o.Success
	}
	return o.Failure
}

func (m *model) holds(c *command.Compare) bool {
	kvs := m.selected(c.Key, c.End, m.revision)
	if len(kvs) == 0 {
		return c.Target != 3 && compares(&mvcc.KeyValue{}, c)
	}
	for i := range kvs {
		if !compares(&kvs[i], c) {
			return false
		}
	}
	return true
}

func compares(kv *mvcc.KeyValue, c *command.Compare) bool {
	order := []int{
		cmp.Compare(kv.Version, c.Number),
		cmp.Compare(kv.CreateRevision, c.Number),
		cmp.Compare(kv.ModRevision, c.Number),
		bytes.Compare(kv.Value, c.Value),
		cmp.Compare(kv.Lease, c.Number),
	}[c.Target]
	return []bool{order == 0, order > 0, order < 0, order != 0}[c.Result]
}

func (m *model) checkPath(o *command.Txn, taken map[*command.Txn]bool) (err error) {
	for _, op := range chosen(o, taken) {
		switch op := op.(type) {
		case *command.Range:
			switch {
			case op.Revision > m.revision:
				err = mvcc.ErrFuture
			case op.Revision != 0 && op.Revision < m.floor:
				err = mvcc.ErrCompacted
			}
		case *command.Put:
			err = m.checkPut(op)
		case *command.Txn:
			err = m.checkPath(op, taken)
		}
		if err != nil {
			return err
		}
	}
	return nil
}

func (m *model) walk(o *command.Txn, taken map[*command.Txn]bool) *state.TxnResult {
	res := &state.TxnResult{Succeeded: taken[o]}
	for _, op := range chosen(o, taken) {
		var r state.OpResult
		switch op := op.(type) {
		case *command.Range:
			r.Kind = state.OpRange
			r.KVs, r.Count, r.More = m.query(op, m.current())
		case *command.Put:
			r.Kind = state.OpPut
			if prev := m.carryOut(op); op.PrevKV {
				r.Prev = prev
			}
		case *command.DeleteRange:
			r.Kind = state.OpDeleteRange
			r.Count, r.KVs = m.deleteRange(op)
		case *command.Txn:
			r.Kind = state.OpTxn
			r.Txn = m.walk(op, taken)
		}
		r.Revision = m.current()
		res.Responses = append(res.Responses, r)
	}
	res.Revision = m.current()
	return res
}

// Numbers of the v3 API's SortTarget.
const (
	sortKey = iota
	sortVersion
	sortCreate
	sortMod
	sortValue
)

// query answers a range as of now, the newest revision that its reader knows.
func (m *model) query(q *command.Range, now mvcc.Revision) (kvs []mvcc.KeyValue, count int64, more bool) {
	rev := q.Revision
	if rev <= 0 {
		rev = now
	}
	kvs = m.selected(q.Key, q.End, rev)
	count = int64(len(kvs))
	if q.CountOnly {
		return nil, count, false
	}
	unsorted := q.SortOrder == 0 // even if there is a target: then the limit comes first
	if unsorted && !filters(q) && q.Limit > 0 && q.Limit < math.MaxInt64 && count > q.Limit+1 {
		kvs = kvs[:q.Limit+1]
	}
	kvs = slices.DeleteFunc(kvs, func(kv mvcc.KeyValue) bool {
		return q.ModRevisionMax != 0 && kv.ModRevision > q.ModRevisionMax ||
			q.ModRevisionMin != 0 && kv.ModRevision < q.ModRevisionMin ||
			q.CreateRevisionMax != 0 && kv.CreateRevision > q.CreateRevisionMax ||
			q.CreateRevisionMin != 0 && kv.CreateRevision < q.CreateRevisionMin
	})
	slices.SortStableFunc(kvs, func(a, b mvcc.KeyValue) int {
		order := 0
		switch q.SortTarget {
		case sortKey:
			order = bytes.Compare(a.Key, b.Key)
		case sortVersion:
			order = cmp.Compare(a.Version, b.Version)
		case sortCreate:
			order = cmp.Compare(a.CreateRevision, b.CreateRevision)
		case sortMod:
			order = cmp.Compare(a.ModRevision, b.ModRevision)
		case sortValue:
			order = bytes.Compare(a.Value, b.Value)
		}
		if q.SortOrder == 2 {
			return -order
		}
		return order
	})
	if q.Limit > 0 && int64(len(kvs)) > q.Limit {
		kvs, more = kvs[:q.Limit], true
	}
	if q.KeysOnly {
		for i := range kvs {
			kvs[i].Value = nil
		}
	}
	return kvs, count, more
}

func filters(q *command.Range) bool {
	return q.ModRevisionMin != 0 || q.ModRevisionMax != 0 || q.CreateRevisionMin != 0 || q.CreateRevisionMax != 0
}
