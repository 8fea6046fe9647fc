package storage

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"

	"github.com/cockroachdb/pebble/v2"

	"keelson/internal/fault"
)

// Reader reads the tables: the newest state (a *DB), what a crash could not take away (DB.Durable), or the newest state
// with a batch's own writes on top (a *Batch).
type Reader interface {
	// Get returns a copy of the value of an unversioned key; ok is false if there is none.
	Get(s Space, key []byte) (value []byte, ok bool, err error)
	// Iter iterates over lower <= key < upper of one space; nil bounds are the space's own. It sees the state of the
	// moment it is made. Close it.
	Iter(s Space, lower, upper []byte) (*Iter, error)
}

// DB is an open database.
type DB struct {
	p       *pebble.DB
	cache   *pebble.Cache
	o       Options
	flushes atomic.Uint64
	failed  atomic.Bool // Fatal has been told something

	// left are the iterators that are open, if Manual: who gives up in the middle of a read does not close its own.
	left struct {
		mu   sync.Mutex
		open map[*Iter]bool
	}

	// How much is only in memory, in bytes of batches, all counted since the database was opened.
	// Invariant: covered <= covering <= committed.
	committed atomic.Uint64 // written by batches
	covering  atomic.Uint64 // by those before the newest flush began
	covered   atomic.Uint64 // by those before the newest completed flush began
}

// ErrDamaged is in the error of an Open that found something else on the disk than was written there.
var ErrDamaged = errors.New("damaged store")

// Open opens or creates the database in o.Dir.
//
// Errors: ErrDamaged; failures of the disk.
func Open(o Options) (*DB, error) {
	size := o.CacheBytes
	if size == 0 {
		size = cacheBytesDefault
	}
	cache := pebble.NewCache(size)
	db := &DB{cache: cache, o: o}
	err := checkManifest(o.FS, o.Dir)
	if err == nil {
		db.p, err = pebble.Open(o.Dir, db.pebble())
	}
	if err != nil {
		cache.Unref()
		if isDamage(err) {
			err = fmt.Errorf("%w: %w", ErrDamaged, err)
		}
		return nil, fmt.Errorf("storage: open %s: %w", o.Dir, err)
	}
	return db, nil
}

// Flushes counts the flushes that were completed since the database was opened.
func (db *DB) Flushes() uint64 { return db.flushes.Load() }

// Get implements Reader.
func (db *DB) Get(s Space, key []byte) ([]byte, bool, error) { return db.get(db.p, s, key) }

// Iter implements Reader.
func (db *DB) Iter(s Space, lower, upper []byte) (*Iter, error) {
	return db.newIter(db.p, s, lower, upper, pebble.IterOptions{})
}

// PointIter is an iterator for SeekVersionOf alone. It asks the bloom filters of every level, the last one too: a key
// that is not there seldom costs a block.
func (db *DB) PointIter(s Space) (*Iter, error) { return db.newPointIter(db.p, s, false) }

// FlushedPointIter is PointIter over what has been flushed to tables alone: it spares the search of the memtables.
func (db *DB) FlushedPointIter(s Space) (*Iter, error) { return db.newPointIter(db.p, s, true) }

// Durable reads only what no crash can take away any more: what has been flushed to tables.
func (db *DB) Durable() Reader { return durable{db} }

type durable struct{ db *DB }

func (d durable) Iter(s Space, lower, upper []byte) (*Iter, error) {
	return d.db.newIter(d.db.p, s, lower, upper, pebble.IterOptions{OnlyReadGuaranteedDurable: true})
}

func (d durable) Get(s Space, key []byte) ([]byte, bool, error) {
	it, err := d.Iter(s, key, nil)
	if err != nil {
		return nil, false, err
	}
	defer it.Close()
	if !it.First() || string(it.Key()) != string(key) {
		return nil, false, it.Error()
	}
	v, err := it.Value()
	return append([]byte(nil), v...), err == nil, err
}

// NewBatch starts a batch. Only the state machine's Apply and the removal of compacted versions may.
func (db *DB) NewBatch() *Batch { return &Batch{b: db.p.NewBatch(), db: db} }

// Flush writes everything committed so far to tables and makes it durable. It takes as long as that takes.
func (db *DB) Flush() error {
	if err := db.p.Flush(); err != nil {
		return fmt.Errorf("storage: flush: %w", err)
	}
	return nil
}

// Shrink flushes, and rewrites all tables without what has been deleted or replaced. Everything else goes on meanwhile. It
// takes as long as reading and writing all that is stored.
func (db *DB) Shrink(ctx context.Context) error {
	if err := db.Flush(); err != nil {
		return err
	}
	// A physical key ends with the length of its suffix: these are below and above all spaces.
	if err := db.p.Compact(ctx, []byte{0, 0}, []byte{0xff, 0}, true); err != nil {
		return fmt.Errorf("storage: shrink: %w", err)
	}
	return nil
}

// Sizes tells how much the database holds.
type Sizes struct {
	DiskBytes uint64 // files, obsolete ones included
	LiveBytes uint64 // tables in use
	// UnflushedBytes is what batches have written since the last flush. Memtables are allocated in large pieces: their size
	// says little about a small store. What was written between the change of memtables and the beginning of their flush,
	// which follow upon each other, is left out until the next flush.
	UnflushedBytes uint64
}

// Sizes is cheap enough to be called once a second.
func (db *DB) Sizes() Sizes {
	m := db.p.Metrics()
	return Sizes{
		DiskBytes:      m.DiskSpaceUsage(),
		LiveBytes:      uint64(m.Total().TablesSize),
		UnflushedBytes: db.unflushed(),
	}
}

// Stats tells what the database does with its files. Totals are since it was opened.
type Stats struct {
	Levels               []Level // from the newest to the oldest
	ReadAmplification    int     // tables and levels that a read may have to look at
	CompactionDebtBytes  uint64  // estimate of what compactions of tables still have to rewrite
	Compactions, Flushes uint64
	CacheHits            uint64 // blocks
	CacheMisses          uint64
	CacheBytes           int64
}

// Level is one level of tables.
type Level struct {
	Tables int64
	Bytes  int64
}

// Stats is cheap enough to be called once a second.
func (db *DB) Stats() Stats {
	m := db.p.Metrics()
	s := Stats{
		ReadAmplification: m.ReadAmp(), CompactionDebtBytes: m.Compact.EstimatedDebt,
		Compactions: uint64(m.Compact.Count), Flushes: uint64(m.Flush.Count),
		CacheHits: uint64(m.BlockCache.Hits), CacheMisses: uint64(m.BlockCache.Misses), CacheBytes: m.BlockCache.Size,
	}
	for i := range m.Levels {
		s.Levels = append(s.Levels, Level{Tables: m.Levels[i].TablesCount, Bytes: m.Levels[i].TablesSize})
	}
	return s
}

// unflushed reads covered first: both only grow, so the difference is never negative.
func (db *DB) unflushed() uint64 {
	covered := db.covered.Load()
	return db.committed.Load() - covered
}

// Close closes the database without a flush: what was not flushed is applied again from the raft log.
func (db *DB) Close() error {
	db.closeLeft()
	err := db.p.Close()
	db.cache.Unref()
	if err != nil {
		return fmt.Errorf("storage: close: %w", err)
	}
	return nil
}

// readFailed is told what a read has failed with, and returns it. A disk that can't be read once may give anything the next
// time, or has given it already to somebody else: the process must end, as for a failed write, and what was read is damaged.
func (db *DB) readFailed(err error) error {
	switch {
	case db.o.Fatal == nil || fault.Mutant("go-on-after-failed-read"):
	case isDamage(err):
		db.damaged(err.Error())
	default:
		db.fatal(err.Error())
	}
	return err
}

func (db *DB) fatal(reason string) {
	db.failed.Store(true)
	db.o.fatal(reason)
}

func (db *DB) get(r pebble.Reader, s Space, key []byte) ([]byte, bool, error) {
	var buf [64]byte
	v, closer, err := r.Get(s.Key(buf[:0], key))
	if errors.Is(err, pebble.ErrNotFound) {
		return nil, false, nil
	}
	if err != nil {
		return nil, false, db.readFailed(fmt.Errorf("storage: get from space %c: %w", s, err))
	}
	v = append([]byte(nil), v...)
	return v, true, closer.Close()
}

// isDamage tells an error of Open that is about what was read from one about the machine: a disk that is full, too few open
// files, another process. What the disk can't read any more is as good as damaged. A format that only a later version
// knows is none.
func isDamage(err error) bool {
	for _, e := range []error{
		fs.ErrPermission, syscall.ENOSPC, syscall.EDQUOT, syscall.EMFILE, syscall.ENFILE, syscall.ENOMEM,
		syscall.EROFS, syscall.EAGAIN, syscall.EINTR,
	} {
		if errors.Is(err, e) {
			return false
		}
	}
	return !strings.Contains(err.Error(), "unknown format major version") && !strings.Contains(err.Error(), "lock held")
}

func isCanceled(err error) bool {
	return errors.Is(err, context.Canceled) || errors.Is(err, pebble.ErrCancelledCompaction)
}
