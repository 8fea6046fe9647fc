package tree

import (
	"cmp"
	"fmt"
	"maps"
	"math/rand/v2"
	"slices"
	"strings"
	"testing"

	"keelson/command"
)

// model is the tree as the specification tells it: a map of all nodes, and all events there ever were.
type model struct {
	nodes  map[string]Node
	index  uint64
	events map[uint64]*Event
}

func newModel() *model {
	return &model{nodes: map[string]Node{}, index: 3, events: map[uint64]*Event{}}
}

// ancestors are those of a path, from the top.
func ancestors(path string) (list []string) {
	for i := 1; i < len(path); i++ {
		if path[i] == '/' {
			list = append(list, path[:i])
		}
	}
	return list
}

// obstacle is the refusal of a walk to path: a file in the way, or what is missing.
func (m *model) obstacle(path string) *Error {
	if path == Root {
		return nil
	}
	for _, p := range append(ancestors(path), path) {
		n, ok := m.nodes[p]
		if !ok {
			return refuse(CodeKeyNotFound, p)
		}
		if p != path && !n.Dir {
			return refuse(CodeNotDir, p)
		}
	}
	return nil
}

func (m *model) below(dir string) (paths []string) {
	for p := range m.nodes {
		if strings.HasPrefix(p, strings.TrimSuffix(dir, "/")+"/") {
			paths = append(paths, p)
		}
	}
	return paths
}

func (m *model) note(e *Event) *Event {
	m.index++
	e.Node.Modified = m.index
	m.events[m.index] = e
	return e
}

func (m *model) remove(path string, a Action, now int64) *Event {
	prev := m.nodes[path]
	for _, p := range m.below(path) {
		delete(m.nodes, p)
	}
	delete(m.nodes, path)
	return m.note(&Event{Action: a, Time: now, Node: Node{Path: path, Dir: prev.Dir, Created: prev.Created}, Prev: &prev})
}

func (m *model) put(o *command.TreePut, now int64) (*Event, *Error) {
	path := o.Path
	if o.Mode == command.TreeCreateInOrder {
		path = fmt.Sprintf("%s/%020d", strings.TrimSuffix(path, "/"), m.index+1)
	}
	if path == Root {
		return nil, refuse(CodeRootReadOnly, Root)
	}
	obstacle := m.obstacle(path)
	if obstacle != nil && obstacle.Code == CodeNotDir {
		return nil, obstacle
	}
	prev, there := m.nodes[path]
	e := &Event{Time: now, Node: Node{Path: path, Deadline: o.Deadline}}
	if there {
		e.Prev = &prev
	}
	value := o.Value
	refreshes := o.Refresh && o.Mode != command.TreeCreate && o.Mode != command.TreeCreateInOrder
	if refreshes && there {
		value = prev.Value
	}
	switch o.Mode {
	case command.TreeSet, command.TreeCreate, command.TreeCreateInOrder:
		e.Action = ActionSet
		switch {
		case o.Mode != command.TreeSet && there:
			return nil, refuse(CodeExists, path)
		case refreshes && !there:
			return nil, obstacle
		case there && prev.Dir:
			return nil, refuse(CodeNotFile, path)
		}
		if o.Mode != command.TreeSet {
			e.Action = ActionCreate
		}
		e.Node.Dir, e.Node.Created = o.Dir, m.index+1
		for _, p := range ancestors(path) {
			if _, ok := m.nodes[p]; !ok {
				m.nodes[p] = Node{Path: p, Dir: true, Created: m.index + 1, Modified: m.index + 1}
			}
		}
	case command.TreeUpdate, command.TreeCompareAndSwap:
		e.Action = ActionUpdate
		if !there {
			return nil, obstacle
		}
		if prev.Dir && (o.Mode == command.TreeCompareAndSwap || len(o.Value) > 0) {
			return nil, refuse(CodeNotFile, path)
		}
		if o.Mode == command.TreeCompareAndSwap {
			e.Action = ActionCompareAndSwap
			if cause := m.differs(prev, o.PrevValue, o.PrevIndex); cause != "" {
				return nil, refuse(CodeCompareFailed, cause)
			}
		}
		e.Node.Dir, e.Node.Created = prev.Dir, prev.Created
	}
	if !e.Node.Dir {
		e.Node.Value = value
	}
	e.Refresh = refreshes
	m.note(e)
	stored := e.Node
	if e.Action == ActionUpdate && prev.Dir {
		stored.Modified = prev.Modified
	}
	m.nodes[path] = stored
	return e, nil
}

func (m *model) differs(n Node, value []byte, index uint64) string {
	var parts []string
	if len(value) > 0 && string(value) != string(n.Value) {
		parts = append(parts, fmt.Sprintf("[%s != %s]", value, n.Value))
	}
	if index != 0 && index != n.Modified {
		parts = append(parts, fmt.Sprintf("[%v != %v]", index, n.Modified))
	}
	return strings.Join(parts, " ")
}

func (m *model) delete(o *command.TreeDelete, now int64) (*Event, *Error) {
	if o.Path == Root {
		if o.Compare {
			return nil, refuse(CodeNotFile, "")
		}
		return nil, refuse(CodeRootReadOnly, Root)
	}
	if obstacle := m.obstacle(o.Path); obstacle != nil {
		return nil, obstacle
	}
	n := m.nodes[o.Path]
	if o.Compare {
		if n.Dir {
			return nil, refuse(CodeNotFile, o.Path)
		}
		if cause := m.differs(n, o.PrevValue, o.PrevIndex); cause != "" {
			return nil, refuse(CodeCompareFailed, cause)
		}
		return m.remove(o.Path, ActionCompareAndDelete, now), nil
	}
	if n.Dir && !o.Recursive {
		if !o.Dir {
			return nil, refuse(CodeNotFile, o.Path)
		}
		if len(m.below(o.Path)) > 0 {
			return nil, refuse(CodeDirNotEmpty, o.Path)
		}
	}
	return m.remove(o.Path, ActionDelete, now), nil
}

// expire removes everything that has run out, and returns what that was.
func (m *model) expire(stamp int64) (events []*Event) {
	for {
		var next *Node
		for _, p := range slices.Sorted(maps.Keys(m.nodes)) {
			n := m.nodes[p]
			if n.Deadline != 0 && n.Deadline <= stamp && (next == nil || cmp.Or(cmp.Compare(n.Deadline, next.Deadline), compareInKeys(n.Path, next.Path)) < 0) {
				next = &n
			}
		}
		if next == nil {
			return events
		}
		events = append(events, m.remove(next.Path, ActionExpire, stamp))
	}
}

// compareInKeys orders paths as the table does: of two that are due at once somebody has to be first.
func compareInKeys(a, b string) int { return slices.Compare(appendPath(nil, a), appendPath(nil, b)) }

func (m *model) walk(dir string, recursive bool) string {
	var paths []string
	for _, p := range m.below(dir) {
		rest := strings.Split(strings.TrimPrefix(strings.TrimPrefix(p, dir), "/"), "/")
		hidden := slices.ContainsFunc(rest, func(name string) bool { return strings.HasPrefix(name, "_") })
		if !hidden && (recursive || len(rest) == 1) {
			paths = append(paths, p)
		}
	}
	slices.SortFunc(paths, func(a, b string) int { return slices.Compare(strings.Split(a, "/"), strings.Split(b, "/")) })
	return strings.Join(paths, "\n")
}

var modelNames = []string{"a", "b", "ab", "_h", "a!", "é", "a\x00", "a\x00b", "a\x01", "\x01\x01", "zz"}

func modelPath(r *rand.Rand) string {
	path := ""
	for range r.IntN(5) {
		path += "/" + modelNames[r.IntN(len(modelNames))]
	}
	return cmp.Or(path, Root)
}

func (m *model) randomOp(r *rand.Rand, now int64) command.Op {
	path := modelPath(r)
	if r.IntN(2) == 0 && len(m.nodes) > 0 { // one that is there
		all := slices.Sorted(maps.Keys(m.nodes))
		path = all[r.IntN(len(all))]
	}
	n := m.nodes[path]
	value, index := []byte(nil), uint64(0)
	switch r.IntN(4) {
	case 0:
		value = n.Value
	case 1:
		value = []byte("other")
	}
	switch r.IntN(4) {
	case 0:
		index = n.Modified
	case 1:
		index = r.Uint64N(m.index + 2)
	}
	switch k := r.IntN(20); {
	case k < 3:
		return &command.TreeDelete{Path: path, Dir: r.IntN(2) == 0, Recursive: r.IntN(3) == 0}
	case k < 5:
		return &command.TreeDelete{Path: path, Compare: true, Dir: r.IntN(2) == 0, Recursive: r.IntN(2) == 0, PrevValue: value, PrevIndex: index}
	case k < 7:
		return &command.TreeExpire{Stamp: now, Limit: 1000}
	}
	o := &command.TreePut{Path: path, Mode: command.TreePutMode(r.IntN(5)), Dir: r.IntN(4) == 0, Refresh: r.IntN(6) == 0}
	if r.IntN(3) > 0 && !o.Refresh {
		o.Value = fmt.Appendf(nil, "v%d", r.IntN(3))
	}
	if r.IntN(3) == 0 {
		o.Deadline = now + r.Int64N(6)*second/2
	}
	if o.Mode == command.TreeCompareAndSwap {
		o.PrevValue, o.PrevIndex = value, index
	}
	return o
}

// do applies an op to the model.
func (m *model) do(op command.Op, now int64) (refusal *Error, events []*Event) {
	var e *Event
	switch o := op.(type) {
	case *command.TreePut:
		e, refusal = m.put(o, now)
	case *command.TreeDelete:
		e, refusal = m.delete(o, now)
	case *command.TreeExpire:
		events = m.expire(o.Stamp)
	}
	if refusal != nil {
		refusal.Index = m.index
	}
	if e != nil {
		events = append(events, e)
	}
	return refusal, events
}

func TestRandomOpsAgreeWithTheModel(t *testing.T) {
	r := random(t)
	for range *roundsFlag {
		f, m := newForest(t), newModel()
		f.cacheBytes = []int64{-1, 0, 2 * newestShards * 3 * newestOverheadBytes}[r.IntN(3)]
		f.clearMax = r.IntN(3)
		f.reload()
		for step := range 600 {
			f.now += r.Int64N(2) * second / 4
			f.applyRandom(m, r, 1+r.IntN(1+r.IntN(8)))
			if step%20 == 0 {
				f.compare(m, r)
			}
			if r.IntN(100) == 0 {
				f.reopen()
			}
		}
		f.compare(m, r)
	}
}

// applyRandom carries out some ops in one batch.
func (f *forest) applyRandom(m *model, r *rand.Rand, ops int) {
	f.t.Helper()
	b := f.db.NewBatch()
	tx := f.table.Begin(b, f.p)
	for range ops {
		op := m.randomOp(r, f.now)
		wantRefusal, wantEvents := m.do(op, f.now)
		before := len(tx.Events())
		_, refusal, err := carryOut(tx, op, f.now)
		f.check(err)
		if got, want := printOutcome(refusal, tx.Events()[before:]), printOutcome(wantRefusal, wantEvents); got != want {
			f.t.Fatalf("index %d: %+v:\n%swant:\n%s", m.index, op, got, want)
		}
	}
	tx.Finish()
	f.compareFiles(r) // of the store without the batch: they may be those of before
	f.check(b.Commit())
	tx.Publish()
	f.p = tx.State()
	f.compareFiles(r)
}

// compareFiles reads files by themselves. A batch that is not committed yet must not show.
func (f *forest) compareFiles(r *rand.Rand) {
	f.t.Helper()
	v := f.view()
	defer v.Close()
	for range 5 {
		path := modelPath(r)
		got, err := f.table.File(f.db, path)
		f.check(err)
		want, refusal, err := v.Get(path)
		f.check(err)
		if refusal != nil || want.Dir {
			want = nil
		}
		switch {
		case (got == nil) != (want == nil):
			f.t.Fatalf("%q as a file: %v, want %v", path, got, want)
		case got != nil && printNode(got, 0) != printNode(want, 0):
			f.t.Fatalf("%q as a file: %s, want %s", path, printNode(got, 0), printNode(want, 0))
		}
	}
}

func printOutcome(refusal *Error, events []*Event) string {
	var b strings.Builder
	if refusal != nil {
		b.WriteString(printError(refusal))
	}
	for _, e := range events {
		b.WriteString(printEvent(e))
	}
	return b.String()
}

// compare reads everything there is to read.
func (f *forest) compare(m *model, r *rand.Rand) {
	f.t.Helper()
	v := f.view()
	defer v.Close()
	if v.Position().Index != m.index {
		f.t.Fatalf("index %d, want %d", v.Position().Index, m.index)
	}
	for range 20 {
		path := modelPath(r)
		n, refusal, err := v.Get(path)
		f.check(err)
		want := m.obstacle(path)
		if want != nil {
			want.Index = m.index
		}
		exists, err := v.Exists(path)
		f.check(err)
		if exists != (want == nil) {
			f.t.Fatalf("%q: exists %v", path, exists)
		}
		if want != nil || refusal != nil {
			if want == nil || refusal == nil || *want != *refusal {
				f.t.Fatalf("%q: %v, want %v", path, refusal, want)
			}
			continue
		}
		if wanted := m.nodes[path]; path != Root && printNode(n, 0) != printNode(&wanted, 0) {
			f.t.Fatalf("%q: %s, want %s", path, printNode(n, 0), printNode(&wanted, 0))
		}
		if n.Dir {
			f.compareListing(v, m, path, r.IntN(2) == 0)
		}
	}
	f.compareEvents(v, m)
	f.compareDue(m)
}

func (f *forest) compareListing(v *View, m *model, dir string, recursive bool) {
	f.t.Helper()
	var got []string
	var open []int
	f.check(v.Walk(dir, recursive, func(n *Node, depth int) error {
		if len(open) > 0 && open[len(open)-1] >= depth {
			f.t.Fatalf("%q at depth %d inside %v", n.Path, depth, open)
		}
		if wanted := m.nodes[n.Path]; printNode(n, 0) != printNode(&wanted, 0) {
			f.t.Fatalf("listed %s, want %s", printNode(n, 0), printNode(&wanted, 0))
		}
		if n.Dir {
			open = append(open, depth)
		}
		got = append(got, n.Path)
		return nil
	}, func(depth int) {
		if open[len(open)-1] != depth {
			f.t.Fatalf("left %d of %v", depth, open)
		}
		open = open[:len(open)-1]
	}))
	if want := m.walk(dir, recursive); strings.Join(got, "\n") != want || len(open) > 0 {
		f.t.Fatalf("listing of %q, recursive %v, left open %v:\n%q\nwant:\n%q", dir, recursive, open, got, want)
	}
}

func (f *forest) compareEvents(v *View, m *model) {
	f.t.Helper()
	from := max(1, int64(m.index)-HistorySize+1)
	refusal, err := v.Events(uint64(from), func(e *Event) bool {
		if want := m.events[e.Index()]; want == nil || printEvent(e) != printEvent(want) || e.Time != want.Time {
			f.t.Fatalf("event %d: %swant %+v", e.Index(), printEvent(e), want)
		}
		delete(m.events, e.Index())
		return true
	})
	f.check(err)
	if refusal != nil {
		f.t.Fatal(refusal)
	}
	for index := range m.events {
		if index >= uint64(from) {
			f.t.Fatalf("event %d is missing", index)
		}
	}
	// Those that are found once are found again: put them back.
	_, err = v.Events(uint64(from), func(e *Event) bool { m.events[e.Index()] = e; return true })
	f.check(err)
}

func (f *forest) compareDue(m *model) {
	f.t.Helper()
	var want int64
	for _, n := range m.nodes {
		if n.Deadline != 0 && (want == 0 || n.Deadline < want) {
			want = n.Deadline
		}
	}
	got, ok, err := f.table.earliestOf(f.db)
	f.check(err)
	if f.clearMax > 0 && ok && (want == 0 || got < want) { // left from a directory that went in one go
		return
	}
	if ok != (want != 0) || ok && got != want {
		f.t.Fatalf("due at %d %v, want %d", got, ok, want)
	}
}
