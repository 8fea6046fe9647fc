package tree

import (
	"bytes"
	"fmt"

	"keelson/storage"
)

// View reads the tree as it stood when the view was opened. It belongs to one goroutine. Close it.
type View struct {
	it *storage.Iter
	p  Position
}

// Open opens a view of the newest state that r has.
func Open(r storage.Reader) (*View, error) {
	it, err := r.Iter(storage.Tree, nil, nil)
	if err != nil {
		return nil, fmt.Errorf("tree: %w", err)
	}
	v := &View{it: it}
	position, ok, err := v.seek([]byte{keyPosition})
	if err == nil && ok {
		v.p, err = decodePosition(position)
	}
	if err != nil {
		it.Close()
		return nil, err
	}
	return v, nil
}

// Close ends the view.
func (v *View) Close() error { return v.it.Close() }

// Position is where the tree stands.
func (v *View) Position() Position { return v.p }

// seek returns the value of a key, valid until the next move.
func (v *View) seek(key []byte) (value []byte, ok bool, err error) {
	if !v.it.SeekGE(key) || !bytes.Equal(v.it.Key(), key) {
		return nil, false, v.it.Error()
	}
	value, err = v.it.Value()
	return value, err == nil, err
}

func (v *View) get(path string) (*Node, error) {
	value, ok, err := v.seek(nodeKey(path))
	if err != nil || !ok {
		return nil, err
	}
	n, err := decodeNode(path, bytes.Clone(value))
	return &n, err
}

// Get returns a node, or a refusal: CodeKeyNotFound or CodeNotDir, or CodeInvalidField for what is no path. An error means
// the disk, or damage.
func (v *View) Get(path string) (*Node, *Error, error) {
	if path == Root {
		return &Node{Path: Root, Dir: true}, nil, nil
	}
	var refusal *Error
	if wrong := CheckPath(path); wrong != "" {
		refusal = refuse(CodeInvalidField, wrong)
	} else {
		var n *Node
		var err error
		if n, refusal, err = find(path, v.get); refusal == nil {
			return n, nil, err
		}
	}
	refusal.Index = v.p.Index
	return nil, refusal, nil
}

// Exists reports whether there is a node at a path.
func (v *View) Exists(path string) (bool, error) {
	if path == Root {
		return true, nil
	}
	_, ok, err := v.seek(nodeKey(path))
	return ok, err
}

// stepsMax is how many nodes of a directory that is not wanted are stepped over before it is left with a seek.
const stepsMax = 8

// Walk calls enter for the visible nodes below a directory, in the order of their names at every level, and leave for
// every directory that was entered, after what is in it. What is below one of them is walked through only if recursive.
// Hidden nodes are left out with all that is below them. Depth is 1 for the directory's children. A node is valid only
// during the call, and what enter returns ends the walk.
func (v *View) Walk(dir string, recursive bool, enter func(n *Node, depth int) error, leave func(depth int)) error {
	lower, upper := subtree(dir)
	base := len(lower) // of a child's name in its key
	if dir == Root {
		base = 1
	}
	inside := 0 // directories entered and not left
	for ok := v.it.SeekGE(lower); ok && bytes.Compare(v.it.Key(), upper) < 0; {
		key := v.it.Key()
		depth := 1 + bytes.Count(key[base:], []byte{separator})
		for ; inside >= depth; inside-- {
			leave(inside)
		}
		if IsHidden(string(key[base+lastSeparator(key[base:]):])) {
			ok = v.skip(key)
			continue
		}
		value, err := v.it.Value()
		if err != nil {
			return err
		}
		n, err := decodeNode(decodePath(key[1:]), value)
		if err != nil {
			return err
		}
		if err := enter(&n, depth); err != nil {
			return err
		}
		if n.Dir {
			inside = depth
		}
		if n.Dir && !recursive {
			ok = v.skip(key)
		} else {
			ok = v.it.Next()
		}
	}
	for ; inside > 0; inside-- {
		leave(inside)
	}
	return v.it.Error()
}

// lastSeparator is where the last component of a key begins.
func lastSeparator(key []byte) int { return bytes.LastIndexByte(key, separator) + 1 }

// skip goes on to the first node that is not below the one at key.
func (v *View) skip(key []byte) (ok bool) {
	below := append(bytes.Clone(key), separator)
	for range stepsMax {
		if !v.it.Next() {
			return false
		}
		if !bytes.HasPrefix(v.it.Key(), below) {
			return true
		}
	}
	below[len(below)-1]++
	return v.it.SeekGE(below)
}

// Events yields the events of the window from an index on, in order, until yield returns false. If the index is below
// the window, the refusal is CodeOutdated. An event is the receiver's.
func (v *View) Events(from uint64, yield func(*Event) bool) (*Error, error) {
	if oldest := v.p.Oldest(); from < oldest {
		cause := fmt.Sprintf("the requested history has been cleared [%d/%d]", oldest, from)
		return &Error{Code: CodeOutdated, Cause: cause, Index: v.p.Index}, nil
	}
	for ok := v.it.SeekGE(eventKey(from)); ok && v.it.Key()[0] == keyEvent; ok = v.it.Next() {
		index, err := decodeEventKey(v.it.Key())
		if err != nil {
			return nil, err
		}
		value, err := v.it.Value()
		if err != nil {
			return nil, err
		}
		e, err := decodeEvent(index, bytes.Clone(value))
		if err != nil {
			return nil, err
		}
		if !yield(e) {
			return nil, nil
		}
	}
	return nil, v.it.Error()
}
