package tree

import (
	"errors"
	"fmt"

	"keelson/storage"
)

// ErrOrder is in the error of a Loader that is given what can't be part of a tree.
var ErrOrder = errors.New("not a part of a tree")

// Export yields the records of a tree, as they are stored: directories before what is in them. Nothing is yielded of a tree that
// is as it was founded. Deadlines are left out, since nodes have them. The bytes are valid during the call.
func Export(r storage.Reader, yield func(key, value []byte) error) error {
	it, err := r.Iter(storage.Tree, nil, nil)
	if err != nil {
		return fmt.Errorf("tree: export: %w", err)
	}
	touched := false
	for ok := it.First(); ok && !touched; ok = it.Next() {
		touched = it.Key()[0] != keyPosition
	}
	for ok := touched && it.First(); ok && err == nil; ok = it.Next() {
		if it.Key()[0] == keyDeadline {
			continue
		}
		var v []byte
		if v, err = it.Value(); err == nil {
			err = yield(it.Key(), v)
		}
	}
	if e := it.Close(); err == nil {
		err = e
	}
	if err != nil {
		return fmt.Errorf("tree: export: %w", err)
	}
	return nil
}

// Kind is what a record that Export gives is about.
type Kind int

// The kinds.
const (
	KindOther  Kind = iota
	KindNode        // a file or a directory
	KindAccess      // a user or a role
)

// KindOf tells by its key what a record is about.
func KindOf(key []byte) Kind {
	switch {
	case len(key) == 0:
		return KindOther
	case key[0] == keyNode:
		return KindNode
	case key[0] == keyUser || key[0] == keyRole:
		return KindAccess
	}
	return KindOther
}

// Decode reads a record that Export gave, if it is that of a node or of an event. They alias the bytes.
func Decode(key, value []byte) (*Node, *Event, error) {
	if len(key) == 0 {
		return nil, nil, fmt.Errorf("tree: %w: a record without a key", ErrOrder)
	}
	switch key[0] {
	case keyNode:
		n, err := decodeNode(decodePath(key[1:]), value)
		return &n, nil, err
	case keyEvent:
		index, err := decodeEventKey(key)
		if err != nil {
			return nil, nil, err
		}
		e, err := decodeEvent(index, value)
		return nil, e, err
	}
	return nil, nil, nil
}

// Loader fills the tree of a cluster that is being founded with what comes from elsewhere. Indexes stay what they were.
//
//	Node..., Event..., User..., Role..., or Record for any of them ─► Finish
//
// A directory comes before what is in it, and all that is in it before what is not. It belongs to one goroutine.
type Loader struct {
	b     *storage.Batch
	dirs  []string // on the way to the node that came last
	state State
	known bool // what Finish has to say came as a record
}

// NewLoader starts filling the tree that b belongs to. Next gives it another batch, when one is large enough.
func NewLoader(b *storage.Batch) *Loader { return &Loader{b: b} }

// Next goes on in another batch.
func (l *Loader) Next(b *storage.Batch) { l.b = b }

// Node adds a node. Errors: ErrOrder.
func (l *Loader) Node(n *Node) error {
	if wrong := CheckPath(n.Path); wrong != "" || n.Path == Root {
		return fmt.Errorf("tree: %w: path %.60q %s", ErrOrder, n.Path, wrong)
	}
	up := parent(n.Path)
	for len(l.dirs) > 0 && l.dirs[len(l.dirs)-1] != up {
		l.dirs = l.dirs[:len(l.dirs)-1]
	}
	if len(l.dirs) == 0 && up != Root {
		return fmt.Errorf("tree: %w: %.60q has no directory above it", ErrOrder, n.Path)
	}
	if n.Dir {
		l.dirs = append(l.dirs, n.Path)
	}
	if n.Deadline != 0 {
		l.b.Set(storage.Tree, deadlineKey(n.Deadline, n.Path), nil)
	}
	l.b.Set(storage.Tree, nodeKey(n.Path), appendNode(nil, n))
	l.state.Index = max(l.state.Index, n.Modified, n.Created)
	return nil
}

// Event adds an event of the window.
func (l *Loader) Event(e *Event) { l.b.Set(storage.Tree, eventKey(e.Index()), appendEvent(nil, e)) }

// User adds a user.
func (l *Loader) User(u *User) {
	l.b.Set(storage.Tree, nameKey(keyUser, u.Name), appendUser(nil, u))
	l.state.Access.Revision = max(1, l.state.Access.Revision)
}

// Role adds a role; that of root is always there, and is not kept.
func (l *Loader) Role(r *Role) {
	if r.Name != RootRole {
		l.b.Set(storage.Tree, nameKey(keyRole, r.Name), appendRole(nil, r))
	}
	l.state.Access.Revision = max(1, l.state.Access.Revision)
}

// Record adds a record that Export gave. Errors: that it is none; ErrOrder.
func (l *Loader) Record(key, value []byte) (err error) {
	if len(key) == 0 {
		return fmt.Errorf("tree: %w: a record without a key", ErrOrder)
	}
	name := string(key[1:])
	switch key[0] {
	case keyNode:
		n, err := decodeNode(decodePath(key[1:]), value)
		if err != nil {
			return err
		}
		return l.Node(&n)
	case keyEvent:
		index, err := decodeEventKey(key)
		if err != nil {
			return err
		}
		if _, err := decodeEvent(index, value); err != nil {
			return err
		}
	case keyUser:
		_, err = decodeUser(name, value)
	case keyRole:
		_, err = decodeRole(name, value)
	case keyAccess:
		l.state.Access, err = decodeAccess(value)
	case keyPosition:
		l.state.Position, err = decodePosition(value)
		l.known = true
	default:
		err = fmt.Errorf("tree: %w: key %.40x", ErrOrder, key)
	}
	if err == nil {
		l.b.Set(storage.Tree, key, value)
	}
	return err
}

// Finish writes where the tree stands. Whoever gave records gave that too; at is for the others: index is that of the newest
// change, floor the one before which no events came along, and enabled says whether users and roles count.
func (l *Loader) Finish(at Position, enabled bool) {
	if l.known {
		return
	}
	at.Index = max(at.Index, l.state.Index)
	l.b.Set(storage.Tree, []byte{keyPosition}, appendPosition(nil, at))
	if access := l.state.Access; enabled || access.Revision > 0 {
		access.Enabled, access.Revision = enabled, max(1, access.Revision)
		l.b.Set(storage.Tree, []byte{keyAccess}, appendAccess(nil, access))
	}
}
