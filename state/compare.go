package state

import (
	"bytes"
	"cmp"

	"keelson/command"
	"keelson/state/mvcc"
)

// Numbers of the v3 API's Compare.CompareTarget and Compare.CompareResult.
const (
	targetVersion = 0
	targetCreate  = 1
	targetMod     = 2
	targetValue   = 3
	targetLease   = 4

	resultEqual    = 0
	resultGreater  = 1
	resultLess     = 2
	resultNotEqual = 3
)

// holds evaluates a compare: over its key, or over every key of its range. A key that is not there, and a range without
// keys, compare as zeros; but no value compares to the one of a key that is not there. Refusal: ErrEmptyKey.
func holds(r reader, c *command.Compare) (bool, error) {
	if len(c.Key) == 0 {
		return false, ErrEmptyKey
	}
	if len(c.End) == 0 {
		kv, err := r.Get(c.Key)
		return err == nil && holdsFor(kv, c), err
	}
	all, any := true, false
	_, err := r.Range(mvcc.Query{Key: c.Key, End: c.End}, func(kv *mvcc.KeyValue) bool {
		any = true
		all = holdsFor(kv, c)
		return all
	})
	if err != nil {
		return false, err
	}
	if !any {
		return holdsFor(nil, c), nil
	}
	return all, nil
}

// holdsFor evaluates a compare for one pair; nil: there is none.
func holdsFor(kv *mvcc.KeyValue, c *command.Compare) bool {
	if kv == nil {
		if c.Target == targetValue {
			return false
		}
		kv = &mvcc.KeyValue{}
	}
	order := 0 // of the stored to the given
	switch c.Target {
	case targetVersion:
		order = cmp.Compare(kv.Version, c.Number)
	case targetCreate:
		order = cmp.Compare(kv.CreateRevision, c.Number)
	case targetMod:
		order = cmp.Compare(kv.ModRevision, c.Number)
	case targetValue:
		order = bytes.Compare(kv.Value, c.Value)
	case targetLease:
		order = cmp.Compare(kv.Lease, c.Number)
	}
	switch c.Result {
	case resultEqual:
		return order == 0
	case resultGreater:
		return order > 0
	case resultLess:
		return order < 0
	case resultNotEqual:
		return order != 0
	}
	return true
}
