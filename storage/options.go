package storage

import (
	"fmt"

	"github.com/cockroachdb/pebble/v2"
	"github.com/cockroachdb/pebble/v2/bloom"
	"github.com/cockroachdb/pebble/v2/cockroachkvs"
	"github.com/cockroachdb/pebble/v2/sstable"

	"keelson/env"
)

// Options opens a DB.
type Options struct {
	FS  env.FS
	Dir string

	// CacheBytes bounds the block cache. 0: 128 MiB.
	CacheBytes int64
	// MemtableBytes is the size at which a memtable is flushed: also the bound of what a restart applies again. 0: 32 MiB.
	MemtableBytes uint64

	// Fatal is told that the database can't go on (a failed write of its manifest, a failed flush, a failed read, a damaged
	// table). It must not return, unless Manual is set: then what follows counts for nothing. Nil: panic, but for a failed
	// read, of which only whoever reads is told.
	Fatal func(reason string)
	// Damaged is told, before Fatal is, that what is on the disk is not what was written. It must not wait long, and may be
	// told more than once. If it returns true, Fatal is not told: the database is about to be closed. Nil: false.
	Damaged func(reason string) bool
	// Flushed is called after each completed flush, from a goroutine of Pebble's: it must not block. May be nil.
	Flushed func()
	// Warn is told what Pebble reports as an error without giving up. May be nil.
	Warn func(message string)

	// Uncompressed writes tables as they are, so that Sizes speaks of what was written and not of how well it compresses. Tables
	// that are there stay as they are until they are rewritten.
	Uncompressed bool
	// Manual leaves flushes to Flush and switches compactions off, so that the same operations give the same files
	// (for the simulator).
	Manual bool
	// ReadOnly opens without writing anything.
	ReadOnly bool
	// MustExist refuses a directory without a database. Otherwise one is begun, and what looks like the tables of another
	// is removed: a database that has lost the file that names its manifest would be gone.
	MustExist bool

	expendable bool // see OpenScratch
}

// Remedy is what to do about a store that is damaged.
const Remedy = "; start the member again, and it fetches its state from another one or, if it is the only member, restore a snapshot"

const (
	cacheBytesDefault    = 128 << 20
	memtableBytesDefault = 32 << 20
)

func (o Options) fatal(reason string) {
	if o.Fatal != nil {
		o.Fatal(reason)
		if o.Manual || o.expendable {
			return
		}
	}
	panic("storage: " + reason)
}

// damaged reports damage. A database that is only read goes on: who reads is given the error.
func (db *DB) damaged(reason string) {
	if db.o.Damaged != nil && db.o.Damaged(reason) {
		return
	}
	if db.o.Fatal != nil || !db.o.ReadOnly {
		db.fatal(reason)
	}
}

func (db *DB) pebble() *pebble.Options {
	o, schema := db.o, cockroachkvs.KeySchema
	p := &pebble.Options{
		FS:                          orderedFS{o.FS},
		Cache:                       db.cache,
		Comparer:                    &cockroachkvs.Comparer,
		KeySchema:                   schema.Name,
		KeySchemas:                  sstable.MakeKeySchemas(&schema),
		DisableWAL:                  true,
		FormatMajorVersion:          pebble.FormatTableFormatV6,
		MemTableSize:                memtableBytesDefault,
		MemTableStopWritesThreshold: 4,
		L0CompactionThreshold:       8, // Pebble begins at half of it; at fewer, the level below is rewritten too often
		L0StopWritesThreshold:       1000,
		LBaseMaxBytes:               64 << 20,
		MaxOpenFiles:                4096,
		ReadOnly:                    o.ReadOnly,
		ErrorIfNotExists:            o.MustExist,
		DisableAutomaticCompactions: o.Manual,
		Logger:                      logger{db},
		EventListener: &pebble.EventListener{
			BackgroundError: func(err error) {
				switch {
				case isCanceled(err):
				case pebble.IsCorruptionError(err):
					db.damaged("background error: " + err.Error())
				default:
					db.fatal("background error: " + err.Error())
				}
			},
			DataCorruption: func(i pebble.DataCorruptionInfo) {
				db.damaged(fmt.Sprintf("table %s is damaged: %v", i.Path, i.Details) + Remedy)
			},
			FlushBegin: func(pebble.FlushInfo) { db.covering.Store(db.committed.Load()) },
			FlushEnd: func(i pebble.FlushInfo) {
				if i.Err != nil {
					return
				}
				db.covered.Store(db.covering.Load()) // one flush at a time
				db.flushes.Add(1)
				if o.Flushed != nil {
					o.Flushed()
				}
			},
		},
	}
	if o.Manual {
		// A number of processors is not to be in any file.
		p.Experimental.FileCacheShards = 2
		// Nobody asks for what is collected about tables; and of one that is damaged it is collected again and again, if Fatal
		// returns.
		p.DisableTableStats = true
		// The scheduler of compactions has a goroutine, which an Open that fails leaves behind.
		p.Experimental.CompactionScheduler = pebble.NewConcurrencyLimitSchedulerWithNoPeriodicGrantingForTest()
	}
	if o.MemtableBytes > 0 {
		p.MemTableSize = o.MemtableBytes
	}
	for i := range p.Levels {
		p.Levels[i].FilterPolicy = bloom.FilterPolicy(10)
		p.Levels[i].BlockSize = 16 << 10
		p.Levels[i].IndexBlockSize = 64 << 10
	}
	compression := pebble.DBCompressionFastest
	if o.Uncompressed {
		compression = pebble.DBCompressionNone
	}
	p.ApplyCompressionSettings(func() pebble.DBCompressionSettings { return compression })
	return p
}

// logger passes on what Pebble has to say. Its Fatalf does not return: Pebble itself would go on.
type logger struct{ db *DB }

func (logger) Infof(string, ...any) {}

func (l logger) Errorf(format string, args ...any) {
	if l.db.o.Warn != nil {
		l.db.o.Warn(fmt.Sprintf(format, args...))
	}
}

func (l logger) Fatalf(format string, args ...any) { l.db.fatal(fmt.Sprintf(format, args...)) }
