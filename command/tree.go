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

// TreeUser makes, changes or removes a user of the v2 API.
type TreeUser struct {
	Name string
	Mode TreeAccessMode
	// Hash is that of the password, by bcrypt. Empty: it stays as it is.
	Hash []byte
	// Roles are those of a new user, Grant and Revoke those that an old one is given and loses. Roles may be nil or empty, and
	// stay so, because clients are told which.
	Roles, Grant, Revoke []string
}

// TreeRole makes, changes or removes a role of the v2 API.
type TreeRole struct {
	Name string
	Mode TreeAccessMode // TreeAccessPut does not exist for roles, and is taken as TreeAccessCreate
	// Read and Write are the patterns of a new role. They may be nil or empty, and stay so, because clients are told which.
	Read, Write []string
	// The others are patterns that an old one is given and loses.
	GrantRead, GrantWrite, RevokeRead, RevokeWrite []string
}

// TreeAccess switches the checks of users and roles in the v2 API on or off.
type TreeAccess struct{ Enabled bool }

// TreeAccessMode says what is to become of a user or a role.
type TreeAccessMode uint8

// The modes. The numbers are those on disk.
const (
	TreeAccessPut TreeAccessMode = iota // made if it is not there, else changed
	TreeAccessCreate
	TreeAccessUpdate
	TreeAccessDelete
	treeAccessModes // how many there are
)

// Numbers of the v2 tree's ops on disk: 64 to 95 are its own.
const (
	kindTreeFirst  kind = 64
	kindTreePut    kind = 64
	kindTreeDelete kind = 65
	kindTreeExpire kind = 66
	kindTreeUser   kind = 67
	kindTreeRole   kind = 68
	kindTreeAccess kind = 69
	kindTreeLast   kind = 95
)

func (*TreePut) kind() kind    { return kindTreePut }
func (*TreeDelete) kind() kind { return kindTreeDelete }
func (*TreeExpire) kind() kind { return kindTreeExpire }
func (*TreeUser) kind() kind   { return kindTreeUser }
func (*TreeRole) kind() kind   { return kindTreeRole }
func (*TreeAccess) kind() kind { return kindTreeAccess }

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

func (o *TreeUser) appendFields(dst []byte) []byte {
	dst = appendString(dst, 1, o.Name)
	dst = appendInt(dst, 2, int64(o.Mode))
	dst = appendBytes(dst, 3, o.Hash)
	dst = appendStrings(dst, 4, o.Roles)
	dst = appendStrings(dst, 5, o.Grant)
	dst = appendStrings(dst, 6, o.Revoke)
	return appendBool(dst, 7, isEmpty(o.Roles))
}

func (o *TreeRole) appendFields(dst []byte) []byte {
	dst = appendString(dst, 1, o.Name)
	dst = appendInt(dst, 2, int64(o.Mode))
	dst = appendStrings(dst, 3, o.Read)
	dst = appendStrings(dst, 4, o.Write)
	dst = appendStrings(dst, 5, o.GrantRead)
	dst = appendStrings(dst, 6, o.GrantWrite)
	dst = appendStrings(dst, 7, o.RevokeRead)
	dst = appendStrings(dst, 8, o.RevokeWrite)
	dst = appendBool(dst, 9, isEmpty(o.Read))
	return appendBool(dst, 10, isEmpty(o.Write))
}

// isEmpty reports whether a list is empty without being nil.
func isEmpty(list []string) bool { return list != nil && len(list) == 0 }

func (o *TreeAccess) appendFields(dst []byte) []byte { return appendBool(dst, 1, o.Enabled) }

// decodeTree reads an op of the v2 tree.
func decodeTree(k kind, b []byte) (Op, error) {
	switch k {
	case kindTreePut:
		return decodeTreePut(b)
	case kindTreeDelete:
		return decodeTreeDelete(b)
	case kindTreeExpire:
		return decodeTreeExpire(b)
	case kindTreeUser:
		return decodeTreeUser(b)
	case kindTreeRole:
		return decodeTreeRole(b)
	case kindTreeAccess:
		return decodeTreeAccess(b)
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

func (f *fields) asTreeAccessMode() TreeAccessMode {
	mode := f.asUint()
	if mode >= uint64(treeAccessModes) {
		f.fail("mode %d", mode)
	}
	return TreeAccessMode(mode)
}

// notNil is the list, empty instead of nil if the field says so.
func (f *fields) notNil(list []string) []string {
	if f.asBool() && list == nil {
		return []string{}
	}
	return list
}

func decodeTreeUser(b []byte) (*TreeUser, error) {
	o := &TreeUser{}
	f := fields{rest: b, what: "tree user"}
	for f.next() {
		switch f.n {
		case 1:
			o.Name = f.asString()
		case 2:
			o.Mode = f.asTreeAccessMode()
		case 3:
			o.Hash = f.asBytes()
		case 4:
			o.Roles = append(o.Roles, f.asString())
		case 5:
			o.Grant = append(o.Grant, f.asString())
		case 6:
			o.Revoke = append(o.Revoke, f.asString())
		case 7:
			o.Roles = f.notNil(o.Roles)
		default:
			f.unknown()
		}
	}
	return o, f.err
}

func decodeTreeRole(b []byte) (*TreeRole, error) {
	o := &TreeRole{}
	f := fields{rest: b, what: "tree role"}
	for f.next() {
		switch f.n {
		case 1:
			o.Name = f.asString()
		case 2:
			o.Mode = f.asTreeAccessMode()
		case 3:
			o.Read = append(o.Read, f.asString())
		case 4:
			o.Write = append(o.Write, f.asString())
		case 5:
			o.GrantRead = append(o.GrantRead, f.asString())
		case 6:
			o.GrantWrite = append(o.GrantWrite, f.asString())
		case 7:
			o.RevokeRead = append(o.RevokeRead, f.asString())
		case 8:
			o.RevokeWrite = append(o.RevokeWrite, f.asString())
		case 9:
			o.Read = f.notNil(o.Read)
		case 10:
			o.Write = f.notNil(o.Write)
		default:
			f.unknown()
		}
	}
	return o, f.err
}

func decodeTreeAccess(b []byte) (*TreeAccess, error) {
	o := &TreeAccess{}
	f := fields{rest: b, what: "tree access"}
	for f.next() {
		switch f.n {
		case 1:
			o.Enabled = f.asBool()
		default:
			f.unknown()
		}
	}
	return o, f.err
}
