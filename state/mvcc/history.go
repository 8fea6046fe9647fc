package mvcc

import (
	"bytes"
	"fmt"

	"keelson/storage"
)

// changeOverheadBytes is what a change counts in Changes beside its keys and values.
const changeOverheadBytes = 64

// Changes calls f with the events of lower <= key < upper (nil: no bound) and from <= revision <= to, in order of
// revision and sub-revision, and returns the revision to go on from. That is to+1 when done, with to no later than the
// newest published revision; it is less when Changes stopped behind a revision after about maxBytes (of what it read,
// within bounds or not; 0: no limit). A revision is never split. An event is valid only during the call; an error of
// f ends Changes and is returned as it is.
//
// Prev is set unless the event created the key, or the revision before is compacted.
//
// Errors: ErrCompacted if from is below the compaction floor; ErrRetired, before f is called.
func (s *Store) Changes(from, to Revision, lower, upper []byte, maxBytes int, f func(*Event) error) (next Revision, err error) {
	v := s.View()
	if v == nil {
		return from, ErrRetired
	}
	defer v.Close()
	if from < v.at.floor {
		return from, ErrCompacted
	}
	from, to = max(from, 0), min(to, v.at.revision)
	if from > to {
		return from, nil
	}
	h, err := s.openHistory(from, to, v.at.floor)
	if err != nil {
		return from, fmt.Errorf("mvcc: changes %d..%d: %w", from, to, err)
	}
	next, err = h.read(lower, upper, maxBytes, f)
	if e := h.close(); err == nil {
		err = e
	}
	if err != nil && !h.foreign {
		err = fmt.Errorf("mvcc: changes %d..%d: %w", from, to, err)
	}
	return next, err
}

// history reads the changes of some revisions, with two more iterators for the versions that they name.
type history struct {
	from, to, floor Revision
	changes         *changeIter
	pairs, prev     *storage.Iter
	ev              Event
	prevKV          KeyValue
	foreign         bool // the error came from the caller's function
}

func (s *Store) openHistory(from, to, floor Revision) (*history, error) {
	h := &history{from: from, to: to, floor: floor}
	var err error
	if h.changes, err = openChanges(s.db, storage.Version{Main: from}, to); err != nil {
		return nil, err
	}
	if h.pairs, err = s.db.PointIter(storage.Versions); err != nil {
		h.close()
		return nil, err
	}
	if h.prev, err = s.db.PointIter(storage.Versions); err != nil {
		h.close()
		return nil, err
	}
	return h, nil
}

func (h *history) close() (err error) {
	err = h.changes.close()
	for _, it := range []*storage.Iter{h.pairs, h.prev} {
		if it == nil {
			continue
		}
		if e := it.Close(); err == nil {
			err = e
		}
	}
	return err
}

func (h *history) read(lower, upper []byte, maxBytes int, f func(*Event) error) (next Revision, err error) {
	size, at := 0, h.from
	for h.changes.next() {
		v, c := h.changes.at, h.changes.change
		if v.Main != at && maxBytes > 0 && size >= maxBytes {
			return v.Main, nil
		}
		at = v.Main
		size += changeOverheadBytes + len(c.key)
		if bytes.Compare(c.key, lower) < 0 || upper != nil && bytes.Compare(c.key, upper) >= 0 {
			continue
		}
		if err := h.fill(v, c); err != nil {
			return at, err
		}
		size += len(h.ev.KV.Value)
		if h.ev.Prev != nil {
			size += len(h.ev.Prev.Value)
		}
		if err := f(&h.ev); err != nil {
			h.foreign = true
			return at, err
		}
	}
	return h.to + 1, h.changes.broken
}

// fill makes h.ev the event of a change.
func (h *history) fill(v storage.Version, c change) error {
	h.ev = Event{Kind: c.kind, Sub: v.Sub, KV: KeyValue{Key: c.key, ModRevision: v.Main}}
	if c.kind == Put {
		if err := mustFind(h.pairs, c.key, v, &h.ev.KV); err != nil {
			return err
		}
		h.ev.KV.Key = c.key
		if h.ev.KV.CreateRevision == v.Main {
			return nil
		}
	}
	if v.Main <= h.floor || c.replaced.Main == 0 {
		return nil
	}
	if c.replaced.Main < v.Main {
		h.ev.Prev = &h.prevKV
		return mustFind(h.prev, c.key, c.replaced, &h.prevKV)
	}
	// The change replaced one of its own revision: what counts is the pair as of the revision before.
	_, ok, err := find(h.prev, c.key, v.Main-1, &h.prevKV)
	if ok && h.prevKV.Version != 0 {
		h.ev.Prev = &h.prevKV
	}
	return err
}

// mustFind reads a live version that a change names.
func mustFind(it *storage.Iter, key []byte, v storage.Version, kv *KeyValue) error {
	if it.SeekVersionOf(key, v) {
		found, at := it.KeyVersion()
		b, err := it.Value()
		if err == nil {
			err = decodeVersion(b, kv)
		}
		if err != nil {
			return err
		}
		if at == v && kv.Version != 0 {
			kv.Key, kv.ModRevision = found, v.Main
			return nil
		}
	}
	if err := it.Error(); err != nil {
		return err
	}
	return fmt.Errorf("%w: version %d.%d of key %.64q is missing", errDamaged, v.Main, v.Sub, key)
}
