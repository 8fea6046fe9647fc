package state

import (
	"encoding/hex"
	"errors"
	"math"
	"testing"

	"github.com/cockroachdb/pebble/v2/vfs"

	"keelson/command"
	"keelson/command/commandtest"
	"keelson/storage"
)

// Apply is total: whatever decodes is applied or refused, without a panic or a failure (known bug A22).
func FuzzApply(f *testing.F) {
	r := random(f)
	for _, wild := range []bool{false, true} {
		for _, e := range randomLog(f, r, 30, wild) {
			f.Add(e.Data)
		}
	}
	before := []command.Op{
		&command.LeaseGrant{ID: 1, TTLSeconds: 5},
		&command.Put{Key: []byte("ka"), Value: []byte("1"), Lease: 1},
		&command.Put{Key: []byte("kb"), Value: []byte("1")},
		&command.DeleteRange{Key: []byte("kb")},
	}
	f.Fuzz(func(t *testing.T, data []byte) {
		if len(data) == 0 || !decodes(data) {
			return
		}
		x := newMember(t)
		x.do(before...)
		at := x.m.Applied()
		out, err := x.m.Apply([]Entry{{Index: at.Index + 1, Term: at.Term, Data: data}})
		if err != nil {
			t.Fatal(err)
		}
		if len(out.Batches) != 1 {
			t.Fatalf("%d batches", len(out.Batches))
		}
		x.checkLeases()
		x.flush()
		x.reopen()
		x.checkLeases()
	})
}

func decodes(data []byte) bool {
	batch, err := command.OpenBatch(data)
	for ok := true; err == nil && ok; {
		_, ok, err = batch.Next()
	}
	return err == nil
}

// Commands with fields that no proposer would write neither panic nor fail.
func TestWildCommands(t *testing.T) {
	r := random(t)
	for range *roundsFlag {
		x := newMember(t)
		x.applyFrom(r, randomLog(t, r, 200, true), 200, nil)
		x.checkLeases()
	}
}

// A refused command leaves no trace but the position and the hash.
func TestRefusalsLeaveNoTrace(t *testing.T) {
	r := random(t)
	x := newMember(t)
	g := commandtest.Generator{R: r, Keys: 5, Leases: 3, Tree: true, Users: true, Wild: true}
	refused := 0
	for range *roundsFlag * 25 {
		before, revision := x.dump(nameApplied), x.m.Revision()
		g.Revision = revision
		op := g.Op()
		out := x.apply(entryAfter(x.m.Applied(), op))
		if r.IntN(4) == 0 {
			before, revision = x.dump(nameApplied), x.m.Revision()
			op = g.MembershipChange()
			out = x.change(op)
		}
		if out.Batches[0].Results[0].Refusal == nil {
			continue
		}
		refused++
		if after := x.dump(nameApplied); after != before {
			t.Fatalf("%T %+v, refused for %v, left\n%s\nwas\n%s", op, op, out.Batches[0].Results[0].Refusal, after, before)
		}
		if len(out.Events)+len(out.Leases)+len(out.Removed) > 0 || out.Revision != revision || out.Floor || out.Members || out.Alarms {
			t.Fatalf("%T %+v: %+v", op, op, out)
		}
	}
	if refused == 0 {
		t.Fatalf("nothing was refused")
	}
}

// An entry that does not decode stops the machine, and none of what came with it is applied.
func TestDamagedEntry(t *testing.T) {
	good := entryAfter(bootstrapPosition, &command.Put{Key: []byte("a")})
	for name, data := range map[string][]byte{
		"not a batch":           []byte("damage"),
		"a command cut off":     good.Data[:len(good.Data)-1],
		"an op from the future": append(append([]byte(nil), good.Data...), 3, 0xfa, 0x02, 0x00),
	} {
		x := newMember(t)
		before := x.dump()
		_, err := x.m.Apply([]Entry{good, {Index: 3, Term: 1, Data: data}})
		if !errors.Is(err, command.ErrMalformed) {
			t.Errorf("%s: %v", name, err)
		}
		if x.dump() != before || x.m.Applied() != bootstrapPosition {
			t.Errorf("%s: something was applied", name)
		}
		if _, again := x.m.Apply([]Entry{good}); again != err {
			t.Errorf("%s: goes on: %v", name, again)
		}
	}
}

func TestEntriesOutOfPlacePanic(t *testing.T) {
	for name, e := range map[string]Entry{
		"again": {Index: 1, Term: 1}, "a gap": {Index: 3, Term: 1}, "an older term": {Index: 2, Term: 0},
	} {
		x := newMember(t)
		func() {
			defer func() {
				if recover() == nil {
					t.Errorf("%s: no panic", name)
				}
			}()
			x.m.Apply([]Entry{e})
		}()
	}
}

func TestApplyNothing(t *testing.T) {
	x := newMember(t)
	before := x.dump()
	out := x.apply()
	if out.Revision != 1 || x.dump() != before {
		t.Errorf("%+v", out)
	}
}

func TestOpenAndBootstrap(t *testing.T) {
	x := newMember(t)
	if err := Bootstrap(x.db, testIdentity); err == nil {
		t.Errorf("bootstrapped twice")
	}
	if p, err := x.m.DurableApplied(); p != bootstrapPosition || err != nil {
		t.Errorf("durable: %v, %v", p, err)
	}
	if index, hash := x.m.StateHash(); index != 1 || hash == 0 {
		t.Errorf("hash %x at %d", hash, index)
	}
	other := testIdentity
	other.ClusterID++
	y := &member{t: t, fs: x.fs.CrashClone(vfs.CrashCloneCfg{}), db: nil}
	y.openDB()
	defer y.db.Close()
	b := y.db.NewBatch()
	for _, s := range allSpaces {
		b.DeleteRange(s, nil, nil)
	}
	if err := b.Commit(); err != nil {
		t.Fatal(err)
	}
	if _, err := Open(y.db, Options{}); !errors.Is(err, ErrNotBootstrapped) {
		t.Errorf("open of nothing: %v", err)
	}
	if p, err := Bootstrapped(y.db); p || err != nil {
		t.Errorf("bootstrapped: %v, %v", p, err)
	}
	if err := Bootstrap(y.db, other); err != nil {
		t.Fatal(err)
	}
	y.openMachine()
	if y.m.shared.Load().hash == x.m.shared.Load().hash {
		t.Errorf("two clusters begin with the same hash")
	}
	bad := testIdentity
	bad.ClusterID = 0
	z := &member{t: t, fs: x.fs.CrashClone(vfs.CrashCloneCfg{})}
	z.openDB()
	defer z.db.Close()
	zb := z.db.NewBatch()
	zb.Delete(storage.Meta, metaApplied)
	if err := zb.Commit(); err != nil {
		t.Fatal(err)
	}
	if err := Bootstrap(z.db, bad); err == nil {
		t.Errorf("bootstrapped without a cluster id")
	}
}

func TestAppliedRecord(t *testing.T) {
	p, hash := Position{Index: math.MaxUint64, Term: 5}, uint64(1<<63)
	record := appendApplied(nil, p, hash)
	const golden = "01ffffffffffffffff05000000000000000000000000000080"
	if got := hex.EncodeToString(record); got != golden {
		t.Errorf("the format has changed: %s", got)
	}
	x := newMember(t)
	for name, v := range map[string][]byte{"good": record, "short": record[:24], "of the future": append([]byte{2}, record[1:]...)} {
		b := x.db.NewBatch()
		b.Set(storage.Meta, metaApplied, v)
		if err := b.Commit(); err != nil {
			t.Fatal(err)
		}
		got, h, ok, err := readApplied(x.db)
		if name == "good" && (got != p || h != hash || !ok || err != nil) || name != "good" && err == nil {
			t.Errorf("%s: %v, %x, %v, %v", name, got, h, ok, err)
		}
	}
}
