package mvcc

import (
	"fmt"
	"strconv"
	"strings"
	"testing"

	"github.com/cockroachdb/datadriven"

	"keelson/storage"
)

// TestGolden runs the scripts of testdata: commands in, what a reader sees below. -rewrite writes what comes out.
//
//	new                     an empty store
//	run                     a run of commands, one a line; operations of one command are separated by ";":
//	                          put KEY VALUE [lease=N] [ignore-value] [ignore-lease] | del KEY [END] | compact REV
//	                          get KEY | range KEY END
//	range key= [end= rev= limit= order= target= keys-only count-only min-mod= max-mod= min-create= max-create=]
//	changes from= to= [lower= upper= max=]
//	hashkv [rev=]           hashkv-all: at every revision
//	step n=                 one step of removal; remove-all: all of it
//	disk                    the versions and changes of both tables
//	state                   revision, floor, live keys
//	reopen
//
// In keys and ends "\0" is a zero byte.
func TestGolden(t *testing.T) {
	datadriven.Walk(t, "testdata/golden", func(t *testing.T, path string) {
		var m *machine
		datadriven.RunTest(t, path, func(t *testing.T, d *datadriven.TestData) string {
			if d.Cmd == "new" {
				m = newMachine(t, storage.Options{}, Options{})
				return state(m)
			}
			return golden(t, m, d)
		})
	})
}

func golden(t *testing.T, m *machine, d *datadriven.TestData) string {
	a := args{t, d}
	switch d.Cmd {
	case "run":
		return goldenRun(t, m, d.Input)
	case "range":
		q := Query{
			Key: a.bytes("key"), End: a.bytes("end"), Revision: a.int("rev"), Limit: a.int("limit"),
			SortOrder: int32(a.int("order")), SortTarget: int32(a.int("target")), KeysOnly: d.HasArg("keys-only"),
			CountOnly: d.HasArg("count-only"), ModRevisionMin: a.int("min-mod"), ModRevisionMax: a.int("max-mod"),
			CreateRevisionMin: a.int("min-create"), CreateRevisionMax: a.int("max-create"),
		}
		pairs, sum, err := m.query(q)
		return answer(pairs, sum, err)
	case "changes":
		return goldenChanges(m, a)
	case "hashkv":
		return hashLine(m, a.int("rev"))
	case "hashkv-all":
		var b strings.Builder
		for rev := Revision(1); rev <= m.s.Revision(); rev++ {
			fmt.Fprintf(&b, "%d: %s", rev, hashLine(m, rev))
		}
		return b.String()
	case "step":
		removed, more, err := m.s.CompactStep(int(a.int("n")))
		return fmt.Sprintf("removed %d, more %v, error %v\n", removed, more, err)
	case "remove-all":
		return fmt.Sprintf("removed %d\n", m.removeAll())
	case "disk":
		var b strings.Builder
		for _, l := range dumpTables(t, m.db) {
			b.WriteString(l.text + "\n")
		}
		return b.String()
	case "state":
		return state(m)
	case "reopen":
		m.reopen()
		return state(m)
	}
	t.Fatalf("unknown command %s", d.Cmd)
	return ""
}

func state(m *machine) string {
	return fmt.Sprintf("revision %d, floor %d, live %d\n", m.s.Revision(), m.s.Compacted(), m.s.LiveKeys())
}

func goldenRun(t *testing.T, m *machine, input string) string {
	var b strings.Builder
	events := m.run(func(tx *Tx) {
		for line := range strings.Lines(input) {
			for part := range strings.SplitSeq(line, ";") {
				f := strings.Fields(part)
				fmt.Fprintf(&b, "%s: %s", strings.Join(f, " "), goldenOp(t, tx, f))
			}
			rev, changed := tx.EndCommand()
			fmt.Fprintf(&b, "-- revision %d, changed %v\n", rev, changed)
		}
	})
	for i := range events {
		b.WriteString(eventLine(&events[i]))
	}
	return b.String()
}

func goldenOp(t *testing.T, tx *Tx, f []string) string {
	key, rest := []byte(unescape(f[1])), f[2:]
	second := ""
	if len(rest) > 0 {
		second = unescape(rest[0])
	}
	switch f[0] {
	case "put":
		var lease int64
		var ignoreValue, ignoreLease bool
		for _, o := range rest[1:] {
			if n, ok := strings.CutPrefix(o, "lease="); ok {
				lease, _ = strconv.ParseInt(n, 10, 64)
			}
			ignoreValue = ignoreValue || o == "ignore-value"
			ignoreLease = ignoreLease || o == "ignore-lease"
		}
		prev, err := tx.Put(key, []byte(second), lease, ignoreValue, ignoreLease)
		if err != nil {
			return err.Error() + "\n"
		}
		return "previous " + pairLine(prev)
	case "del":
		var b strings.Builder
		n, err := tx.DeleteRange(key, []byte(second), true, func(kv *KeyValue) { b.WriteString("  " + pairLine(kv)) })
		return fmt.Sprintf("%d %v\n", n, err) + b.String()
	case "compact":
		rev, _ := strconv.ParseInt(f[1], 10, 64)
		return fmt.Sprintf("%v\n", tx.Compact(rev))
	case "get":
		kv, err := tx.Get(key)
		if err != nil {
			t.Fatal(err)
		}
		return pairLine(kv)
	case "range":
		pairs, sum, err := collect(tx.Range, Query{Key: key, End: []byte(second)})
		return answer(pairs, sum, err)
	}
	t.Fatalf("unknown operation %v", f)
	return ""
}

func goldenChanges(m *machine, a args) string {
	var b strings.Builder
	var upper []byte
	if a.d.HasArg("upper") {
		upper = a.bytes("upper")
	}
	next, err := m.s.Changes(a.int("from"), a.int("to"), a.bytes("lower"), upper, int(a.int("max")), func(ev *Event) error {
		b.WriteString(eventLine(ev))
		return nil
	})
	if err != nil {
		return fmt.Sprintf("%serror: %v\n", b.String(), err)
	}
	return fmt.Sprintf("%sgo on at %d\n", b.String(), next)
}

func hashLine(m *machine, rev Revision) string {
	h, err := freshHashes(m.s).HashKV(rev)
	if err != nil {
		return err.Error() + "\n"
	}
	return fmt.Sprintf("%08x compacted %d revision %d current %d\n", h.Hash, h.Compacted, h.Revision, h.Current)
}

func eventLine(ev *Event) string {
	kind := "put"
	if ev.Kind == Delete {
		kind = "delete"
	}
	return fmt.Sprintf("%s %s    before: %s", kind, formatVersion(&ev.KV, ev.Sub)+"\n", pairLine(ev.Prev))
}

func pairLine(kv *KeyValue) string {
	if kv == nil {
		return "none\n"
	}
	return fmt.Sprintf("%q = %q create %d mod %d version %d lease %d\n", kv.Key, kv.Value, kv.CreateRevision, kv.ModRevision, kv.Version, kv.Lease)
}

func answer(pairs []KeyValue, sum Summary, err error) string {
	if err != nil {
		return err.Error() + "\n"
	}
	var b strings.Builder
	fmt.Fprintf(&b, "count %d, more %v\n", sum.Count, sum.More)
	for i := range pairs {
		b.WriteString("  " + pairLine(&pairs[i]))
	}
	return b.String()
}

type args struct {
	t *testing.T
	d *datadriven.TestData
}

func (a args) bytes(name string) []byte {
	var v string
	a.d.MaybeScanArgs(a.t, name, &v)
	return []byte(unescape(v))
}

func (a args) int(name string) int64 {
	var v int64
	a.d.MaybeScanArgs(a.t, name, &v)
	return v
}

func unescape(s string) string { return strings.ReplaceAll(s, `\0`, "\x00") }
