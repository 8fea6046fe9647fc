package tree

import (
	"bytes"
	"cmp"
	"fmt"
	"math"
	"strconv"

	"keelson/command"
	"keelson/internal/fault"
	"keelson/storage"
)

// year2000 is the moment before which a deadline means none, in nanoseconds since 1970.
const year2000 = 946684800 * int64(1e9)

// Tx writes to one batch. It belongs to the goroutine that applies.
type Tx struct {
	table    *Table
	b        *storage.Batch
	before   State
	p        Position
	access   Access
	events   []*Event
	earliest int64 // of the deadlines added

	// written are the records of the nodes that the batch writes; nil: the node goes.
	written map[string][]byte
	// cleared are directories of which everything went with one record. What is below them is there if it is in written.
	cleared []string

	key, buf []byte // scratch
}

// Position is where the tree stands with the changes so far.
func (tx *Tx) Position() Position { return tx.p }

// State is the position, and whether users and roles count.
func (tx *Tx) State() State { return State{Position: tx.p, Access: tx.access} }

// Events are the changes so far, in order.
func (tx *Tx) Events() []*Event { return tx.events }

// Finish writes what is written once for a batch, right before it is committed. Events are written here, and those that leave the
// window removed, because the store takes keys that follow on each other with less effort.
func (tx *Tx) Finish() {
	tx.table.newest.unsettled.Store(true)
	for _, e := range tx.events {
		if tx.p.Index-e.Index() < HistorySize {
			tx.buf = appendEvent(tx.buf[:0], e)
			tx.key = appendEventKey(tx.key[:0], e.Index())
			tx.b.Set(storage.Tree, tx.key, tx.buf)
		}
	}
	for i := max(tx.before.Index, HistorySize); i < tx.p.Index; i++ {
		tx.key = appendEventKey(tx.key[:0], i+1-HistorySize)
		tx.b.Delete(storage.Tree, tx.key)
	}
	if tx.p != tx.before.Position {
		tx.b.Set(storage.Tree, []byte{keyPosition}, appendPosition(nil, tx.p))
	}
	if tx.access != tx.before.Access {
		tx.b.Set(storage.Tree, []byte{keyAccess}, appendAccess(nil, tx.access))
	}
}

// Publish is called when the batch is committed.
func (tx *Tx) Publish() {
	if len(tx.cleared) > 0 {
		tx.table.newest.forget()
	}
	for path, record := range tx.written {
		if record == nil {
			tx.table.newest.remove(path)
		} else {
			tx.table.newest.put(path, record)
		}
	}
	tx.table.newest.unsettled.Store(false)
	if tx.earliest != math.MaxInt64 && !fault.Mutant("forget-deadlines") {
		tx.table.lower(tx.earliest)
	}
}

// Put carries out a TreePut that was proposed at now, in nanoseconds since 1970. It returns an event or a refusal; an
// error means the disk, or damage.
func (tx *Tx) Put(o *command.TreePut, now int64) (*Event, *Error, error) {
	e, refusal, err := tx.put(o, now)
	return tx.outcome(e, refusal, err)
}

func (tx *Tx) put(o *command.TreePut, now int64) (*Event, *Error, error) {
	path := o.Path
	if o.Mode == command.TreeCreateInOrder {
		path = join(path, padded(tx.p.Index+1))
	}
	if refusal := check(o.Path, path); refusal != nil {
		return nil, refusal, nil
	}
	prev, missing, err := tx.find(path)
	if err != nil {
		return nil, nil, err
	}
	if missing != nil && missing.Code != CodeKeyNotFound { // an ancestor is a file
		return nil, missing, nil
	}
	e := &Event{Time: now, Node: Node{Path: path, Deadline: deadlineOf(o)}}
	switch o.Mode {
	case command.TreeUpdate, command.TreeCompareAndSwap:
		return tx.update(e, o, prev, missing)
	}
	e.Node.Dir = o.Dir
	if !o.Dir {
		e.Node.Value = o.Value
	}
	if o.Mode == command.TreeSet {
		return tx.set(e, o, prev, missing)
	}
	e.Action = ActionCreate
	if prev != nil {
		return nil, refuse(CodeExists, path), nil
	}
	return tx.make(e)
}

// check refuses what can't be a path to write to: given is what was asked for, path the node's.
func check(given, path string) *Error {
	wrong := CheckPath(given)
	if wrong == "" && path != given {
		wrong = CheckPath(path)
	}
	if wrong != "" {
		return refuse(CodeInvalidField, wrong)
	}
	if path == Root {
		return refuse(CodeRootReadOnly, Root)
	}
	return nil
}

func deadlineOf(o *command.TreePut) int64 {
	if o.Deadline < year2000 {
		return 0
	}
	return o.Deadline
}

// padded is an index as it is used for a name, so that names are in the order of their indexes.
func padded(index uint64) string {
	s := strconv.FormatUint(index, 10)
	return "00000000000000000000"[len(s):] + s
}

// set replaces whatever file there is.
func (tx *Tx) set(e *Event, o *command.TreePut, prev *Node, missing *Error) (*Event, *Error, error) {
	e.Action = ActionSet
	if o.Refresh && missing != nil {
		return nil, missing, nil
	}
	if prev != nil && prev.Dir {
		return nil, refuse(CodeNotFile, prev.Path), nil
	}
	if o.Refresh {
		e.Refresh, e.Node.Value = true, prev.Value
		if e.Node.Dir {
			e.Node.Value = nil
		}
	}
	e.Prev = prev
	return tx.make(e)
}

// make writes a node anew, and the directories that it needs.
func (tx *Tx) make(e *Event) (*Event, *Error, error) {
	index := tx.p.Index + 1
	if e.Prev == nil {
		if err := tx.makeParents(e.Node.Path, index); err != nil {
			return nil, nil, err
		}
	}
	e.Node.Created, e.Node.Modified = index, index
	tx.replace(e.Prev, &e.Node)
	tx.commit(e)
	return e, nil, nil
}

// makeParents makes the ancestors of a path that are not there. Its deepest one that is there is a directory.
func (tx *Tx) makeParents(path string, index uint64) error {
	for dir := parent(path); dir != Root; dir = parent(dir) {
		n, err := tx.get(dir)
		if err != nil || n != nil {
			return err
		}
		tx.replace(nil, &Node{Path: dir, Dir: true, Created: index, Modified: index})
	}
	return nil
}

// update changes a node that is there, and compares first if it is asked to.
func (tx *Tx) update(e *Event, o *command.TreePut, prev *Node, missing *Error) (*Event, *Error, error) {
	swap := o.Mode == command.TreeCompareAndSwap
	switch {
	case missing != nil:
		return nil, missing, nil
	case prev.Dir && (swap || len(o.Value) > 0):
		return nil, refuse(CodeNotFile, prev.Path), nil
	}
	e.Action = ActionUpdate
	if swap {
		e.Action = ActionCompareAndSwap
		if difference := compare(prev, o.PrevValue, o.PrevIndex); difference != "" {
			return nil, refuse(CodeCompareFailed, difference), nil
		}
	}
	e.Prev, e.Refresh = prev, o.Refresh
	e.Node.Created, e.Node.Modified = prev.Created, tx.p.Index+1
	stored := e.Node
	switch {
	case prev.Dir:
		e.Node.Dir, stored.Dir, stored.Modified = true, true, prev.Modified
	case o.Refresh:
		e.Node.Value = prev.Value
		stored.Value = prev.Value
	default:
		e.Node.Value = o.Value
		stored.Value = o.Value
	}
	tx.replace(prev, &stored)
	tx.commit(e)
	return e, nil, nil
}

// compare says how a file differs from what is expected of it; empty: it does not.
func compare(n *Node, value []byte, index uint64) string {
	var difference string
	if len(value) > 0 && !bytes.Equal(value, n.Value) {
		difference = fmt.Sprintf("[%s != %s]", value, n.Value)
	}
	if index != 0 && index != n.Modified && !fault.Mutant("swap-whatever-index") {
		if difference != "" {
			difference += " "
		}
		difference += fmt.Sprintf("[%d != %d]", index, n.Modified)
	}
	return difference
}

// Delete carries out a TreeDelete; see Put.
func (tx *Tx) Delete(o *command.TreeDelete, now int64) (*Event, *Error, error) {
	e, refusal, err := tx.delete(o, now)
	return tx.outcome(e, refusal, err)
}

func (tx *Tx) delete(o *command.TreeDelete, now int64) (*Event, *Error, error) {
	if o.Compare && o.Path == Root {
		return nil, refuse(CodeNotFile, ""), nil
	}
	if refusal := check(o.Path, o.Path); refusal != nil {
		return nil, refusal, nil
	}
	prev, missing, err := tx.find(o.Path)
	if err != nil || missing != nil {
		return nil, missing, err
	}
	action := ActionDelete
	if o.Compare {
		action = ActionCompareAndDelete
	}
	refusal, err := tx.keeps(prev, o)
	if err != nil || refusal != nil {
		return nil, refusal, err
	}
	e, err := tx.remove(prev, action, now)
	return e, nil, err
}

// keeps returns what speaks against removing a node.
func (tx *Tx) keeps(n *Node, o *command.TreeDelete) (*Error, error) {
	switch {
	case n.Dir && (o.Compare || !o.Dir && !o.Recursive):
		return refuse(CodeNotFile, n.Path), nil
	case o.Compare:
		if difference := compare(n, o.PrevValue, o.PrevIndex); difference != "" {
			return refuse(CodeCompareFailed, difference), nil
		}
	case n.Dir && !o.Recursive:
		empty, err := tx.isEmpty(n.Path)
		if err != nil || empty {
			return nil, err
		}
		return refuse(CodeDirNotEmpty, n.Path), nil
	}
	return nil, nil
}

func (tx *Tx) isEmpty(dir string) (bool, error) {
	lower, upper := subtree(dir)
	it, err := tx.b.Iter(storage.Tree, lower, upper)
	if err != nil {
		return false, err
	}
	empty := !it.First()
	return empty, it.Close()
}

// Expire removes nodes that have run out at o.Stamp, the earliest first, an event each. A directory takes along what is
// in it, without further events.
func (tx *Tx) Expire(o *command.TreeExpire) error {
	due, err := tx.due(o)
	if err != nil {
		return err
	}
	for _, d := range due {
		n, err := tx.get(d.path)
		if err != nil {
			return err
		}
		if n == nil || n.Deadline != d.deadline { // left from a directory that went in one go
			tx.b.Delete(storage.Tree, deadlineKey(d.deadline, d.path))
			continue
		}
		if _, err := tx.remove(n, ActionExpire, o.Stamp); err != nil {
			return err
		}
	}
	return nil
}

type due struct {
	deadline int64
	path     string
}

func (tx *Tx) due(o *command.TreeExpire) (list []due, err error) {
	it, err := deadlines(tx.b, min(tx.table.bound(), tx.earliest))
	if err != nil {
		return nil, err
	}
	for ok := it.First(); ok && int64(len(list)) < o.Limit; ok = it.Next() {
		deadline, path := decodeDeadlineKey(it.Key())
		if deadline > o.Stamp {
			break
		}
		list = append(list, due{deadline, path})
	}
	return list, it.Close()
}

// remove removes a node with all that is below it.
func (tx *Tx) remove(n *Node, action Action, now int64) (*Event, error) {
	if n.Dir {
		if err := tx.clear(n.Path); err != nil {
			return nil, err
		}
	}
	tx.drop(n)
	e := &Event{
		Action: action, Time: now, Prev: n,
		Node: Node{Path: n.Path, Dir: n.Dir, Created: n.Created, Modified: tx.p.Index + 1},
	}
	tx.commit(e)
	return e, nil
}

// clearMax is how many nodes of a directory are removed one by one. Beyond that one record removes all of them, which is
// cheap to write but stays in the way of readers until the store has digested it; and the deadlines that were below stay.
const clearMax = 1000

// clear removes what is below a directory.
func (tx *Tx) clear(dir string) error {
	lower, upper := subtree(dir)
	it, err := tx.b.Iter(storage.Tree, lower, upper)
	if err != nil {
		return err
	}
	count := 0
	for ok := it.First(); ok; ok = it.Next() {
		if count++; count > cmp.Or(tx.table.clearMax, clearMax) {
			tx.b.DeleteRange(storage.Tree, lower, upper)
			tx.noteCleared(dir)
			break
		}
		v, err := it.Value()
		if err != nil {
			it.Close()
			return err
		}
		n, err := decodeNode(decodePath(it.Key()[1:]), v)
		if err != nil {
			it.Close()
			return err
		}
		tx.drop(&n)
	}
	return it.Close()
}

// noteCleared takes note that everything below a directory goes with one record.
func (tx *Tx) noteCleared(dir string) {
	tx.cleared = append(tx.cleared, dir)
	for path := range tx.written {
		if path != dir && Covers(dir, path) {
			tx.written[path] = nil
		}
	}
}

// replace writes a node in place of what was there, with its deadline.
func (tx *Tx) replace(prev, n *Node) {
	if prev != nil && prev.Deadline != n.Deadline {
		tx.dropDeadline(prev)
	}
	if n.Deadline != 0 {
		tx.b.Set(storage.Tree, deadlineKey(n.Deadline, n.Path), nil)
		tx.earliest = min(tx.earliest, n.Deadline)
	}
	record := appendNode(make([]byte, 0, nodeSize(n)), n)
	tx.b.Set(storage.Tree, tx.nodeKey(n.Path), record)
	tx.note(n.Path, record)
}

// drop removes a node, with its deadline.
func (tx *Tx) drop(n *Node) {
	tx.b.Delete(storage.Tree, tx.nodeKey(n.Path))
	tx.dropDeadline(n)
	tx.note(n.Path, nil)
}

func (tx *Tx) note(path string, record []byte) {
	if tx.written == nil {
		tx.written = map[string][]byte{}
	}
	tx.written[path] = record
}

// nodeKey is the key of a node, until the next key is made.
func (tx *Tx) nodeKey(path string) []byte {
	tx.key = appendNodeKey(tx.key[:0], path)
	return tx.key
}

func (tx *Tx) dropDeadline(n *Node) {
	if n.Deadline != 0 {
		tx.b.Delete(storage.Tree, deadlineKey(n.Deadline, n.Path))
	}
}

// commit counts a change and keeps its event.
func (tx *Tx) commit(e *Event) {
	tx.advance()
	tx.events = append(tx.events, e)
}

// advance moves the index on by one, and the window with it.
func (tx *Tx) advance() { tx.p.Index++ }

// outcome adds to a refusal where the tree stands.
func (tx *Tx) outcome(e *Event, refusal *Error, err error) (*Event, *Error, error) {
	if err != nil {
		return nil, nil, fmt.Errorf("tree: %w", err)
	}
	if refusal != nil {
		refusal.Index = tx.p.Index
	}
	return e, refusal, nil
}

// get returns the node at a path other than the root's; nil: there is none.
func (tx *Tx) get(path string) (*Node, error) {
	record, err := tx.record(path)
	if err != nil || record == nil {
		return nil, err
	}
	n, err := decodeNode(path, record)
	return &n, err
}

// record is the record of the node at a path other than the root's; nil: there is none. It does not read the batch, because
// a batch that is read costs more.
func (tx *Tx) record(path string) ([]byte, error) {
	if record, ok := tx.written[path]; ok {
		return record, nil
	}
	for _, dir := range tx.cleared {
		if Covers(dir, path) && path != dir {
			return nil, nil
		}
	}
	if record := tx.table.newest.get(path); record != nil {
		return record, nil
	}
	record, ok, err := tx.b.Beneath().Get(storage.Tree, tx.nodeKey(path))
	if err != nil || !ok {
		return nil, err
	}
	tx.table.newest.put(path, record)
	return record, nil
}

// find returns the node at a path, or a refusal that says what is in the way.
func (tx *Tx) find(path string) (*Node, *Error, error) { return find(path, tx.get) }

// find looks for a node with a get that is never asked for the root. The refusal is CodeNotDir with the file that is in
// the way, or CodeKeyNotFound with the first component that is missing.
func find(path string, get func(path string) (*Node, error)) (*Node, *Error, error) {
	n, err := get(path)
	if err != nil || n != nil {
		return n, nil, err
	}
	for dir := path; dir != Root; {
		dir = parent(dir)
		if dir == Root {
			break
		}
		n, err := get(dir)
		if err != nil {
			return nil, nil, err
		}
		if n == nil {
			continue
		}
		if !n.Dir {
			return nil, refuse(CodeNotDir, dir), nil
		}
		return nil, refuse(CodeKeyNotFound, below(dir, path)), nil
	}
	return nil, refuse(CodeKeyNotFound, below(Root, path)), nil
}
