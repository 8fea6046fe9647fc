package sim

import (
	"fmt"
	"math/rand/v2"
	"path"
	"slices"
	"strings"
)

// flaw is a place on a disk that does not hold what it should: bits that have turned, or a write that went elsewhere. It
// knows what should be there, so that no seed loses the last good copy: once the member has noticed, its data is given back
// as they were, or thrown away while enough others are sound.
type flaw struct {
	name    string // of the file
	offset  int
	was, is []byte // what should be there, and what is
	went    string // the file that has what should be there; empty: it was not a write that went elsewhere
}

func (f flaw) String() string { return fmt.Sprintf("%s from byte %d on", f.name, f.offset) }

// flawsBelow reports whether the disk has flaws in files below a directory.
func (d *disk) flawsBelow(dir string) bool {
	d.mu.Lock()
	defer d.mu.Unlock()
	return slices.ContainsFunc(d.flaws, func(f flaw) bool { return strings.HasPrefix(f.name, dir) })
}

// flip turns one bit of a file below a directory, of those that are not zero up to the end of the file. It reports where;
// empty: nowhere.
func (d *disk) flip(dir string, rng *rand.Rand) string {
	d.mu.Lock()
	defer d.mu.Unlock()
	type place struct {
		name string
		n    *node
		size int
	}
	var places []place
	d.files(dir, func(name string, n *node) {
		size := len(n.data)
		for size > 0 && n.data[size-1] == 0 {
			size--
		}
		if size > 0 {
			places = append(places, place{name, n, size})
		}
	})
	if len(places) == 0 {
		return ""
	}
	p := places[rng.IntN(len(places))]
	i, bit := rng.IntN(p.size), rng.IntN(8)
	f := flaw{name: p.name, offset: i, was: []byte{p.n.data[i]}, is: []byte{p.n.data[i] ^ 1<<bit}}
	p.n.put(i, f.is)
	d.flaws = append(d.flaws, f)
	return f.String()
}

// put changes bytes on the disk itself: also of what was synced.
func (n *node) put(at int, b []byte) {
	copy(n.data[at:], b)
	if at < len(n.synced) {
		copy(n.synced[at:], b)
	}
}

// overwritten forgets what flaws say of bytes that are written anew.
func (d *disk) overwritten(n *node, off, size int) {
	for k, f := range d.flaws {
		from, to := max(f.offset, off), min(f.offset+len(f.is), off+size)
		if from >= to || d.find(f.name) != n {
			continue
		}
		d.flaws[k].was = slices.Clone(f.was)
		copy(d.flaws[k].was[from-f.offset:to-f.offset], f.is[from-f.offset:to-f.offset])
	}
}

// forgetFlaws forgets flaws in a directory that nobody will look at any more.
func (d *disk) forgetFlaws(dir string) {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.flaws = slices.DeleteFunc(slices.Clone(d.flaws), func(f flaw) bool { return strings.HasPrefix(f.name, dir+"/") })
}

// mend undoes all flaws that are still as they came about.
func (d *disk) mend() {
	d.mu.Lock()
	defer d.mu.Unlock()
	for _, f := range slices.Backward(d.flaws) {
		d.undo(f)
	}
	d.flaws = nil
}

// undo puts what should be there where a flaw is, if it is still as it came about.
func (d *disk) undo(f flaw) {
	n := d.find(f.name)
	if n == nil || f.offset+len(f.is) > len(n.data) {
		return
	}
	for i := range f.is {
		if at := f.offset + i; n.data[at] == f.is[i] {
			n.put(at, f.was[i:i+1])
		}
	}
}

// loseTrace is for a file that is about to be removed: a write that went into it is put where it should be. If it is the
// last one of the log, what stands in that file is all that tells of it.
func (d *disk) loseTrace(name string) {
	for _, f := range d.flaws {
		if f.went == name {
			d.undo(f)
		}
	}
}

// created forgets the flaws of another file of the same name, if no crash can bring that file back.
func (d *disk) created(name string, dir *node) {
	base := path.Base(name)
	comesBack := func(c change) bool { return c.add == base }
	if len(d.flaws) == 0 || dir.syncedChildren[base] != nil || slices.ContainsFunc(dir.pending, comesBack) {
		return
	}
	d.flaws = slices.DeleteFunc(slices.Clone(d.flaws), func(f flaw) bool { return f.name == name })
}

// renamed notes that flaws may have another name now. After a crash they may still have the old one.
func (d *disk) renamed(from, to string) {
	for _, f := range slices.Clone(d.flaws) {
		if rest, ok := strings.CutPrefix(f.name, from); ok && (rest == "" || rest[0] == '/') {
			f.name = to + rest
			d.flaws = append(d.flaws, f)
		}
	}
}

// misdirects reports whether a write is to go elsewhere, and lets it: over what was written before to a file of the log.
// Nobody is told.
func (d *disk) misdirects(name string, n *node, off int64, p []byte) bool {
	s := d.armed
	if s == nil || d.ghost || !s.astray || !strings.HasPrefix(name, s.dir) {
		return false
	}
	if s.after--; s.after >= 0 {
		return false
	}
	var places []string
	var nodes []*node
	d.files(s.dir, func(at string, other *node) {
		if other == n {
			name = at // it may have been renamed since it was opened
		}
		if !strings.HasSuffix(at, ".raftlog") {
			return // a write that is lost without a trace, the last one before a crash, nobody can notice
		}
		if end := len(p); (other != n && len(other.data) >= end) || other == n && int(off) >= end {
			places, nodes = append(places, at), append(nodes, other)
		}
	})
	d.armed, d.struck = nil, true
	if len(places) == 0 {
		return false
	}
	i := d.rng.IntN(len(places))
	room := len(nodes[i].data) - len(p)
	if nodes[i] == n {
		room = int(off) - len(p)
	}
	at := d.rng.IntN(room + 1)
	if end := int(off) + len(p); end > len(n.data) { // the file is as long as if it had been written
		n.write(int64(len(n.data)), make([]byte, end-len(n.data)))
	}
	d.flaws = append(d.flaws,
		flaw{name: name, offset: int(off), was: slices.Clone(p), is: slices.Clone(n.data[off : int(off)+len(p)]), went: places[i]},
		flaw{name: places[i], offset: at, was: slices.Clone(nodes[i].data[at : at+len(p)]), is: slices.Clone(p)},
	)
	nodes[i].write(int64(at), p)
	nodes[i].put(at, p) // it is on the disk: no crash takes it away, though nobody syncs that file
	return true
}

// infect notes the flaws of a table that was copied from another disk.
func (d *disk) infect(from *disk, fromDir, dir string) {
	from.mu.Lock()
	flaws := slices.Clone(from.flaws)
	from.mu.Unlock()
	d.mu.Lock()
	defer d.mu.Unlock()
	for _, f := range flaws {
		base := path.Base(f.name)
		source, copied := from.find(path.Join(fromDir, base)), d.find(path.Join(dir, base))
		if source != nil && copied != nil && f.offset < len(copied.data) && copied.data[f.offset] == f.is[0] {
			f.name = path.Join(dir, base)
			d.flaws = append(d.flaws, f)
		}
	}
}
