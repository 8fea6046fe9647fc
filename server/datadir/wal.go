package datadir

import (
	"errors"
	"fmt"
	"os"

	"keelson/env"
)

// unfinishedName marks a directory for the raft log of a member that is in the making: whatever else is there was left by
// a crash.
const unfinishedName = "UNFINISHED"

// OpenApart is Open for a member whose raft log has a directory of its own, on a disk of its own as a rule. The directory
// inside the data directory, by which tools see that there is a member, is then empty. A log does not move by itself: who
// gives an existing member another directory has to move the files first.
//
// wal empty: as Open.
func OpenApart(fs env.FS, root, wal string) (*Dir, error) {
	d := &Dir{fs: fs, root: root, name: memberName, apart: wal}
	if err := d.open(); err != nil {
		return nil, err
	}
	return d, nil
}

// Wal is where the raft log lives. It changes with Commit unless the log has a directory of its own.
func (d *Dir) Wal() string {
	if d.apart != "" {
		return d.apart
	}
	return d.path("wal")
}

// prepareWal makes the log's own directory. One that holds files of somebody else is refused.
func (d *Dir) prepareWal() error {
	if d.apart == "" {
		return nil
	}
	if err := d.fs.MkdirAll(d.apart, 0o700); err != nil {
		return fmt.Errorf("raft log directory %s: %w", d.apart, err)
	}
	names, err := d.fs.List(d.apart)
	if err != nil {
		return fmt.Errorf("raft log directory %s: %w", d.apart, err)
	}
	mark := d.fs.PathJoin(d.apart, unfinishedName)
	if _, err := d.fs.Stat(mark); len(names) > 0 && errors.Is(err, os.ErrNotExist) {
		return fmt.Errorf("%w: %s holds files (%s, ...), but %s holds no member: give the data directory that they belong to, "+
			"or another --wal-dir", ErrForeign, d.apart, names[0], d.root)
	}
	for _, n := range names {
		if n == unfinishedName {
			continue // the last to go
		}
		if err := d.fs.RemoveAll(d.fs.PathJoin(d.apart, n)); err != nil {
			return fmt.Errorf("raft log directory %s: remove what a crash left: %w", d.apart, err)
		}
	}
	if err := writeFile(d.fs, mark, ""); err != nil {
		return err
	}
	return syncDirs(d.fs, d.apart)
}

// finishWal takes the mark away once there is a member.
func (d *Dir) finishWal() error {
	if d.apart == "" {
		return nil
	}
	err := d.fs.Remove(d.fs.PathJoin(d.apart, unfinishedName))
	if errors.Is(err, os.ErrNotExist) {
		return nil
	}
	if err != nil {
		return fmt.Errorf("raft log directory %s: %w", d.apart, err)
	}
	return syncDirs(d.fs, d.apart)
}
