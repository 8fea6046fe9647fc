package storage

import (
	"context"
	"errors"
	"fmt"
	"os"

	"github.com/cockroachdb/pebble/v2/sstable"
	"github.com/cockroachdb/pebble/v2/vfs"
)

// Tables are the files that the database consists of now.
func (db *DB) Tables() (paths []string, err error) {
	levels, err := db.p.SSTables()
	if err != nil {
		return nil, fmt.Errorf("storage: tables: %w", err)
	}
	for _, tables := range levels {
		for _, t := range tables {
			paths = append(paths, db.o.FS.PathJoin(db.o.Dir, fmt.Sprintf("%s.sst", t.BackingSSTNum)))
		}
	}
	return paths, nil
}

// ScrubTable reads every block of a table again, past the cache, and compares it with its checksum: damage is then found
// while other members can still make up for it, not when somebody asks for what nobody has asked for in years. pace is
// called before each read with its length in bytes, to wait as long as it likes; its error ends the scrub. What was read is
// returned; a table that has been removed meanwhile is whole. The database may be closed meanwhile.
//
// Errors: ErrDamaged, if Options.Damaged and Fatal let it; pace's; failures of the disk.
func (db *DB) ScrubTable(ctx context.Context, path string, pace func(ctx context.Context, bytes int) error) (bytes int64, err error) {
	bytes, err = db.scrubTable(ctx, path, pace)
	switch {
	case err == nil, errors.Is(err, os.ErrNotExist):
		return bytes, nil
	case ctx.Err() != nil:
		return bytes, ctx.Err()
	case isDamage(err):
		reason := fmt.Sprintf("table %s is damaged: %v", path, err)
		db.damaged(reason)
		return bytes, fmt.Errorf("storage: scrub: %w: %s", ErrDamaged, reason)
	}
	return bytes, fmt.Errorf("storage: scrub %s: %w", path, err)
}

func (db *DB) scrubTable(ctx context.Context, path string, pace func(context.Context, int) error) (bytes int64, err error) {
	f, err := db.o.FS.Open(path)
	if err != nil {
		return 0, err
	}
	paced := &pacedFile{File: f, ctx: ctx, pace: pace}
	readable, err := sstable.NewSimpleReadable(paced)
	if err != nil {
		return 0, errors.Join(err, f.Close())
	}
	r, err := sstable.NewReader(ctx, readable, db.pebble().MakeReaderOptions())
	if err != nil {
		return paced.bytes, errors.Join(err, paced.err, readable.Close())
	}
	err = r.ValidateBlockChecksums()
	return paced.bytes, errors.Join(paced.err, err, r.Close())
}

// pacedFile waits before each read.
type pacedFile struct {
	vfs.File
	ctx   context.Context
	pace  func(context.Context, int) error
	bytes int64
	err   error // of pace
}

// ReadAt implements io.ReaderAt.
func (f *pacedFile) ReadAt(b []byte, at int64) (int, error) {
	if err := f.pace(f.ctx, len(b)); err != nil {
		f.err = err
		return 0, err
	}
	n, err := f.File.ReadAt(b, at)
	f.bytes += int64(n)
	return n, err
}
