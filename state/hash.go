package state

import (
	"encoding/binary"

	"github.com/cespare/xxhash/v2"

	"keelson/state/members"
	"keelson/state/mvcc"
	"keelson/state/tree"
)

// fold folds an entry into the state hash:
//
//	hash' = xxhash64(hash | index | term | xxhash64(data) | conf change | results | changes | changes of the tree | membership |
//	                 users)
//
// The changes, and after one of it the whole membership, are folded besides what was asked and answered, so that a member
// whose stored state differs is found out by the next thing that depends on it. Raft's configuration counts by what came of
// it, since raft's library may write it in more than one way. All members have to do this the same, so it changes only
// with the cluster version.
//
// changed is the membership, nil if the entry left it as it was; users is what the entry wrote about users and roles.
func (r *run) fold(e *Entry, results []Result, events []mvcc.Event, treeEvents []*tree.Event, changed *members.Set, users []byte) {
	b := r.m.buf[:0]
	b = append64(b, r.hash)
	b = append64(b, e.Index)
	b = append64(b, e.Term)
	b = append64(b, xxhash.Sum64(e.Data))
	b = append(b, bit(e.ConfChange))
	b = append64(b, uint64(len(results)))
	for i := range results {
		b = appendResult(b, &results[i])
	}
	for i := range events {
		b = appendEvent(b, &events[i])
	}
	for _, e := range treeEvents {
		b = appendTreeEvent(b, e)
	}
	if changed != nil {
		b = changed.AppendTo(b)
	}
	b = append(b, users...)
	r.hash = xxhash.Sum64(b)
	r.m.buf = keepBelow(b, bufMax)
	r.m.hashes.put(e.Index, r.hash)
}

// bufMax bounds the scratch buffer that is kept from one entry to the next.
const bufMax = 1 << 20

func keepBelow(b []byte, size int) []byte {
	if cap(b) > size {
		return nil
	}
	return b
}

func append64(b []byte, v uint64) []byte { return binary.LittleEndian.AppendUint64(b, v) }

func appendResult(b []byte, res *Result) []byte {
	b = append(b, refusalNumber(res.Refusal))
	b = append64(b, uint64(res.Revision))
	b = append64(b, uint64(res.Deleted))
	b = append64(b, uint64(res.Lease))
	b = append64(b, uint64(res.TTLSeconds))
	b = appendPair(b, res.Prev)
	b = appendPairs(b, res.Prevs)
	if res.Alarm != nil {
		b = append64(b, res.Alarm.Member)
		b = append64(b, uint64(res.Alarm.Type))
	}
	if res.TreeRefusal != nil {
		b = append64(b, uint64(res.TreeRefusal.Code))
		b = append64(b, res.TreeRefusal.Index)
		b = append64(b, xxhash.Sum64String(res.TreeRefusal.Cause))
	}
	if u := res.TreeUser; u != nil {
		b = append(append(b, bit(res.Made)), u.Hash...)
		b = appendTexts(b, u.Roles)
	}
	if r := res.TreeRole; r != nil {
		b = appendTexts(appendTexts(b, r.Read), r.Write)
	}
	return appendTxnResult(b, res.Txn)
}

func appendTexts(b []byte, list []string) []byte {
	b = append64(b, uint64(len(list)))
	for _, s := range list {
		b = append64(b, xxhash.Sum64String(s))
	}
	return b
}

func appendTreeEvent(b []byte, e *tree.Event) []byte {
	b = append(b, byte(e.Action), bit(e.Refresh))
	b = append64(b, uint64(e.Time))
	b = appendTreeNode(b, &e.Node)
	if e.Prev == nil {
		return append(b, 0)
	}
	return appendTreeNode(append(b, 1), e.Prev)
}

func appendTreeNode(b []byte, n *tree.Node) []byte {
	b = append64(b, xxhash.Sum64String(n.Path))
	b = append(b, bit(n.Dir))
	b = append64(b, xxhash.Sum64(n.Value))
	b = append64(b, n.Created)
	b = append64(b, n.Modified)
	return append64(b, uint64(n.Deadline))
}

func appendTxnResult(b []byte, t *TxnResult) []byte {
	if t == nil {
		return append(b, 0)
	}
	b = append(b, 1, bit(t.Succeeded))
	b = append64(b, uint64(t.Revision))
	b = append64(b, uint64(len(t.Responses)))
	for i := range t.Responses {
		o := &t.Responses[i]
		b = append(b, byte(o.Kind), bit(o.More))
		b = append64(b, uint64(o.Revision))
		b = append64(b, uint64(o.Count))
		b = appendPair(b, o.Prev)
		b = appendPairs(b, o.KVs)
		b = appendTxnResult(b, o.Txn)
	}
	return b
}

func appendEvent(b []byte, e *mvcc.Event) []byte {
	b = append(b, byte(e.Kind))
	b = append64(b, uint64(e.Sub))
	return appendPair(b, &e.KV)
}

func appendPairs(b []byte, kvs []mvcc.KeyValue) []byte {
	b = append64(b, uint64(len(kvs)))
	for i := range kvs {
		b = appendPair(b, &kvs[i])
	}
	return b
}

func appendPair(b []byte, kv *mvcc.KeyValue) []byte {
	if kv == nil {
		return append(b, 0)
	}
	b = append(b, 1)
	b = append64(b, uint64(len(kv.Key)))
	b = append(b, kv.Key...)
	b = append64(b, xxhash.Sum64(kv.Value))
	b = append64(b, uint64(kv.CreateRevision))
	b = append64(b, uint64(kv.ModRevision))
	b = append64(b, uint64(kv.Version))
	return append64(b, uint64(kv.Lease))
}

func bit(v bool) byte {
	if v {
		return 1
	}
	return 0
}

// hashRingSize is how many entries back a hash can be compared.
const hashRingSize = 8192

// hashRing remembers the hashes at the newest entries applied since the start. Its zero value is empty.
type hashRing struct {
	at [hashRingSize]struct{ index, hash uint64 }
}

func (r *hashRing) put(index, hash uint64) {
	slot := &r.at[index%hashRingSize]
	slot.index, slot.hash = index, hash
}

// get returns the hash at index, if it is remembered. Index 0 never is.
func (r *hashRing) get(index uint64) (hash uint64, ok bool) {
	slot := &r.at[index%hashRingSize]
	return slot.hash, index != 0 && slot.index == index
}
