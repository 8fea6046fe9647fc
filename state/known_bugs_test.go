package state

import (
	"fmt"
	"math"
	"strings"
	"sync"
	"testing"

	"github.com/cockroachdb/pebble/v2/vfs"

	"keelson/command"
	"keelson/state/auth"
	"keelson/state/lease"
	"keelson/state/members"
	"keelson/state/mvcc"
	"keelson/storage"
)

// Each test here is named for a bug that a system like this one has had.

func key(s string) []byte { return []byte(s) }

// everyOp has one op of each kind; some of them are refused.
func everyOp() []command.Op {
	return []command.Op{
		&command.Put{Key: key("a"), Value: key("1"), Lease: 1},
		&command.LeaseGrant{ID: 1, TTLSeconds: 5},
		&command.Put{Key: key("a"), Value: key("1"), Lease: 1, PrevKV: true},
		&command.Put{Key: key("b"), Value: key("1")},
		&command.Txn{Success: []command.Op{&command.Put{Key: key("c"), Lease: 1}, &command.Range{Key: key("a")}, &command.DeleteRange{Key: key("b")}}},
		&command.Txn{Success: []command.Op{&command.Range{Key: key("a"), Revision: 1000}}},
		&command.DeleteRange{Key: key("a"), PrevKV: true},
		&command.DeleteRange{Key: key("zz")},
		&command.Compact{Revision: 3},
		&command.Compact{Revision: 3},
		&command.LeaseCheckpoint{Leases: []command.LeaseRemaining{{ID: 1, RemainingSeconds: 2}}},
		&command.LeaseCheckpoint{Term: 1, Leases: []command.LeaseRemaining{{ID: 1, RemainingSeconds: 1, GrantIndex: 3, CheckpointIndex: 12}}},
		&command.LeaseRevoke{ID: 1, Term: 1},
		&command.LeaseRevoke{ID: 1},
		&command.MemberPublish{ID: 1, Name: "a", ClientURLs: []string{"http://a:2379"}},
		&command.MemberPublish{ID: 99},
		&command.MemberAdd{ID: 4, PeerURLs: []string{"http://d:2380"}, IsLearner: true, LearnersMax: 2, AutoPromote: true},
		&command.MemberAdd{ID: 4},
		&command.MemberUpdate{ID: 4, PeerURLs: []string{"http://e:2380"}},
		&command.MemberUpdate{ID: 4, PeerURLs: []string{"http://a:2380"}},
		&command.MemberPromote{ID: 4},
		&command.MemberPromote{ID: 4},
		&command.MemberRemove{ID: 1},
		&command.MemberRemove{ID: 1},
		&command.ClusterVersion{Version: "3.7.0"},
		&command.Downgrade{Target: "3.6.0"},
		&command.Downgrade{Target: "3.6.0"},
		&command.Downgrade{},
		&command.Downgrade{},
		&command.HashCheck{Index: 1, Hash: 1, From: 2},
		&command.Alarm{Member: 1, Type: 1, Raise: true},
		&command.Alarm{Member: 1, Type: 1, Raise: true},
		&command.Put{Key: key("d")},
		&command.Alarm{Member: 1, Type: 1},
		&command.Alarm{Member: 1, Type: 1},
		&command.Range{Key: key("a")},
		&command.Noop{},
	}
}

// A1: the applied index was saved apart from the data it stood for. Here: power cuts after every entry, with the last
// flush at every entry before; what is found is exactly the state at the index that is found.
func TestA1AppliedIndexAndDataAreOne(t *testing.T) {
	ops := everyOp()
	states := map[uint64]string{}
	reference := newMember(t)
	for _, op := range ops {
		reference.do(op)
		states[reference.m.Applied().Index] = reference.dump()
	}
	for flushed := range ops {
		x := newMember(t)
		for i, op := range ops {
			x.do(op)
			if i == flushed {
				x.flush()
			}
		}
		x.fs = x.fs.CrashClone(vfs.CrashCloneCfg{})
		x.reopen()
		index := x.m.Applied().Index
		if want := bootstrapPosition.Index + uint64(flushed) + 1; index != want {
			t.Fatalf("flushed at %d, found %d", want, index)
		}
		if got := x.dump(); got != states[index] {
			t.Fatalf("at %d:\n%s\nwant\n%s", index, got, states[index])
		}
	}
}

// D16, A2: an entry of some kind did not advance the applied index, and was applied again after a restart.
func TestD16EveryEntryAdvancesTheAppliedIndex(t *testing.T) {
	x := newMember(t)
	for i, op := range everyOp() {
		x.do(op)
		want := Position{Index: bootstrapPosition.Index + uint64(i) + 1, Term: 1}
		revision := x.m.Revision()
		index, hash := x.m.StateHash()
		x.flush()
		x.fs = x.fs.CrashClone(vfs.CrashCloneCfg{})
		x.reopen()
		if x.m.Applied() != want || x.m.Revision() != revision {
			t.Fatalf("%T: at %v, revision %d; want %v, %d", op, x.m.Applied(), x.m.Revision(), want, revision)
		}
		if i2, h2 := x.m.StateHash(); i2 != index || h2 != hash {
			t.Fatalf("%T: hash %x at %d, want %x at %d", op, h2, i2, hash, index)
		}
		if p, err := x.m.DurableApplied(); p != want || err != nil {
			t.Fatalf("%T: durable %v, %v", op, p, err)
		}
	}
}

// A8: a lease with a negative id put members out of sync.
func TestA8NegativeLeaseIDs(t *testing.T) {
	a, b := newMember(t), newMember(t)
	for _, ops := range [][]command.Op{
		{&command.LeaseGrant{ID: -1, TTLSeconds: 5}, &command.LeaseGrant{ID: math.MinInt64, TTLSeconds: 5}},
		{&command.Put{Key: key("a"), Lease: -1}, &command.Put{Key: key("b"), Lease: math.MinInt64}},
		{&command.LeaseRevoke{ID: -1}, &command.LeaseRevoke{ID: 1}},
	} {
		a.do(ops...)
		b.do(ops...)
		b.flush()
		b.reopen()
	}
	if a.dump() != b.dump() {
		t.Errorf("got\n%s\nwant\n%s", b.dump(), a.dump())
	}
	if got := fmt.Sprintf("%d %s", len(a.pairs()), a.pairs()[0].Key); got != "1 b" {
		t.Errorf("pairs: %s", got)
	}
}

// A9: ranges in a transaction ran only where the request had come in; at a compacted revision they failed there and
// nowhere else. Here: they fail everywhere, whether the member has already removed what is compacted or not.
func TestA9RangesInTransactionsFailEverywhere(t *testing.T) {
	a, b := newMember(t), newMember(t)
	for _, x := range []*member{a, b} {
		for range 5 {
			x.do(&command.Put{Key: key("a"), Value: key("v")})
		}
		x.do(&command.Compact{Revision: 5})
	}
	b.compactAll()
	for revision := int64(-2); revision < 9; revision++ {
		op := &command.Txn{Success: []command.Op{
			&command.Put{Key: key("b")}, &command.Range{Key: key("a"), Revision: revision},
		}}
		ra, rb := a.do(op)[0], b.do(op)[0]
		if sprintResult(&ra) != sprintResult(&rb) {
			t.Errorf("revision %d: %s and %s", revision, sprintResult(&ra), sprintResult(&rb))
		}
		refused := revision != 0 && revision < 5 || revision > ra.Revision
		if (ra.Refusal != nil) != refused {
			t.Errorf("revision %d: %v", revision, ra.Refusal)
		}
	}
	_, ha := a.m.StateHash()
	if _, hb := b.m.StateHash(); ha != hb {
		t.Errorf("hashes differ")
	}
}

// A10: a transaction that failed half way left a part of its writes. Here: every op that can fail, at every place.
func TestA10FailureAtEveryPlaceLeavesNothing(t *testing.T) {
	x := newMember(t)
	x.do(&command.LeaseGrant{ID: 1, TTLSeconds: 5}, &command.Put{Key: key("a"), Lease: 1}, &command.Put{Key: key("a"), Lease: 1}, &command.Compact{Revision: 2})
	x.do(&command.Compact{Revision: 3})
	bad := map[string]command.Op{
		"future":       &command.Range{Key: key("a"), Revision: 4},
		"compacted":    &command.Range{Key: key("a"), Revision: 2},
		"lease":        &command.Put{Key: key("q"), Lease: 9},
		"ignore value": &command.Put{Key: key("q"), IgnoreValue: true},
		"ignore lease": &command.Put{Key: key("q"), IgnoreLease: true},
		"put nothing":  &command.Put{},
		"del nothing":  &command.DeleteRange{},
		"read nothing": &command.Range{},
	}
	before := x.dump(nameApplied)
	for name, op := range bad {
		for depth := range 3 {
			for place := range 5 {
				ops := []command.Op{
					&command.Put{Key: key("x"), Lease: 1}, &command.DeleteRange{Key: key("a")}, &command.Put{Key: key("y")}, &command.Range{Key: key("x")},
				}
				ops = append(ops[:place:place], append([]command.Op{op}, ops[place:]...)...)
				txn := &command.Txn{Success: ops}
				for range depth {
					txn = &command.Txn{
						Compares: []command.Compare{{Key: key("a"), Target: targetVersion, Number: 1}},
						Success:  []command.Op{op},
						Failure:  []command.Op{&command.Put{Key: key("z")}, txn, &command.Put{Key: key("w")}},
					}
				}
				if res := x.do(txn)[0]; res.Refusal == nil || res.Revision != 3 {
					t.Errorf("%s at %d, %d deep: %+v", name, place, depth, res)
				}
				if after := x.dump(nameApplied); after != before {
					t.Fatalf("%s at %d, %d deep left\n%s\nwas\n%s", name, place, depth, after, before)
				}
			}
		}
	}
}

// A12: a key written twice in one batch was read with its first value.
func TestA12TwoWritesOfAKeyInOneBatch(t *testing.T) {
	x := newMember(t)
	x.do(&command.Put{Key: key("a"), Value: key("0")})
	res := x.do(
		&command.Put{Key: key("a"), Value: key("1")},
		&command.Put{Key: key("a"), Value: key("2"), PrevKV: true},
		&command.Txn{Success: []command.Op{&command.Range{Key: key("a")}, &command.Range{Key: key("a"), End: key("b")}}},
	)
	if string(res[1].Prev.Value) != "1" {
		t.Errorf("previous %s", printPair(res[1].Prev))
	}
	for _, o := range res[2].Txn.Responses {
		if string(o.KVs[0].Value) != "2" {
			t.Errorf("in the batch %s", printPair(&o.KVs[0]))
		}
	}
	if p := x.pairs(); string(p[0].Value) != "2" || p[0].Version != 3 {
		t.Errorf("after %s", printPair(&p[0]))
	}
}

// A22: deleting a key whose lease was unknown crashed every member, and again at each restart.
func TestA22DeletingAKeyOfAnUnknownLease(t *testing.T) {
	for name, op := range map[string]command.Op{
		"delete": &command.DeleteRange{Key: key("a")},
		"put":    &command.Put{Key: key("a")},
		"txn":    &command.Txn{Success: []command.Op{&command.DeleteRange{Key: key("a"), End: []byte{0}}}},
		"keep":   &command.Put{Key: key("a"), IgnoreLease: true},
		"revoke": &command.LeaseRevoke{ID: 1},
	} {
		x := newMember(t)
		x.do(&command.LeaseGrant{ID: 1, TTLSeconds: 5}, &command.Put{Key: key("a"), Lease: 1})
		b := x.db.NewBatch()
		b.DeleteRange(storage.Leases, nil, nil)
		b.DeleteRange(storage.LeaseKeys, nil, nil)
		if err := b.Commit(); err != nil {
			t.Fatal(err)
		}
		x.flush()
		x.reopen()
		if res := x.do(op)[0]; (res.Refusal == ErrLeaseNotFound) != (name == "revoke") {
			t.Errorf("%s: %+v", name, res)
		}
		x.flush()
		x.reopen()
	}
}

// L1: a leader stuck in its disk was deposed; the revokes it had queued were committed in the next term, and all leases
// were gone though they had been renewed.
func TestL1RevokesOfAFormerLeaderAreVoid(t *testing.T) {
	x := newMember(t)
	var grants, revokes []command.Op
	for id := int64(1); id <= 10; id++ {
		grants = append(grants, &command.LeaseGrant{ID: id, TTLSeconds: 5}, &command.Put{Key: key(fmt.Sprint(id)), Lease: id})
		revokes = append(revokes, &command.LeaseRevoke{ID: id, Term: 3})
	}
	at := x.m.Applied()
	at.Term = 3
	x.apply(entryAfter(at, grants...))
	at = x.m.Applied()
	at.Term = 4
	out := x.apply(entryAfter(at, revokes...))
	for i, res := range out.Batches[0].Results {
		if res.Refusal != ErrStaleTerm {
			t.Errorf("revoke %d: %+v", i, res)
		}
	}
	if len(out.Events)+len(out.Leases) > 0 || len(x.pairs()) != 10 {
		t.Errorf("%d pairs left; %+v", len(x.pairs()), out)
	}
}

// An expiry that was under way while its lease was revoked, and the id granted again, ended the new lease.
func TestExpiryNamesItsGrant(t *testing.T) {
	x := newMember(t)
	grant := func() (LeaseChange, command.LeaseRevoke) {
		t.Helper()
		at := x.m.Applied()
		// Twice the same id in one entry: the ordinal tells the two apart.
		out := x.apply(entryAfter(at, &command.LeaseGrant{ID: 1, TTLSeconds: 5}, &command.LeaseRevoke{ID: 1},
			&command.LeaseGrant{ID: 1, TTLSeconds: 9}, &command.Put{Key: key("a"), Lease: 1}))
		first, last := out.Leases[0], out.Leases[2]
		want := LeaseChange{Kind: LeaseGranted, ID: 1, TTLSeconds: 9, Grant: lease.Grant{Index: at.Index + 1, Ordinal: 2}}
		if last != want || first.Grant != (lease.Grant{Index: at.Index + 1}) {
			t.Fatalf("told of %+v, then %+v, want %+v", first, last, want)
		}
		return last, command.LeaseRevoke{ID: 1, Term: at.Term, GrantIndex: first.Grant.Index, GrantOrdinal: first.Grant.Ordinal}
	}
	expiry := func(c LeaseChange) *command.LeaseRevoke {
		return &command.LeaseRevoke{ID: c.ID, Term: x.m.Applied().Term, GrantIndex: c.Grant.Index, GrantOrdinal: c.Grant.Ordinal}
	}
	old, sibling := grant()
	x.do(&command.LeaseRevoke{ID: 1})
	if res := x.do(expiry(old))[0]; res.Refusal != ErrLeaseNotFound {
		t.Errorf("expiry of what is gone: %+v", res)
	}
	present, sameEntry := grant()
	x.flush()
	x.reopen() // a grant is part of the state
	for _, o := range []*command.LeaseRevoke{expiry(old), &sibling, &sameEntry} {
		if res := x.do(o)[0]; res.Refusal != ErrLeaseNotFound || len(x.pairs()) != 1 {
			t.Errorf("%+v: %+v, %d pairs left", o, res, len(x.pairs()))
		}
	}
	if res := x.do(expiry(present))[0]; res.Refusal != nil || res.Deleted != 1 || len(x.pairs()) != 0 {
		t.Errorf("expiry of the lease there is: %+v", res)
	}
	grant()
	if res := x.do(&command.LeaseRevoke{ID: 1})[0]; res.Refusal != nil || res.Deleted != 1 {
		t.Errorf("a client's revoke: %+v", res)
	}
}

// A checkpoint that was under way while its lease was revoked, and the id granted again, shortened the new lease; one that
// was under way while an earlier one was forgotten shortened what a renewal had promised since.
func TestCheckpointsThatCameTooLateAreVoid(t *testing.T) {
	x := newMember(t)
	grant := x.apply(entryAfter(x.m.Applied(), &command.LeaseGrant{ID: 1, TTLSeconds: 600})).Leases[0].Grant
	remaining := func(want int64) lease.Lease {
		t.Helper()
		v := x.m.View()
		defer v.Close()
		l, ok, err := v.Lease(1)
		if err != nil || !ok || l.RemainingSeconds != want {
			t.Fatalf("%+v, %v, %v; want %d left", l, ok, err, want)
		}
		return l
	}
	// record is a checkpoint by one who knows the lease as l.
	record := func(l lease.Lease, seconds int64) *command.LeaseCheckpoint {
		return &command.LeaseCheckpoint{Term: x.m.Applied().Term, Leases: []command.LeaseRemaining{{
			ID: 1, RemainingSeconds: seconds, GrantIndex: l.Grant.Index, GrantOrdinal: l.Grant.Ordinal, CheckpointIndex: l.CheckpointIndex,
		}}}
	}
	forget := &command.LeaseCheckpoint{Leases: []command.LeaseRemaining{{ID: 1}}}
	known := remaining(0)
	if known.Grant != grant || known.CheckpointIndex != 0 {
		t.Fatalf("%+v, want grant %v", known, grant)
	}
	x.do(record(known, 500))
	x.do(record(known, 499)) // given out before the other was applied
	after := remaining(500)
	x.do(forget)
	x.do(record(after, 400))
	forgotten := remaining(0)
	x.do(forget)
	x.do(record(forgotten, 400)) // forgotten again, and perhaps renewed again
	x.flush()
	x.reopen()
	l := remaining(0)
	x.do(record(l, 300), record(l, 200), forget, record(l, 100)) // one entry is no different
	x.do(record(remaining(0), 300))
	x.do(&command.LeaseRevoke{ID: 1})
	again := x.apply(entryAfter(x.m.Applied(), &command.LeaseGrant{ID: 1, TTLSeconds: 600})).Leases[0].Grant
	x.do(record(known, 5))
	if l := remaining(0); l.Grant != again || l.CheckpointIndex != 0 {
		t.Errorf("%+v, want grant %v", l, again)
	}
	late := record(remaining(0), 7)
	at := x.m.Applied()
	at.Term++
	if res := x.apply(entryAfter(at, late)).Batches[0].Results[0]; res.Refusal != ErrStaleTerm {
		t.Errorf("of a former leader: %+v", res)
	}
	remaining(0)
	late.Term = at.Term
	out := x.apply(entryAfter(x.m.Applied(), late))
	want := LeaseChange{Kind: LeaseCheckpointed, ID: 1, RemainingSeconds: 7, CheckpointIndex: x.m.Applied().Index}
	if len(out.Leases) != 1 || out.Leases[0] != want {
		t.Errorf("told of %+v, want %+v", out.Leases, want)
	}
	remaining(7)
}

// L8: a huge TTL overflowed.
func TestL8HugeTTL(t *testing.T) {
	x := newMember(t)
	for i, ttl := range []int64{math.MaxInt64, math.MinInt64, 9_000_000_000, 9_000_000_001, 0, -1} {
		id := int64(i + 1)
		if res := x.do(&command.LeaseGrant{ID: id, TTLSeconds: ttl})[0]; res.Refusal != nil || res.TTLSeconds != ttl {
			t.Errorf("ttl %d: %+v", ttl, res)
		}
		v := x.m.View()
		if l, ok, err := v.Lease(id); l.TTLSeconds != ttl || !ok || err != nil {
			t.Errorf("ttl %d: %+v, %v, %v", ttl, l, ok, err)
		}
		v.Close()
	}
}

// S2 and S3 in small: the comparison through the log says what this member had at that very index, or that it does not
// know; and says nothing about itself in the state.
func TestHashChecksGoThroughTheLog(t *testing.T) {
	a, b := newMember(t), newMember(t)
	for _, x := range []*member{a, b} {
		x.do(&command.Put{Key: key("a")})
	}
	index, hash := a.m.StateHash()
	ops := []command.Op{
		&command.HashCheck{Index: index, Hash: hash, From: 1},
		&command.HashCheck{Index: index, Hash: hash + 1, From: 1},
		&command.HashCheck{Index: index + 50, Hash: hash, From: 1},
		&command.HashCheck{Index: index + hashRingSize, Hash: hash, From: 1},
		&command.HashCheck{Index: 0, Hash: 0, From: 1},
	}
	b.flush()
	b.reopen() // still knows the hash at its last entry
	for i, x := range []*member{a, b} {
		out := x.apply(entryAfter(x.m.Applied(), ops...))
		var got []string
		for _, c := range out.Checks {
			got = append(got, fmt.Sprintf("%v %v", c.Known, c.Known && c.Ours == c.Theirs))
		}
		if s := strings.Join(got, ", "); s != "true true, true false, false false, false false, false false" {
			t.Errorf("member %d: %s", i, s)
		}
	}
	b.flush()
	b.reopen()
	a.do(&command.HashCheck{Index: index, Hash: hash, From: 1})
	out := b.apply(entryAfter(b.m.Applied(), &command.HashCheck{Index: index, Hash: hash, From: 1}))
	if out.Checks[0].Known {
		t.Errorf("a hash from before the restart: %+v", out.Checks[0])
	}
	_, ha := a.m.StateHash()
	if _, hb := b.m.StateHash(); ha != hb {
		t.Errorf("what a member knows shows in its hash")
	}
}

// Every refusal has its number, and Refusals lists them all.
func TestRefusalNumbers(t *testing.T) {
	seen := map[byte]error{}
	for _, err := range Refusals() {
		n := refusalNumber(err)
		if n == 0 || seen[n] != nil || !isRefusal(err) {
			t.Errorf("%v has number %d, as has %v", err, n, seen[n])
		}
		seen[n] = err
	}
	for err, want := range map[error]byte{
		mvcc.ErrCompacted: 7, mvcc.ErrFuture: 8, mvcc.ErrKeyNotFound: 9, ErrStaleTerm: 6, members.ErrNotFound: 10, members.ErrExists: 11,
		members.ErrPeerURLExists: 12, members.ErrTooManyLearners: 13, members.ErrNotLearner: 14, members.ErrLastVoter: 15,
		members.ErrConfiguration: 16, ErrMisplaced: 17, auth.ErrNoRoot: 32, auth.ErrNoRootRole: 33, auth.ErrUserExists: 34,
		auth.ErrUserEmpty: 35, auth.ErrUserNotFound: 36, auth.ErrRoleExists: 37, auth.ErrRoleEmpty: 38, auth.ErrRoleNotFound: 39,
		auth.ErrRoleNotGranted: 40, auth.ErrPermissionNotGranted: 41, auth.ErrInvalidManagement: 42, auth.ErrNotEnabled: 43,
		auth.ErrDenied: 44, auth.ErrOldRevision: 45,
	} {
		if got := refusalNumber(err); got != want {
			t.Errorf("%v has number %d, want %d", err, got, want)
		}
	}
	if refusalNumber(nil) != 0 || isRefusal(nil) || isRefusal(lease.Keys(goneDisk{}, 1, nil)) {
		t.Errorf("what is no refusal counts as one")
	}
}

// goneDisk is a reader of a disk that is gone.
type goneDisk struct{}

func (goneDisk) Get(storage.Space, []byte) ([]byte, bool, error) {
	return nil, false, fmt.Errorf("gone")
}
func (goneDisk) Iter(storage.Space, []byte, []byte) (*storage.Iter, error) {
	return nil, fmt.Errorf("gone")
}

// A1 again, where Pebble flushes by itself: a batch that is large for its memtable is flushed on its own. What else was
// committed for the same entries would be lost in a power cut right after that.
func TestA1NothingIsCommittedBesideTheBatch(t *testing.T) {
	flushed := make(chan struct{}, 100)
	x := &member{t: t, fs: vfs.NewCrashableMem()}
	var err error
	x.db, err = storage.Open(storage.Options{
		FS: x.fs, Dir: "db", Manual: true, MemtableBytes: 256 << 10,
		Flushed: func() { flushed <- struct{}{} },
	})
	if err != nil {
		t.Fatal(err)
	}
	defer func() { x.db.Close() }()
	if err := Bootstrap(x.db, testIdentity); err != nil {
		t.Fatal(err)
	}
	x.openMachine()
	for i := range 6 {
		x.do(&command.Put{Key: key("a"), Value: make([]byte, 200<<10)})
		for versions := 0; versions <= i; {
			it, err := x.db.Durable().Iter(storage.Versions, nil, nil)
			if err != nil {
				t.Fatal(err)
			}
			versions = 0
			for ok := it.First(); ok; ok = it.Next() {
				versions++
			}
			if err := it.Close(); err != nil {
				t.Fatal(err)
			}
			if versions <= i {
				<-flushed
			}
		}
		after := &member{t: t, fs: x.fs.CrashClone(vfs.CrashCloneCfg{})}
		after.openDB()
		after.openMachine()
		if after.m.Applied() != x.m.Applied() || after.m.Revision() != x.m.Revision() || after.pairs()[0].Version != int64(i+1) {
			t.Fatalf("put %d: found version %d, revision %d, at %v; want %v", i, after.pairs()[0].Version, after.m.Revision(), after.m.Applied(), x.m.Applied())
		}
		after.db.Close()
	}
}

// A2, A6, A7: changes of users and roles that were applied are there after a restart and after an install, once each, with the
// revision that everybody else has.
func TestUsersOverRestartsAndInstalls(t *testing.T) {
	a := newMember(t)
	a.do(everybodyNamed...)
	want := a.m.Users()
	a.flush()
	a.reopen()
	if s := a.m.Users(); s.Revision() != want.Revision() || !s.Enabled() || len(s.Users()) != len(want.Users()) || len(s.Roles()) != len(want.Roles()) {
		t.Errorf("after a restart: revision %d, want %d", s.Revision(), want.Revision())
	}
	read := &command.Range{Key: []byte("k")}
	may := func(x *member) error {
		v := x.m.View()
		defer v.Close()
		return v.Authorize(auth.Caller{User: "ann", Revision: v.Users().Revision()}, read)
	}
	if err := may(a); err != nil {
		t.Errorf("after a restart: %v", err)
	}
	b := joiner(t)
	if err := may(b); err != nil {
		t.Errorf("nobody has to say who he is on a member without a state: %v", err)
	}
	a.do(&command.UserRevokeRole{Name: "ann", Role: "reader"}, &command.UserRevokeRole{Name: "ann", Role: "writer"})
	b.install(a.checkpoint("snapshot"))
	if s := b.m.Users(); s.Revision() != a.m.Users().Revision() || !s.Enabled() {
		t.Errorf("after an install: revision %d, want %d", s.Revision(), a.m.Users().Revision())
	}
	if err := may(b); err != auth.ErrDenied {
		t.Errorf("after an install: %v", err)
	}
}

// Known bug S14: permissions are asked for from anywhere while they change. Run under the race detector. What a view says is
// one of the states that there were, never half of one.
func TestS14PermissionsBesideChanges(t *testing.T) {
	m := newMember(t)
	m.do(everybodyNamed...)
	stop := make(chan struct{})
	var askers sync.WaitGroup
	defer askers.Wait()
	defer close(stop)
	for range 3 {
		askers.Go(func() {
			for {
				select {
				case <-stop:
					return
				default:
				}
				v := m.m.View()
				users := v.Users()
				err := v.Authorize(auth.Caller{User: "ann", Revision: users.Revision()}, &command.Range{Key: []byte("k")})
				v.Close()
				if err != nil && err != auth.ErrDenied && err != auth.ErrOldRevision {
					t.Error(err)
					return
				}
			}
		})
	}
	for range 200 {
		m.do(&command.UserRevokeRole{Name: "ann", Role: "reader"}, &command.UserGrantRole{Name: "ann", Role: "reader"})
	}
}
