package node

import (
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/cockroachdb/pebble/v2/vfs"
	"go.etcd.io/raft/v3/raftpb"
	"google.golang.org/protobuf/proto"

	"keelson/command"
	"keelson/state/members"
	"keelson/storage"
)

// cluster makes the members of a cluster from words, one for each, with ids from 1 on:
//
//	v, l       voter, learner
//	s, u       started, not started
//	L          this member
//	a, y, d    connected for 5 s, for less than that, not at all
func cluster(t *testing.T, text string) reconfiguration {
	t.Helper()
	const now = time.Hour
	r := reconfiguration{now: now}
	id := members.Identity{ClusterID: 1}
	conf := &raftpb.ConfState{}
	connections := map[uint64]time.Duration{}
	for i, word := range strings.Fields(text) {
		m := members.Member{ID: uint64(i + 1), PeerURLs: []string{fmt.Sprintf("http://m%d:1", i)}, IsLearner: word[0] == 'l'}
		if word[1] == 's' {
			m.Name = "started"
		}
		switch word[2] {
		case 'L':
			r.local = m.ID
		case 'a':
			connections[m.ID] = now - healthyAfter
		case 'y':
			connections[m.ID] = now - healthyAfter + 1
		}
		if m.IsLearner {
			conf.Learners = append(conf.Learners, m.ID)
		} else {
			conf.Voters = append(conf.Voters, m.ID)
		}
		id.Members = append(id.Members, m)
	}
	var err error
	if id.ConfState, err = proto.Marshal(conf); err != nil {
		t.Fatal(err)
	}
	r.set = memberSet(t, id)
	r.connectedSince = func(id uint64) (time.Duration, bool) {
		since, ok := connections[id]
		return since, ok
	}
	return r
}

func memberSet(t *testing.T, id members.Identity) *members.Set {
	t.Helper()
	db, err := storage.Open(storage.Options{FS: vfs.NewMem(), Dir: "db", MemtableBytes: 1 << 20, CacheBytes: 1 << 20})
	if err != nil {
		t.Fatal(err)
	}
	defer db.Close()
	b := db.NewBatch()
	defer b.Discard()
	set, err := members.Bootstrap(b, id)
	if err != nil {
		t.Fatal(err)
	}
	return set
}

// TestReconfiguration: every rule of the strict reconfiguration check, on both sides of where it begins to hold.
func TestReconfiguration(t *testing.T) {
	addVoter, addLearner := &command.MemberAdd{ID: 99}, &command.MemberAdd{ID: 99, IsLearner: true}
	remove := func(id uint64) command.Op { return &command.MemberRemove{ID: id} }
	promote := func(id uint64) command.Op { return &command.MemberPromote{ID: id} }
	for _, c := range []struct {
		rule    string
		cluster string
		op      command.Op
		want    error
	}{
		{"add voter: a lone started voter may always", "vsL", addVoter, nil},
		{"add voter: a lone voter that has not published itself may not", "vuL", addVoter, ErrNotEnoughStarted},
		{"add voter: two of two started are two of three", "vsL vsa", addVoter, nil},
		{"add voter: one of two started is one of three", "vsL vua", addVoter, ErrNotEnoughStarted},
		{"add voter: three of four started are three of five", "vsL vsa vsa vua", addVoter, nil},
		{"add voter: two of three started are two of four", "vsL vsa vua", addVoter, ErrNotEnoughStarted},
		{"add voter: started learners do not count", "vsL vua lsa", addVoter, ErrNotEnoughStarted},
		{"add voter: not enough started wins over unhealthy", "vsL vud", addVoter, ErrNotEnoughStarted},
		{"add voter: two active are a quorum of three", "vsL vsa", addVoter, nil},
		{"add voter: one active is no quorum of three", "vsL vsd", addVoter, ErrUnhealthy},
		{"add voter: connected for less than five seconds is not active", "vsL vsy", addVoter, ErrUnhealthy},
		{"add voter: two active are no quorum of four", "vsL vsa vsd", addVoter, ErrUnhealthy},
		{"add voter: three active are a quorum of four", "vsL vsa vsa", addVoter, nil},
		{"add voter: one of four may be down", "vsL vsa vsa vsd", addVoter, nil},
		{"add voter: one of five may be down", "vsL vsa vsa vsa vsd", addVoter, nil},
		{"add voter: two of five may not", "vsL vsa vsa vsd vsd", addVoter, ErrUnhealthy},
		{"add voter: active learners do not count", "vsL vsd lsa lsa", addVoter, ErrUnhealthy},

		{"add learner: a lone voter may always", "vsL", addLearner, nil},
		{"add learner: who has started does not matter", "vuL vua", addLearner, nil},
		{"add learner: one active of two", "vsL vsd", addLearner, ErrUnhealthy},
		{"add learner: not long enough", "vsL vsy", addLearner, ErrUnhealthy},
		{"add learner: all active", "vsL vsa vsa", addLearner, nil},
		{"add learner: two active of three", "vsL vsa vsd", addLearner, ErrUnhealthy},

		{"remove voter: the last one", "vsL", remove(1), ErrNotEnoughStarted},
		{"remove voter: the last one, with learners", "vsL lsa", remove(1), ErrNotEnoughStarted},
		{"remove voter: a started one must remain of two", "vsL vua", remove(1), ErrNotEnoughStarted},
		{"remove voter: one of two that never started", "vsL vud", remove(2), nil},
		{"remove voter: one of two", "vsL vsa", remove(2), nil},
		{"remove voter: itself of two", "vsL vsa", remove(1), nil},
		{"remove voter: itself of two while the other is down", "vsL vsd", remove(1), ErrUnhealthy},
		{"remove voter: one started of two others is too few", "vsL vsa vua", remove(2), ErrNotEnoughStarted},
		{"remove voter: an active one of three", "vsL vsa vsa", remove(2), nil},
		{"remove voter: an active one of three while another is down", "vsL vsa vsd", remove(2), ErrUnhealthy},
		{"remove voter: itself of three while another is down", "vsL vsa vsd", remove(1), ErrUnhealthy},
		{"remove voter: the one of three that is down", "vsL vsa vsd", remove(3), nil},
		{"remove voter: one that is down, whoever else is", "vsL vsd vsd", remove(3), nil},
		{"remove voter: one connected a moment ago is not down", "vsL vsa vsy", remove(3), ErrUnhealthy},
		{"remove voter: one of five while another is down", "vsL vsa vsa vsa vsd", remove(2), nil},
		{"remove voter: one of five while two are down", "vsL vsa vsa vsd vsd", remove(2), ErrUnhealthy},
		{"remove voter: unknown", "vsL vsd vsd", remove(77), nil},
		{"remove learner: always", "vuL vud lsa", remove(3), nil},
		{"remove learner: itself", "vud vud lsL", remove(3), nil},

		{"promote: of a lone voter", "vsL lsa", promote(2), nil},
		{"promote: the learner counts as started", "vsL lua", promote(2), nil},
		{"promote: one and the learner of three", "vsL vua lsa", promote(3), nil},
		{"promote: one and the learner of four", "vsL vua vua lsa", promote(4), ErrNotEnoughStarted},
		{"promote: nobody and the learner of two", "vuL lsa", promote(2), ErrNotEnoughStarted},
		{"promote: who is connected does not matter", "vsL vsd vsd lsd", promote(4), nil},
		{"promote: other learners do not count", "vuL lsa lsa", promote(2), ErrNotEnoughStarted},
		{"promote: a voter", "vuL vua", promote(2), nil},
		{"promote: unknown", "vuL vua", promote(77), nil},

		{"update: always", "vuL vud", &command.MemberUpdate{ID: 2}, nil},
	} {
		t.Run(c.rule, func(t *testing.T) {
			if err := cluster(t, c.cluster).check(c.op); err != c.want {
				t.Errorf("%s: %v, want %v", c.cluster, err, c.want)
			}
		})
	}
}

// TestReconfigurationConsequences goes the ways that operators go, and in which the rules meet.
func TestReconfigurationConsequences(t *testing.T) {
	add, learner := &command.MemberAdd{ID: 99}, &command.MemberAdd{ID: 99, IsLearner: true}
	for _, c := range []struct {
		name  string
		steps []string // clusters as they follow upon each other
		ops   []command.Op
		want  []error
	}{
		{
			"one becomes two, and no third before the second has started",
			[]string{"vsL", "vsL vud", "vsL vsy", "vsL vsa"},
			[]command.Op{add, add, add, add},
			[]error{nil, ErrNotEnoughStarted, ErrUnhealthy, nil},
		},
		{
			"a cluster that has just started",
			[]string{"vsL vsy vsy", "vsL vsa vsa"},
			[]command.Op{add, add},
			[]error{ErrUnhealthy, nil},
		},
		{
			"replace the one of three that is lost",
			[]string{"vsL vsa vsd", "vsL vsa vsd", "vsL vsa", "vsL vsa vud"},
			[]command.Op{&command.MemberRemove{ID: 2}, &command.MemberRemove{ID: 3}, add, add},
			[]error{ErrUnhealthy, nil, nil, ErrNotEnoughStarted},
		},
		{
			"a learner becomes a voter",
			[]string{"vsL", "vsL lud", "vsL lsa", "vsL vsa"},
			[]command.Op{learner, learner, &command.MemberPromote{ID: 2}, learner},
			[]error{nil, nil, nil, nil},
		},
	} {
		t.Run(c.name, func(t *testing.T) {
			for i, text := range c.steps {
				if err := cluster(t, text).check(c.ops[i]); err != c.want[i] {
					t.Errorf("step %d, %s: %v, want %v", i, text, err, c.want[i])
				}
			}
		})
	}
}
