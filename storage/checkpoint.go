package storage

import (
	"fmt"
	"strings"

	"github.com/cockroachdb/pebble/v2/vfs"
)

// checkpointCacheBytes is the block cache of a checkpoint that is opened to read a few records.
const checkpointCacheBytes = 1 << 20

// Checkpoint makes a copy of the database in dir, which must not exist, out of hard links. The copy holds every batch
// that was committed before the call, perhaps some that are committed meanwhile, and as always a prefix of all. Tables
// are never written to once they are complete, so what is linked stays as it is, whatever becomes of the original; what
// the original goes on writing to is copied. On an error nothing is left in dir.
func (db *DB) Checkpoint(dir string) error {
	if db.o.ReadOnly {
		if err := db.copyFiles(dir); err != nil {
			return fmt.Errorf("storage: checkpoint to %s: %w", dir, err)
		}
		return nil
	}
	err := db.p.Flush() // there is no write-ahead log that could bring along what stands in memory
	if err == nil {
		err = db.p.Checkpoint(dir)
	}
	if err == nil {
		err = db.removeLogs(dir)
	}
	if err != nil {
		return fmt.Errorf("storage: checkpoint to %s: %w", dir, err)
	}
	return nil
}

// copyFiles makes a checkpoint of a database that nobody writes to, which Pebble itself does not: tables are linked, the small
// files copied.
func (db *DB) copyFiles(dir string) error {
	fs := db.o.FS
	names, err := fs.List(db.o.Dir)
	if err == nil {
		err = fs.MkdirAll(dir, 0o700)
	}
	for _, name := range names {
		from, to := fs.PathJoin(db.o.Dir, name), fs.PathJoin(dir, name)
		switch {
		case err != nil || !IsCheckpointFile(name):
		case strings.HasSuffix(name, ".sst"), strings.HasSuffix(name, ".blob"):
			err = vfs.LinkOrCopy(fs, from, to)
		default:
			err = vfs.Copy(fs, from, to)
		}
	}
	return err
}

// removeLogs removes from a checkpoint what Pebble makes of its write-ahead log when it opens a database again: a file
// that nothing is ever written to.
func (db *DB) removeLogs(dir string) error {
	names, err := db.o.FS.List(dir)
	if err != nil {
		return err
	}
	for _, name := range names {
		if strings.HasSuffix(name, ".log") {
			if err := db.o.FS.Remove(db.o.FS.PathJoin(dir, name)); err != nil {
				return err
			}
		}
	}
	return nil
}

// OpenCheckpoint opens a checkpoint of this database to read from. It leaves the checkpoint as it is, but for a file
// named LOCK, which IsCheckpointFile does not know.
func (db *DB) OpenCheckpoint(dir string) (*DB, error) {
	return Open(Options{
		FS: db.o.FS, Dir: dir, CacheBytes: checkpointCacheBytes, Fatal: db.o.Fatal, Damaged: db.o.Damaged, Warn: db.o.Warn, ReadOnly: true,
		Manual: db.o.Manual,
	})
}

// IsCheckpointFile reports whether a file of a checkpoint can have this name. It is never one that leads out of its
// directory.
//
//	<number>.sst, <number>.blob               tables
//	MANIFEST-<number>, OPTIONS-<number>
//	marker.<word>.<number>.<word>             which manifest and which format count
func IsCheckpointFile(name string) bool {
	if len(name) > fileNameMax {
		return false
	}
	if number, ok := strings.CutSuffix(name, ".sst"); ok {
		return isFileNumber(number)
	}
	if number, ok := strings.CutSuffix(name, ".blob"); ok {
		return isFileNumber(number)
	}
	if parts := strings.Split(name, "."); len(parts) == 4 && parts[0] == "marker" {
		return isWord(parts[1]) && isFileNumber(parts[2]) && isWord(parts[3])
	}
	kind, number, _ := strings.Cut(name, "-")
	return (kind == "MANIFEST" || kind == "OPTIONS") && isFileNumber(number)
}

const fileNameMax = 100

// isFileNumber knows numbers as Pebble writes them: at least six digits.
func isFileNumber(s string) bool {
	return len(s) >= 6 && len(s) <= 20 && strings.Trim(s, "0123456789") == ""
}

func isWord(s string) bool {
	for i := range len(s) {
		c := s[i]
		if (c < '0' || c > '9') && (c|0x20 < 'a' || c|0x20 > 'z') && c != '-' {
			return false
		}
	}
	return s != ""
}
