package mvcc

import (
	"fmt"

	"keelson/storage"
)

// exportBatchBytes bounds the batches in which Export puts versions in order.
const exportBatchBytes = 1 << 20

// Export calls f with every version that etcd would hold, in order of revision and sub-revision: all above the compaction
// floor, and of those at or below it the newest of each key, tombstones only if they are at the floor itself. A tombstone is
// a pair of Version 0. The pair is valid only during the call.
//
// The versions at or below the floor are no longer listed by revision. Their places and keys go through scratch, an empty
// database, to be put in order.
//
// The store must be one that nobody writes to: that of a checkpoint.
func (s *Store) Export(scratch *storage.DB, f func(kv *KeyValue, sub uint32) error) error {
	e := exporter{db: s.db, at: *s.shared.Load(), f: f}
	if err := e.run(scratch); err != nil && !e.foreign {
		return fmt.Errorf("mvcc: export: %w", err)
	} else if err != nil {
		return err
	}
	return nil
}

// exporter is one Export.
type exporter struct {
	db      *storage.DB
	at      publication
	f       func(*KeyValue, uint32) error
	pairs   *storage.Iter
	kv      KeyValue
	foreign bool // the error came from f
}

func (e *exporter) run(scratch *storage.DB) (err error) {
	if e.pairs, err = e.db.PointIter(storage.Versions); err != nil {
		return err
	}
	defer func() {
		if e := e.pairs.Close(); err == nil {
			err = e
		}
	}()
	if e.at.floor > 0 {
		if err := e.sort(scratch); err != nil {
			return err
		}
		if err := e.each(scratch, storage.Version{}, func(b []byte) ([]byte, error) { return b, nil }); err != nil {
			return err
		}
	}
	return e.each(e.db, storage.Version{Main: max(e.at.floor, 0) + 1}, func(b []byte) ([]byte, error) {
		c, err := decodeChange(b)
		return c.key, err
	})
}

// sort writes places and keys of the versions to be kept at or below the floor into scratch, by revision.
func (e *exporter) sort(scratch *storage.DB) error {
	it, err := e.db.Iter(storage.Versions, nil, nil)
	if err != nil {
		return err
	}
	b := scratch.NewBatch()
	for ok := it.First(); ok; {
		key, v := it.KeyVersion()
		if v.Main > e.at.floor {
			ok = it.Next()
			continue
		}
		value, err := it.Value()
		if err == nil {
			err = decodeVersion(value, &e.kv)
		}
		if err != nil {
			it.Close()
			b.Discard()
			return err
		}
		if e.kv.Version != 0 || v.Main == e.at.floor {
			b.Set(storage.Changes, appendChangeKey(nil, v), key)
		}
		if b.Len() > exportBatchBytes {
			if err := b.Commit(); err != nil {
				it.Close()
				return err
			}
			b = scratch.NewBatch()
		}
		ok = it.NextKey()
	}
	err = it.Close()
	if e := b.Commit(); err == nil {
		err = e
	}
	return err
}

// each calls f with the versions that the changes table of a database names from a place on.
func (e *exporter) each(db *storage.DB, from storage.Version, key func(value []byte) ([]byte, error)) error {
	it, err := db.Iter(storage.Changes, appendChangeKey(nil, from), nil)
	if err != nil {
		return err
	}
	for ok := it.First(); ok; ok = it.Next() {
		if err := e.one(it, key); err != nil {
			it.Close()
			return err
		}
	}
	return it.Close()
}

func (e *exporter) one(it *storage.Iter, keyOf func([]byte) ([]byte, error)) error {
	v, err := decodeChangeKey(it.Key())
	if err != nil {
		return err
	}
	b, err := it.Value()
	if err != nil {
		return err
	}
	key, err := keyOf(b)
	if err != nil {
		return err
	}
	if !e.pairs.SeekVersionOf(key, v) {
		if err := e.pairs.Error(); err != nil {
			return err
		}
		return fmt.Errorf("%w: version %d.%d of key %.64q is missing", errDamaged, v.Main, v.Sub, key)
	}
	_, at := e.pairs.KeyVersion()
	b, err = e.pairs.Value()
	if err == nil {
		err = decodeVersion(b, &e.kv)
	}
	if err == nil && at != v {
		err = fmt.Errorf("%w: version %d.%d of key %.64q is missing", errDamaged, v.Main, v.Sub, key)
	}
	if err != nil {
		return err
	}
	e.kv.Key, e.kv.ModRevision = key, v.Main
	if err := e.f(&e.kv, v.Sub); err != nil {
		e.foreign = true
		return err
	}
	return nil
}
