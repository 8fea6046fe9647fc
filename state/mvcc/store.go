package mvcc

import (
	"fmt"

	"sync/atomic"

	"keelson/storage"
)

// Store holds the pairs of one member. Reading is safe from any goroutine; Begin, Publish and everything about a Tx
// belong to the one goroutine that applies, CompactStep to any one other.
type Store struct {
	db     *storage.DB
	newest *newest
	fences *fences
	shared atomic.Pointer[publication]
	gate   gate // open views
	tx     Tx   // the one transaction there is at a time
	flush  flush
	// atOpen is the revision of a store that held nothing when it was opened; -1: it held something.
	atOpen Revision
	// eventsKept is how many bytes the events of a run may hold.
	eventsKept int

	removal    removalState
	hashes     hashMemo
	retirement retirement
}

// publication is what a reader starts from. It is immutable.
type publication struct {
	revision Revision // newest
	floor    Revision // compaction floor: the oldest readable revision, -1 if all are. Invariant: floor <= revision
	live     int64    // keys that exist at revision
}

// flush remembers up to where the store is flushed. It belongs to the goroutine that applies.
type flush struct {
	known    bool
	count    uint64 // of flushes, when revision was read
	revision Revision
}

// revisionFirst is the revision of an empty store, floorNone the floor before the first compaction.
const (
	revisionFirst = 1
	floorNone     = -1
)

// Open reads where the store stands. It takes as long however much is stored.
func Open(db *storage.DB, o Options) (*Store, error) {
	s := &Store{db: db, atOpen: -1, eventsKept: o.eventsKept()}
	p := publication{revision: revisionFirst, floor: floorNone}
	b, ok, err := db.Get(storage.Meta, revisionsKey)
	if err == nil && ok {
		p, err = decodeRevisions(b)
	}
	if err != nil {
		return nil, fmt.Errorf("mvcc: open: %w", err)
	}
	if !ok {
		s.atOpen = p.revision
	}
	p.revision = max(p.revision, p.floor)
	s.newest = newNewest(o.newestCacheBytes(), p.revision)
	s.fences = newFences(o, p.revision)
	s.shared.Store(&p)
	s.removal.removal = removal{done: floorNone}
	b, ok, err = db.Get(storage.Meta, removalKey)
	if err == nil && ok {
		s.removal.removal, err = decodeRemoval(b)
	}
	if err != nil {
		return nil, fmt.Errorf("mvcc: open: %w", err)
	}
	// Views of an earlier run are gone: nothing keeps what the floor already covers.
	s.removal.clear = p.floor
	return s, nil
}

// Revision is the newest published revision.
func (s *Store) Revision() Revision { return s.shared.Load().revision }

// Compacted is the newest published compaction floor: the oldest revision that can be read. -1: all can.
func (s *Store) Compacted() Revision { return s.shared.Load().floor }

// OpenViews is the number of views that are open.
func (s *Store) OpenViews() int64 { return s.gate.readers() }

// NewestCache is how the cache of newest versions does.
func (s *Store) NewestCache() CacheStats { return s.newest.stats() }

// LiveKeys is the number of keys that exist at the newest published revision.
func (s *Store) LiveKeys() int64 { return s.shared.Load().live }

// Publish makes visible what tx did, once the batch that it wrote to is committed. Whoever hears of its events must
// hear of them after that.
func (s *Store) Publish(tx *Tx) {
	for i := range tx.touched {
		s.newest.put(tx.touched[i].rec)
	}
	// The cache goes first: a reader that sees the new revision must not find a version that it replaced. Nor must it find
	// that the fences know nothing of the revision yet.
	s.fences.note(tx)
	p := tx.now
	if p.floor != s.Compacted() {
		s.hashes.moved(tx.floorBefore, p.floor)
	}
	s.shared.Store(&p)
	tx.reset()
}

// flushedRevision is a revision up to which everything is in tables, as of the last flush that is known of; -1: none is known.
func (s *Store) flushedRevision() Revision {
	n := s.db.Flushes()
	if s.flush.known && n == s.flush.count {
		return s.flush.revision
	}
	s.flush = flush{known: true, count: n, revision: -1}
	b, ok, err := s.db.Durable().Get(storage.Meta, revisionsKey)
	if err != nil {
		return -1 // whoever reads more than this will meet the error
	}
	if !ok { // what there is has come since the store was opened
		s.flush.revision = s.atOpen
		return s.atOpen
	}
	if p, err := decodeRevisions(b); err == nil {
		s.flush.revision = p.revision
	}
	return s.flush.revision
}
