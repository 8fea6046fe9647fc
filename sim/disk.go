package sim

import (
	"errors"
	"fmt"
	"hash/crc64"
	"io"
	"maps"
	"math/rand/v2"
	"os"
	"path"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"

	"github.com/cespare/xxhash/v2"
	"github.com/cockroachdb/errors/oserror"
	"github.com/cockroachdb/pebble/v2/vfs"
)

// disk is a file system in memory that knows what a crash would leave of it: the door to files of a simulated member.
//
// What was not synced survives a crash or not, each sector of a file and each change of a directory on its own, as the
// generator says. (vfs.NewCrashableMem does the same for whole pages, but draws in the order of a map, so that a seed
// would not repeat.) A strike makes one operation fail, or crashes the machine within it. After a crash the processes of
// the member go on, in a ghost world that nobody looks at, until they are put away; the image of the crash was taken
// at its moment.
type disk struct {
	mu    sync.Mutex
	root  *node
	rng   *rand.Rand
	locks map[string]bool
	style crashStyle
	bug   string // a deliberate bug of the kind a disk shows; empty: none

	armed  *strike
	struck bool // the strike has come down
	ghost  bool
	gaveUp string         // why the store has given up; empty: it has not
	flaws  []flaw         // what is not as it should be
	image  *disk          // what the crash has left; nil: not crashed
	reads  *atomic.Uint64 // a sum over what is read, and where, of all disks; nil: nobody adds up

	// postponed are names that the store has removed and that are still there. It removes from a goroutine of its
	// own, beside whatever else is going on: each such removal happens when everything has come to rest.
	postponed []string
}

// crashStyle says how a crash treats what was not synced.
type crashStyle struct {
	keepPercent int  // chance of each unsynced piece to survive
	sectorBytes int  // size of the pieces of a file; real disks write no less than 512 at once
	ordered     bool // changes of a directory survive in order (a journal): up to some point
}

// strike is a fault that waits for an operation.
type strike struct {
	dir    string // the operation is on a file below
	after  int    // this many operations later
	crash  bool   // crash within the operation; otherwise it fails
	errno  error
	read   bool // it is a read
	astray bool // it is a write, and goes elsewhere
}

// errStruck is in every error that a disk returns because of a strike.
var errStruck = errors.New("simulated disk error")

// node is a file or a directory.
type node struct {
	dir bool

	data, synced []byte
	dirty        map[int]bool // sectors of data (of the smallest size) written since the last sync

	children, syncedChildren map[string]*node
	pending                  []change // of children, since the last sync
}

// change is one change of a directory.
type change struct {
	remove string
	add    string
	node   *node
}

// unitBytes is the granularity at which a file remembers what was written since the last sync.
const unitBytes = 64

func newDisk(rng *rand.Rand, style crashStyle) *disk {
	return &disk{
		root:  &node{dir: true, children: map[string]*node{}, syncedChildren: map[string]*node{}},
		rng:   rng,
		locks: map[string]bool{},
		style: style,
	}
}

// arm lays a strike in wait. It replaces one that has not come down.
func (d *disk) arm(s strike) {
	d.mu.Lock()
	defer d.mu.Unlock()
	if !d.ghost {
		d.armed, d.struck = &s, false
	}
}

// disarm takes back a strike that has not come down, and reports whether one has.
func (d *disk) disarm() (struck bool) {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.armed = nil
	struck, d.struck = d.struck, false
	return struck
}

// disarmRead takes back a strike on a read.
func (d *disk) disarmRead() {
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.armed != nil && d.armed.read {
		d.armed = nil
	}
}

// crash takes the image of a crash now, unless there has been one, and returns it.
func (d *disk) crash() *disk {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.crashLocked()
	return d.image
}

func (d *disk) crashed() bool {
	d.mu.Lock()
	defer d.mu.Unlock()
	return d.ghost
}

func (d *disk) crashLocked() {
	if d.image != nil {
		return
	}
	d.image = newDisk(d.rng, d.style)
	d.image.bug, d.image.reads = d.bug, d.reads
	d.image.flaws = slices.Clone(d.flaws) // the ghost goes on writing
	d.image.root = d.survivor(d.root)
	d.ghost, d.armed = true, nil
}

// survivor is what a crash leaves of a node.
func (d *disk) survivor(n *node) *node {
	if !n.dir {
		s := &node{data: slices.Clone(n.synced)}
		for start := 0; start < len(n.data); start += d.style.sectorBytes {
			end := min(start+d.style.sectorBytes, len(n.data))
			if !n.isDirty(start, end) || !d.keep() {
				continue
			}
			if grow := end - len(s.data); grow > 0 {
				s.data = append(s.data, make([]byte, grow)...)
			}
			copy(s.data[start:end], n.data[start:end])
		}
		s.synced = slices.Clone(s.data)
		return s
	}
	children := maps.Clone(n.syncedChildren)
	for _, c := range n.pending {
		if d.keep() {
			c.apply(children)
		} else if d.style.ordered {
			break
		}
	}
	s := &node{dir: true, children: map[string]*node{}}
	for _, name := range slices.Sorted(maps.Keys(children)) {
		s.children[name] = d.survivor(children[name])
	}
	s.syncedChildren = maps.Clone(s.children)
	return s
}

func (d *disk) keep() bool { return d.rng.IntN(100) < d.style.keepPercent }

func (c change) apply(children map[string]*node) {
	if c.remove != "" {
		delete(children, c.remove)
	}
	if c.add != "" {
		children[c.add] = c.node
	}
}

func (n *node) isDirty(start, end int) bool {
	if len(n.dirty) == 0 {
		return false
	}
	for u := start / unitBytes; u*unitBytes < end; u++ {
		if n.dirty[u] {
			return true
		}
	}
	return false
}

func (n *node) write(off int64, p []byte) {
	end := int(off) + len(p)
	if grow := end - len(n.data); grow > 0 {
		n.markDirty(len(n.data), end)
		n.data = append(n.data, make([]byte, grow)...)
	}
	n.markDirty(int(off), end)
	copy(n.data[off:], p)
}

func (n *node) markDirty(start, end int) {
	if n.dirty == nil {
		n.dirty = map[int]bool{}
	}
	for u := start / unitBytes; u*unitBytes < end; u++ {
		n.dirty[u] = true
	}
}

// sync makes a node durable.
func (n *node) sync() {
	if n.dir {
		n.syncedChildren, n.pending = maps.Clone(n.children), nil
		return
	}
	for u := range n.dirty { // each unit on its own: the order does not matter
		end := min((u+1)*unitBytes, len(n.data))
		if grow := end - len(n.synced); grow > 0 {
			n.synced = append(n.synced, make([]byte, grow)...)
		}
		copy(n.synced[u*unitBytes:end], n.data[u*unitBytes:end])
	}
	n.dirty = nil
}

// dropDirty is what a failed sync does: the pages count as clean, but never reached the disk.
func (n *node) dropDirty() { n.dirty = nil }

// change makes a change of a directory.
func (n *node) change(c change) {
	c.apply(n.children)
	n.pending = append(n.pending, c)
}

type opKind uint8

const (
	opChange opKind = iota // of a directory
	opWrite
	opSync
)

// do carries out an operation that changes the disk, of size units (1, or the bytes of a write), or the first some of
// them if a strike comes down. apply may be called twice.
func (d *disk) do(kind opKind, name string, n *node, size int, apply func(size int)) error {
	s := d.armed
	if s == nil || d.ghost || !strings.HasPrefix(name, s.dir) || s.read || s.astray {
		apply(size)
		return nil
	}
	if s.after--; s.after >= 0 {
		apply(size)
		return nil
	}
	d.armed, d.struck = nil, true
	part := size * d.rng.IntN(2)
	if kind == opWrite {
		part = d.rng.IntN(size + 1)
	}
	if s.crash {
		if part > 0 {
			apply(part)
		}
		d.crashLocked()
		if part < size {
			apply(size)
		}
		return nil
	}
	switch {
	case kind == opSync:
		n.dropDirty()
		if d.bug == "retry-failed-sync" {
			return nil
		}
	case part > 0 && kind == opWrite:
		apply(part)
	}
	if inStore(name) && (strings.HasPrefix(path.Base(name), "MANIFEST-") || kind == opSync && n.dir) {
		// Pebble calls for the end of the process, or panics, there and then; if it came back, it would try again for ever.
		d.gaveUp = "its manifest or its directory can't be written"
		d.crashLocked()
		apply(size)
		return nil
	}
	return &os.PathError{Op: "simulate", Path: name, Err: fmt.Errorf("%w: %w", errStruck, s.errno)}
}

// read is a strike on a read: what it fails with, if it does.
func (d *disk) read(name string, off int64) error {
	if d.reads != nil && !d.ghost {
		d.reads.Add(xxhash.Sum64String(name) * uint64(2*off+1))
	}
	s := d.armed
	if s == nil || d.ghost || !s.read || !strings.HasPrefix(name, s.dir) {
		return nil
	}
	if s.after--; s.after >= 0 {
		return nil
	}
	d.armed, d.struck = nil, true
	return &os.PathError{Op: "simulate", Path: name, Err: fmt.Errorf("%w: %w", errStruck, s.errno)}
}

// giveUp is what the process does when the store can't go on: it ends. What it does afterwards happens to a ghost.
func (d *disk) giveUp(reason string) {
	d.mu.Lock()
	defer d.mu.Unlock()
	if !d.ghost {
		d.gaveUp = reason
		d.crashLocked()
	}
}

func (d *disk) hasGivenUp() bool {
	d.mu.Lock()
	defer d.mu.Unlock()
	return d.gaveUp != ""
}

// failed reports whether something was wrong with the disk that the process may have ended for.
func (d *disk) failed() bool {
	d.mu.Lock()
	defer d.mu.Unlock()
	return d.struck || len(d.flaws) > 0
}

// find returns the node of a name; nil if there is none.
func (d *disk) find(name string) *node {
	n := d.root
	for part := range strings.SplitSeq(strings.Trim(path.Clean(name), "/"), "/") {
		if part == "" || part == "." {
			continue
		}
		if n = n.children[part]; n == nil {
			return nil
		}
	}
	return n
}

// parent returns the directory a name is in, and the last part of the name.
func (d *disk) parent(op, name string) (*node, string, error) {
	dir, base := path.Split(path.Clean(name))
	p := d.find(dir)
	if p == nil || !p.dir {
		return nil, "", &os.PathError{Op: op, Path: name, Err: oserror.ErrNotExist}
	}
	return p, base, nil
}

// existing returns the node of a name, and its directory and last part.
func (d *disk) existing(op, name string) (n, dir *node, base string, err error) {
	dir, base, err = d.parent(op, name)
	if err != nil {
		return nil, nil, "", err
	}
	if n = dir.children[base]; n == nil {
		return nil, nil, "", &os.PathError{Op: op, Path: name, Err: oserror.ErrNotExist}
	}
	return n, dir, base, nil
}

// files calls f for each file below a directory, in order of names.
func (d *disk) files(dir string, f func(name string, n *node)) {
	var walk func(name string, n *node)
	walk = func(name string, n *node) {
		if !n.dir {
			f(name, n)
			return
		}
		for _, c := range slices.Sorted(maps.Keys(n.children)) {
			walk(path.Join(name, c), n.children[c])
		}
	}
	if n := d.find(dir); n != nil {
		walk(dir, n)
	}
}

// copy is the same disk, everything on it synced.
func (d *disk) copy() *disk {
	style := d.style
	d.style = crashStyle{keepPercent: 100, sectorBytes: 1 << 20}
	c := newDisk(d.rng, style)
	c.bug, c.reads = d.bug, d.reads
	c.flaws = d.flaws
	c.root = d.survivor(d.root)
	d.style = style
	return c
}

var crcTable = crc64.MakeTable(crc64.ECMA)

// sum is a checksum of all names and bytes below a directory.
func (d *disk) sum(dir string) uint64 {
	h := crc64.New(crcTable)
	d.files(dir, func(name string, n *node) {
		fmt.Fprintf(h, "%s %d ", name, len(n.data))
		h.Write(n.data)
	})
	return h.Sum64()
}

// zero overwrites the rest of a file, from a byte on.
func (d *disk) zero(name string, from int64) {
	n := d.find(name)
	clear(n.data[min(int(from), len(n.data)):])
	n.synced = slices.Clone(n.data)
}

// erase removes a file for good, from outside.
func (d *disk) erase(name string) {
	d.mu.Lock()
	defer d.mu.Unlock()
	if dir, base, err := d.parent("erase", name); err == nil {
		delete(dir.children, base)
		delete(dir.syncedChildren, base)
		dir.pending = slices.DeleteFunc(dir.pending, func(c change) bool { return c.add == base })
	}
}

// The methods of vfs.FS.

func (d *disk) Create(name string, _ vfs.DiskWriteCategory) (vfs.File, error) {
	d.mu.Lock()
	defer d.mu.Unlock()
	dir, base, err := d.parent("create", name)
	if err != nil {
		return nil, err
	}
	d.created(name, dir)
	n := &node{}
	if err := d.do(opChange, name, dir, 1, func(int) { dir.change(change{add: base, node: n}) }); err != nil {
		return nil, err
	}
	return &file{d: d, n: n, name: name, writes: true}, nil
}

func (d *disk) Link(oldname, newname string) error {
	d.mu.Lock()
	defer d.mu.Unlock()
	n, _, _, err := d.existing("link", oldname)
	if err != nil {
		return err
	}
	dir, base, err := d.parent("link", newname)
	if err != nil {
		return err
	}
	if dir.children[base] != nil {
		return &os.LinkError{Op: "link", Old: oldname, New: newname, Err: oserror.ErrExist}
	}
	d.renamed(oldname, newname)
	return d.do(opChange, newname, dir, 1, func(int) { dir.change(change{add: base, node: n}) })
}

func (d *disk) Open(name string, opts ...vfs.OpenOption) (vfs.File, error) {
	d.mu.Lock()
	defer d.mu.Unlock()
	n := d.find(name)
	if n == nil {
		return nil, &os.PathError{Op: "open", Path: name, Err: oserror.ErrNotExist}
	}
	return &file{d: d, n: n, name: name}, nil
}

func (d *disk) OpenReadWrite(name string, c vfs.DiskWriteCategory, opts ...vfs.OpenOption) (vfs.File, error) {
	d.mu.Lock()
	n := d.find(name)
	d.mu.Unlock()
	if n == nil {
		return d.Create(name, c)
	}
	return &file{d: d, n: n, name: name, writes: true}, nil
}

func (d *disk) OpenDir(name string) (vfs.File, error) { return d.Open(name) }

func (d *disk) Remove(name string) error {
	d.mu.Lock()
	defer d.mu.Unlock()
	n, dir, base, err := d.existing("remove", name)
	if err != nil {
		return err
	}
	if len(n.children) > 0 {
		return &os.PathError{Op: "remove", Path: name, Err: syscall.ENOTEMPTY}
	}
	if inStore(name) {
		d.postponed = append(d.postponed, name)
		return nil
	}
	d.loseTrace(name)
	return d.do(opChange, name, dir, 1, func(int) { dir.change(change{remove: base}) })
}

// removePostponed carries out the removals that were postponed, in order of names. What strikes them is a crash, or
// nothing that anybody is told of.
func (d *disk) removePostponed() {
	d.mu.Lock()
	defer d.mu.Unlock()
	slices.Sort(d.postponed)
	for _, name := range d.postponed {
		if _, dir, base, err := d.existing("remove", name); err == nil {
			_ = d.do(opChange, name, dir, 1, func(int) { dir.change(change{remove: base}) })
		}
	}
	d.postponed = nil
}

func (d *disk) RemoveAll(name string) error {
	d.mu.Lock()
	defer d.mu.Unlock()
	_, dir, base, err := d.existing("remove", name)
	if err != nil {
		return nil
	}
	return d.do(opChange, name, dir, 1, func(int) { dir.change(change{remove: base}) })
}

func (d *disk) Rename(oldname, newname string) error {
	d.mu.Lock()
	defer d.mu.Unlock()
	n, from, oldbase, err := d.existing("rename", oldname)
	if err != nil {
		return err
	}
	to, newbase, err := d.parent("rename", newname)
	if err != nil {
		return err
	}
	d.renamed(oldname, newname)
	if from == to {
		return d.do(opChange, newname, to, 1, func(int) { to.change(change{remove: oldbase, add: newbase, node: n}) })
	}
	// Two directories change, and a crash may keep either change: worse than journals are.
	return d.do(opChange, newname, to, 1, func(int) {
		from.change(change{remove: oldbase})
		to.change(change{add: newbase, node: n})
	})
}

func (d *disk) ReuseForWrite(oldname, newname string, c vfs.DiskWriteCategory) (vfs.File, error) {
	if err := d.Rename(oldname, newname); err != nil {
		return nil, err
	}
	return d.OpenReadWrite(newname, c)
}

func (d *disk) MkdirAll(name string, _ os.FileMode) error {
	d.mu.Lock()
	defer d.mu.Unlock()
	n, at := d.root, ""
	for part := range strings.SplitSeq(strings.Trim(path.Clean(name), "/"), "/") {
		at = path.Join(at, part)
		next := n.children[part]
		if next == nil {
			next = &node{dir: true, children: map[string]*node{}, syncedChildren: map[string]*node{}}
			dir := n
			if err := d.do(opChange, at, dir, 1, func(int) { dir.change(change{add: part, node: next}) }); err != nil {
				return err
			}
		}
		n = next
	}
	return nil
}

func (d *disk) Lock(name string) (io.Closer, error) {
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.locks[name] {
		return nil, &os.PathError{Op: "lock", Path: name, Err: syscall.EAGAIN}
	}
	d.locks[name] = true
	return unlock{d, name}, nil
}

type unlock struct {
	d    *disk
	name string
}

func (u unlock) Close() error {
	u.d.mu.Lock()
	defer u.d.mu.Unlock()
	delete(u.d.locks, u.name)
	return nil
}

func (d *disk) List(name string) ([]string, error) {
	d.mu.Lock()
	defer d.mu.Unlock()
	n := d.find(name)
	if n == nil || !n.dir {
		return nil, &os.PathError{Op: "list", Path: name, Err: oserror.ErrNotExist}
	}
	return slices.Sorted(maps.Keys(n.children)), nil
}

func (d *disk) Stat(name string) (vfs.FileInfo, error) {
	d.mu.Lock()
	defer d.mu.Unlock()
	n := d.find(name)
	if n == nil {
		return nil, &os.PathError{Op: "stat", Path: name, Err: oserror.ErrNotExist}
	}
	return info{name: path.Base(name), size: int64(len(n.data)), dir: n.dir}, nil
}

func (d *disk) PathBase(p string) string       { return path.Base(p) }
func (d *disk) PathJoin(elem ...string) string { return path.Join(elem...) }
func (d *disk) PathDir(p string) string        { return path.Dir(p) }
func (d *disk) Unwrap() vfs.FS                 { return nil }

func (d *disk) GetDiskUsage(string) (vfs.DiskUsage, error) {
	return vfs.DiskUsage{AvailBytes: 1 << 40, TotalBytes: 1 << 41}, nil
}
