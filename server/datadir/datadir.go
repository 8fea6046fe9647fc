package datadir

import (
	"errors"
	"fmt"
	"io"
	"os"
	"strconv"
	"strings"
	"sync"

	"keelson/env"
)

// Refusals. Each error around them says what was found and what to do.
var (
	// ErrForeign: another program's data.
	ErrForeign = errors.New("not a keelson data directory")
	// ErrNewer: written by a later version.
	ErrNewer = errors.New("written by a newer keelson")
	// ErrDamaged: parts are missing.
	ErrDamaged = errors.New("damaged data directory")
	// ErrInUse: another process has it open.
	ErrInUse = errors.New("data directory is in use")
)

const (
	formatWord    = "keelson"
	formatVersion = 1

	memberName = "member"
	freshName  = "member.new"
	lockName   = "LOCK"
)

// Dir is an open data directory.
type Dir struct {
	fs    env.FS
	root  string
	name  string // of the member directory: freshName until Commit
	apart string // the raft log's own directory; empty: it has none
	lock  io.Closer

	mu     sync.Mutex
	active pointer // guarded by mu from the end of Open on

	// Fresh: the member is to be initialised, then Commit called.
	Fresh bool
	// Identity is whose directory it is, unless Fresh.
	Identity Identity
	// Strangers are the names at the top level that are not ours.
	Strangers []string
}

// Identity names a member.
type Identity struct{ ClusterID, MemberID uint64 }

func (i Identity) text() string {
	return fmt.Sprintf("cluster %016x\nmember %016x\n", i.ClusterID, i.MemberID)
}

// Open opens or prepares the data directory at root, and locks it.
func Open(fs env.FS, root string) (*Dir, error) { return OpenApart(fs, root, "") }

func (d *Dir) open() (err error) {
	if err := makeRoot(d.fs, d.root); err != nil {
		return fmt.Errorf("data directory %s: %w", d.root, err)
	}
	if err := d.look(); err != nil { // before anything is written to a directory that is not ours
		return err
	}
	if d.lock, err = d.fs.Lock(d.fs.PathJoin(d.root, lockName)); err != nil {
		return fmt.Errorf("%w: %s is open in another process (%w); stop that one first, or give this one a --data-dir of its own", ErrInUse, d.root, err)
	}
	if err := d.lookAndPrepare(); err != nil {
		return errors.Join(err, d.lock.Close())
	}
	return nil
}

// lookAndPrepare is called with the lock held: what was there a moment ago may have been another process's work.
func (d *Dir) lookAndPrepare() error {
	if err := d.look(); err != nil {
		return err
	}
	if d.Fresh {
		return errors.Join(d.prepareWal(), d.prepare())
	}
	return errors.Join(d.finishWal(), d.tidy())
}

// look finds out what is at root.
func (d *Dir) look() error {
	names, err := d.fs.List(d.root)
	if err != nil {
		return fmt.Errorf("data directory %s: %w", d.root, err)
	}
	d.Fresh, d.Strangers = true, nil
	d.active = pointer{store: firstStoreName}
	for _, n := range names {
		switch n {
		case memberName:
			d.Fresh = false
		case freshName, lockName, "fixtures":
		default:
			d.Strangers = append(d.Strangers, n)
		}
	}
	if d.Fresh {
		return nil
	}
	return d.checkFormat()
}

func (d *Dir) checkFormat() error {
	text, err := readFile(d.fs, d.path("FORMAT"))
	switch {
	case errors.Is(err, os.ErrNotExist):
		return d.withoutFormat()
	case err != nil:
		return fmt.Errorf("data directory %s: %w", d.root, err)
	}
	word, number, _ := strings.Cut(strings.TrimSpace(text), " ")
	version, err := strconv.Atoi(number)
	switch {
	case word != formatWord || err != nil || version < 1:
		return fmt.Errorf("%w: %s holds %q, want %q; restore the directory from a backup, or remove it and let the member join again",
			ErrDamaged, d.path("FORMAT"), text, formatText())
	case version > formatVersion:
		return fmt.Errorf("%w: %s is in format %d, this program knows formats up to %d; start it with the version that wrote it, or a later one",
			ErrNewer, d.root, version, formatVersion)
	}
	if err := d.readPointer(); err != nil {
		return err
	}
	return d.readIdentity()
}

func (d *Dir) readIdentity() error {
	text, err := readFile(d.fs, d.path("IDENTITY"))
	if err == nil {
		_, err = fmt.Sscanf(text, "cluster %x\nmember %x\n", &d.Identity.ClusterID, &d.Identity.MemberID)
	}
	if err != nil || text != d.Identity.text() {
		return fmt.Errorf("%w: %s does not say whose directory this is (%v); restore the directory from a backup, or remove it and let the member join again",
			ErrDamaged, d.path("IDENTITY"), err)
	}
	return nil
}

// withoutFormat says what a member directory without a FORMAT file is.
func (d *Dir) withoutFormat() error {
	if _, err := d.fs.Stat(d.path("snap", "db")); err == nil {
		return fmt.Errorf("%w: %s was written by etcd, whose files are not read in place; take its data over with keelson import etcd --data-dir %[2]s --to DIR, or choose another --data-dir",
			ErrForeign, d.root)
	}
	return fmt.Errorf("%w: %s has no FORMAT file; choose another --data-dir, or move that directory away if it holds nothing you need",
		ErrForeign, d.path())
}

// prepare makes an empty member directory under its temporary name.
func (d *Dir) prepare() error {
	d.name = freshName
	if err := d.fs.RemoveAll(d.path()); err != nil {
		return fmt.Errorf("data directory %s: remove what a crash left: %w", d.root, err)
	}
	for _, p := range []string{d.path(), d.path("wal"), d.path(firstStoreName), d.path("snap")} {
		if err := d.fs.MkdirAll(p, 0o700); err != nil {
			return fmt.Errorf("data directory %s: %w", d.root, err)
		}
	}
	note := "The pairs of this member are kept in ../state (or as ../ACTIVE says), by keelson. This file is here for tools that ask whether it exists.\n"
	if err := writeFile(d.fs, d.path("snap", "db"), note); err != nil {
		return err
	}
	if err := writeFile(d.fs, d.path("FORMAT"), formatText()+"\n"); err != nil {
		return err
	}
	if err := d.makeWays(); err != nil {
		return err
	}
	return syncDirs(d.fs, d.path("snap"), d.path())
}

// Commit makes an initialised member directory the real one, durably. Nothing below it may be open but for the lock.
func (d *Dir) Commit(i Identity) error {
	if !d.Fresh {
		panic("datadir: committed twice")
	}
	if err := writeFile(d.fs, d.path("IDENTITY"), i.text()); err != nil {
		return err
	}
	d.Identity = i
	fresh := d.path()
	if err := syncDirs(d.fs, d.path("wal"), d.Wal(), d.path(firstStoreName), fresh); err != nil {
		return err
	}
	d.name = memberName
	if err := d.fs.Rename(fresh, d.path()); err != nil {
		return fmt.Errorf("data directory %s: %w", d.root, err)
	}
	d.Fresh = false
	if err := syncDirs(d.fs, d.root); err != nil {
		return err
	}
	return d.finishWal()
}

// Member is the member directory.
func (d *Dir) Member() string { return d.path() }

// Close lets others in.
func (d *Dir) Close() error { return d.lock.Close() }

func (d *Dir) path(more ...string) string {
	return d.fs.PathJoin(append([]string{d.root, d.name}, more...)...)
}

func formatText() string { return formatWord + " " + strconv.Itoa(formatVersion) }
