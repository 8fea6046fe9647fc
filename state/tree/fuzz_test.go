package tree

import (
	"maps"
	"slices"
	"testing"

	"keelson/command"
)

// opReader makes ops of whatever bytes there are.
type opReader struct {
	rest []byte
	now  int64
}

func (r *opReader) byte() byte {
	if len(r.rest) == 0 {
		return 0
	}
	b := r.rest[0]
	r.rest = r.rest[1:]
	return b
}

// text is up to 15 bytes.
func (r *opReader) text() string {
	n := min(int(r.byte()%16), len(r.rest))
	s := string(r.rest[:n])
	r.rest = r.rest[n:]
	return s
}

// op reads one op. Half of the paths begin with a slash whatever comes.
func (r *opReader) op() command.Op {
	kind, flags := r.byte()%8, r.byte()
	path := r.text()
	if flags&1 != 0 {
		path = "/" + path
	}
	dir, recursive, refresh := flags&2 != 0, flags&4 != 0, flags&8 != 0
	switch kind {
	case 5:
		return &command.TreeDelete{Path: path, Dir: dir, Recursive: recursive}
	case 6:
		return &command.TreeDelete{Path: path, Compare: true, PrevValue: []byte(r.text()), PrevIndex: uint64(r.byte())}
	case 7:
		return &command.TreeExpire{Stamp: r.now, Limit: 100}
	}
	o := &command.TreePut{Path: path, Mode: command.TreePutMode(kind), Dir: dir, Refresh: refresh}
	if !refresh {
		o.Value = []byte(r.text())
	}
	if flags&16 != 0 {
		o.Deadline = r.now + int64(r.byte()%4)*second
	}
	if o.Mode == command.TreeCompareAndSwap {
		o.PrevValue, o.PrevIndex = []byte(r.text()), uint64(r.byte())
	}
	return o
}

func pathOf(op command.Op) string {
	switch o := op.(type) {
	case *command.TreePut:
		return o.Path
	case *command.TreeDelete:
		return o.Path
	}
	return Root
}

// FuzzOps carries out any ops, whatever their paths, in batches of up to three, and compares with the model. What is no path
// is refused, and has done nothing.
func FuzzOps(f *testing.F) {
	f.Add([]byte("\x00\x01\x03a/b\x01x" + "\x05\x05\x01a" + "\x02\x01\x01q\x01j" + "\x07\x00\x00"))
	f.Add([]byte("\x00\x03\x01a" + "\x00\x11\x03a/b\x01x\x01" + "\x03\x11\x01a\x00\x00" + "\x07\x00\x00" + "\x04\x01\x03a/b\x01y\x01x\x05"))
	f.Add([]byte("\x00\x01\x03a\x00b\x01x" + "\x00\x01\x03a/b\x01x" + "\x05\x05\x01a" + "\x00\x00\x04/../\x00" + "\x01\x01\x03\xff/\x01\x00"))
	f.Fuzz(func(t *testing.T, script []byte) {
		forest, m := newForest(t), newModel()
		forest.clearMax = 1 + len(script)%2
		forest.reload()
		r := &opReader{rest: script, now: forest.now}
		for len(r.rest) > 0 {
			b := forest.db.NewBatch()
			tx := forest.table.Begin(b, forest.p)
			for range 1 + r.byte()%3 {
				forest.fuzzOp(tx, m, r.op())
			}
			tx.Finish()
			forest.check(b.Commit())
			tx.Publish()
			forest.p = tx.State()
			r.now += second / 2
			forest.now = r.now
		}
		v := forest.view()
		defer v.Close()
		for path, want := range m.nodes {
			n, refusal, err := v.Get(path)
			forest.check(err)
			if refusal != nil || printNode(n, 0) != printNode(&want, 0) {
				t.Fatalf("%q: %+v, %v, want %s", path, n, refusal, printNode(&want, 0))
			}
		}
		forest.compareListing(v, m, Root, true)
		forest.compareEvents(v, m)
		forest.compareDue(m)
	})
}

// fuzzOp carries out one op, and compares what comes of it.
func (f *forest) fuzzOp(tx *Tx, m *model, op command.Op) {
	f.t.Helper()
	before := len(tx.Events())
	_, refusal, err := carryOut(tx, op, f.now)
	f.check(err)
	if CheckPath(pathOf(op)) != "" {
		if refusal == nil || refusal.Code != CodeInvalidField || len(tx.Events()) != before {
			f.t.Fatalf("%+v: %+v, %d events", op, refusal, len(tx.Events())-before)
		}
		return
	}
	known := slices.Sorted(maps.Keys(m.nodes))
	wantRefusal, wantEvents := m.do(op, f.now)
	if got, want := printOutcome(refusal, tx.Events()[before:]), printOutcome(wantRefusal, wantEvents); got != want {
		f.t.Fatalf("%+v with %q:\n%swant:\n%s", op, known, got, want)
	}
}
