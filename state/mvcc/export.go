package mvcc

import (
	"fmt"
	"math"

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
		if err := e.sorted(scratch); err != nil {
			return err
		}
	}
	it, err := openChanges(e.db, storage.Version{Main: max(e.at.floor, 0) + 1}, math.MaxInt64)
	if err != nil {
		return err
	}
	for it.next() {
		if err := e.one(it.at, it.change.key); err != nil {
			it.close()
			return err
		}
	}
	return it.close()
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

// sorted calls f with the versions whose places sort has put in order.
func (e *exporter) sorted(scratch *storage.DB) error {
	it, err := scratch.Iter(storage.Changes, nil, nil)
	if err != nil {
		return err
	}
	for ok := it.First(); ok && err == nil; ok = it.Next() {
		var v storage.Version
		var key []byte
		if v, err = decodeChangeKey(it.Key()); err != nil {
			break
		}
		if key, err = it.Value(); err == nil {
			err = e.one(v, key)
		}
	}
	if e := it.Close(); err == nil {
		err = e
	}
	return err
}

// one calls f with a version.
func (e *exporter) one(v storage.Version, key []byte) error {
	if !e.pairs.SeekVersionOf(key, v) {
		if err := e.pairs.Error(); err != nil {
			return err
		}
		return fmt.Errorf("%w: version %d.%d of key %.64q is missing", errDamaged, v.Main, v.Sub, key)
	}
	_, at := e.pairs.KeyVersion()
	b, err := e.pairs.Value()
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
