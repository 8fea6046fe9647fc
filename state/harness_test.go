package state

import (
	"flag"
	"fmt"
	"math/rand/v2"
	"strings"
	"testing"

	"github.com/cockroachdb/pebble/v2/vfs"

	"keelson/command"
	"keelson/state/members"
	"keelson/state/mvcc"
	"keelson/storage"
)

var (
	seedFlag   = flag.Uint64("seed", 0, "seed of random tests; 0: draw one")
	roundsFlag = flag.Int("rounds", 6, "histories to try in random tests")
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

// member is a machine on a disk that can crash.
type member struct {
	t  testing.TB
	fs *vfs.MemFS
	db *storage.DB
	m  *Machine
}

var testIdentity = members.Identity{
	ClusterID: 77,
	Members: []members.Member{
		{ID: 1, PeerURLs: []string{"http://a:2380"}},
		{ID: 2, PeerURLs: []string{"http://b:2380"}},
		{ID: 3, PeerURLs: []string{"http://c:2380"}, IsLearner: true},
	},
	ConfState: []byte{0x08, 0x01, 0x08, 0x02, 0x10, 0x03},
}

// newMember bootstraps a machine whose beginning is flushed.
func newMember(t testing.TB) *member {
	x := &member{t: t, fs: vfs.NewCrashableMem()}
	x.openDB()
	if err := Bootstrap(x.db, testIdentity); err != nil {
		t.Fatal(err)
	}
	x.flush()
	x.openMachine()
	t.Cleanup(func() { x.db.Close() })
	return x
}

func (x *member) openDB() {
	db, err := storage.Open(storage.Options{FS: x.fs, Dir: "db", Manual: true, MemtableBytes: 8 << 20, CacheBytes: 1 << 20})
	if err != nil {
		x.t.Fatal(err)
	}
	x.db = db
}

func (x *member) openMachine() {
	m, err := Open(x.db, Options{NewestCacheBytes: 64 << 10})
	if err != nil {
		x.t.Fatal(err)
	}
	x.m = m
}

func (x *member) flush() {
	if err := x.db.Flush(); err != nil {
		x.t.Fatal(err)
	}
}

// reopen closes the database without a flush and opens it again: what was not flushed is lost.
func (x *member) reopen() {
	if err := x.db.Close(); err != nil {
		x.t.Fatal(err)
	}
	x.openDB()
	x.openMachine()
}

// crash cuts the power; of what was not synced, some part stays.
func (x *member) crash(r *rand.Rand) {
	after := x.fs.CrashClone(vfs.CrashCloneCfg{UnsyncedDataPercent: r.IntN(101), RNG: r})
	x.db.Close()
	x.fs = after
	x.openDB()
	x.openMachine()
}

func (x *member) apply(entries ...Entry) Outcome {
	out, err := x.m.Apply(entries)
	if err != nil {
		x.t.Fatal(err)
	}
	return out
}

// do applies one batch of commands, in the newest term, and returns their results. A membership change alone comes with a
// change of raft's configuration.
func (x *member) do(ops ...command.Op) []Result {
	if len(ops) == 1 && changesConfiguration(ops[0]) {
		return x.change(ops[0]).Batches[0].Results
	}
	return x.apply(entryAfter(x.m.Applied(), ops...)).Batches[0].Results
}

// entryAfter makes the entry that follows on p.
func entryAfter(p Position, ops ...command.Op) Entry {
	commands := make([]command.Command, len(ops))
	for i, op := range ops {
		commands[i].Op = op
	}
	return entryOf(p, commands...)
}

// entryOf makes the entry that follows on p, of commands.
func entryOf(p Position, commands ...command.Command) Entry {
	data := command.BeginBatch(nil, command.BatchID{Origin: 5, Sequence: p.Index})
	for _, c := range commands {
		data = command.AppendTo(data, c.Append(nil))
	}
	return Entry{Index: p.Index + 1, Term: p.Term, Data: data}
}

// compactAll removes everything below the floor.
func (x *member) compactAll() {
	for more := true; more; {
		var err error
		if _, more, err = x.m.CompactStep(3); err != nil {
			x.t.Fatal(err)
		}
	}
}

var allSpaces = []storage.Space{
	storage.Alarms, storage.Auth, storage.Changes, storage.LeaseKeys, storage.Leases, storage.Members, storage.Meta,
	storage.Tree, storage.Versions,
}

// dump prints every record there is, but the ones named.
func (x *member) dump(but ...string) string {
	var b strings.Builder
	for _, s := range allSpaces {
		it, err := x.db.Iter(s, nil, nil)
		if err != nil {
			x.t.Fatal(err)
		}
		for ok := it.First(); ok; ok = it.Next() {
			key, version := it.KeyVersion()
			if s == storage.Meta && contains(but, string(key)) {
				continue
			}
			v, err := it.Value()
			if err != nil {
				x.t.Fatal(err)
			}
			fmt.Fprintf(&b, "%c %q %d.%d: %x\n", s, key, version.Main, version.Sub, v)
		}
		if err := it.Close(); err != nil {
			x.t.Fatal(err)
		}
	}
	return b.String()
}

func contains(list []string, s string) bool {
	for _, x := range list {
		if x == s {
			return true
		}
	}
	return false
}

// Names in Meta that dumps may leave out: what differs with how far removal has come, and with every entry.
const (
	nameRemoval = "mvcc.removal"
	nameApplied = "applied"
)

// pairs reads all pairs at the newest revision.
func (x *member) pairs() []mvcc.KeyValue {
	v := x.m.View()
	defer v.Close()
	var list []mvcc.KeyValue
	_, err := v.Range(mvcc.Query{Key: []byte{0}, End: []byte{0}}, func(kv *mvcc.KeyValue) bool {
		list = append(list, clone(kv))
		return true
	})
	if err != nil {
		x.t.Fatal(err)
	}
	return list
}

// checkLeases checks the invariant of package lease: a key hangs on a lease exactly if its pair says so.
func (x *member) checkLeases() {
	want := map[string]int64{}
	for _, kv := range x.pairs() {
		if kv.Lease != 0 {
			want[string(kv.Key)] = kv.Lease
		}
	}
	it, err := x.db.Iter(storage.LeaseKeys, nil, nil)
	if err != nil {
		x.t.Fatal(err)
	}
	defer it.Close()
	n := 0
	v := x.m.View()
	defer v.Close()
	for ok := it.First(); ok; ok = it.Next() {
		n++
		key := string(it.Key()[8:])
		id := want[key]
		found := false
		if err := v.LeaseKeys(id, func(k []byte) bool { found = found || string(k) == key; return true }); err != nil {
			x.t.Fatal(err)
		}
		if _, ok, err := v.Lease(id); !found || !ok || err != nil {
			x.t.Fatalf("key %q hangs on a lease; its pair says %d, which exists: %v, %v", key, id, ok, err)
		}
	}
	if n != len(want) {
		x.t.Fatalf("%d keys hang on leases, want %v", n, want)
	}
}
