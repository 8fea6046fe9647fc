package state

import (
	"encoding/binary"
	"errors"
	"fmt"
	"math/rand/v2"
	"runtime"
	"slices"
	"strings"
	"sync"
	"testing"

	"github.com/cockroachdb/pebble/v2/vfs"

	"keelson/command"
	"keelson/state/mvcc"
	"keelson/storage"
)

// historyEntry is the entry at index of a made-up log: what it does follows from the index. The keys a and b always hold
// the same; every tenth entry adds or removes a learner instead.
func historyEntry(index uint64) Entry {
	before := Position{index - 1, 1 + index/100}
	switch index % 20 {
	case 10:
		return configured(entryAfter(before, &command.MemberAdd{
			ID: 1000 + index, PeerURLs: []string{fmt.Sprint("http://m", index, ":2380")}, IsLearner: true, LearnersMax: 9,
		}), 1000+index)
	case 0:
		return configured(entryAfter(before, &command.MemberRemove{ID: 1000 + index - 10}))
	}
	return entryAfter(before,
		&command.Txn{Success: []command.Op{
			&command.Put{Key: key("a"), Value: key(fmt.Sprint(index))}, &command.Put{Key: key("b"), Value: key(fmt.Sprint(index))},
		}},
		&command.Put{Key: key(fmt.Sprint("k", index%40)), Value: key(fmt.Sprint(index))},
		&command.LeaseGrant{ID: int64(index), TTLSeconds: 60},
		&command.Compact{Revision: int64(index) - 20},
	)
}

// configured makes an entry a change of raft's configuration, to that of the beginning with more learners.
func configured(e Entry, learners ...uint64) Entry {
	e.ConfChange, e.ConfState = true, slices.Clone(testIdentity.ConfState)
	for _, id := range learners {
		e.ConfState = binary.AppendUvarint(append(e.ConfState, 0x10), id)
	}
	return e
}

// applyTo applies the made-up log up to an entry.
func (x *member) applyTo(index uint64) {
	for at := x.m.Applied().Index + 1; at <= index; at++ {
		x.apply(historyEntry(at))
	}
}

// joiner is a member that has the cluster's id and nothing else.
func joiner(t testing.TB) *member {
	x := &member{t: t, fs: vfs.NewCrashableMem()}
	x.openDB()
	if err := BootstrapEmpty(x.db, testIdentity.ClusterID); err != nil {
		t.Fatal(err)
	}
	x.flush()
	x.openMachine()
	t.Cleanup(func() { x.db.Close() })
	return x
}

// checkpoint makes a checkpoint of x and opens it as a database of its own.
func (x *member) checkpoint(dir string) *storage.DB {
	x.t.Helper()
	if _, _, err := x.m.Checkpoint(dir); err != nil {
		x.t.Fatal(err)
	}
	return x.openAs(dir)
}

func (x *member) openAs(dir string) *storage.DB {
	x.t.Helper()
	db, err := storage.Open(storage.Options{FS: x.fs, Dir: dir, Manual: true, MemtableBytes: 8 << 20, CacheBytes: 1 << 20})
	if err != nil {
		x.t.Fatal(err)
	}
	return db
}

// install has x take over what is in db, and closes the old database.
func (x *member) install(db *storage.DB) {
	x.t.Helper()
	retired, err := x.m.Install(db)
	if err != nil {
		x.t.Fatal(err)
	}
	x.db = db
	if err := retired.Close(); err != nil {
		x.t.Fatal(err)
	}
}

func TestBootstrapEmpty(t *testing.T) {
	x := joiner(t)
	if err := BootstrapEmpty(x.db, 77); err == nil {
		t.Error("founded twice")
	}
	v := x.m.View()
	defer v.Close()
	index, hash := x.m.StateHash()
	set := v.Members()
	if x.m.Applied() != (Position{}) || index != 0 || hash != 0 || set.ClusterID() != 77 || len(set.List()) != 0 || len(set.ConfState()) != 0 {
		t.Errorf("at %v, hash %x, cluster %x, %d members, configuration %x", x.m.Applied(), hash, set.ClusterID(), len(set.List()), set.ConfState())
	}
	x.reopen()
	if at, err := x.m.DurableApplied(); at != (Position{}) || err != nil {
		t.Errorf("durable at %v, %v", at, err)
	}
}

// A view of before goes on as if nothing had happened, what comes after sees the new state alone, and the old database
// is closed when the view is.
func TestInstall(t *testing.T) {
	from, x := newMember(t), newMember(t)
	x.applyTo(30)
	from.applyTo(250)
	was, wasPairs := x.m.Applied(), x.pairs()
	v := x.m.View()
	c, err := v.Cursor(mvcc.Query{Key: []byte{0}, End: []byte{0}})
	if err != nil {
		t.Fatal(err)
	}
	db := from.checkpoint("snapshot")
	retired, err := x.m.Install(db)
	if err != nil {
		t.Fatal(err)
	}
	old := x.db
	x.db = db
	select {
	case <-retired.Drained():
		t.Fatal("drained under an open view")
	default:
	}
	var got []mvcc.KeyValue
	if _, err := v.Range(mvcc.Query{Key: []byte{0}, End: []byte{0}}, func(kv *mvcc.KeyValue) bool { got = append(got, clone(kv)); return true }); err != nil {
		t.Fatal(err)
	}
	if len(got) != len(wasPairs) || got[0].ModRevision != wasPairs[0].ModRevision || len(v.Members().List()) != 4 {
		t.Errorf("the old view has changed: %d pairs, %d before", len(got), len(wasPairs))
	}
	if _, ok, err := v.Lease(29); !ok || err != nil {
		t.Errorf("a lease of the old state: %v, %v", ok, err)
	}
	if _, ok, err := v.Lease(201); ok || err != nil {
		t.Errorf("the old view has a lease of the new state: %v, %v", ok, err)
	}
	if _, err := c.Next(1, func(*mvcc.KeyValue) bool { return true }); err != mvcc.ErrCompacted {
		t.Errorf("a cursor at a revision that the new state has compacted: %v", err)
	}
	v.Close()
	<-retired.Drained()
	if err := retired.Close(); err != nil {
		t.Fatal(err)
	}
	if !panics(func() { old.Get(storage.Meta, metaApplied) }) {
		t.Error("the old database is still open")
	}
	x.same(from)
	if durable, err := x.m.DurableApplied(); durable != x.m.Applied() || durable == was || err != nil {
		t.Errorf("durable at %v, %v", durable, err)
	}
	// Both go on alike, also over a restart.
	x.applyTo(300)
	from.applyTo(300)
	x.same(from)
	if err := x.m.Flush(); err != nil {
		t.Fatal(err)
	}
	if err := x.m.Close(); err != nil {
		t.Fatal(err)
	}
	x.fs = from.fs // where its snapshot was opened
	x.db = x.openAs("snapshot")
	x.openMachine()
	x.same(from)
}

func panics(f func()) (yes bool) {
	defer func() { yes = recover() != nil }()
	f()
	return false
}

// same checks that two members hold the same.
func (x *member) same(y *member) {
	x.t.Helper()
	i, h := x.m.StateHash()
	j, g := y.m.StateHash()
	if i != j || h != g || x.m.Applied() != y.m.Applied() {
		x.t.Fatalf("state hash %x at %d, want %x at %d", h, i, g, j)
	}
	a, err := x.m.HashKV(0)
	if err != nil {
		x.t.Fatal(err)
	}
	if b, err := y.m.HashKV(0); a != b || err != nil {
		x.t.Fatalf("hash of pairs %+v, want %+v, %v", a, b, err)
	}
	if a, b := x.dump(nameRemoval), y.dump(nameRemoval); a != b {
		x.t.Fatalf("holds\n%s\nwant\n%s", a, b)
	}
	x.checkLeases()
}

func TestInstallRefusals(t *testing.T) {
	x := newMember(t)
	x.applyTo(50)
	older := newMember(t)
	older.applyTo(49)
	foreign := joiner(t)
	foreign.db.Close()
	foreign.fs = vfs.NewCrashableMem()
	foreign.openDB()
	if err := BootstrapEmpty(foreign.db, 78); err != nil {
		t.Fatal(err)
	}
	empty := &member{t: t, fs: vfs.NewCrashableMem()}
	empty.openDB()
	defer empty.db.Close()
	before := x.dump()
	for _, c := range []struct {
		name string
		db   *storage.DB
		want error
	}{{"older", older.db, ErrInstall}, {"of another cluster", foreign.db, ErrInstall}, {"no state", empty.db, ErrNotBootstrapped}} {
		if retired, err := x.m.Install(c.db); !errors.Is(err, c.want) || retired != nil {
			t.Errorf("%s: %v, want %v", c.name, err, c.want)
		}
	}
	if x.dump() != before {
		t.Error("a refused snapshot has changed the state")
	}
	x.applyTo(60)
	v := x.m.View()
	v.Close()
}

// After an Install nothing of the old state is known any more: neither hashes nor leases nor cached pairs.
func TestInstallForgets(t *testing.T) {
	from, x := newMember(t), newMember(t)
	from.applyTo(100)
	x.applyTo(60)
	x.do(&command.LeaseGrant{ID: 9999, TTLSeconds: 5}, &command.Put{Key: key("stray"), Lease: 9999}) // as a member in error would have it
	x.install(from.checkpoint("snapshot"))
	out := x.apply(entryAfter(x.m.Applied(),
		&command.HashCheck{Index: 61, Hash: 1}, &command.HashCheck{Index: 100, Hash: 1},
		&command.Put{Key: key("p"), Lease: 9999},
	))
	if out.Checks[0].Known || !out.Checks[1].Known || out.Batches[0].Results[2].Refusal != ErrLeaseNotFound {
		t.Errorf("%+v, %v", out.Checks, out.Batches[0].Results[2].Refusal)
	}
	v := x.m.View()
	defer v.Close()
	if kv, err := v.Get(key("stray")); kv != nil || err != nil {
		t.Errorf("%v, %v", kv, err)
	}
}

// TestInstallBesideReaders has all kinds of readers at work, and the removal of compacted versions, while the state is
// replaced again and again. Each reader sees states of the one history, whole, and never goes back.
func TestInstallBesideReaders(t *testing.T) {
	r := random(t)
	from, x := newMember(t), joiner(t)
	reference := newMember(t)
	hashes := map[uint64]uint64{}
	for i := uint64(2); i <= 500; i++ {
		reference.apply(historyEntry(i))
		_, hashes[i] = reference.m.StateHash()
	}
	stop := make(chan struct{})
	var readers, closers sync.WaitGroup
	finish := sync.OnceFunc(func() {
		close(stop)
		readers.Wait()
		closers.Wait()
	})
	defer finish() // before the databases are closed, whatever the test ends with
	start := func(f func() error) {
		readers.Go(func() {
			for {
				select {
				case <-stop:
					return
				default:
				}
				if err := f(); err != nil {
					t.Error(err)
					return
				}
				runtime.Gosched()
			}
		})
	}
	for range 2 {
		last := int64(0)
		start(func() error { return x.readWhole(&last) })
	}
	position := int64(0)
	start(func() error { return x.readOn(&position) })
	start(func() error { return x.readPages() })
	start(func() error {
		_, err := x.m.HashKV(0)
		if err == nil {
			_, _, err = x.m.Hash()
		}
		return err
	})
	start(func() error {
		_, _, err := x.m.CompactStep(5)
		return err
	})
	start(func() error { return x.m.Shrink(t.Context()) }) // known bug A15
	durable := Position{}
	start(func() error {
		at, err := x.m.DurableApplied()
		if err == nil && at.Index < durable.Index {
			err = fmt.Errorf("durable at %v, before at %v", at, durable)
		}
		durable = at
		x.m.Sizes()
		return errors.Join(err, x.m.Flush())
	})
	for i, at := 0, uint64(1); at <= 500-60-29; i++ {
		at += 1 + uint64(r.IntN(60))
		from.applyTo(at)
		dir := fmt.Sprintf("snapshot-%d", i)
		db := from.checkpoint(dir)
		retired, err := x.m.Install(db)
		if err != nil {
			t.Fatal(err)
		}
		x.db = db
		closers.Go(func() {
			if err := retired.Close(); err != nil {
				t.Error(err)
			}
		})
		at += uint64(r.IntN(30))
		x.applyTo(at)
		if index, hash := x.m.StateHash(); hash != hashes[index] {
			t.Fatalf("state hash %x at %d, want %x", hash, index, hashes[index])
		}
	}
	finish()
	x.applyTo(500)
	x.compactAll()
	reference.compactAll()
	x.same(reference)
}

// readWhole reads "a" and "b", which change together, and leases.
func (x *member) readWhole(last *int64) error {
	index := x.m.Applied().Index
	v := x.m.View()
	defer v.Close()
	if v.Revision() < *last {
		return fmt.Errorf("revision %d after %d", v.Revision(), *last)
	}
	*last = v.Revision()
	a, err := v.Get(key("a"))
	if err != nil {
		return err
	}
	b, err := v.Get(key("b"))
	if err != nil {
		return err
	}
	if a == nil && b == nil && index < 2 {
		return nil
	}
	if a == nil || b == nil || string(a.Value) != string(b.Value) {
		return fmt.Errorf("torn: %v, %v at index %d", a, b, index)
	}
	var of uint64
	if _, err := fmt.Sscan(string(a.Value), &of); err != nil || of+1 < index { // the newest may be a membership change
		return fmt.Errorf("a is of entry %d, but %d was applied before", of, index)
	}
	// Each entry grants a lease of its index.
	if _, ok, err := v.Lease(int64(of)); !ok || err != nil {
		return fmt.Errorf("the lease of entry %d: %v, %v", of, ok, err)
	}
	return nil
}

// readOn reads the history from where it was left: without a gap, unless that was compacted.
func (x *member) readOn(next *int64) error {
	seen := *next - 1
	got, err := x.m.Changes(*next, 1<<60, nil, nil, 2000, func(e *mvcc.Event) error {
		if rev := e.KV.ModRevision; rev != seen && rev != seen+1 && seen >= 2 {
			return fmt.Errorf("revision %d after %d", rev, seen)
		} else {
			seen = rev
		}
		return nil
	})
	if err == mvcc.ErrCompacted {
		*next = max(x.m.Compacted(), 0)
		return nil
	}
	*next = got
	return err
}

// readPages pages through all pairs at one revision.
func (x *member) readPages() error {
	v := x.m.View()
	c, err := v.Cursor(mvcc.Query{Key: []byte{0}, End: []byte{0}})
	want := v.LiveKeys()
	v.Close()
	if err != nil {
		return err
	}
	n, done, last := int64(0), false, ""
	for !done {
		done, err = c.Next(7, func(kv *mvcc.KeyValue) bool {
			if string(kv.Key) <= last || kv.ModRevision > c.Revision() {
				err = fmt.Errorf("%q after %q, of revision %d, at %d", kv.Key, last, kv.ModRevision, c.Revision())
			}
			last = string(kv.Key)
			n++
			return true
		})
		if err == mvcc.ErrCompacted {
			return nil
		}
		if err != nil {
			return err
		}
		runtime.Gosched()
	}
	if n != want {
		return fmt.Errorf("%d pairs, want %d", n, want)
	}
	return nil
}

// TestCheckpointBesideApply: a checkpoint says exactly what it holds, whatever is applied meanwhile, and holds all that
// was applied before.
func TestCheckpointBesideApply(t *testing.T) {
	r := random(t)
	reference, x := newMember(t), newMember(t)
	hashes, confs := map[uint64]uint64{}, map[uint64][]byte{1: testIdentity.ConfState}
	const entries = 300
	for i := uint64(2); i <= entries; i++ {
		reference.apply(historyEntry(i))
		_, hashes[i] = reference.m.StateHash()
		v := reference.m.View()
		confs[i] = v.Members().ConfState()
		v.Close()
	}
	_, hashes[1] = newMember(t).m.StateHash()
	var applying sync.WaitGroup
	applying.Go(func() {
		for x.m.Applied().Index < entries && !t.Failed() {
			x.applyTo(min(x.m.Applied().Index+1+uint64(r.IntN(5)), entries))
			runtime.Gosched()
		}
	})
	seen := map[uint64]bool{}
	for i := 0; x.m.Applied().Index < entries || i < 3; i++ {
		before := x.m.Applied()
		dir := fmt.Sprint("checkpoint-", i)
		at, conf, err := x.m.Checkpoint(dir)
		if err != nil {
			t.Fatal(err)
		}
		if at.Index < before.Index {
			t.Fatalf("at %v, %v was applied before", at, before)
		}
		db := x.openAs(dir)
		m, err := Open(db, Options{})
		if err != nil {
			t.Fatal(err)
		}
		index, hash := m.StateHash()
		if m.Applied() != at || index != at.Index || hash != hashes[index] || !slices.Equal(conf, confs[index]) {
			t.Fatalf("checkpoint is at %v, was said to be at %v; hash %x, want %x; configuration %x, want %x",
				m.Applied(), at, hash, hashes[index], conf, confs[index])
		}
		seen[index] = true
		if err := db.Close(); err != nil {
			t.Fatal(err)
		}
	}
	applying.Wait()
	if len(seen) < 2 {
		t.Errorf("only %d different positions", len(seen))
	}
	if _, _, err := x.m.Checkpoint("checkpoint-0"); err == nil || !strings.HasPrefix(err.Error(), "state: checkpoint: ") {
		t.Errorf("a checkpoint over another: %v", err)
	}
}

// A crash of the disk that a checkpoint was opened on leaves all of it: what Install takes over is durable.
func TestInstalledStateIsDurable(t *testing.T) {
	r := rand.New(rand.NewPCG(1, 1))
	from := newMember(t)
	from.applyTo(120)
	x := joiner(t)
	x.fs = from.fs
	x.install(from.checkpoint("snapshot"))
	after := from.fs.CrashClone(vfs.CrashCloneCfg{UnsyncedDataPercent: 0, RNG: r})
	y := &member{t: t, fs: after}
	y.db = y.openAs("snapshot")
	defer y.db.Close()
	y.openMachine()
	y.same(from)
}

// A view costs one small allocation, as it always has.
func TestViewAllocatesLittle(t *testing.T) {
	x := newMember(t)
	if n := testing.AllocsPerRun(100, func() { x.m.View().Close() }); n > 1 {
		t.Errorf("%v allocations", n)
	}
}
