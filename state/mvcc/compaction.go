package mvcc

import (
	"fmt"
	"sync"

	"keelson/internal/fault"
	"keelson/storage"
)

// removal is how far the physical removal of compacted versions has come.
//
//	idle ──floor > done──► waiting for views older than the floor ──► walking changes done..target ──► idle, done = target
//
// A walk reads the changes with done <= revision <= target. Each names the live version it replaced: that one goes if
// it is older than the target. A tombstone older than the target goes too. When the walk is over, all changes below
// the target go at once. So at the target itself both the tombstones and the changes stay, for whoever watches from
// there, until the next walk, which therefore begins at done and not behind it.
type removal struct {
	done   Revision        // floor up to which everything is removed; -1: none
	target Revision        // of the walk under way; 0: none
	next   storage.Version // the change at which the walk goes on
}

type removalState struct {
	mu sync.Mutex
	removal
	// clear is a floor that no open view is older than. While turned, the views older than pending are leaving.
	clear, pending Revision
	turned         bool
}

// removalBatchBytes bounds the batch of one step, beside its number of records.
const removalBatchBytes = 1 << 20

// CompactStep removes some of the versions that the compaction floor has made unreadable: it handles at most
// maxRecords changes, in a batch of its own. It returns the number of versions removed, and whether there is more to
// do. With removed 0 and more true it waits for views that are open: call again later.
//
// It changes nothing that can be read, may be interrupted anywhere, also by a crash, and goes on from where it stood.
//
// Errors: ErrRetired.
func (s *Store) CompactStep(maxRecords int) (removed int, more bool, err error) {
	r := &s.removal
	r.mu.Lock()
	defer r.mu.Unlock()
	if s.gate.isShut() {
		return 0, false, ErrRetired
	}
	w := r.removal
	floor := s.shared.Load().floor
	if w.target == 0 {
		if floor <= w.done {
			return 0, false, nil
		}
		w.target, w.next = floor, storage.Version{Main: max(w.done, 0)}
		if floor == 0 {
			w.target, w.done = 0, 0 // compaction at 0: there is nothing below the first revision
			r.removal = w
			return 0, false, nil
		}
	}
	if !s.viewsLeft(w.target, floor) && !fault.Mutant("remove-what-views-read") {
		return 0, true, nil
	}
	b := s.db.NewBatch()
	removed, err = s.walk(b, &w, max(maxRecords, 1))
	if err != nil {
		b.Discard()
		return 0, false, fmt.Errorf("mvcc: compaction: %w", err)
	}
	b.Set(storage.Meta, removalKey, w.append(nil))
	if err := b.Commit(); err != nil {
		return 0, false, fmt.Errorf("mvcc: compaction: %w", err)
	}
	r.removal = w
	return removed, w.target != 0 || floor > w.done, nil
}

// viewsLeft reports whether all views older than target, which is not above the published floor, are closed.
func (s *Store) viewsLeft(target, floor Revision) bool {
	r := &s.removal
	if r.clear >= target {
		return true
	}
	if !r.turned {
		s.gate.turn()
		r.turned, r.pending = true, floor
	}
	if !s.gate.drained() {
		return false
	}
	r.turned, r.clear = false, r.pending
	return r.clear >= target
}

// walk handles the next changes of the walk w and moves w on.
func (s *Store) walk(b *storage.Batch, w *removal, maxRecords int) (removed int, err error) {
	it, err := openChanges(s.db, w.next, w.target)
	if err != nil {
		return 0, err
	}
	ok := it.next()
	for n := 0; ok && n < maxRecords && b.Len() < removalBatchBytes; n++ {
		removed += removeReplaced(b, it, w)
		ok = it.next()
	}
	if err := it.close(); err != nil {
		return 0, err
	}
	if !ok {
		upTo := w.target
		if fault.Mutant("drop-changes-at-floor") {
			upTo++
		}
		if err := dropChanges(s.db, b, upTo); err != nil {
			return 0, err
		}
		*w = removal{done: w.target}
	}
	return removed, nil
}

// removeReplaced handles the change that it stands on.
func removeReplaced(b *storage.Batch, it *changeIter, w *removal) (removed int) {
	v, c := it.at, it.change
	// The changes at done were walked before: of what they replaced, only that of done itself is still there.
	walked := v.Main <= w.done
	if p := c.replaced; p.Main != 0 && p.Main < w.target && (!walked || p.Main >= w.done) {
		b.DeleteVersion(storage.Versions, c.key, p)
		removed++
	}
	if c.kind == Delete && v.Main < w.target {
		b.DeleteVersion(storage.Versions, c.key, v)
		removed++
	}
	w.next = storage.Version{Main: v.Main, Sub: v.Sub + 1}
	if w.next.Sub == 0 { // no store of ours has so many
		w.next.Main++
	}
	return removed
}
