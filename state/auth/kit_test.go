package auth

import (
	"bytes"
	"flag"
	"fmt"
	"math/rand/v2"
	"slices"
	"strings"
	"testing"

	"github.com/cockroachdb/pebble/v2/vfs"

	"keelson/command"
	"keelson/storage"
)

var (
	seedFlag   = flag.Uint64("seed", 0, "seed of random tests; 0: draw one")
	roundsFlag = flag.Int("rounds", 300, "histories to try in random tests")
)

// random returns a source that -seed brings back.
func random(t testing.TB) *rand.Rand {
	s := *seedFlag
	if s == 0 {
		s = rand.Uint64()
	}
	t.Logf("-seed=%d", s)
	return rand.New(rand.NewPCG(s, 0))
}

// table is users and roles in a database of their own.
type table struct {
	t     testing.TB
	db    *storage.DB
	set   *Set
	index uint64
}

func newTable(t testing.TB) *table {
	t.Helper()
	db, err := storage.Open(storage.Options{FS: vfs.NewMem(), Dir: "db", Manual: true, MemtableBytes: 1 << 20, CacheBytes: 1 << 20})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { db.Close() })
	x := &table{t: t, db: db}
	x.load()
	return x
}

func (x *table) load() {
	x.t.Helper()
	s, err := Load(x.db)
	if err != nil {
		x.t.Fatal(err)
	}
	x.set = s
}

// apply applies one op in a batch of its own.
func (x *table) apply(op command.Op) (tokens []TokenChange, err error) {
	x.t.Helper()
	x.index++
	b := x.db.NewBatch()
	tx := Begin(b, x.set)
	known, err := tx.Apply(op, x.index)
	if !known {
		x.t.Fatalf("%T is not known", op)
	}
	if err != nil && (tx.Changed() || len(tx.TakeWritten()) > 0 || len(tx.Tokens()) > 0) {
		x.t.Fatalf("%T %+v, refused for %v, has changed something", op, op, err)
	}
	x.set = tx.Set()
	if err := b.Commit(); err != nil {
		x.t.Fatal(err)
	}
	return tx.Tokens(), err
}

// must applies ops that are not refused.
func (x *table) must(ops ...command.Op) {
	x.t.Helper()
	for _, op := range ops {
		if _, err := x.apply(op); err != nil {
			x.t.Fatalf("%T %+v: %v", op, op, err)
		}
	}
}

// dump prints all there is to know.
func dump(s *Set) string {
	var b strings.Builder
	fmt.Fprintf(&b, "enabled %v, revision %d\n", s.Enabled(), s.Revision())
	for _, u := range s.Users() {
		fmt.Fprintf(&b, "user %q hash %q", u.Name, u.Hash)
		if u.NoPassword {
			b.WriteString(" (no password)")
		}
		fmt.Fprintf(&b, " roles %q\n", u.Roles)
	}
	for _, r := range s.Roles() {
		fmt.Fprintf(&b, "role %q\n", r.Name)
		for _, p := range r.Permissions {
			fmt.Fprintf(&b, "  %d %q %q\n", p.Access, p.Key, p.End)
		}
	}
	return b.String()
}

// leased are the keys of leases.
type leased map[int64][]string

func (l leased) KeyFrom(id int64, from []byte) ([]byte, bool, error) {
	keys := slices.Clone(l[id])
	slices.Sort(keys)
	for _, k := range keys {
		if bytes.Compare([]byte(k), from) >= 0 {
			return []byte(k), true, nil
		}
	}
	return nil, false, nil
}

func (l leased) AllKeys(yield func(key []byte) bool) error {
	for _, keys := range l {
		for _, k := range keys {
			if !yield([]byte(k)) {
				return nil
			}
		}
	}
	return nil
}
