package members

import (
	"bytes"
	"flag"
	"fmt"
	"math/rand/v2"
	"reflect"
	"slices"
	"testing"

	"github.com/cockroachdb/pebble/v2/vfs"
	"go.etcd.io/raft/v3/raftpb"
	"google.golang.org/protobuf/proto"

	"keelson/storage"
)

var (
	seedFlag   = flag.Uint64("seed", 0, "seed of random tests; 0: draw one")
	roundsFlag = flag.Int("rounds", 2000, "changes to try in random tests")
)

// conf encodes a configuration.
func conf(voters, learners []uint64) []byte {
	b, err := proto.Marshal(&raftpb.ConfState{Voters: voters, Learners: learners})
	if err != nil {
		panic(err)
	}
	return b
}

type ids = []uint64

// change is one call of a Tx, as data.
type change struct {
	name string
	do   func(*Tx) error
	want error
}

func add(id uint64, conf []byte, urls ...string) func(*Tx) error {
	return func(tx *Tx) error { return tx.Add(Member{ID: id, PeerURLs: urls}, 0, conf) }
}

func addLearner(id uint64, learnersMax int64, conf []byte, urls ...string) func(*Tx) error {
	return func(tx *Tx) error { return tx.Add(Member{ID: id, PeerURLs: urls, IsLearner: true}, learnersMax, conf) }
}

func remove(id uint64, conf []byte) func(*Tx) error {
	return func(tx *Tx) error { return tx.Remove(id, conf) }
}

func promote(id uint64, conf []byte) func(*Tx) error {
	return func(tx *Tx) error { return tx.Promote(id, conf) }
}

func update(id uint64, urls ...string) func(*Tx) error {
	return func(tx *Tx) error { return tx.Update(id, urls) }
}

// The rules of v3-api.md 5.2 and 5.4, in the order in which they win. The cluster has the voters 3 and 5, the learner 9,
// and had 7. What is refused changes nothing.
func TestRefusals(t *testing.T) {
	db := open(t, vfs.NewMem())
	defer db.Close()
	s := base(t, db)
	with4 := conf(ids{3, 4, 5}, ids{9})
	joint, err := proto.Marshal(&raftpb.ConfState{Voters: ids{3, 4, 5}, VotersOutgoing: ids{3, 5}, Learners: ids{9}})
	if err != nil {
		t.Fatal(err)
	}
	for _, c := range []change{
		{"add: an id that was removed", add(7, conf(ids{3, 5, 7}, ids{9}), "http://a:2380"), ErrNotFound},
		{"add: a removed id, as a learner too many", addLearner(7, 0, conf(ids{3, 5}, ids{7, 9}), "http://x:1"), ErrNotFound},
		{"add: a taken id", add(3, conf(ids{3, 5}, ids{9}), "http://b:2380"), ErrExists},
		{"add: a learner's id", add(9, conf(ids{3, 5}, ids{9}), "http://x:1"), ErrExists},
		{"add: nobody's id", add(0, conf(ids{0, 3, 5}, ids{9}), "http://x:1"), ErrExists},
		{"add: a voter's URL", add(4, with4, "http://a:2380"), ErrPeerURLExists},
		{"add: a learner's URL, second of two", add(4, with4, "http://x:1", "http://c:2380"), ErrPeerURLExists},
		{"add: a URL in use, as a learner too many", addLearner(4, 1, with4, "http://c:2380"), ErrPeerURLExists},
		{"add: a learner too many", addLearner(4, 1, conf(ids{3, 5}, ids{4, 9}), "http://x:1"), ErrTooManyLearners},
		{"add: no learner allowed", addLearner(4, -1, conf(ids{3, 5}, ids{4, 9}), "http://x:1"), ErrTooManyLearners},
		{"add: raft can't", add(4, nil, "http://x:1"), ErrConfiguration},
		{"add: no voters", add(4, []byte{}, "http://x:1"), ErrConfiguration},
		{"add: what is no configuration", add(4, []byte{0x08}, "http://x:1"), ErrConfiguration},
		{"add: a joint configuration", add(4, joint, "http://x:1"), ErrConfiguration},
		{"add: another id in the configuration", add(4, conf(ids{3, 5, 6}, ids{9}), "http://x:1"), ErrConfiguration},
		{"add: a learner in the configuration", add(4, conf(ids{3, 5}, ids{4, 9}), "http://x:1"), ErrConfiguration},
		{"add: a voter in the configuration", addLearner(4, 5, with4, "http://x:1"), ErrConfiguration},
		{"add: a configuration without it", add(4, conf(ids{3, 5}, ids{9}), "http://x:1"), ErrConfiguration},
		{"remove: unknown", remove(4, conf(ids{3, 5}, ids{9})), ErrNotFound},
		{"remove: again", remove(7, conf(ids{3, 5}, ids{9})), ErrNotFound},
		{"remove: raft can't", remove(5, nil), ErrConfiguration},
		{"remove: a configuration with it", remove(5, conf(ids{3, 5}, ids{9})), ErrConfiguration},
		{"promote: unknown", promote(4, conf(ids{3, 4, 5}, ids{9})), ErrNotFound},
		{"promote: removed", promote(7, conf(ids{3, 5, 7}, ids{9})), ErrNotFound},
		{"promote: a voter", promote(3, conf(ids{3, 5}, ids{9})), ErrNotLearner},
		{"promote: raft can't", promote(9, nil), ErrConfiguration},
		{"promote: still a learner", promote(9, conf(ids{3, 5}, ids{9})), ErrConfiguration},
		{"update: unknown", update(4, "http://x:1"), ErrNotFound},
		{"update: removed", update(7, "http://x:1"), ErrNotFound},
		{"update: unknown, a URL in use", update(4, "http://a:2380"), ErrNotFound},
		{"update: another's URL", update(3, "http://a:2380", "http://c:2380"), ErrPeerURLExists},
	} {
		before := s.AppendTo(nil)
		b := db.NewBatch()
		tx := Begin(b, s)
		if err := c.do(tx); err != c.want {
			t.Errorf("%s: %v, want %v", c.name, err, c.want)
		}
		if tx.Changed() || tx.Set() != s || !bytes.Equal(s.AppendTo(nil), before) {
			t.Errorf("%s: something has changed", c.name)
		}
		if err := b.Commit(); err != nil {
			t.Fatal(err)
		}
		if loaded, err := Load(db); err != nil || !bytes.Equal(loaded.AppendTo(nil), before) {
			t.Errorf("%s: something was written: %+v, %v", c.name, loaded, err)
		}
	}
}

// base has the voters 3 and 5 and the learner 9, and had 7.
func base(t *testing.T, db *storage.DB) *Set {
	var s *Set
	write(t, db, func(b *storage.Batch) {
		var err error
		s, err = Bootstrap(b, Identity{
			ClusterID: 1, ConfState: conf(ids{3, 5, 7}, ids{9}),
			Members: []Member{
				{ID: 3, Name: "a", PeerURLs: []string{"http://a:2380"}},
				{ID: 5, Name: "b", PeerURLs: []string{"http://b:2380"}, ClientURLs: []string{"http://b:2379"}},
				{ID: 7, PeerURLs: []string{"http://x:1"}},
				{ID: 9, Name: "c", PeerURLs: []string{"http://c:2380"}, ClientURLs: []string{"http://c:2379"}, IsLearner: true, AutoPromote: true},
			},
		})
		if err != nil {
			t.Fatal(err)
		}
	})
	write(t, db, func(b *storage.Batch) {
		tx := Begin(b, s)
		if err := tx.Remove(7, conf(ids{3, 5}, ids{9})); err != nil {
			t.Fatal(err)
		}
		s = tx.Set()
	})
	return s
}

// What a change leaves, in memory and on disk; nothing else is different from base.
func TestChanges(t *testing.T) {
	a := Member{ID: 3, Name: "a", PeerURLs: []string{"http://a:2380"}}
	b := Member{ID: 5, Name: "b", PeerURLs: []string{"http://b:2380"}, ClientURLs: []string{"http://b:2379"}}
	c := Member{ID: 9, Name: "c", PeerURLs: []string{"http://c:2380"}, ClientURLs: []string{"http://c:2379"}, IsLearner: true, AutoPromote: true}
	learnsNoMore, elsewhere, both := c, c, a
	learnsNoMore.IsLearner, learnsNoMore.AutoPromote = false, false
	elsewhere.PeerURLs = []string{"http://d:2380", "http://e:2380"}
	both.PeerURLs = []string{"http://a:2380", "http://x:1"}
	for _, test := range []struct {
		name    string
		do      func(*Tx) error
		list    []Member
		conf    []byte
		removed []uint64
	}{
		{
			"a voter, of which name and client URLs do not count",
			func(tx *Tx) error {
				m := Member{ID: 4, Name: "no", PeerURLs: []string{"http://z:1", "http://y:1"}, ClientURLs: []string{"no"}, AutoPromote: true}
				return tx.Add(m, 0, conf(ids{5, 4, 3}, ids{9}))
			},
			[]Member{a, {ID: 4, PeerURLs: []string{"http://y:1", "http://z:1"}}, b, c}, conf(ids{3, 4, 5}, ids{9}), ids{7},
		},
		{
			"a learner at the URL of a removed member", addLearner(8, 2, conf(ids{3, 5}, ids{9, 8}), "http://x:1"),
			[]Member{a, b, {ID: 8, PeerURLs: []string{"http://x:1"}, IsLearner: true}, c}, conf(ids{3, 5}, ids{8, 9}), ids{7},
		},
		{
			"a learner that promotes itself",
			func(tx *Tx) error {
				m := Member{ID: 10, PeerURLs: []string{"http://x:1"}, IsLearner: true, AutoPromote: true}
				return tx.Add(m, 2, conf(ids{3, 5}, ids{9, 10}))
			},
			[]Member{a, b, c, {ID: 10, PeerURLs: []string{"http://x:1"}, IsLearner: true, AutoPromote: true}}, conf(ids{3, 5}, ids{9, 10}), ids{7},
		},
		{"a voter leaves", remove(3, conf(ids{5}, ids{9})), []Member{b, c}, conf(ids{5}, ids{9}), ids{3, 7}},
		{"a learner leaves", remove(9, conf(ids{3, 5}, nil)), []Member{a, b}, conf(ids{3, 5}, nil), ids{7, 9}},
		{"promotion", promote(9, conf(ids{3, 5, 9}, nil)), []Member{a, b, learnsNoMore}, conf(ids{3, 5, 9}, nil), ids{7}},
		{"a learner moves", update(9, "http://e:2380", "http://d:2380"), []Member{a, b, elsewhere}, conf(ids{3, 5}, ids{9}), ids{7}},
		{"own URL again, and a free one", update(3, "http://x:1", "http://a:2380"), []Member{both, b, c}, conf(ids{3, 5}, ids{9}), ids{7}},
	} {
		db := open(t, vfs.NewMem())
		before := base(t, db)
		old := before.AppendTo(nil)
		var after *Set
		write(t, db, func(b *storage.Batch) {
			tx := Begin(b, before)
			if err := test.do(tx); err != nil || !tx.Changed() {
				t.Fatalf("%s: %v", test.name, err)
			}
			after = tx.Set()
		})
		if !bytes.Equal(before.AppendTo(nil), old) {
			t.Errorf("%s: the old Set has changed: %+v", test.name, before)
		}
		loaded, err := Load(db)
		if err != nil {
			t.Fatal(err)
		}
		for where, s := range map[string]*Set{"memory": after, "disk": loaded} {
			if !reflect.DeepEqual(s.List(), test.list) || !bytes.Equal(s.ConfState(), test.conf) || !slices.Equal(s.removed, test.removed) {
				t.Errorf("%s, in %s: %+v", test.name, where, s)
			}
			var voters, learners ids
			for _, m := range test.list {
				if m.IsLearner {
					learners = append(learners, m.ID)
				} else {
					voters = append(voters, m.ID)
				}
			}
			v, l := s.Counts()
			if !slices.Equal(s.Voters(), voters) || !slices.Equal(s.Learners(), learners) || v != len(voters) || l != len(learners) {
				t.Errorf("%s, in %s: %d voters %v, %d learners %v", test.name, where, v, s.Voters(), l, s.Learners())
			}
		}
		if !bytes.Equal(after.AppendTo(nil), loaded.AppendTo(nil)) {
			t.Errorf("%s: memory and disk differ", test.name)
		}
		db.Close()
	}
}

func TestOwner(t *testing.T) {
	db := open(t, vfs.NewMem())
	defer db.Close()
	s := base(t, db)
	if id, ok := s.Owner("http://c:2380"); id != 9 || !ok {
		t.Errorf("owner %d, %v", id, ok)
	}
	if id, ok := s.Owner("http://x:1"); ok { // of the removed one
		t.Errorf("owner %d", id)
	}
}

// Nobody would be left to agree that anybody joins.
func TestTheLastVoterStays(t *testing.T) {
	db := open(t, vfs.NewMem())
	defer db.Close()
	s := base(t, db)
	write(t, db, func(b *storage.Batch) {
		tx := Begin(b, s)
		if err := tx.Remove(3, conf(ids{5}, ids{9})); err != nil {
			t.Fatal(err)
		}
		for _, left := range [][]byte{nil, {}, conf(nil, ids{9})} {
			if err := tx.Remove(5, left); err != ErrLastVoter {
				t.Errorf("the last voter, leaving %x: %v", left, err)
			}
		}
		if err := tx.Remove(9, conf(ids{5}, nil)); err != nil {
			t.Errorf("the last learner: %v", err)
		}
	})
}

// Records and a configuration that differ can't have come from here.
func TestDisagreementIsFound(t *testing.T) {
	db := open(t, vfs.NewMem())
	defer db.Close()
	b := db.NewBatch()
	id := twoMembers()
	for _, wrong := range [][]byte{nil, {0x08}, conf(ids{3, 9}, nil), conf(ids{3}, nil), conf(ids{3}, ids{9, 10})} {
		id.ConfState = wrong
		if _, err := Bootstrap(b, id); err == nil {
			t.Errorf("bootstrapped with configuration %x", wrong)
		}
	}
	b.Discard()
	s := base(t, db)
	write(t, db, func(b *storage.Batch) { b.Delete(storage.Members, appendID(nil, 5)) })
	if _, err := Load(db); err == nil {
		t.Errorf("loaded without a voter")
	}
	broken := *s
	broken.list = broken.list[1:]
	defer func() {
		if recover() == nil {
			t.Errorf("no panic")
		}
	}()
	Begin(db.NewBatch(), &broken).Remove(9, conf(ids{5}, nil))
}

// Random changes, many of them in one batch: what is in memory and what is loaded are the same, the configuration agrees,
// no removed id comes back, no URL has two owners (known bugs M1, M2, M10).
func TestRandomChanges(t *testing.T) {
	seed := *seedFlag
	if seed == 0 {
		seed = rand.Uint64()
	}
	t.Logf("-seed=%d", seed)
	r := rand.New(rand.NewPCG(seed, 0))
	var db *storage.DB
	var s *Set
	refusals := map[error]int{}
	gone := map[uint64]bool{}
	for n := 0; n < *roundsFlag; {
		if n%200 == 0 { // ids run out
			if db != nil {
				db.Close()
			}
			db, gone = open(t, vfs.NewMem()), map[uint64]bool{7: true}
			s = base(t, db)
		}
		write(t, db, func(b *storage.Batch) {
			tx := Begin(b, s)
			for range 1 + r.IntN(4) {
				n++
				id := r.Uint64N(40)
				known := len(tx.Set().List())
				if m := tx.Set().List()[r.IntN(known)]; r.IntN(2) == 0 {
					id = m.ID
				}
				err := randomChange(r, tx, id)
				refusals[err]++
				if gone[id] && err == nil {
					t.Fatalf("removed %d, and could change it", id)
				}
				if tx.Set().Removed(id) {
					gone[id] = true
				}
			}
			s = tx.Set()
		})
		checkSet(t, s, gone)
		loaded, err := Load(db)
		if err != nil || !bytes.Equal(loaded.AppendTo(nil), s.AppendTo(nil)) {
			t.Fatalf("loaded %+v, %v; want %+v", loaded, err, s)
		}
	}
	db.Close()
	for _, err := range []error{nil, ErrNotFound, ErrExists, ErrPeerURLExists, ErrTooManyLearners, ErrNotLearner, ErrConfiguration} {
		if refusals[err] == 0 && *roundsFlag >= 2000 {
			t.Errorf("%v never came", err)
		}
	}
}

// randomChange makes a change with the configuration that it leads to, and sometimes with the present one.
func randomChange(r *rand.Rand, tx *Tx, id uint64) error {
	without := func(list ids) ids {
		return slices.DeleteFunc(slices.Clone(list), func(x uint64) bool { return x == id })
	}
	voters, learners := without(tx.Set().Voters()), without(tx.Set().Learners())
	kind, learner := r.IntN(6), r.IntN(2) == 0
	switch {
	case kind <= 1 && learner:
		learners = append(learners, id)
	case kind <= 1 || kind == 2:
		voters = append(voters, id)
	}
	next := conf(voters, learners)
	if r.IntN(10) == 0 {
		next = tx.Set().ConfState()
	}
	urls := []string{fmt.Sprintf("http://%d", r.IntN(12))}
	switch kind {
	case 0, 1:
		return tx.Add(Member{ID: id, PeerURLs: urls, IsLearner: learner, AutoPromote: r.IntN(2) == 0}, 1+r.Int64N(2), next)
	case 2:
		return tx.Promote(id, next)
	case 3:
		return tx.Remove(id, next)
	case 4:
		return tx.Update(id, append(urls, fmt.Sprintf("http://%d", 12+r.IntN(12))))
	}
	return tx.Publish(id, "name", urls)
}

func checkSet(t *testing.T, s *Set, gone map[uint64]bool) {
	t.Helper()
	if err := s.agreesWith(s.ConfState()); err != nil {
		t.Fatal(err)
	}
	owner := map[string]uint64{}
	for i, m := range s.List() {
		if i > 0 && s.List()[i-1].ID >= m.ID || gone[m.ID] || s.Removed(m.ID) || !slices.IsSorted(m.PeerURLs) || m.AutoPromote && !m.IsLearner {
			t.Fatalf("member %+v of %+v", m, s)
		}
		for _, u := range m.PeerURLs {
			if _, ok := owner[u]; ok {
				t.Fatalf("%s has two owners: %+v", u, s)
			}
			owner[u] = m.ID
		}
	}
	for id := range gone {
		if !s.Removed(id) {
			t.Fatalf("%d is not removed any more", id)
		}
	}
}
