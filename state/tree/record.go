package tree

import (
	"encoding/binary"
	"fmt"
)

// The record of a node, under keyNode and its path:
//
//	version(1) = 1 | flags(1): 1 directory, 2 has a deadline | created(uvarint) | modified(uvarint)
//	and, if it has one: deadline(8, little endian)
//	and, unless it is a directory: value
const (
	nodeVersion = 1

	flagDir      = 1
	flagDeadline = 2
)

func appendNode(dst []byte, n *Node) []byte {
	return appendNodeBody(append(dst, nodeVersion), n)
}

func appendNodeBody(dst []byte, n *Node) []byte {
	var flags byte
	if n.Dir {
		flags |= flagDir
	}
	if n.Deadline != 0 {
		flags |= flagDeadline
	}
	dst = append(dst, flags)
	dst = binary.AppendUvarint(dst, n.Created)
	dst = binary.AppendUvarint(dst, n.Modified)
	if n.Deadline != 0 {
		dst = binary.LittleEndian.AppendUint64(dst, uint64(n.Deadline))
	}
	return append(dst, n.Value...)
}

// decodeNode reads a node's record. The value aliases b.
func decodeNode(path string, b []byte) (Node, error) {
	if len(b) == 0 || b[0] != nodeVersion {
		return Node{}, fmt.Errorf("tree: record of %q is not one of version %d: %.40x", path, nodeVersion, b)
	}
	n, ok := decodeNodeBody(path, b[1:])
	if !ok {
		return Node{}, fmt.Errorf("tree: record of %q is damaged: %.40x", path, b)
	}
	return n, nil
}

func decodeNodeBody(path string, b []byte) (n Node, ok bool) {
	d := decoder{rest: b}
	flags := d.byte()
	n = Node{Path: path, Dir: flags&flagDir != 0, Created: d.uvarint(), Modified: d.uvarint()}
	if flags&flagDeadline != 0 {
		n.Deadline = int64(d.uint64())
	}
	if d.bad || flags&^(flagDir|flagDeadline) != 0 || n.Dir && len(d.rest) > 0 || (n.Deadline != 0) != (flags&flagDeadline != 0) {
		return Node{}, false
	}
	if !n.Dir {
		n.Value = d.rest
	}
	return n, true
}

// The record of an event, under keyEvent and its index in big endian:
//
//	version(1) = 1 | action(1) | flags(1): 1 refresh, 2 has a previous node | time(8, little endian)
//	| path, node and, if there is one, previous node, each: length(uvarint) | bytes
//
// where a node is its record without the version, and the node of a removal has no value.
const (
	eventVersion = 1

	flagRefresh = 1
	flagPrev    = 2
)

func appendEvent(dst []byte, e *Event) []byte {
	var flags byte
	if e.Refresh {
		flags |= flagRefresh
	}
	if e.Prev != nil {
		flags |= flagPrev
	}
	dst = append(dst, eventVersion, byte(e.Action), flags)
	dst = binary.LittleEndian.AppendUint64(dst, uint64(e.Time))
	dst = binary.AppendUvarint(dst, uint64(len(e.Node.Path)))
	dst = append(dst, e.Node.Path...)
	dst = appendSized(dst, &e.Node)
	if e.Prev != nil {
		dst = appendSized(dst, e.Prev)
	}
	return dst
}

func appendSized(dst []byte, n *Node) []byte {
	dst = binary.AppendUvarint(dst, uint64(nodeSize(n)-1))
	return appendNodeBody(dst, n)
}

// nodeSize is the size of a node's record.
func nodeSize(n *Node) int {
	size := 2 + uvarintSize(n.Created) + uvarintSize(n.Modified) + len(n.Value)
	if n.Deadline != 0 {
		size += 8
	}
	return size
}

func uvarintSize(v uint64) int {
	size := 1
	for ; v >= 0x80; v >>= 7 {
		size++
	}
	return size
}

// decodeEvent reads an event's record. Values alias b.
func decodeEvent(index uint64, b []byte) (*Event, error) {
	d := decoder{rest: b}
	version, action, flags := d.byte(), Action(d.byte()), d.byte()
	e := &Event{Action: action, Refresh: flags&flagRefresh != 0, Time: int64(d.uint64())}
	path := string(d.take(d.uvarint()))
	var ok bool
	if e.Node, ok = decodeNodeBody(path, d.take(d.uvarint())); !ok {
		d.bad = true
	}
	if flags&flagPrev != 0 {
		prev, ok := decodeNodeBody(path, d.take(d.uvarint()))
		if !ok {
			d.bad = true
		}
		e.Prev = &prev
	}
	if d.bad || version != eventVersion || action == 0 || action >= actionEnd || flags&^(flagRefresh|flagPrev) != 0 ||
		len(d.rest) > 0 || e.Node.Modified != index || CheckPath(path) != "" {
		return nil, fmt.Errorf("tree: record of event %d is not one of version %d, or damaged: %.60x", index, eventVersion, b)
	}
	return e, nil
}

// Position is where the tree stands.
type Position struct {
	// Index numbers the newest change. 0: there was none.
	Index uint64
	// Floor is an index from before which events are not known, whatever the window: the tree came from elsewhere.
	Floor uint64
}

// State is where the tree stands, and whether its users and roles count.
type State struct {
	Position
	Access Access
}

// HistorySize is how many indexes the window of events has.
const HistorySize = 1000

// Oldest is the lowest index that can be asked for. Floor <= Oldest.
func (p Position) Oldest() uint64 {
	oldest := max(p.Floor, 1)
	if p.Index >= HistorySize {
		oldest = max(oldest, p.Index-HistorySize+1)
	}
	return oldest
}

// The record of the position, under keyPosition alone:
//
//	version(1) = 1 | index(8) | floor(8)      little endian
const (
	positionVersion = 1
	positionSize    = 17
)

func appendPosition(dst []byte, p Position) []byte {
	dst = append(dst, positionVersion)
	dst = binary.LittleEndian.AppendUint64(dst, p.Index)
	return binary.LittleEndian.AppendUint64(dst, p.Floor)
}

func decodePosition(b []byte) (Position, error) {
	if len(b) != positionSize || b[0] != positionVersion {
		return Position{}, fmt.Errorf("tree: position is not one of version %d: %x", positionVersion, b)
	}
	return Position{Index: binary.LittleEndian.Uint64(b[1:]), Floor: binary.LittleEndian.Uint64(b[9:])}, nil
}

// decoder takes a record apart. Once bad, everything it gives is empty.
type decoder struct {
	rest []byte
	bad  bool
}

func (d *decoder) take(n uint64) []byte {
	if d.bad || n > uint64(len(d.rest)) {
		d.bad = true
		return nil
	}
	b := d.rest[:n:n]
	d.rest = d.rest[n:]
	return b
}

func (d *decoder) byte() byte {
	b := d.take(1)
	if d.bad {
		return 0
	}
	return b[0]
}

func (d *decoder) uint64() uint64 {
	b := d.take(8)
	if d.bad {
		return 0
	}
	return binary.LittleEndian.Uint64(b)
}

func (d *decoder) uvarint() uint64 {
	n, k := binary.Uvarint(d.rest)
	if d.bad || k <= 0 {
		d.bad = true
		return 0
	}
	d.rest = d.rest[k:]
	return n
}
