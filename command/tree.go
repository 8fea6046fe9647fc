package command

import (
	"fmt"

	"google.golang.org/protobuf/encoding/protowire"
)

// TreePut writes a node of the v2 tree: a file with a value, or a directory.
type TreePut struct {
	// Path names the node, as package tree writes paths: "/a/b", without a slash at the end, "/" for the root. With
	// TreeCreateInOrder it is the directory in which the node is made.
	Path string
	Mode TreePutMode
	// Dir asks for a directory. Only TreeSet, TreeCreate and TreeCreateInOrder look at it.
	Dir   bool
	Value []byte
	// Deadline is when the node runs out, in nanoseconds since 1970. 0: never.
	Deadline int64
	// Refresh keeps the value, and tells no watcher. Only TreeSet, TreeUpdate and TreeCompareAndSwap look at it.
	Refresh bool
	// PrevValue and PrevIndex are what a TreeCompareAndSwap compares with. Empty, and 0: not compared.
	PrevValue []byte
	PrevIndex uint64
}

// TreePutMode says what a TreePut asks of the node that is there.
type TreePutMode uint8

// The modes. The numbers are those on disk.
const (
	TreeSet TreePutMode = iota
	TreeCreate
	TreeCreateInOrder
	TreeUpdate
	TreeCompareAndSwap
	treePutModes // how many there are
)

// TreeDelete removes a node of the v2 tree, and what is below it.
type TreeDelete struct {
	Path string
	// Compare makes it a compare-and-delete, of a file whose value and index are PrevValue and PrevIndex (empty, and 0: not
	// compared). Otherwise Dir allows it to remove an empty directory, Recursive any.
	Compare        bool
	Dir, Recursive bool
	PrevValue      []byte
	PrevIndex      uint64
}

// TreeExpire removes the nodes of the v2 tree that have run out.
type TreeExpire struct {
	// Stamp is the leader's wall clock, in nanoseconds since 1970: nodes whose deadline is not later have run out.
	Stamp int64
	// Limit is how many deadlines are looked at, the earliest first.
	Limit int64
}

// Numbers of the v2 tree's ops on disk: 64 to 95 are its own.
const (
	kindTreeFirst  kind = 64
	kindTreePut    kind = 64
	kindTreeDelete kind = 65
	kindTreeExpire kind = 66
	kindTreeLast   kind = 95
)

func (*TreePut) kind() kind    { return kindTreePut }
func (*TreeDelete) kind() kind { return kindTreeDelete }
func (*TreeExpire) kind() kind { return kindTreeExpire }

// treeOp is what appendFields knows of the ops of the v2 tree.
type treeOp interface {
	Op
	appendFields(dst []byte) []byte
}

func (o *TreePut) appendFields(dst []byte) []byte {
	dst = appendString(dst, 1, o.Path)
	dst = appendInt(dst, 2, int64(o.Mode))
	dst = appendBool(dst, 3, o.Dir)
	dst = appendBytes(dst, 4, o.Value)
	dst = appendInt(dst, 5, o.Deadline)
	dst = appendBool(dst, 6, o.Refresh)
	dst = appendBytes(dst, 7, o.PrevValue)
	return appendInt(dst, 8, int64(o.PrevIndex))
}

func (o *TreeDelete) appendFields(dst []byte) []byte {
	dst = appendString(dst, 1, o.Path)
	dst = appendBool(dst, 2, o.Compare)
	dst = appendBool(dst, 3, o.Dir)
	dst = appendBool(dst, 4, o.Recursive)
	dst = appendBytes(dst, 5, o.PrevValue)
	return appendInt(dst, 6, int64(o.PrevIndex))
}

func (o *TreeExpire) appendFields(dst []byte) []byte {
	dst = appendInt(dst, 1, o.Stamp)
	return appendInt(dst, 2, o.Limit)
}

// decodeTree reads an op of the v2 tree.
func decodeTree(k kind, b []byte) (Op, error) {
	switch k {
	case kindTreePut:
		return decodeTreePut(b)
	case kindTreeDelete:
		return decodeTreeDelete(b)
	case kindTreeExpire:
		return decodeTreeExpire(b)
	}
	return nil, fmt.Errorf("%w: op %d", ErrMalformed, k)
}

func isTree(k protowire.Number) bool {
	return k >= protowire.Number(kindTreeFirst) && k <= protowire.Number(kindTreeLast)
}

func decodeTreePut(b []byte) (*TreePut, error) {
	o := &TreePut{}
	f := fields{rest: b, what: "tree put"}
	for f.next() {
		switch f.n {
		case 1:
			o.Path = f.asString()
		case 2:
			mode := f.asUint()
			if mode >= uint64(treePutModes) {
				f.fail("mode %d", mode)
			}
			o.Mode = TreePutMode(mode)
		case 3:
			o.Dir = f.asBool()
		case 4:
			o.Value = f.asBytes()
		case 5:
			o.Deadline = f.asInt()
		case 6:
			o.Refresh = f.asBool()
		case 7:
			o.PrevValue = f.asBytes()
		case 8:
			o.PrevIndex = f.asUint()
		default:
			f.unknown()
		}
	}
	return o, f.err
}

func decodeTreeDelete(b []byte) (*TreeDelete, error) {
	o := &TreeDelete{}
	f := fields{rest: b, what: "tree delete"}
	for f.next() {
		switch f.n {
		case 1:
			o.Path = f.asString()
		case 2:
			o.Compare = f.asBool()
		case 3:
			o.Dir = f.asBool()
		case 4:
			o.Recursive = f.asBool()
		case 5:
			o.PrevValue = f.asBytes()
		case 6:
			o.PrevIndex = f.asUint()
		default:
			f.unknown()
		}
	}
	return o, f.err
}

func decodeTreeExpire(b []byte) (*TreeExpire, error) {
	o := &TreeExpire{}
	f := fields{rest: b, what: "tree expire"}
	for f.next() {
		switch f.n {
		case 1:
			o.Stamp = f.asInt()
		case 2:
			o.Limit = f.asInt()
		default:
			f.unknown()
		}
	}
	return o, f.err
}
