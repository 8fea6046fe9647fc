package sim

import (
	"fmt"
	"math"
	"time"

	"github.com/anishathalye/porcupine"

	"keelson/command"
	"keelson/state"
	"keelson/state/tree"
)

// registers are a few keys, and a node of the v2 tree, on which clients' operations are recorded as clients see them: when
// they begin, when they are answered, with what. Whether there is an order that explains it is found out by another program,
// which knows neither revisions nor the log. Nobody else changes these keys.
type registers struct {
	w       *world
	list    []*register
	moment  int64 // counts what clients notice
	pending map[command.BatchID]*operation
}

type register struct {
	name    string
	isNode  bool // of the v2 tree
	ops     []*operation
	unknown int // operations under way, or whose outcome nobody will know
}

// operation is one operation of a client.
type operation struct {
	r        *register
	in       registerInput
	out      registerOutput
	call     int64
	returned int64 // 0: not yet
}

// Kinds of operations.
const (
	registerRead = iota
	registerWrite
	registerCreate // only if there is nothing
	registerSwap   // only if it is what is expected
	registerRemove
	registerRemoveIf // only if it is what is expected
)

type registerInput struct {
	kind            int
	value, expected string
}

// registerOutput is an answer. Unknown: there was none.
type registerOutput struct {
	unknown, done bool
	value         string // what a read has found; empty: nothing
}

// Bounds of a history: what comes of many operations at once takes long to judge.
const (
	registerOpsMax     = 200
	registerUnknownMax = 6
)

func newRegisters(w *world) *registers {
	rs := &registers{w: w, pending: map[command.BatchID]*operation{}}
	for i := range 1 + w.rng.IntN(3) {
		rs.list = append(rs.list, &register{name: fmt.Sprintf("a%d", i)})
	}
	rs.list = append(rs.list, &register{name: "/x/register", isNode: true})
	return rs
}

func (rs *registers) now() int64 {
	rs.moment++
	return rs.moment
}

// act is one operation of some client.
func (rs *registers) act() {
	w := rs.w
	up := w.running()
	r := rs.list[w.rng.IntN(len(rs.list))]
	if w.healing || len(up) == 0 || r.unknown >= registerUnknownMax || len(r.ops) >= registerOpsMax {
		return
	}
	m := up[w.rng.IntN(len(up))]
	o := &operation{r: r, in: rs.draw(r), call: rs.now()}
	r.ops = append(r.ops, o)
	r.unknown++
	if o.in.kind == registerRead {
		m.readWith(func(view *state.View) { rs.readDone(o, view) })
		return
	}
	rs.pending[m.nextBatchID()] = o
	m.propose(o.command())
}

func (rs *registers) draw(r *register) registerInput {
	rng := rs.w.rng
	in := registerInput{kind: []int{
		registerRead, registerRead, registerWrite, registerCreate, registerSwap, registerSwap, registerRemove, registerRemoveIf,
	}[rng.IntN(8)]}
	rs.w.load.written++
	in.value = fmt.Sprintf("r%d", rs.w.load.written)
	in.expected = "none"
	for n := rng.IntN(4); n >= 0 && len(r.ops) > n; n-- { // one of the last values
		if v := r.ops[len(r.ops)-1-n].in.value; v != "" {
			in.expected = v
		}
	}
	return in
}

// command is the operation as a command of the v3 API, or of the v2 tree.
func (o *operation) command() command.Op {
	if o.r.isNode {
		return o.treeOp()
	}
	key, put := []byte(o.r.name), &command.Put{Key: []byte(o.r.name), Value: []byte(o.in.value)}
	remove := &command.DeleteRange{Key: key}
	expected := []command.Compare{{Key: key, Target: 3, Value: []byte(o.in.expected)}}
	switch o.in.kind {
	case registerWrite:
		return put
	case registerCreate:
		return &command.Txn{Compares: []command.Compare{{Key: key, Target: 0}}, Success: []command.Op{put}}
	case registerSwap:
		return &command.Txn{Compares: expected, Success: []command.Op{put}}
	case registerRemoveIf:
		return &command.Txn{Compares: expected, Success: []command.Op{remove}}
	}
	return remove
}

func (o *operation) treeOp() command.Op {
	put := &command.TreePut{Path: o.r.name, Value: []byte(o.in.value)}
	switch o.in.kind {
	case registerWrite:
	case registerCreate:
		put.Mode = command.TreeCreate
	case registerSwap:
		put.Mode, put.PrevValue = command.TreeCompareAndSwap, []byte(o.in.expected)
	case registerRemoveIf:
		return &command.TreeDelete{Path: o.r.name, Compare: true, PrevValue: []byte(o.in.expected)}
	default:
		return &command.TreeDelete{Path: o.r.name}
	}
	return put
}

// done notes the answer to a batch, if it is an operation.
func (rs *registers) done(id command.BatchID, results []state.Result) {
	o := rs.pending[id]
	if o == nil {
		return
	}
	delete(rs.pending, id)
	r := &results[0]
	switch {
	case o.r.isNode:
		o.out.done = r.TreeRefusal == nil
	case r.Txn != nil:
		o.out.done = r.Txn.Succeeded
	case o.in.kind == registerRemove:
		o.out.done = r.Deleted > 0
	default:
		o.out.done = true
	}
	o.answered(rs)
}

// dropped notes that a batch will never become an entry: the operation has not happened.
func (rs *registers) dropped(id command.BatchID) {
	if o := rs.pending[id]; o != nil {
		delete(rs.pending, id)
		o.out.unknown, o.returned = true, -1
		o.r.unknown--
	}
}

func (rs *registers) readDone(o *operation, view *state.View) {
	if o.r.isNode {
		nodes := rs.w.openTree(view)
		n, refused, err := nodes.Get(o.r.name)
		if err != nil || refused != nil && refused.Code != tree.CodeKeyNotFound {
			rs.w.violate("read of %s: %v, %v", o.r.name, refused, err)
		}
		if refused == nil {
			o.out.value = string(n.Value)
		}
		_ = nodes.Close()
	} else if kv, err := view.Get([]byte(o.r.name)); err != nil {
		rs.w.violate("read of %s: %v", o.r.name, err)
	} else if kv != nil {
		o.out.value = string(kv.Value)
	}
	o.answered(rs)
}

func (o *operation) answered(rs *registers) {
	o.returned = rs.now()
	o.r.unknown--
}

// histories are what clients have seen, for each register. A read without an answer tells nothing.
func (rs *registers) histories() (list []History) {
	for _, r := range rs.list {
		h := History{Name: r.name}
		for i, o := range r.ops {
			switch {
			case o.returned < 0 || o.returned == 0 && o.in.kind == registerRead:
				continue
			case o.returned == 0:
				o.out.unknown, o.returned = true, math.MaxInt64
			}
			h.ops = append(h.ops, porcupine.Operation{ClientId: i, Input: o.in, Call: o.call, Output: o.out, Return: o.returned})
		}
		if len(h.ops) > 0 {
			list = append(list, h)
		}
	}
	return list
}

// History is what clients have seen of one register.
type History struct {
	Name string
	ops  []porcupine.Operation
}

// Judge looks for an order that explains the histories, and makes it the failure if there is none. It must be called outside
// of the bubble, whose time stands still while it thinks. A history that is not explained in time is counted, and stays
// undecided.
func (r *Report) Judge(patience time.Duration) {
	for _, h := range r.Histories {
		switch porcupine.CheckOperationsTimeout(registerModel, h.ops, patience) {
		case porcupine.Ok:
			r.Reached["a history of a register was explained"]++
		case porcupine.Unknown:
			r.Reached["a history of a register was too much to explain"]++
		case porcupine.Illegal:
			if r.Failure == nil {
				r.Failure = fmt.Errorf("no order explains what clients have seen of %s:\n%s", h.Name, h.render())
			}
		}
	}
}

func (h *History) render() (s string) {
	for _, o := range h.ops {
		s += fmt.Sprintf("%d to %d: %s\n", o.Call, o.Return, registerModel.DescribeOperation(o.Input, o.Output))
	}
	return s
}

// registerModel is a register: what is written is there until it is replaced or removed.
var registerModel = porcupine.Model{
	Init: func() any { return "" },
	Step: func(before, in, out any) (bool, any) {
		return stepRegister(before.(string), in.(registerInput), out.(registerOutput))
	},
	DescribeOperation: func(in, out any) string {
		i, o := in.(registerInput), out.(registerOutput)
		what := []string{"read", "write", "create", "swap", "remove", "remove if"}[i.kind]
		if o.unknown {
			return fmt.Sprintf("%s %q for %q: no answer", what, i.value, i.expected)
		}
		return fmt.Sprintf("%s %q for %q: done %t, %q", what, i.value, i.expected, o.done, o.value)
	},
}

func stepRegister(before string, in registerInput, out registerOutput) (bool, any) {
	if in.kind == registerRead {
		return out.value == before, before
	}
	does := map[int]bool{
		registerWrite: true, registerCreate: before == "", registerSwap: before == in.expected, registerRemove: before != "",
		registerRemoveIf: before == in.expected,
	}[in.kind]
	after := before
	switch {
	case !does:
	case in.kind == registerRemove || in.kind == registerRemoveIf:
		after = ""
	default:
		after = in.value
	}
	return out.unknown || out.done == does, after
}
