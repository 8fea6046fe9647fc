package peer

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"go.uber.org/zap"
	"go.uber.org/zap/zaptest/observer"

	"keelson/env"
	"keelson/node"
	"keelson/state/mvcc"
)

func at(hash uint32, floor, current mvcc.Revision) mvcc.Hash {
	return mvcc.Hash{Hash: hash, Compacted: floor, Revision: 10, Current: current}
}

var errDown = errors.New("connection refused")

// TestJudge: operations 6.6, v3 API 6.1; known bugs S1, S2 and S3. This member is 1, and what the cluster has ends at
// revision 12 with the floor at 5.
func TestJudge(t *testing.T) {
	const ours, other, third = 7, 8, 9
	equal, differs := at(ours, 5, 10), at(other, 5, 10)
	for _, c := range []struct {
		name      string
		peers     []MemberHash
		corrupt   []uint64
		unchecked []uint64
	}{
		{"all equal", []MemberHash{{2, equal, nil}, {3, at(ours, 5, 12), nil}}, nil, nil},
		{"one differs from a quorum", []MemberHash{{2, equal, nil}, {3, differs, nil}}, []uint64{3}, nil},
		{"this one differs from a quorum", []MemberHash{{2, differs, nil}, {3, differs, nil}}, []uint64{1}, nil},
		{"two of five differ, each on its own", []MemberHash{{2, equal, nil}, {3, differs, nil}, {4, equal, nil}, {5, at(third, 5, 10), nil}}, []uint64{3, 5}, nil},
		{"no quorum of one opinion: two members", []MemberHash{{2, differs, nil}}, []uint64{0}, nil},
		{"no quorum of one opinion: three members", []MemberHash{{2, differs, nil}, {3, at(third, 5, 10), nil}}, []uint64{0}, nil},
		{"no quorum of one opinion: one of three is down", []MemberHash{{2, differs, nil}, {3, mvcc.Hash{}, errDown}}, []uint64{0}, []uint64{3}},
		{"two of four are no quorum", []MemberHash{{2, equal, nil}, {3, differs, nil}, {4, differs, nil}}, []uint64{0}, nil},
		{"a quorum without those that are down", []MemberHash{{2, equal, nil}, {3, equal, nil}, {4, differs, nil}, {5, mvcc.Hash{}, errDown}}, []uint64{4}, []uint64{5}},
		{"down is unchecked, whatever its hash would be", []MemberHash{{2, equal, errDown}, {3, equal, errDown}}, nil, []uint64{2, 3}},
		{"behind", []MemberHash{{2, mvcc.Hash{}, mvcc.ErrFuture}, {3, equal, nil}}, nil, []uint64{2}},
		{"compacted away", []MemberHash{{2, mvcc.Hash{}, mvcc.ErrCompacted}}, nil, []uint64{2}},
		{"of another cluster", []MemberHash{{2, mvcc.Hash{}, ErrOtherCluster}}, nil, []uint64{2}},
		{"not compacted yet is no fault", []MemberHash{{2, at(other, 4, 10), nil}, {3, at(other, -1, 10), nil}}, nil, []uint64{2, 3}},
		{"beyond what there is", []MemberHash{{2, at(ours, 5, 13), nil}, {3, equal, nil}}, []uint64{2}, nil},
		{"compacted further than there is", []MemberHash{{2, at(other, 6, 10), nil}, {3, equal, nil}}, []uint64{2}, nil},
		{"this one has lost what the others have", []MemberHash{{2, at(ours, 5, 13), nil}, {3, at(ours, 5, 13), nil}}, []uint64{1}, nil},
		{"alone", nil, nil, nil},
	} {
		t.Run(c.name, func(t *testing.T) {
			v := judge(1, at(ours, 5, 10), c.peers, horizon{12, 5})
			if !slices.Equal(v.Corrupt, c.corrupt) {
				t.Errorf("corrupt %v, want %v", v.Corrupt, c.corrupt)
			}
			var unchecked []uint64
			for _, u := range v.Unchecked {
				if unchecked = append(unchecked, u.Member); u.Why == nil {
					t.Errorf("%d is unchecked for no reason", u.Member)
				}
			}
			if !slices.Equal(unchecked, c.unchecked) {
				t.Errorf("unchecked %v, want %v", unchecked, c.unchecked)
			}
			if all := slices.Concat(v.Checked, unchecked); len(all) != len(c.peers)+1 {
				t.Errorf("checked %v, unchecked %v: not everybody once", v.Checked, unchecked)
			}
		})
	}
}

// checks is a Checker whose peers say what the test wants.
type checks struct {
	*Checker
	*fake
	store fixedStore
	peers []MemberHash
	fail  error // of Raise
	logs  *observer.ObservedLogs

	mu     sync.Mutex
	asked  []mvcc.Revision
	raised []uint64
}

func (c *checks) HashKV(rev mvcc.Revision) (mvcc.Hash, error) { return c.store.HashKV(rev) }
func (c *checks) Compacted() mvcc.Revision                    { return c.store.floor }

func newChecks(t *testing.T, f *fake, every, compaction time.Duration) *checks {
	c := &checks{fake: f, store: fixedStore{newest: 1, floor: -1, hash: 7}}
	core, logs := observer.New(zap.InfoLevel)
	c.logs = logs
	c.Checker = NewChecker(CheckerOptions{
		Member: f, Store: c, Clock: env.SystemClock(), Log: zap.New(core), Every: every, CompactionEvery: compaction,
		Hashes: func(_ context.Context, rev mvcc.Revision) []MemberHash {
			c.mu.Lock()
			defer c.mu.Unlock()
			c.asked = append(c.asked, rev)
			return c.peers
		},
		Raise: func(_ context.Context, member uint64) error {
			c.mu.Lock()
			defer c.mu.Unlock()
			c.raised = append(c.raised, member)
			return c.fail
		},
	})
	return c
}

// TestInitialCheck: operations 6.6. Only a hash that differs keeps a member from starting.
func TestInitialCheck(t *testing.T) {
	f := newCluster(t, 2, long)[0]
	for _, c := range []struct {
		name  string
		peers []MemberHash
		bad   bool
		warns int
	}{
		{"equal", []MemberHash{{2, at(7, -1, 1), nil}, {3, at(7, -1, 500), nil}}, false, 0},
		{"differs", []MemberHash{{2, at(8, -1, 1), nil}, {3, at(7, -1, 1), nil}}, true, 0},
		{"nobody can be asked", []MemberHash{{2, mvcc.Hash{}, errDown}, {3, mvcc.Hash{}, ErrOtherCluster}}, false, 2},
		{"slow, or ahead", []MemberHash{{2, mvcc.Hash{}, mvcc.ErrFuture}, {3, mvcc.Hash{}, mvcc.ErrCompacted}}, false, 2},
		{"compacted otherwise", []MemberHash{{2, at(8, 3, 9), nil}}, false, 1},
	} {
		ch := newChecks(t, f, 0, 0)
		ch.peers = c.peers
		err := ch.Initial(t.Context())
		if (err != nil) != c.bad || c.bad && (!errors.Is(err, ErrInconsistent) || err.Error() != "1 found data inconsistency with peers") {
			t.Errorf("%s: %v", c.name, err)
		}
		if n := ch.logs.FilterLevelExact(zap.WarnLevel).Len(); n != c.warns {
			t.Errorf("%s: %d warnings, want %d", c.name, n, c.warns)
		}
		if len(ch.raised) != 0 || !slices.Equal(ch.asked, []mvcc.Revision{1}) {
			t.Errorf("%s: raised %v, asked at %v", c.name, ch.raised, ch.asked)
		}
	}
	broken := newChecks(t, f, 0, 0)
	broken.store.err = errors.New("disk gone")
	if err := broken.Initial(t.Context()); err == nil || errors.Is(err, ErrInconsistent) {
		t.Errorf("unreadable: %v", err)
	}
}

// TestCheckRaises: operations 6.6, and that an alarm which could not be raised is not forgotten.
func TestCheckRaises(t *testing.T) {
	f := newCluster(t, 2, long)[0]
	c := newChecks(t, f, 0, 0)
	c.peers = []MemberHash{{2, at(7, -1, 1), nil}, {3, at(8, -1, 1), nil}}
	v, err := c.Check(t.Context())
	if err != nil || !slices.Equal(v.Corrupt, []uint64{3}) || !slices.Equal(c.raised, []uint64{3}) {
		t.Errorf("%+v, %v, raised %v", v, err, c.raised)
	}
	if c.logs.FilterMessage("found hash mismatch").Len() != 1 {
		t.Error("nothing in the log")
	}
	if reads, _ := f.counts(); reads != 1 {
		t.Errorf("%d linearizable reads, want 1: what the others have may not be here yet", reads)
	}
	c.fail = node.ErrTimeout
	if _, err := c.Check(t.Context()); !errors.Is(err, node.ErrTimeout) {
		t.Errorf("alarm not raised: %v", err)
	}
	f.onRead = func(context.Context) error { return node.ErrLeaderChanged }
	c.raised = nil
	if _, err := c.Check(t.Context()); !errors.Is(err, node.ErrLeaderChanged) || len(c.raised) != 0 {
		t.Errorf("without a quorum: %v, raised %v", err, c.raised)
	}
}

// TestCheckCompaction: operations 6.6. A floor is compared once, and again if not all could be asked.
func TestCheckCompaction(t *testing.T) {
	f := newCluster(t, 2, long)[0]
	c := newChecks(t, f, 0, 0)
	check := func(what string, wantAsked []mvcc.Revision, wantLogs int) {
		t.Helper()
		if _, err := c.CheckCompaction(t.Context()); err != nil {
			t.Errorf("%s: %v", what, err)
		}
		if !slices.Equal(c.asked, wantAsked) {
			t.Errorf("%s: asked at %v, want %v", what, c.asked, wantAsked)
		}
		if n := c.logs.FilterMessage("finished compaction hash check").Len(); n != wantLogs {
			t.Errorf("%s: %d log lines, want %d", what, n, wantLogs)
		}
	}
	check("never compacted", nil, 0)
	c.store.newest, c.store.floor = 20, 10
	c.peers = []MemberHash{{2, at(7, 10, 20), nil}, {3, mvcc.Hash{}, errDown}}
	check("one is down", []mvcc.Revision{10}, 1)
	c.peers[1] = MemberHash{3, at(7, 10, 20), nil}
	check("again", []mvcc.Revision{10, 10}, 2)
	check("done", []mvcc.Revision{10, 10}, 2)
	c.store.floor = 15
	c.peers = []MemberHash{{2, at(7, 15, 20), nil}, {3, at(8, 15, 20), nil}}
	check("the next floor", []mvcc.Revision{10, 10, 15}, 3)
	if !slices.Equal(c.raised, []uint64{3}) {
		t.Errorf("raised %v", c.raised)
	}
	c.store.floor, c.store.err = 16, mvcc.ErrCompacted
	check("the floor moves meanwhile", []mvcc.Revision{10, 10, 15}, 3)
}

// TestRunChecksWhileLeading: each check at its own pace, on the leader only, until the end.
func TestRunChecksWhileLeading(t *testing.T) {
	f := newCluster(t, 2, long)[0]
	synctest.Test(t, func(t *testing.T) {
		c := newChecks(t, f, 2*time.Minute, 3*time.Minute)
		c.store.newest, c.store.floor = 20, 10
		c.peers = []MemberHash{{2, mvcc.Hash{}, errDown}}
		ctx, stop := context.WithCancel(t.Context())
		done := make(chan struct{})
		go func() { defer close(done); c.Run(ctx) }()
		time.Sleep(7*time.Minute + time.Second)
		synctest.Wait()
		c.mu.Lock()
		slices.Sort(c.asked)
		if want := []mvcc.Revision{10, 10, 20, 20, 20}; !slices.Equal(c.asked, want) {
			t.Errorf("asked at %v, want %v", c.asked, want)
		}
		c.asked = nil
		c.mu.Unlock()
		f.set(func(st *node.Status) { st.Leading = false })
		time.Sleep(10 * time.Minute)
		synctest.Wait()
		c.mu.Lock()
		if len(c.asked) != 0 {
			t.Errorf("a follower asked at %v", c.asked)
		}
		c.mu.Unlock()
		stop()
		<-done
	})
}

// TestHashes: v3 API 9.8. One answer for each other member, whatever it is.
func TestHashes(t *testing.T) {
	fakes := newCluster(t, 5, long)
	for i, f := range fakes {
		f.put(t, "a", "1")
		if i != 4 { // 5 is behind
			f.put(t, "b", "2")
		}
	}
	fakes[2].set(func(st *node.Status) { st.ClusterID++ })
	fakes[3].stop()
	fakes[5].set(func(st *node.Status) { st.MemberID = 66 })
	own, err := fakes[0].machine.HashKV(0)
	if err != nil {
		t.Fatal(err)
	}
	answers := fakes[0].client.Hashes(t.Context(), own.Revision)
	var got []string
	for _, a := range answers {
		text := "equal"
		if a.Err != nil {
			text = a.Err.Error()
			var unreachable *unreachableError
			if errors.As(a.Err, &unreachable) {
				text = "unreachable"
			}
		} else if a.Hash != own {
			text = fmt.Sprintf("%+v", a.Hash)
		}
		got = append(got, fmt.Sprintf("%d %s", a.Member, text))
	}
	want := []string{
		"2 equal", "3 cluster ID mismatch", "4 unreachable", "5 " + mvcc.ErrFuture.Error(),
		"6 peer: hash of member 6 was asked for, and 42 answered",
	}
	if !slices.Equal(got, want) {
		t.Errorf("got\n%s\nwant\n%s", strings.Join(got, "\n"), strings.Join(want, "\n"))
	}
	if answers[3].Err != mvcc.ErrFuture || answers[1].Err != ErrOtherCluster {
		t.Error("the errors are not themselves any more")
	}
}
