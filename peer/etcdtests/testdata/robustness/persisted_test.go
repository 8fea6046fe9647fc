package robustness

import (
	"bytes"
	"encoding/json"
	"fmt"
	"maps"
	"os/exec"
	"slices"

	"go.etcd.io/etcd/api/v3/etcdserverpb"
	"go.etcd.io/etcd/tests/v3/robustness/model"
)

// logged is a line of `keelson inspect log --commands`.
type logged struct {
	Index, Term uint64
	Committed   bool
	Op          json.RawMessage
}

// persistedRequests are the requests that the logs of stopped members hold, in their order. An entry counts if one of the logs
// knows it to be committed, or most of them hold it: a log need not tell that its last entries are.
//
// Errors: logs that can't be read; two of them with different entries at an index that both know to be committed.
func persistedRequests(dirs []string) ([]model.EtcdRequest, error) {
	type entry struct {
		text      string // of its commands
		ops       []json.RawMessage
		committed bool
		holders   int
	}
	entries := map[uint64][]*entry{}
	for _, dir := range dirs {
		lines, err := readLog(dir)
		if err != nil {
			return nil, err
		}
		for index, list := range lines {
			e := &entry{committed: list[0].Committed}
			e.text = fmt.Sprint(list[0].Term)
			for _, l := range list {
				e.text += "\n" + string(l.Op)
				e.ops = append(e.ops, l.Op)
			}
			at := slices.IndexFunc(entries[index], func(other *entry) bool { return other.text == e.text })
			if at < 0 {
				at = len(entries[index])
				entries[index] = append(entries[index], e)
			}
			known := entries[index][at]
			known.holders++
			known.committed = known.committed || e.committed
		}
	}
	var requests []model.EtcdRequest
	for _, index := range slices.Sorted(maps.Keys(entries)) {
		var chosen *entry
		for _, e := range entries[index] {
			switch {
			case !e.committed && e.holders <= len(dirs)/2:
			case chosen == nil:
				chosen = e
			default:
				return nil, fmt.Errorf("members disagree about entry %d:\n%s\nand\n%s", index, chosen.text, e.text)
			}
		}
		if chosen == nil {
			continue
		}
		for _, op := range chosen.ops {
			r, ok, err := requestOf(op)
			if err != nil {
				return nil, fmt.Errorf("entry %d: %w", index, err)
			}
			if ok {
				requests = append(requests, r)
			}
		}
	}
	return requests, nil
}

// readLog reads what a log holds, by index.
func readLog(dir string) (map[uint64][]logged, error) {
	var stderr bytes.Buffer
	c := exec.Command(program(), "inspect", "log", "--commands", dir)
	c.Stderr = &stderr
	out, err := c.Output()
	if err != nil {
		return nil, fmt.Errorf("%v: %w\n%s", c.Args, err, stderr.Bytes())
	}
	lines := map[uint64][]logged{}
	for decoder := json.NewDecoder(bytes.NewReader(out)); decoder.More(); {
		var l logged
		if err := decoder.Decode(&l); err != nil {
			return nil, err
		}
		lines[l.Index] = append(lines[l.Index], l)
	}
	return lines, nil
}

// op is one of the commands that the traffic leads to; the others of a log do not concern the model.
type op struct {
	Put *struct {
		Key, Value []byte
		Lease      int64
	}
	DeleteRange *struct{ Key, End []byte }
	Range       *struct {
		Key, End []byte
		Limit    int64
		KeysOnly bool
	}
	Txn *struct {
		Compares []struct {
			Key            []byte
			Target, Result int32
			Number         int64
		}
		Success, Failure []op
	}
	Compact     *model.CompactRequest
	LeaseGrant  *struct{ ID int64 }
	LeaseRevoke *struct{ ID int64 }

	// Not of the model.
	MemberPublish, ClusterVersion, MemberAdd, MemberRemove, HashCheck, LeaseCheckpoint, TreePut, Noop json.RawMessage
}

// requestOf is a command in the model's words; ok is false if it has none for it.
func requestOf(text json.RawMessage) (r model.EtcdRequest, ok bool, err error) {
	var o op
	if err := json.Unmarshal(text, &o); err != nil {
		return r, false, err
	}
	switch {
	case o.Put != nil, o.DeleteRange != nil:
		operations, err := operationsOf([]op{o})
		return model.EtcdRequest{Type: model.Txn, Txn: &model.TxnRequest{OperationsOnSuccess: operations}}, true, err
	case o.Txn != nil:
		txn := &model.TxnRequest{}
		for _, c := range o.Txn.Compares {
			condition := model.EtcdCondition{Key: string(c.Key)}
			switch target := etcdserverpb.Compare_CompareTarget(c.Target); {
			case c.Result == int32(etcdserverpb.Compare_EQUAL) && target == etcdserverpb.Compare_MOD:
				condition.ExpectedRevision = c.Number
			case c.Result == int32(etcdserverpb.Compare_EQUAL) && target == etcdserverpb.Compare_VERSION:
				condition.ExpectedVersion = c.Number
			default:
				return r, false, fmt.Errorf("the model does not know %+v", c)
			}
			txn.Conditions = append(txn.Conditions, condition)
		}
		if txn.OperationsOnSuccess, err = operationsOf(o.Txn.Success); err == nil {
			txn.OperationsOnFailure, err = operationsOf(o.Txn.Failure)
		}
		return model.EtcdRequest{Type: model.Txn, Txn: txn}, true, err
	case o.Compact != nil:
		return model.EtcdRequest{Type: model.Compact, Compact: o.Compact}, true, nil
	case o.LeaseGrant != nil:
		return model.EtcdRequest{Type: model.LeaseGrant, LeaseGrant: &model.LeaseGrantRequest{LeaseID: o.LeaseGrant.ID}}, true, nil
	case o.LeaseRevoke != nil:
		return model.EtcdRequest{Type: model.LeaseRevoke, LeaseRevoke: &model.LeaseRevokeRequest{LeaseID: o.LeaseRevoke.ID}}, true, nil
	}
	for _, other := range []json.RawMessage{
		o.MemberPublish, o.ClusterVersion, o.MemberAdd, o.MemberRemove, o.HashCheck, o.LeaseCheckpoint, o.TreePut, o.Noop,
	} {
		if other != nil {
			return r, false, nil
		}
	}
	return r, false, fmt.Errorf("the model does not know %s", text)
}

func operationsOf(ops []op) ([]model.EtcdOperation, error) {
	list := []model.EtcdOperation{}
	for _, o := range ops {
		switch {
		case o.Put != nil:
			list = append(list, model.EtcdOperation{Type: model.PutOperation, Put: model.PutOptions{
				Key: string(o.Put.Key), Value: model.ToValueOrHash(string(o.Put.Value)), LeaseID: o.Put.Lease,
			}})
		case o.DeleteRange != nil && len(o.DeleteRange.End) == 0:
			list = append(list, model.EtcdOperation{Type: model.DeleteOperation, Delete: model.DeleteOptions{Key: string(o.DeleteRange.Key)}})
		case o.Range != nil:
			list = append(list, model.EtcdOperation{Type: model.RangeOperation, Range: model.RangeOptions{
				Start: string(o.Range.Key), End: string(o.Range.End), Limit: o.Range.Limit, KeysOnly: o.Range.KeysOnly,
			}})
		default:
			return nil, fmt.Errorf("the model does not know %+v", o)
		}
	}
	return list, nil
}
