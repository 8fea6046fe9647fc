package mvcc

import (
	"encoding/binary"
	"math"

	"keelson/storage"
)

// changesBytesMax is about how large a record of several changes becomes: whoever wants one of them reads those before it.
const changesBytesMax = 4 << 10

// changeWriter puts changes, in their order, into records of the changes table, many into one: to the store, a record costs more than
// what is in it. The zero value is ready.
type changeWriter struct {
	n      int             // changes that wait to be written
	last   storage.Version // of them
	single []byte          // the record, if there is one
	record []byte          // the record, if there are more
	key    [changeKeySize]byte
}

// add takes the next change, and writes those before it if they fill a record. It keeps nothing of c.
func (w *changeWriter) add(b *storage.Batch, v storage.Version, c change) {
	if w.n > 0 && len(w.record)+len(c.key) > changesBytesMax {
		w.flush(b)
	}
	if w.n == 0 {
		w.single = appendChange(w.single[:0], c)
		w.record, w.last = append(w.record[:0], kindChanges), storage.Version{}
	}
	w.record = appendOneOfMany(w.record, w.last, v, c)
	w.last = v
	w.n++
}

// flush writes the changes that wait. Nothing may be added to a batch that was given away without it.
func (w *changeWriter) flush(b *storage.Batch) {
	if w.n == 0 {
		return
	}
	record := w.record
	if w.n == 1 {
		record = w.single
	}
	b.Set(storage.Changes, appendChangeKey(w.key[:0], w.last), record)
	w.n = 0
}

// appendOneOfMany appends a change to a record of several. The version of the one before is zero for the first.
func appendOneOfMany(dst []byte, before, v storage.Version, c change) []byte {
	dst = binary.AppendUvarint(dst, uint64(v.Main-before.Main))
	dst = binary.AppendUvarint(dst, uint64(v.Sub))
	dst = appendChangeHead(dst, c)
	dst = binary.AppendUvarint(dst, uint64(len(c.key)))
	return append(dst, c.key...)
}

// decodeOneOfMany reads what appendOneOfMany appended. The key aliases b. ok is false if it is damaged.
func decodeOneOfMany(b []byte, before storage.Version) (v storage.Version, c change, rest []byte, ok bool) {
	step, n := binary.Uvarint(b)
	if n <= 0 {
		return v, c, nil, false
	}
	b = b[n:]
	sub, n := binary.Uvarint(b)
	if n <= 0 || sub > math.MaxUint32 {
		return v, c, nil, false
	}
	v = storage.Version{Main: before.Main + int64(step), Sub: uint32(sub)} // not later if the step is too large
	c, b, ok = decodeChangeHead(b[n:])
	if !ok || v.Main == 0 || !before.Less(v) {
		return v, c, nil, false
	}
	size, n := binary.Uvarint(b)
	if n <= 0 || size > uint64(len(b)-n) {
		return v, c, nil, false
	}
	end := n + int(size)
	c.key = b[n:end:end]
	return v, c, b[end:], true
}

// changeIter goes through changes in order.
//
//	for it.next() { it.at, it.change }
//	err := it.close()
type changeIter struct {
	it   *storage.Iter
	from storage.Version
	to   Revision
	// at and change are where it stands. The key is valid until the next call.
	at     storage.Version
	change change

	begun  bool
	row    storage.Version // of the record that it stands in: that of its last change
	whole  []byte          // that record
	rest   []byte          // what is still to come of it
	cut    bool            // it begins before from
	broken error
}

// openChanges reads the changes from a version on, up to a revision.
func openChanges(r storage.Reader, from storage.Version, to Revision) (*changeIter, error) {
	// The record that has the last one may have more, and is named by its own last one: there is no bound above.
	it, err := r.Iter(storage.Changes, appendChangeKey(nil, from), nil)
	if err != nil {
		return nil, err
	}
	return &changeIter{it: it, from: from, to: to}, nil
}

// next moves on to the next change; it is false when there is none, or none can be read: see close.
func (i *changeIter) next() bool {
	for i.broken == nil {
		if len(i.rest) == 0 && !i.nextRecord() {
			return false
		}
		if !i.decode() || i.at.Main > i.to {
			return false
		}
		if !i.at.Less(i.from) {
			return true
		}
		i.cut = true
	}
	return false
}

// nextRecord moves on to the first or next record.
func (i *changeIter) nextRecord() (ok bool) {
	if i.begun {
		ok = i.it.Next()
	} else {
		i.begun, ok = true, i.it.First()
	}
	if !ok {
		return false
	}
	if i.row, i.broken = decodeChangeKey(i.it.Key()); i.broken != nil {
		return false
	}
	if i.row.Main <= 0 {
		i.broken = damaged("key of a change", i.it.Key())
		return false
	}
	if i.whole, i.broken = i.it.Value(); i.broken != nil {
		return false
	}
	i.rest, i.at, i.cut = i.whole, storage.Version{}, false
	if len(i.whole) > 0 && i.whole[0] == kindChanges {
		i.rest = i.whole[1:]
	}
	if len(i.rest) == 0 {
		i.broken = damaged("record of changes", i.whole)
	}
	return i.broken == nil
}

// decode reads the next change of a record.
func (i *changeIter) decode() bool {
	if i.whole[0] != kindChanges {
		i.at, i.rest = i.row, nil
		i.change, i.broken = decodeChange(i.whole)
		return i.broken == nil
	}
	var ok bool
	i.at, i.change, i.rest, ok = decodeOneOfMany(i.rest, i.at)
	if !ok || len(i.rest) == 0 && i.at != i.row || len(i.rest) > 0 && !i.at.Less(i.row) {
		i.broken = damaged("record of changes", i.whole)
	}
	return i.broken == nil
}

// close ends it, and returns why it has ended if there may be more.
func (i *changeIter) close() error {
	err := i.it.Close()
	if i.broken != nil {
		return i.broken
	}
	return err
}

// dropChanges removes the changes below a revision. A record that has others, too, is written again.
func dropChanges(r storage.Reader, b *storage.Batch, below Revision) error {
	from := storage.Version{Main: below}
	b.DeleteRange(storage.Changes, nil, appendChangeKey(nil, from))
	it, err := openChanges(r, from, math.MaxInt64)
	if err != nil {
		return err
	}
	var kept changeWriter
	if it.next() && it.cut {
		row := it.row
		for ok := true; ok && it.row == row; ok = it.next() {
			kept.add(b, it.at, it.change)
		}
	}
	kept.flush(b)
	return it.close()
}
