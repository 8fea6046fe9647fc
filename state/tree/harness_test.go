package tree

import (
	"flag"
	"fmt"
	"math/rand/v2"
	"strings"
	"testing"

	"github.com/cockroachdb/pebble/v2/vfs"

	"keelson/command"
	"keelson/storage"
)

var (
	seedFlag    = flag.Uint64("seed", 0, "seed of random tests; 0: draw one")
	roundsFlag  = flag.Int("rounds", 6, "histories to try in random tests")
	rewriteFlag = flag.Bool("rewrite-records", false, "write golden records anew")
)

func random(t testing.TB) *rand.Rand {
	s := *seedFlag
	if s == 0 {
		s = rand.Uint64()
	}
	t.Logf("-seed=%d", s)
	return rand.New(rand.NewPCG(s, 0))
}

// epoch is second 0 of tests: 2026-01-01, in nanoseconds since 1970.
const epoch = 1767225600 * second

const second = int64(1e9)

// forest is a tree on a disk.
type forest struct {
	t     testing.TB
	fs    *vfs.MemFS
	db    *storage.DB
	table *Table
	p     State
	now   int64

	cacheBytes int64 // of tables
	clearMax   int   // of tables; 0: the usual one
}

func newForest(t testing.TB) *forest {
	f := &forest{t: t, fs: vfs.NewMem(), now: epoch}
	f.open()
	b := f.db.NewBatch()
	Bootstrap(b, 1)
	f.check(b.Commit())
	f.reload()
	t.Cleanup(func() { f.db.Close() })
	return f
}

func (f *forest) check(err error) {
	f.t.Helper()
	if err != nil {
		f.t.Fatal(err)
	}
}

func (f *forest) open() {
	db, err := storage.Open(storage.Options{FS: f.fs, Dir: "db", Manual: true, MemtableBytes: 8 << 20, CacheBytes: 1 << 20})
	f.check(err)
	f.db = db
}

func (f *forest) reload() {
	var err error
	f.p, err = Load(f.db)
	f.check(err)
	f.table = &Table{}
	f.table.Bound(f.cacheBytes)
	if f.clearMax > 0 {
		f.table.clearMax = f.clearMax
	}
}

// reopen closes the store after a flush and opens it again.
func (f *forest) reopen() {
	f.check(f.db.Flush())
	f.check(f.db.Close())
	f.open()
	f.reload()
}

// apply carries out ops in one batch and returns what came of the last one, and all events.
func (f *forest) apply(ops ...command.Op) (e *Event, refusal *Error, events []*Event) {
	f.t.Helper()
	b := f.db.NewBatch()
	tx := f.table.Begin(b, f.p)
	for _, op := range ops {
		before := tx.Position()
		var err error
		e, refusal, err = carryOut(tx, op, f.now)
		f.check(err)
		if refusal != nil && (tx.Position() != before || refusal.Index != before.Index) {
			f.t.Fatalf("%+v: refused, and at index %d instead of %d", op, tx.Position().Index, before.Index)
		}
	}
	tx.Finish()
	f.check(b.Commit())
	tx.Publish()
	f.p = tx.State()
	return e, refusal, tx.Events()
}

func carryOut(tx *Tx, op command.Op, now int64) (*Event, *Error, error) {
	switch o := op.(type) {
	case *command.TreePut:
		return tx.Put(o, now)
	case *command.TreeDelete:
		return tx.Delete(o, now)
	case *command.TreeExpire:
		return nil, nil, tx.Expire(o)
	}
	panic(fmt.Sprintf("%T", op))
}

func (f *forest) view() *View {
	v, err := Open(f.db)
	f.check(err)
	return v
}

// list prints a listing, one node in a line, indented by depth.
func (f *forest) list(path string, recursive bool) string {
	v := f.view()
	defer v.Close()
	n, refusal, err := v.Get(path)
	f.check(err)
	if refusal != nil {
		return printError(refusal)
	}
	var b strings.Builder
	b.WriteString(printNode(n, f.now) + "\n")
	if !n.Dir {
		return b.String()
	}
	f.check(v.Walk(path, recursive, func(n *Node, depth int) error {
		b.WriteString(strings.Repeat("  ", depth) + printNode(n, f.now) + "\n")
		return nil
	}, func(depth int) {
		b.WriteString(strings.Repeat("  ", depth) + ".\n")
	}))
	return b.String()
}

func printNode(n *Node, now int64) string {
	s := n.Path
	if n.Dir {
		s += " dir"
	} else if len(n.Value) > 0 {
		s += fmt.Sprintf("=%q", n.Value)
	}
	if n.Deadline != 0 {
		s += fmt.Sprintf(" until=%+.3fs ttl=%d", float64(n.Deadline-epoch)/1e9, n.TTLSeconds(now))
	}
	return fmt.Sprintf("%s created=%d modified=%d", s, n.Created, n.Modified)
}

func printEvent(e *Event) string {
	s := e.Action.String()
	if e.Refresh {
		s += " refresh"
	}
	s += " " + printNode(&e.Node, e.Time)
	if e.Prev != nil {
		s += " <- " + printNode(e.Prev, e.Time)
	}
	return s + "\n"
}

func printError(e *Error) string { return fmt.Sprintf("%d %q at %d\n", e.Code, e.Cause, e.Index) }
