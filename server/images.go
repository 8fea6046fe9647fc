package server

import (
	"context"
	"errors"
	"fmt"
	"strconv"
	"sync/atomic"
	"time"

	"go.uber.org/zap"

	"keelson/api/v3"
	"keelson/env"
	"keelson/internal/sched"
	"keelson/snapshot/etcdfile"
	"keelson/state"
	"keelson/storage"
)

const (
	// imagesMax is how many images there are at a time; more callers wait.
	imagesMax = 2
	// imageCacheBytes is the block cache while one is made. The sorting has the same and a memtable of that size.
	imageCacheBytes = 16 << 20
)

// images makes files of the whole state in etcd's format, for clients to save. They are made in the directory for what is
// sent, and removed when they have been.
type images struct {
	s     *Server
	slots chan struct{}
	made  atomic.Uint64
}

func newImages(s *Server) *images { return &images{s: s, slots: make(chan struct{}, imagesMax)} }

// image is one of them.
type image struct {
	*etcdfile.Image
	x   *images
	dir string
}

// Image implements v3.Images.
func (x *images) Image(ctx context.Context) (v3.Image, error) {
	select {
	case x.slots <- struct{}{}:
	case <-ctx.Done():
		return nil, ctx.Err()
	}
	start := time.Now()
	e := x.s.engine
	dir := e.fs.PathJoin(e.dir.Outgoing(), "image-"+strconv.FormatUint(x.made.Add(1), 10))
	made, err := x.make(ctx, dir)
	if err != nil {
		x.discard(dir)
		return nil, err
	}
	x.s.metrics.Snapshot.Observe(time.Since(start).Seconds())
	x.s.logger.Info("made database snapshot", zap.Int64("total-bytes", made.Size()), zap.Duration("took", time.Since(start)))
	return &image{made, x, dir}, nil
}

// make makes an image in a directory of its own: from a checkpoint, so that it shows one moment and holds up nobody.
func (x *images) make(ctx context.Context, dir string) (*etcdfile.Image, error) {
	e := x.s.engine
	if err := x.roomForImage(); err != nil {
		return nil, err
	}
	if err := e.fs.MkdirAll(dir, 0o700); err != nil {
		return nil, fmt.Errorf("snapshot: %w", err)
	}
	checkpoint := e.fs.PathJoin(dir, "state")
	if _, _, err := e.machine.Checkpoint(checkpoint); err != nil {
		return nil, err
	}
	return writeImage(ctx, e.fs, e.hooks.end, e.noteDamage, checkpoint, dir)
}

// roomForImage refuses to make an image that the disk has no room for: the log and the store need what is left.
func (x *images) roomForImage() error {
	disk, err := x.s.engine.fs.GetDiskUsage(x.s.engine.dir.State())
	if err != nil {
		return nil // nobody knows
	}
	if _, inUse := x.s.sizes(); 2*uint64(inUse)+shrinkMarginBytes > disk.AvailBytes {
		return fmt.Errorf("snapshot: the disk has %d bytes left, and the %d bytes in use are written twice on the way to a snapshot: "+
			"make room first, or take the snapshot from another member; nothing was changed", disk.AvailBytes, inUse)
	}
	return nil
}

// writeImage writes the state in a checkpoint into an etcd file below dir, and removes the checkpoint. What can't be written,
// because the disk is full, is the end of the image and of nothing else.
func writeImage(ctx context.Context, fs env.FS, fatal func(string), damaged func(string) bool, checkpoint, dir string) (made *etcdfile.Image, err error) {
	db, err := storage.Open(storage.Options{FS: fs, Dir: checkpoint, CacheBytes: imageCacheBytes, Fatal: fatal, Damaged: damaged, ReadOnly: true})
	if err != nil {
		return nil, err
	}
	defer func() { err = errors.Join(err, db.Close(), fs.RemoveAll(checkpoint)) }()
	sorted := fs.PathJoin(dir, "sorted")
	ctx, fail := context.WithCancelCause(ctx)
	defer fail(nil)
	scratch, err := storage.OpenScratch(storage.Options{
		FS: fs, Dir: sorted, CacheBytes: imageCacheBytes, MemtableBytes: imageCacheBytes,
	}, fail)
	if err != nil {
		return nil, err
	}
	defer func() { err = errors.Join(err, scratch.Close(), fs.RemoveAll(sorted)) }()
	w, err := etcdfile.Create(fs.PathJoin(dir, "db"))
	if err != nil {
		return nil, err
	}
	err = export(ctx, db, scratch, w)
	if cause := context.Cause(ctx); cause != nil { // Export may have come to an end by then, or speaks of what went nowhere
		err = fmt.Errorf("snapshot: %w", cause)
	}
	if err != nil {
		w.Abort()
		return nil, err
	}
	return w.Finish()
}

// export is a long stretch of work.
func export(ctx context.Context, db, scratch *storage.DB, w *etcdfile.Writer) error {
	batch := sched.Begin()
	defer batch.End()
	return state.Export(ctx, db, scratch, w)
}

// Close implements v3.Image.
func (i *image) Close() error {
	err := i.Image.Close()
	i.x.discard(i.dir)
	return err
}

// discard removes what is left of an image and lets the next one begin.
func (x *images) discard(dir string) {
	if err := x.s.engine.fs.RemoveAll(dir); err != nil {
		x.s.logger.Warn("failed to remove a database snapshot", zap.String("path", dir), zap.Error(err))
	}
	<-x.slots
}
