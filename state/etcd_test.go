package state

import (
	"context"
	"errors"
	"fmt"
	"math"
	"path/filepath"
	"reflect"
	"slices"
	"strings"
	"testing"

	"github.com/cockroachdb/pebble/v2/vfs"

	"keelson/command"
	"keelson/command/commandtest"
	"keelson/snapshot/etcdfile"
	"keelson/state/alarm"
	"keelson/state/auth"
	"keelson/state/lease"
	"keelson/state/mvcc"
	"keelson/state/tree"
	"keelson/storage"
)

// export writes x's state into an etcd file and opens it.
func (x *member) export() *etcdfile.Reader {
	x.t.Helper()
	db := x.checkpoint("exported")
	defer func() {
		db.Close()
		x.fs.RemoveAll("exported")
	}()
	scratch, err := storage.Open(storage.Options{FS: vfs.NewMem(), Dir: "scratch", MemtableBytes: 1 << 20, CacheBytes: 1 << 20})
	if err != nil {
		x.t.Fatal(err)
	}
	defer scratch.Close()
	dir := x.t.TempDir()
	w, err := etcdfile.Create(filepath.Join(dir, "db"))
	if err != nil {
		x.t.Fatal(err)
	}
	if err := Export(context.Background(), db, scratch, w); err != nil {
		x.t.Fatal(err)
	}
	image, err := w.Finish()
	if err != nil {
		x.t.Fatal(err)
	}
	if err := image.Save(filepath.Join(dir, "saved")); err != nil {
		x.t.Fatal(err)
	}
	if err := image.Close(); err != nil {
		x.t.Fatal(err)
	}
	return openFile(x.t, filepath.Join(dir, "saved"))
}

func openFile(t testing.TB, path string) *etcdfile.Reader {
	t.Helper()
	r, err := etcdfile.Open(path, false)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { r.Close() })
	if err := r.Check(); err != nil {
		t.Fatal(err)
	}
	return r
}

// imported makes a member of a file.
func imported(t testing.TB, from *etcdfile.Reader, o ImportOptions) *member {
	t.Helper()
	x := &member{t: t, fs: vfs.NewCrashableMem()}
	x.openDB()
	if err := Import(x.db, testIdentity, from, o); err != nil {
		t.Fatal(err)
	}
	x.flush()
	x.openMachine()
	t.Cleanup(func() { x.db.Close() })
	return x
}

// TestExportImport takes random states out into etcd's files and in again: everything that can be read is the same, at
// every revision, and goes on in the same way.
func TestExportImport(t *testing.T) {
	r := random(t)
	for range *roundsFlag {
		x := newMember(t)
		g := &commandtest.Generator{R: r, Keys: 1 + r.IntN(12), Leases: 4, Members: 6, Tree: r.IntN(2) == 0}
		for range 40 + r.IntN(200) {
			g.Revision = x.m.Revision()
			op := g.Op()
			if _, isAlarm := op.(*command.Alarm); changesConfiguration(op) || isAlarm && r.IntN(20) > 0 { // else hardly anything is left to do
				continue
			}
			x.do(op)
			if r.IntN(20) == 0 {
				x.m.CompactStep(1 + r.IntN(5))
			}
		}
		y := imported(t, x.export(), ImportOptions{})
		sameToReaders(t, x, y)
		sameToReaders(t, y, imported(t, y.export(), ImportOptions{}))
		for range 30 {
			g.Revision = x.m.Revision()
			op := g.Op()
			if changesConfiguration(op) || voidOnlyInOne(op) {
				continue
			}
			a, b := x.do(op)[0], y.do(op)[0]
			if a.Revision != b.Revision || !errors.Is(a.Refusal, b.Refusal) {
				t.Fatalf("%T: %v at %d, then %v at %d", op, a.Refusal, a.Revision, b.Refusal, b.Revision)
			}
		}
		x.compactAll()
		y.compactAll()
		sameToReaders(t, x, y)
	}
}

// voidOnlyInOne tells ops that name places in a log, or members: an import keeps neither.
func voidOnlyInOne(op command.Op) bool {
	switch op.(type) {
	case *command.LeaseRevoke, *command.LeaseCheckpoint, *command.HashCheck, *command.MemberUpdate, *command.MemberPublish, *command.Downgrade:
		return true
	}
	return false
}

// sameToReaders compares what can be read of two states.
func sameToReaders(t *testing.T, x, y *member) {
	t.Helper()
	if x.m.Revision() != y.m.Revision() || x.m.Compacted() != y.m.Compacted() || x.m.LiveKeys() != y.m.LiveKeys() {
		t.Fatalf("revision %d and %d, floor %d and %d, %d and %d keys", x.m.Revision(), y.m.Revision(),
			x.m.Compacted(), y.m.Compacted(), x.m.LiveKeys(), y.m.LiveKeys())
	}
	for rev := max(x.m.Compacted(), 1); rev <= x.m.Revision(); rev++ {
		a, err := x.m.HashKV(rev)
		if err != nil {
			t.Fatal(err)
		}
		b, err := y.m.HashKV(rev)
		if err != nil {
			t.Fatal(err)
		}
		if a != b {
			t.Fatalf("hash at %d: %+v and %+v", rev, a, b)
		}
	}
	if a, b := x.history(), y.history(); !reflect.DeepEqual(a, b) {
		t.Fatalf("history:\n%v\n%v", a, b)
	}
	if a, b := x.leaseList(), y.leaseList(); !reflect.DeepEqual(a, b) {
		t.Fatalf("leases:\n%v\n%v", a, b)
	}
	a, b := x.m.View(), y.m.View()
	defer a.Close()
	defer b.Close()
	if a, b := a.Alarms().List(alarm.None), b.Alarms().List(alarm.None); !reflect.DeepEqual(a, b) {
		t.Fatalf("alarms:\n%v\n%v", a, b)
	}
	for _, space := range []storage.Space{storage.Auth} {
		if a, b := x.records(space), y.records(space); a != b {
			t.Fatalf("space %c:\n%s\n%s", space, a, b)
		}
	}
	if a, b := x.treeRecords(), y.treeRecords(); a != b {
		t.Fatalf("tree:\n%s\n%s", a, b)
	}
	y.checkLeases()
}

// treeRecords prints what is kept of the v2 tree.
func (x *member) treeRecords() string {
	var b strings.Builder
	err := tree.Export(x.db, func(key, value []byte) error {
		fmt.Fprintf(&b, "%q %x\n", key, value)
		return nil
	})
	if err != nil {
		x.t.Fatal(err)
	}
	return b.String()
}

// records prints what is stored in a space.
func (x *member) records(s storage.Space) string {
	var b strings.Builder
	it, err := x.db.Iter(s, nil, nil)
	if err != nil {
		x.t.Fatal(err)
	}
	for ok := it.First(); ok; ok = it.Next() {
		v, err := it.Value()
		if err != nil {
			x.t.Fatal(err)
		}
		fmt.Fprintf(&b, "%q %x\n", it.Key(), v)
	}
	if err := it.Close(); err != nil {
		x.t.Fatal(err)
	}
	return b.String()
}

// history lists the events above the floor. At the floor itself, what was replaced within the same revision may be gone.
func (x *member) history() []string {
	var list []string
	floor := x.m.Compacted()
	_, err := x.m.Changes(max(floor+1, 0), x.m.Revision(), nil, nil, 0, func(e *mvcc.Event) error {
		text := fmt.Sprintf("%d.%d %+v", e.Kind, e.Sub, e.KV)
		if e.Prev != nil {
			text += fmt.Sprintf(" <- %+v", *e.Prev)
		}
		list = append(list, text)
		return nil
	})
	if err != nil {
		x.t.Fatal(err)
	}
	return list
}

// heldLease is a lease with its keys, and without its place in the log.
type heldLease struct {
	ID, TTL, Remaining int64
	Keys               []string
}

func (x *member) leaseList() []heldLease {
	v := x.m.View()
	defer v.Close()
	var list []heldLease
	err := v.Leases(func(l lease.Lease) bool {
		h := heldLease{ID: l.ID, TTL: l.TTLSeconds, Remaining: l.RemainingSeconds}
		if err := v.LeaseKeys(l.ID, func(key []byte) bool {
			h.Keys = append(h.Keys, string(key))
			return true
		}); err != nil {
			x.t.Fatal(err)
		}
		list = append(list, h)
		return true
	})
	if err != nil {
		x.t.Fatal(err)
	}
	return list
}

// Members that are restored from one file agree, and those that are given different ones do not.
func TestImportHash(t *testing.T) {
	x := newMember(t)
	x.do(&command.Put{Key: []byte("a"), Value: []byte("1")})
	first := x.export()
	_, a := imported(t, first, ImportOptions{}).m.StateHash()
	_, b := imported(t, first, ImportOptions{}).m.StateHash()
	_, bumped := imported(t, first, ImportOptions{Bump: 1}).m.StateHash()
	x.do(&command.LeaseGrant{ID: 5, TTLSeconds: 60})
	_, c := imported(t, x.export(), ImportOptions{}).m.StateHash()
	if a != b || a == c || a == bumped {
		t.Errorf("hashes %x, %x, %x with a lease, %x bumped", a, b, c, bumped)
	}
}

func TestImportWithBump(t *testing.T) {
	x := newMember(t)
	for _, key := range []string{"a", "b", "a"} {
		x.do(&command.Put{Key: []byte(key), Value: []byte("1")})
	}
	x.do(&command.DeleteRange{Key: []byte("b")}) // 5
	y := imported(t, x.export(), ImportOptions{Bump: 1000})
	if y.m.Revision() != 1005 || y.m.Compacted() != 1005 {
		t.Errorf("revision %d, floor %d", y.m.Revision(), y.m.Compacted())
	}
	y.compactAll()
	if got := y.pairs(); len(got) != 1 || got[0].ModRevision != 4 || got[0].Version != 2 {
		t.Errorf("pairs %v", got)
	}
	if r := y.do(&command.Put{Key: []byte("b")})[0]; r.Revision != 1006 {
		t.Errorf("next revision %d", r.Revision)
	}
}

// A bump beyond the revisions that there are is refused: the next write would have none.
func TestImportWithTooLargeABump(t *testing.T) {
	x := newMember(t)
	x.do(&command.Put{Key: []byte("a")}) // 2
	file := x.export()
	for _, by := range []int64{math.MaxInt64, 1<<62 - 1, -1, math.MinInt64} {
		y := &member{t: t, fs: vfs.NewCrashableMem()}
		y.openDB()
		if err := Import(y.db, testIdentity, file, ImportOptions{Bump: by}); !errors.Is(err, mvcc.ErrRevision) {
			t.Errorf("bump by %d: %v", by, err)
		}
		y.db.Close()
	}
	y := imported(t, file, ImportOptions{Bump: 1<<62 - 2})
	if r := y.do(&command.Put{Key: []byte("a")})[0]; r.Revision != 1<<62+1 {
		t.Errorf("then revision %d", r.Revision)
	}
}

// TestImportOfEtcd takes over what etcd 3.7.1 has written: a user with a role, history that was compacted at 4, a tombstone
// and leases.
func TestImportOfEtcd(t *testing.T) {
	x := imported(t, openFile(t, "../snapshot/etcdfile/testdata/etcd-3.7.1.snapshot"), ImportOptions{})
	h, err := x.m.HashKV(0)
	if err != nil {
		t.Fatal(err)
	}
	if h.Hash != 959719419 || h.Compacted != 4 || h.Revision != 7 { // as etcd said
		t.Errorf("hash %+v", h)
	}
	v := x.m.View()
	defer v.Close()
	_, keys, ok, err := v.LeaseWithKeys(0x4ee7a222103a6909)
	if err != nil || !ok || len(keys) != 1 || string(keys[0]) != "l" {
		t.Errorf("lease: %q %v %v", keys, ok, err)
	}
	if len(v.Members().List()) != 3 {
		t.Errorf("members %v", v.Members().List())
	}
	if kv, err := v.Get([]byte("a")); err != nil || kv == nil || string(kv.Value) != "2" || kv.CreateRevision != 2 {
		t.Errorf("a: %v %v", kv, err)
	}
	users := v.Users()
	if u := users.User("bob"); u == nil || len(u.Hash) != 60 || !slices.Equal(u.Roles, []string{"r"}) || users.Enabled() || users.Revision() != 5 {
		t.Errorf("user %+v, revision %d", u, users.Revision())
	}
	if r := users.Role("r"); r == nil || len(r.Permissions) != 1 || string(r.Permissions[0].Key) != "foo" || r.Permissions[0].Access != auth.ReadWrite {
		t.Errorf("role %+v", r)
	}
	y := imported(t, x.export(), ImportOptions{})
	sameToReaders(t, x, y)
}
