package datadir

import (
	"errors"
	"fmt"
	"hash/crc32"
	"os"
	"strconv"
	"strings"
)

const (
	firstStoreName = "state" // the store a member begins with; those that snapshots bring are state-1, state-2, ...

	pointerName = "ACTIVE"
	pointerTemp = "ACTIVE.new"

	incomingName = "incoming"
	outgoingName = "outgoing"
)

// Position is a place in the raft log.
type Position struct{ Index, Term uint64 }

// State is where the database in use lives. It changes with Commit and Activate.
func (d *Dir) State() string {
	d.mu.Lock()
	defer d.mu.Unlock()
	return d.path(d.active.store)
}

// Installed is the position of the snapshot that State holds, if it was activated and nothing says that the log has been
// reset to it: then a crash may have come in between.
func (d *Dir) Installed() (p Position, ok bool) {
	d.mu.Lock()
	defer d.mu.Unlock()
	return d.active.installed, d.active.unsettled
}

// Incoming is where snapshots are received: what is in it survives a restart. Outgoing is where checkpoints are made to
// be sent: what is in it does not.
func (d *Dir) Incoming() string { return d.path(incomingName) }
func (d *Dir) Outgoing() string { return d.path(outgoingName) }

// Adopt takes a received database, a directory below Incoming, in among the stores, durably and under a fresh name, which
// it returns. It can then be opened there. Until Activate it does not count: the next Open removes it. After a failure
// there is none.
func (d *Dir) Adopt(received string) (dir string, err error) {
	d.mu.Lock()
	defer d.mu.Unlock()
	names, err := d.fs.List(d.path())
	if err != nil {
		return "", fmt.Errorf("data directory %s: %w", d.root, err)
	}
	newest := uint64(0)
	for _, name := range names {
		if n, ok := storeNumber(name); ok {
			newest = max(newest, n)
		}
	}
	dir = d.path(storeName(newest + 1))
	if err := d.fs.Rename(received, dir); err != nil {
		return "", fmt.Errorf("data directory %s: %w", d.root, err)
	}
	if err := syncDirs(d.fs, dir, d.path(), d.fs.PathDir(received)); err != nil {
		return "", errors.Join(err, d.remove(d.fs.PathBase(dir))) // nobody else would before the next start
	}
	return dir, nil
}

// Activate makes an adopted store the one in use, by one rename: from here on it is what the next start opens. The store
// holds a snapshot at position p, durably. The log has yet to be reset to that; Settle says that it was. The old store's
// directory stays, for whoever still reads from it, until Remove.
func (d *Dir) Activate(dir string, p Position) (old string, err error) {
	d.mu.Lock()
	defer d.mu.Unlock()
	name := d.fs.PathBase(dir)
	if n, ok := storeNumber(name); !ok || n == 0 || d.path(name) != dir || d.Fresh {
		panic(fmt.Sprintf("datadir: %s is no adopted store of %s", dir, d.path()))
	}
	old = d.path(d.active.store)
	return old, d.point(pointer{store: name, installed: p, unsettled: true})
}

// Settle says that the log has been reset to the position of the store that was activated, durably.
func (d *Dir) Settle() error {
	d.mu.Lock()
	defer d.mu.Unlock()
	return d.point(pointer{store: d.active.store})
}

// Remove removes a store that is not in use, or not any more: one that Activate has replaced, or that was adopted in vain.
// It must be closed.
func (d *Dir) Remove(dir string) error {
	d.mu.Lock()
	defer d.mu.Unlock()
	name := d.fs.PathBase(dir)
	if _, ok := storeNumber(name); !ok || d.path(name) != dir || name == d.active.store {
		panic(fmt.Sprintf("datadir: %s is not a store to remove: %s is in use", dir, d.active.store))
	}
	return d.remove(name)
}

// point writes the pointer file, durably, all or nothing.
func (d *Dir) point(p pointer) error {
	temp := d.path(pointerTemp)
	if err := writeFile(d.fs, temp, p.text()); err != nil {
		return err
	}
	if err := d.fs.Rename(temp, d.path(pointerName)); err != nil {
		return fmt.Errorf("data directory %s: %w", d.root, err)
	}
	d.active = p
	return syncDirs(d.fs, d.path())
}

// Write replaces a small file in the member directory, durably, all or nothing.
func (d *Dir) Write(name, text string) error {
	d.mu.Lock()
	defer d.mu.Unlock()
	return d.write(name, text)
}

func (d *Dir) write(name, text string) error {
	temp := d.path(name + ".new")
	if err := writeFile(d.fs, temp, text); err != nil {
		return err
	}
	if err := d.fs.Rename(temp, d.path(name)); err != nil {
		return fmt.Errorf("data directory %s: %w", d.root, err)
	}
	return syncDirs(d.fs, d.path())
}

// remove removes something from the member directory, durably.
func (d *Dir) remove(name string) error {
	if err := d.fs.RemoveAll(d.path(name)); err != nil {
		return fmt.Errorf("data directory %s: remove %s: %w", d.root, name, err)
	}
	return syncDirs(d.fs, d.path())
}

// tidy removes what an earlier run has left of stores, and makes the directories for those that come and go.
func (d *Dir) tidy() error {
	names, err := d.fs.List(d.path())
	if err != nil {
		return fmt.Errorf("data directory %s: %w", d.root, err)
	}
	for _, name := range names {
		_, isStore := storeNumber(name)
		if isStore && name != d.active.store || name == pointerTemp || name == outgoingName {
			if err := d.remove(name); err != nil {
				return err
			}
		}
	}
	return d.makeWays()
}

// makeWays makes the directories that stores come and go through.
func (d *Dir) makeWays() error {
	for _, name := range []string{incomingName, outgoingName} {
		if err := d.fs.MkdirAll(d.path(name), 0o700); err != nil {
			return fmt.Errorf("data directory %s: %w", d.root, err)
		}
	}
	return syncDirs(d.fs, d.path())
}

func storeName(n uint64) string { return firstStoreName + "-" + strconv.FormatUint(n, 10) }

// storeNumber is the number in the name of a store, 0 for the first.
func storeNumber(name string) (n uint64, ok bool) {
	if name == firstStoreName {
		return 0, true
	}
	digits, ok := strings.CutPrefix(name, firstStoreName+"-")
	if !ok {
		return 0, false
	}
	n, err := strconv.ParseUint(digits, 10, 63)
	return n, err == nil && n > 0 && name == storeName(n)
}

// pointer says which store is in use.
type pointer struct {
	store string
	// unsettled: the store is a snapshot at position installed, and the log may not have been reset to that yet.
	unsettled bool
	installed Position
}

// The pointer file:
//
//	active 1
//	store <name>
//	installed <index> <term>, or none
//	checksum <CRC-32C of the lines above, 8 hexadecimal digits>
const pointerVersion = 1

func (p pointer) text() string {
	installed := "none"
	if p.unsettled {
		installed = fmt.Sprintf("%d %d", p.installed.Index, p.installed.Term)
	}
	text := fmt.Sprintf("active %d\nstore %s\ninstalled %s\n", pointerVersion, p.store, installed)
	return text + fmt.Sprintf("checksum %08x\n", crc32.Checksum([]byte(text), crc32.MakeTable(crc32.Castagnoli)))
}

// parsePointer is the reverse of text, and takes nothing else. Errors: ErrNewer, ErrDamaged.
func parsePointer(text string) (p pointer, err error) {
	first, _, _ := strings.Cut(text, "\n")
	if number, ok := strings.CutPrefix(first, "active "); ok {
		if version, err := strconv.Atoi(number); err == nil && version > pointerVersion {
			return pointer{}, fmt.Errorf("%w: the pointer file is of version %d, this program knows versions up to %d", ErrNewer, version, pointerVersion)
		}
	}
	lines := strings.Split(text, "\n")
	if len(lines) == 5 {
		p.store = strings.TrimPrefix(lines[1], "store ")
		n, err := fmt.Sscanf(lines[2], "installed %d %d", &p.installed.Index, &p.installed.Term)
		p.unsettled = n == 2 && err == nil
		if !p.unsettled {
			p.installed = Position{}
		}
	}
	if _, ok := storeNumber(p.store); !ok || p.text() != text {
		return pointer{}, fmt.Errorf("%w: the pointer file holds %q", ErrDamaged, text)
	}
	return p, nil
}

// readPointer finds out which store is in use, and that it is there.
func (d *Dir) readPointer() error {
	const advice = "restore the directory from a backup, or remove it and let the member join again"
	text, err := readFile(d.fs, d.path(pointerName))
	switch {
	case errors.Is(err, os.ErrNotExist):
		d.active = pointer{store: firstStoreName}
	case err != nil:
		return fmt.Errorf("data directory %s: %w", d.root, err)
	default:
		if d.active, err = parsePointer(text); err != nil {
			return fmt.Errorf("%w, in %s; %s", err, d.path(pointerName), advice)
		}
	}
	for _, part := range []string{"wal", d.active.store} {
		_, err := d.fs.Stat(d.path(part))
		switch {
		case errors.Is(err, os.ErrNotExist):
			return fmt.Errorf("%w: %s is missing (%v); %s", ErrDamaged, d.path(part), err, advice)
		case err != nil:
			return fmt.Errorf("data directory %s: %w", d.root, err)
		}
	}
	return nil
}
