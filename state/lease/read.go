package lease

import (
	"fmt"

	"keelson/storage"
)

// Get returns one lease; ok is false if there is none.
func Get(r storage.Reader, id ID) (l Lease, ok bool, err error) {
	var key [idSize]byte
	v, ok, err := r.Get(storage.Leases, appendID(key[:0], id))
	if err != nil {
		return Lease{}, false, fmt.Errorf("lease: get %d: %w", id, err)
	}
	if !ok {
		return Lease{}, false, nil
	}
	l, err = decodeRecord(id, v)
	return l, err == nil, err
}

// All yields every lease, in order of the ids' unsigned values, until yield returns false.
func All(r storage.Reader, yield func(Lease) bool) error {
	it, err := r.Iter(storage.Leases, nil, nil)
	if err != nil {
		return fmt.Errorf("lease: list: %w", err)
	}
	err = each(it, func(it *storage.Iter) (bool, error) {
		id, err := decodeID(it.Key())
		if err != nil {
			return false, err
		}
		v, err := it.Value()
		if err != nil {
			return false, err
		}
		l, err := decodeRecord(id, v)
		return err == nil && yield(l), err
	})
	if err != nil {
		return fmt.Errorf("lease: list: %w", err)
	}
	return nil
}

// Keys yields the keys attached to a lease, in order, until yield returns false. A key is valid only during the call.
func Keys(r storage.Reader, id ID, yield func(key []byte) bool) error {
	var lower, upper []byte
	lower = appendID(nil, id)
	if id != -1 { // the last one in the order of the table
		upper = appendID(nil, id+1)
	}
	it, err := r.Iter(storage.LeaseKeys, lower, upper)
	if err != nil {
		return fmt.Errorf("lease: keys of %d: %w", id, err)
	}
	err = each(it, func(it *storage.Iter) (bool, error) { return yield(it.Key()[idSize:]), nil })
	if err != nil {
		return fmt.Errorf("lease: keys of %d: %w", id, err)
	}
	return nil
}

// KeyFrom returns the first key attached to a lease that is not below from; ok is false if there is none.
func KeyFrom(r storage.Reader, id ID, from []byte) (key []byte, ok bool, err error) {
	lower := append(appendID(nil, id), from...)
	var upper []byte
	if id != -1 { // the last one in the order of the table
		upper = appendID(nil, id+1)
	}
	it, err := r.Iter(storage.LeaseKeys, lower, upper)
	if err != nil {
		return nil, false, fmt.Errorf("lease: keys of %d: %w", id, err)
	}
	if it.First() {
		key, ok = append([]byte(nil), it.Key()[idSize:]...), true
	}
	if err := it.Close(); err != nil {
		return nil, false, fmt.Errorf("lease: keys of %d: %w", id, err)
	}
	return key, ok, nil
}

// AllKeys yields the keys attached to all leases, lease by lease, until yield returns false. A key is valid only during the
// call.
func AllKeys(r storage.Reader, yield func(key []byte) bool) error {
	it, err := r.Iter(storage.LeaseKeys, nil, nil)
	if err != nil {
		return fmt.Errorf("lease: keys: %w", err)
	}
	if err := each(it, func(it *storage.Iter) (bool, error) { return yield(it.Key()[idSize:]), nil }); err != nil {
		return fmt.Errorf("lease: keys: %w", err)
	}
	return nil
}

// each calls f on every entry of it until f returns false or an error, and closes it.
func each(it *storage.Iter, f func(*storage.Iter) (bool, error)) error {
	for ok := it.First(); ok; ok = it.Next() {
		more, err := f(it)
		if err != nil {
			it.Close()
			return err
		}
		if !more {
			break
		}
	}
	return it.Close()
}
