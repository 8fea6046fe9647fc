package main

import (
	"fmt"
	"math"
	"testing"
	"time"

	"github.com/anishathalye/porcupine"
	"go.etcd.io/etcd/api/v3/mvccpb"
	clientv3 "go.etcd.io/etcd/client/v3"
)

type registerKind int

const (
	registerGet registerKind = iota
	registerPut
	registerDelete
	registerSwap // put if the key is as expected, else get
)

// registerInput is one operation on one key. No value is written twice, so that a value stands for one moment.
type registerInput struct {
	kind  registerKind
	key   string
	value string // to write

	// What registerSwap expects: the value, compared by itself or by the revision it was read with. Empty, 0: no such key.
	expect         string
	expectRevision int64
	byRevision     bool
}

func (in registerInput) compare() clientv3.Cmp {
	if in.byRevision || in.expect == "" {
		return clientv3.Compare(clientv3.ModRevision(in.key), "=", in.expectRevision)
	}
	return clientv3.Compare(clientv3.Value(in.key), "=", in.expect)
}

// registerOutput is the answer, if there was one.
type registerOutput struct {
	answered  bool
	revision  int64  // of the header
	succeeded bool   // it wrote or deleted
	value     string // read, or there before; empty: no such key
	modified  int64  // the revision of value
}

func (out *registerOutput) read(pairs []*mvccpb.KeyValue) {
	if len(pairs) == 1 {
		out.value, out.modified = string(pairs[0].Value), pairs[0].ModRevision
	}
}

// registerState is one key. A change that was not answered leaves only a lower bound of its revision.
type registerState struct {
	value    string // empty: no such key
	modified int64  // the revision of the last change; a lower bound unless exact
	exact    bool
}

// registers is what a linearizable server does with each key by itself.
var registers = porcupine.Model{
	Partition: func(history []porcupine.Operation) [][]porcupine.Operation {
		index := map[string]int{}
		var parts [][]porcupine.Operation
		for _, op := range history {
			key := op.Input.(registerInput).key
			i, ok := index[key]
			if !ok {
				i = len(parts)
				index[key] = i
				parts = append(parts, nil)
			}
			parts[i] = append(parts[i], op)
		}
		return parts
	},
	Init: func() any { return registerState{exact: true} },
	Step: func(state, input, output any) (bool, any) {
		ok, next := state.(registerState).step(input.(registerInput), output.(registerOutput))
		return ok, next
	},
	DescribeOperation: func(input, output any) string { return fmt.Sprintf("%+v -> %+v", input, output) },
	DescribeState:     func(state any) string { return fmt.Sprintf("%+v", state) },
}

func (s registerState) step(in registerInput, out registerOutput) (bool, registerState) {
	switch in.kind {
	case registerGet:
		return s.observe(out)
	case registerPut:
		return s.change(in.value, out, true)
	case registerDelete:
		if s.value == "" {
			return !out.answered || !out.succeeded && out.value == "" && out.revision >= s.modified, s
		}
		return s.change("", out, true)
	default:
		if s.value == in.expect {
			return s.change(in.value, out, false)
		}
		if !out.answered {
			return true, s
		}
		ok, next := s.observe(out)
		return ok && !out.succeeded, next
	}
}

// observe compares an answer with the state, and learns the revision of the value from it.
func (s registerState) observe(out registerOutput) (bool, registerState) {
	switch {
	case out.value != s.value, out.revision < s.modified:
		return false, s
	case s.value == "":
		return true, s
	case out.modified > out.revision, s.exact && out.modified != s.modified, out.modified < s.modified:
		return false, s
	}
	return true, registerState{value: s.value, modified: out.modified, exact: true}
}

// change writes value; showsOld says that the answer holds what was there before.
func (s registerState) change(value string, out registerOutput, showsOld bool) (bool, registerState) {
	if !out.answered {
		return true, registerState{value: value, modified: s.modified + 1}
	}
	if !out.succeeded || out.revision <= s.modified {
		return false, s
	}
	if showsOld {
		if ok, _ := s.observe(out); !ok {
			return false, s
		}
	}
	return true, registerState{value: value, modified: out.revision, exact: true}
}

// TestRegistersModel gives the model short histories with and without a fault.
func TestRegistersModel(t *testing.T) {
	get := func(call, done int64, value string, modified, revision int64) porcupine.Operation {
		return porcupine.Operation{Call: call, Return: done, Input: registerInput{kind: registerGet},
			Output: registerOutput{answered: true, revision: revision, value: value, modified: modified}}
	}
	put := func(call, done int64, value string, revision int64, old string, modified int64) porcupine.Operation {
		return porcupine.Operation{Call: call, Return: done, Input: registerInput{kind: registerPut, value: value},
			Output: registerOutput{answered: true, succeeded: true, revision: revision, value: old, modified: modified}}
	}
	lost := func(call int64, in registerInput) porcupine.Operation {
		return porcupine.Operation{Call: call, Return: math.MaxInt64, Input: in, Output: registerOutput{}}
	}
	swap := func(call, done int64, expect, value string, out registerOutput) porcupine.Operation {
		out.answered = true
		return porcupine.Operation{Call: call, Return: done, Input: registerInput{kind: registerSwap, expect: expect, value: value}, Output: out}
	}
	remove := func(call, done int64, out registerOutput) porcupine.Operation {
		out.answered = true
		return porcupine.Operation{Call: call, Return: done, Input: registerInput{kind: registerDelete}, Output: out}
	}
	putA := registerInput{kind: registerPut, value: "a"}
	for _, c := range []struct {
		name    string
		history []porcupine.Operation
		want    porcupine.CheckResult
	}{
		{"read what was written", []porcupine.Operation{put(1, 2, "a", 2, "", 0), get(3, 4, "a", 2, 2)}, porcupine.Ok},
		{"stale read", []porcupine.Operation{put(1, 2, "a", 2, "", 0), put(3, 4, "b", 3, "a", 2), get(5, 6, "a", 2, 3)}, porcupine.Illegal},
		{"concurrent read", []porcupine.Operation{put(1, 2, "a", 2, "", 0), put(3, 6, "b", 3, "a", 2), get(4, 5, "a", 2, 2)}, porcupine.Ok},
		{"lost write", []porcupine.Operation{put(1, 2, "a", 2, "", 0), get(3, 4, "", 0, 2)}, porcupine.Illegal},
		{"unanswered, took effect late", []porcupine.Operation{lost(1, putA), get(2, 3, "", 0, 1), get(4, 5, "a", 2, 2)}, porcupine.Ok},
		{"unanswered, never took effect", []porcupine.Operation{lost(1, putA), get(2, 3, "", 0, 1)}, porcupine.Ok},
		{"unanswered, came and went", []porcupine.Operation{lost(1, putA), get(2, 3, "a", 2, 2), get(4, 5, "", 0, 2)}, porcupine.Illegal},
		{"unanswered, seen before it was sent", []porcupine.Operation{get(1, 2, "a", 2, 2), lost(3, putA)}, porcupine.Illegal},
		{"wrong mod revision", []porcupine.Operation{put(1, 2, "a", 2, "", 0), get(3, 4, "a", 3, 3)}, porcupine.Illegal},
		{"a revision twice", []porcupine.Operation{put(1, 2, "a", 2, "", 0), put(3, 4, "b", 2, "a", 2)}, porcupine.Illegal},
		{"wrong previous pair", []porcupine.Operation{put(1, 2, "a", 2, "", 0), put(3, 4, "b", 3, "", 0)}, porcupine.Illegal},
		{"swap", []porcupine.Operation{put(1, 2, "a", 2, "", 0), swap(3, 4, "a", "b", registerOutput{succeeded: true, revision: 3})}, porcupine.Ok},
		{"swap against the wrong value", []porcupine.Operation{put(1, 2, "a", 2, "", 0), swap(3, 4, "z", "b", registerOutput{succeeded: true, revision: 3})},
			porcupine.Illegal},
		{"swap refused without reason", []porcupine.Operation{put(1, 2, "a", 2, "", 0),
			swap(3, 4, "a", "b", registerOutput{revision: 2, value: "a", modified: 2})}, porcupine.Illegal},
		{"two swaps from one value", []porcupine.Operation{put(1, 2, "a", 2, "", 0), swap(3, 6, "a", "b", registerOutput{succeeded: true, revision: 3}),
			swap(4, 5, "a", "c", registerOutput{succeeded: true, revision: 4})}, porcupine.Illegal},
		{"delete", []porcupine.Operation{put(1, 2, "a", 2, "", 0), remove(3, 4, registerOutput{succeeded: true, revision: 3, value: "a", modified: 2}),
			get(5, 6, "", 0, 3)}, porcupine.Ok},
		{"delete of nothing", []porcupine.Operation{remove(1, 2, registerOutput{revision: 1})}, porcupine.Ok},
		{"delete missed the key", []porcupine.Operation{put(1, 2, "a", 2, "", 0), remove(3, 4, registerOutput{revision: 2})}, porcupine.Illegal},
	} {
		if got := porcupine.CheckOperationsTimeout(registers, c.history, time.Minute); got != c.want {
			t.Errorf("%s: %v, want %v", c.name, got, c.want)
		}
	}
}
