package bootstrap

import (
	"bytes"
	"errors"
	"flag"
	"fmt"
	"math/rand/v2"
	"reflect"
	"slices"
	"sync"
	"testing"

	"github.com/cockroachdb/pebble/v2/vfs"
	"github.com/cockroachdb/pebble/v2/vfs/errorfs"
	"go.etcd.io/raft/v3"
	"go.etcd.io/raft/v3/raftpb"
	"go.uber.org/zap"
	"google.golang.org/protobuf/proto"

	"keelson/command"
	"keelson/env"
	"keelson/raftlog"
	"keelson/replica"
	"keelson/state"
	"keelson/state/members"
	"keelson/state/mvcc"
	"keelson/storage"
)

var (
	seedFlag   = flag.Uint64("seed", 0, "seed of random tests; 0: draw one")
	roundsFlag = flag.Int("rounds", 30, "histories to try in random tests")
)

const (
	clusterID = 0xabc
	self      = 3
)

// survivor is a member on a disk, with its files open and nothing running.
type survivor struct {
	t       testing.TB
	fs      vfs.FS
	machine *state.Machine
	log     *raftlog.Log
	end     uint64 // of the log
}

func (x *survivor) options() raftlog.Options {
	return raftlog.Options{FS: x.fs, Dir: "member/wal", ClusterID: clusterID, MemberID: self, SegmentBytes: 64 << 10}
}

// newSurvivor founds a cluster of the given members; negative ids are learners. No ids: it has joined, and got nothing.
func newSurvivor(t testing.TB, fs vfs.FS, ids ...int) *survivor {
	t.Helper()
	x := &survivor{t: t, fs: fs}
	x.must(fs.MkdirAll("member", 0o755))
	db := x.openStore()
	if len(ids) == 0 {
		x.must(state.BootstrapEmpty(db, clusterID))
	} else {
		x.must(state.Bootstrap(db, identityOf(t, ids)))
	}
	x.must(db.Flush())
	m, err := state.Open(db, state.Options{})
	x.must(err)
	x.machine = m
	x.log, err = raftlog.Create(x.options(), raftlog.Position(m.Applied()))
	x.must(err)
	x.end = m.Applied().Index
	x.syncDirs()
	t.Cleanup(func() { x.close() })
	return x
}

func identityOf(t testing.TB, ids []int) state.Identity {
	id := state.Identity{ClusterID: clusterID}
	conf := &raftpb.ConfState{}
	for _, n := range ids {
		m := members.Member{ID: uint64(max(n, -n)), IsLearner: n < 0, PeerURLs: []string{fmt.Sprintf("http://m%d:1", n)}}
		id.Members = append(id.Members, m)
		if m.IsLearner {
			conf.Learners = append(conf.Learners, m.ID)
		} else {
			conf.Voters = append(conf.Voters, m.ID)
		}
	}
	var err error
	if id.ConfState, err = proto.Marshal(conf); err != nil {
		t.Fatal(err)
	}
	return id
}

func (x *survivor) must(err error) {
	x.t.Helper()
	if err != nil {
		x.t.Fatal(err)
	}
}

// syncDirs makes the names above the log and the store durable, as the data directory does.
func (x *survivor) syncDirs() {
	for _, dir := range []string{"", "member"} {
		d, err := x.fs.OpenDir(dir)
		x.must(err)
		x.must(errors.Join(d.Sync(), d.Close()))
	}
}

func (x *survivor) openStore() *storage.DB {
	db, err := storage.Open(storage.Options{FS: x.fs, Dir: "member/state", Manual: true, MemtableBytes: 1 << 20, CacheBytes: 1 << 20})
	x.must(err)
	return db
}

func (x *survivor) close() {
	if x.machine != nil {
		x.machine.Close()
		x.log.Close()
		x.machine = nil
	}
}

// open opens what is on a disk.
func open(t testing.TB, fs vfs.FS) *survivor {
	t.Helper()
	x := &survivor{t: t, fs: fs}
	m, err := state.Open(x.openStore(), state.Options{NewestCacheBytes: 1 << 10})
	x.must(err)
	durable, err := m.DurableApplied()
	x.must(err)
	x.machine = m
	x.log, _, err = raftlog.Open(x.options(), raftlog.Position(durable))
	x.must(err)
	x.end, _ = x.log.LastIndex()
	t.Cleanup(x.close)
	return x
}

func (x *survivor) forceOptions() ForceOptions {
	return ForceOptions{
		FS: x.fs, Scratch: "member/force.tmp", MemberID: self, Machine: x.machine, Log: x.log,
		Clock: env.SystemClock(), Logger: zap.NewNop(),
	}
}

// append appends entries of a term, each a put of a key or a change of the membership.
func (x *survivor) append(term uint64, ops ...command.Op) {
	x.t.Helper()
	var entries []*raftpb.Entry
	for _, op := range ops {
		x.end++
		entries = append(entries, entryOf(x.t, x.end, term, op))
	}
	x.must(x.log.Append(raftlog.Batch{Entries: entries, HardState: &raftpb.HardState{
		Term: &term, Commit: x.log.HardState().Commit,
	}}))
}

func (x *survivor) commit(index uint64) {
	h := x.log.HardState()
	h.Commit = &index
	x.must(x.log.Append(raftlog.Batch{HardState: h, MustSync: true}))
}

// apply applies what is committed.
func (x *survivor) apply() {
	x.t.Helper()
	x.must(replay{machine: x.machine, log: x.log, self: self, hard: x.log.HardState(), untouchable: 1 << 62}.run())
}

func entryOf(t testing.TB, index, term uint64, op command.Op) *raftpb.Entry {
	e := &raftpb.Entry{Index: &index, Term: &term}
	c := change{op: op}
	switch o := op.(type) {
	case *command.MemberAdd:
		c.id, c.kind = o.ID, raftpb.ConfChangeAddNode
		if o.IsLearner {
			c.kind = raftpb.ConfChangeAddLearnerNode
		}
	case *command.MemberPromote:
		c.id, c.kind = o.ID, raftpb.ConfChangeAddNode
	case *command.MemberRemove:
		c.id, c.kind = o.ID, raftpb.ConfChangeRemoveNode
	default:
		one := command.Command{Op: op}
		e.Data = command.AppendTo(command.BeginBatch(nil, command.BatchID{Origin: 9, Sequence: index}), one.Append(nil))
		return e
	}
	var err error
	if e.Data, err = c.encode(index, 0); err != nil {
		t.Fatal(err)
	}
	e.Type = raftpb.EntryConfChangeV2.Enum()
	return e
}

func put(key string) command.Op { return &command.Put{Key: []byte(key), Value: []byte("v")} }

func add(id uint64) command.Op {
	return &command.MemberAdd{ID: id, PeerURLs: []string{fmt.Sprintf("http://added%d:1", id)}}
}

// keys lists the keys that the machine has.
func keysOf(t testing.TB, m *state.Machine) string {
	t.Helper()
	view := m.View()
	defer view.Close()
	var keys [][]byte
	all := mvcc.Query{Key: []byte{0}, End: []byte{0}}
	if _, err := view.Range(all, func(kv *mvcc.KeyValue) bool { keys = append(keys, bytes.Clone(kv.Key)); return true }); err != nil {
		t.Fatal(err)
	}
	return string(bytes.Join(keys, []byte(" ")))
}

// checkAlone checks that a machine has one member, which raft may rely on alone.
func checkAlone(t testing.TB, m *state.Machine) {
	t.Helper()
	view := m.View()
	defer view.Close()
	list := view.Members().List()
	if len(list) != 1 || list[0].ID != self || list[0].IsLearner || view.Members().ClusterID() != clusterID {
		t.Errorf("members %+v of cluster %x", list, view.Members().ClusterID())
	}
	conf := &raftpb.ConfState{}
	if err := proto.Unmarshal(view.Members().ConfState(), conf); err != nil {
		t.Error(err)
	}
	if !slices.Equal(conf.GetVoters(), []uint64{self}) || len(conf.GetLearners()) > 0 {
		t.Errorf("configuration %v", conf)
	}
}

// checkLeads checks that a member started from what is on the disk leads as soon as its vote is on disk.
func (x *survivor) checkLeads() {
	x.t.Helper()
	conf, err := replay{machine: x.machine}.configuration()
	x.must(err)
	r, err := replica.New(replica.Options{
		ID: self, Origin: 1, Log: x.log, HardState: x.log.HardState(), ConfState: conf, Applied: x.machine.Applied().Index,
	})
	x.must(err)
	var done []replica.Event
	for range 10 {
		effects := slices.Clone(r.Step(done...))
		done = nil
		for _, e := range effects {
			if a, ok := e.(*replica.Append); ok {
				x.must(x.log.Append(raftlog.Batch{HardState: a.HardState, Entries: a.Entries, MustSync: a.Sync}))
				done = append(done, replica.AppendDone{Append: a})
			}
		}
	}
	if r.Status().Role != raft.StateLeader {
		x.t.Errorf("status %+v", r.Status())
	}
}

func TestForce(t *testing.T) {
	for _, c := range []struct {
		name    string
		members []int
		do      func(x *survivor)
		keys    string
		entries int // that Force appends behind the entries it keeps
		end     uint64
	}{
		{"a follower of three", []int{1, 2, 3}, func(x *survivor) {
			x.append(1, put("a"), put("b"))
			x.append(4, put("c"))
			x.commit(3)
			x.apply()
			x.append(4, put("d")) // may have been acknowledged
		}, "a b c d", 2, 7},
		{"of five, with a learner, nothing written", []int{1, 2, 3, 4, 5, -6}, func(*survivor) {}, "", 5, 6},
		{"a learner", []int{1, 2, -3, -4}, func(x *survivor) {
			x.append(2, put("a"))
			x.commit(2)
		}, "a", 4, 6},
		{"committed and not applied", []int{1, 2, 3}, func(x *survivor) {
			x.append(1, put("a"), add(9), put("b"), &command.MemberRemove{ID: 1}, put("c"))
			x.commit(6)
		}, "a b c", 2, 8},
		{"others on their way in", []int{1, 2, 3}, func(x *survivor) {
			x.append(1, put("a"))
			x.commit(2)
			x.append(1, add(9), &command.MemberAdd{ID: 8, PeerURLs: []string{"http://x:1"}, IsLearner: true, LearnersMax: 1}, put("b"))
		}, "a b", 4, 9},
		{"a change that was refused", []int{1, 2, 3}, func(x *survivor) {
			x.append(1, add(2), put("a"), &command.MemberPromote{ID: 1}, put("b"))
			x.commit(4)
			x.apply()
		}, "a b", 2, 7},
		{"a removal of its own, not committed", []int{1, 2, 3}, func(x *survivor) {
			x.append(1, put("a"))
			x.commit(2)
			x.append(1, put("b"), &command.MemberRemove{ID: 1}, put("c"), &command.MemberRemove{ID: self}, put("lost"), add(7))
		}, "a b c", 1, 6},
		{"a removal of its own first of all", []int{1, 2, 3}, func(x *survivor) {
			x.append(1, &command.MemberRemove{ID: self}, put("lost"))
		}, "", 2, 3},
		{"alone", []int{3}, func(x *survivor) {
			x.append(1, put("a"), put("b"))
			x.commit(2)
		}, "a b", 0, 3},
		{"alone, another on its way in", []int{3}, func(x *survivor) {
			x.append(1, put("a"), add(9))
		}, "a", 1, 4},
	} {
		t.Run(c.name, func(t *testing.T) {
			fs := vfs.NewCrashableMem()
			x := newSurvivor(t, fs, c.members...)
			c.do(x)
			term := max(x.log.HardState().GetTerm(), 1)
			x.must(Force(x.forceOptions()))

			h := x.log.HardState()
			if last, _ := x.log.LastIndex(); last != c.end || c.entries > 0 && h.GetCommit() != last {
				t.Errorf("hard state %v, log ends at %d, want %d", h, last, c.end)
			}
			if c.entries > 0 && (h.GetTerm() != term+1 || h.GetVote() != self) {
				t.Errorf("hard state %v after term %d", h, term)
			}
			for i := c.end - uint64(c.entries) + 1; i <= c.end; i++ {
				if got, err := x.log.Term(i); err != nil || got != h.GetTerm() {
					t.Errorf("entry %d of term %d, %v", i, got, err)
				}
			}

			after := open(t, fs.CrashClone(vfs.CrashCloneCfg{}))
			if c.entries == 0 { // there is nothing that the member would not come to by itself
				after.commit(c.end)
				after.apply()
			}
			checkAlone(t, after.machine)
			if got := keysOf(t, after.machine); got != c.keys {
				t.Errorf("keys %q, want %q", got, c.keys)
			}
			if _, err := fs.Stat("member/force.tmp"); err == nil {
				t.Error("the copy is still there")
			}
			x.must(Force(after.forceOptions()))
			if last, _ := after.log.LastIndex(); last != c.end {
				t.Errorf("forced again, the log ends at %d", last)
			}
			after.checkLeads()
		})
	}
}

func TestForceRefusals(t *testing.T) {
	for _, c := range []struct {
		name    string
		members []int
		do      func(x *survivor)
		want    error
	}{
		{"no state yet", nil, func(*survivor) {}, errForceEmpty},
		{"removed", []int{1, 2, 3}, func(x *survivor) {
			x.append(1, &command.MemberRemove{ID: self})
			x.commit(2)
		}, errForceRemoved},
		{"removed and applied", []int{1, 2, 3}, func(x *survivor) {
			x.append(1, &command.MemberRemove{ID: self})
			x.commit(2)
			x.apply()
		}, errForceRemoved},
	} {
		t.Run(c.name, func(t *testing.T) {
			x := newSurvivor(t, vfs.NewMem(), c.members...)
			c.do(x)
			before := x.log.HardState()
			if err := Force(x.forceOptions()); err != c.want {
				t.Errorf("got %v, want %v", err, c.want)
			}
			last, _ := x.log.LastIndex()
			if after := x.log.HardState(); !reflect.DeepEqual(before, after) || last != x.end {
				t.Errorf("hard state %v, was %v; log ends at %d, was %d", after, before, last, x.end)
			}
		})
	}
}

// A crash at any point leaves the member as it was, or alone; and forcing it again makes it alone with the same data (known
// bugs M1 and M7: those who went do not come back).
func TestForceCrash(t *testing.T) {
	prepare := func(fs vfs.FS) *survivor {
		x := newSurvivor(t, fs, 1, 2, 3, -4)
		x.append(1, put("a"), add(9))
		x.commit(3)
		x.apply()
		x.append(2, put("b"), &command.MemberRemove{ID: 1}, put("c"))
		return x
	}
	steps, old, alone := 0, 0, 0
	for at := 1; ; at++ {
		mem := vfs.NewCrashableMem()
		var mu sync.Mutex // the copy of the store flushes on a goroutine of its own
		armed, ops := false, 0
		var image *vfs.MemFS
		fs := errorfs.Wrap(mem, errorfs.InjectorFunc(func(op errorfs.Op) error {
			mu.Lock()
			defer mu.Unlock()
			if !armed || op.Kind.ReadOrWrite() != errorfs.OpIsWrite {
				return nil
			}
			if ops++; ops == at {
				image = mem.CrashClone(vfs.CrashCloneCfg{UnsyncedDataPercent: at % 3 * 50, RNG: rand.New(rand.NewPCG(1, uint64(at)))})
			}
			return nil
		}))
		x := prepare(fs)
		arm := func(on bool) { mu.Lock(); armed = on; mu.Unlock() }
		arm(true)
		x.must(Force(x.forceOptions()))
		arm(false)
		x.close()
		if image == nil {
			break
		}
		steps++
		after := open(t, image)
		if h := after.log.HardState(); h.GetTerm() == 2 && h.GetCommit() <= 3 && after.machine.Applied().Index <= 3 {
			old++
		} else {
			alone++
			after.apply()
			checkAlone(t, after.machine)
		}
		after.must(Force(after.forceOptions()))
		checkAlone(t, after.machine)
		if got := keysOf(t, after.machine); got != "a b c" {
			t.Fatalf("step %d: keys %q", at, got)
		}
		after.close()
	}
	t.Logf("of %d crashes, %d left the old cluster and %d the new one", steps, old, alone)
	if old < 5 || alone < 5 {
		t.Errorf("of %d crashes, %d left the old cluster and %d the new one", steps, old, alone)
	}
}

// Whatever the log holds, what is kept of it leads to the same pairs as it would have in the cluster.
func TestForceRandom(t *testing.T) {
	seed := *seedFlag
	if seed == 0 {
		seed = rand.Uint64()
	}
	t.Logf("-seed=%d", seed)
	rng := rand.New(rand.NewPCG(seed, 0))
	for range *roundsFlag {
		x := newSurvivor(t, vfs.NewMem(), 1, 2, self, -4)
		term := uint64(1)
		for range rng.IntN(5) {
			var ops []command.Op
			for range rng.IntN(8) {
				ops = append(ops, randomOp(rng))
			}
			if len(ops) > 0 {
				x.append(term, ops...)
			}
			if commit := x.log.HardState().GetCommit(); rng.IntN(2) == 0 {
				x.commit(commit + rng.Uint64N(x.end-commit+1))
			}
			if rng.IntN(3) == 0 {
				x.apply()
			}
			term += rng.Uint64N(2)
		}
		was := x.log.HardState()
		twin := x.twin()
		err := Force(x.forceOptions())
		view := twin.View()
		_, known := view.Members().Get(self)
		view.Close()
		if !known {
			if err != errForceRemoved {
				t.Fatalf("a removed member: %v", err)
			}
			x.close()
			continue
		}
		x.must(err)
		if h := x.log.HardState(); h.GetTerm() > was.GetTerm() || h.GetVote() == self {
			checkAlone(t, x.machine)
			hash, err := x.machine.HashKV(0)
			x.must(err)
			want, err := twin.HashKV(0)
			x.must(err)
			if hash != want {
				t.Fatalf("pairs %s with hash %+v, want %s with %+v", keysOf(t, x.machine), hash, keysOf(t, twin), want)
			}
		}
		x.close()
	}
}

// twin applies what is to be kept of the log, from its beginning, to a store of its own.
func (x *survivor) twin() *state.Machine {
	other := newSurvivor(x.t, vfs.NewMem(), 1, 2, self, -4)
	h := x.log.HardState()
	r := replay{machine: other.machine, log: x.log, self: self, untouchable: h.GetCommit()}
	last, _ := x.log.LastIndex()
	term, _ := x.log.Term(last)
	r.hard = &raftpb.HardState{Term: new(max(h.GetTerm(), term)), Commit: &last}
	x.must(r.run())
	return other.machine
}

func randomOp(rng *rand.Rand) command.Op {
	id := uint64(1 + rng.IntN(6))
	switch rng.IntN(9) {
	case 0:
		return add(id)
	case 1:
		return &command.MemberAdd{ID: id, PeerURLs: []string{fmt.Sprintf("http://l%d:1", id)}, IsLearner: true, LearnersMax: 2}
	case 2:
		if id == self && rng.IntN(3) > 0 { // not too often: nothing comes after it
			id = 1
		}
		return &command.MemberRemove{ID: id}
	case 3:
		return &command.MemberPromote{ID: id}
	}
	return put(fmt.Sprintf("k%d", rng.IntN(50)))
}
