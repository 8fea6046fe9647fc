package tree

import (
	"encoding/binary"
	"fmt"
	"math"
	"sync"

	"keelson/storage"
)

// Table is what is known of one database's tree beside what is stored.
type Table struct {
	newest   newest
	clearMax int // lowered by tests; 0: the constant

	// Deadlines come and go all the time, and what they leave behind in the store until it is compacted must not be walked
	// over again and again: so here is a lower bound of all deadlines.
	mu       sync.Mutex
	earliest int64 // the bound
	added    int64 // the earliest that was added since the walk under way began

	walks sync.Mutex // held while they are walked over
}

// Bound bounds the memory of what is kept of the newest nodes. 0: 32 MiB. Negative: nothing is kept. It is called before all else.
func (t *Table) Bound(cacheBytes int64) { t.newest.limit = cacheBytes }

// Bootstrap makes the tree of a new cluster of so many members. Its index begins where etcd's would: what members say of
// themselves when they start counts there, and clients' tests compare the numbers.
func Bootstrap(b *storage.Batch, members int) {
	b.Set(storage.Tree, []byte{keyPosition}, appendPosition(nil, Position{Index: uint64(2*members + 1)}))
}

// Load reads where the tree stands. Without a record it has never been touched.
func Load(r storage.Reader) (s State, err error) {
	v, ok, err := r.Get(storage.Tree, []byte{keyPosition})
	if err == nil && ok {
		s.Position, err = decodePosition(v)
	}
	if err != nil {
		return State{}, err
	}
	v, ok, err = r.Get(storage.Tree, []byte{keyAccess})
	if err == nil && ok {
		s.Access, err = decodeAccess(v)
	}
	return s, err
}

// Begin starts a Tx. s is what was published last.
func (t *Table) Begin(b *storage.Batch, s State) *Tx {
	return &Tx{table: t, b: b, before: s, p: s.Position, access: s.Access, earliest: math.MaxInt64}
}

// File returns a file of the newest state that r, which is the table's, has; nil: there is none at the path, or that is a
// directory.
func (t *Table) File(r storage.Reader, path string) (*Node, error) {
	if path == Root || CheckPath(path) != "" {
		return nil, nil
	}
	record, err := t.record(r, path)
	if err != nil || record == nil {
		return nil, err
	}
	n, err := decodeNode(path, record)
	if err != nil || n.Dir {
		return nil, err
	}
	return &n, nil
}

// record is the record of the node at a path; nil: there is none.
func (t *Table) record(r storage.Reader, path string) ([]byte, error) {
	if !t.newest.unsettled.Load() {
		if record := t.newest.get(path); record != nil {
			return record, nil
		}
	}
	record, ok, err := r.Get(storage.Tree, nodeKey(path))
	if err != nil || !ok {
		return nil, err
	}
	return record, nil
}

// lower moves the bound down to a deadline that has been added.
func (t *Table) lower(deadline int64) {
	t.mu.Lock()
	t.earliest, t.added = min(t.earliest, deadline), min(t.added, deadline)
	t.mu.Unlock()
}

// bound is a lower bound of all deadlines that have been published.
func (t *Table) bound() int64 {
	t.mu.Lock()
	defer t.mu.Unlock()
	return t.earliest
}

// Due reports whether any deadline is not later than now. It may be one whose node is gone.
func (t *Table) Due(r storage.Reader, now int64) (bool, error) {
	if t.bound() > now {
		return false, nil
	}
	earliest, ok, err := t.earliestOf(r)
	return ok && earliest <= now, err
}

// earliestOf looks for the earliest deadline, and raises the bound to it.
func (t *Table) earliestOf(r storage.Reader) (deadline int64, ok bool, err error) {
	t.walks.Lock()
	defer t.walks.Unlock()
	t.mu.Lock()
	from := t.earliest
	t.added = math.MaxInt64
	t.mu.Unlock()
	it, err := deadlines(r, from)
	if err != nil {
		return 0, false, fmt.Errorf("tree: deadlines: %w", err)
	}
	deadline = math.MaxInt64
	if ok = it.First(); ok {
		deadline, _ = decodeDeadlineKey(it.Key())
	}
	if err := it.Close(); err != nil {
		return 0, false, fmt.Errorf("tree: deadlines: %w", err)
	}
	t.mu.Lock()
	t.earliest = min(deadline, t.added)
	t.mu.Unlock()
	return deadline, ok, nil
}

func deadlines(r storage.Reader, from int64) (*storage.Iter, error) {
	return r.Iter(storage.Tree, deadlineKey(from, ""), []byte{keyDeadline + 1})
}

// deadlineKey is the key of a deadline; an empty path gives a bound.
func deadlineKey(deadline int64, path string) []byte {
	key := append(make([]byte, 0, len(path)+16), keyDeadline)
	key = binary.BigEndian.AppendUint64(key, uint64(deadline))
	if path == "" {
		return key
	}
	return appendPath(key, path)
}

func decodeDeadlineKey(key []byte) (deadline int64, path string) {
	return int64(binary.BigEndian.Uint64(key[1:])), decodePath(key[9:])
}

func eventKey(index uint64) []byte { return appendEventKey(nil, index) }

func appendEventKey(dst []byte, index uint64) []byte {
	return binary.BigEndian.AppendUint64(append(dst, keyEvent), index)
}

func decodeEventKey(key []byte) (uint64, error) {
	if len(key) != 9 {
		return 0, fmt.Errorf("tree: key %x is not one of an event", key)
	}
	return binary.BigEndian.Uint64(key[1:]), nil
}
