package replica_test

import (
	"fmt"
	"strings"
	"testing"
	"testing/cryptotest"

	"github.com/cockroachdb/datadriven"
	"go.etcd.io/raft/v3/raftpb"

	"keelson/replica"
)

// TestTranscripts plays the scripts in testdata. Each line of the input is one command; what the replica wants done
// comes out below it.
//
//	members voters=N learners=N        a new cluster, nobody started
//	start ID                           start a member from its disk
//	crash ID [written=N]               stop it; the first N of its pending appends reached the disk
//	tick ID [n=N]
//	campaign ID
//	propose ID DATA
//	change ID add=N|learner=N|remove=N propose a conf change
//	read ID                            ask for a linearizable read
//	answers ID                         all answers to reads since its start
//	append ID, apply ID                carry out the oldest one and report it
//	refuse ID                          the machine refuses conf changes from now on
//	deliver FROM TO [n=N], drop FROM TO [n=N]
//	settle                             run until nothing is left to do, quietly
//	flush ID keep=N                    make the state durable, truncate the log
//	transfer ID TO
//	status ID
func TestTranscripts(t *testing.T) {
	datadriven.Walk(t, "testdata", func(t *testing.T, path string) {
		cryptotest.SetGlobalRandom(t, 1) // raft's election timeouts
		s := &script{t: t}
		datadriven.RunTest(t, path, func(t *testing.T, d *datadriven.TestData) string {
			s.out.Reset()
			s.t = t
			if s.c != nil {
				s.c.t = t
			}
			if d.Cmd != "run" {
				t.Fatalf("%s: unknown directive %q", d.Pos, d.Cmd)
			}
			for line := range strings.Lines(d.Input) {
				line = strings.TrimSpace(line)
				fmt.Fprintf(&s.out, "> %s\n", line)
				s.run(strings.Fields(line))
			}
			return s.out.String()
		})
	})
}

type script struct {
	t   *testing.T
	c   *cluster
	out strings.Builder
}

func (s *script) run(f []string) {
	s.t.Helper()
	arg := func(name string, otherwise uint64) uint64 {
		for _, a := range f[1:] {
			if v, ok := strings.CutPrefix(a, name+"="); ok {
				return s.number(v)
			}
		}
		return otherwise
	}
	if f[0] == "members" {
		s.c = newCluster(s.t, int(arg("voters", 0)), int(arg("learners", 0)), nil)
		return
	}
	if f[0] == "settle" {
		s.c.settle()
		return
	}
	m := s.c.member(s.number(f[1]))
	if m.r == nil && f[0] != "start" && f[0] != "deliver" && f[0] != "drop" {
		s.t.Fatalf("%v: member %d is down", f, m.id)
	}
	switch f[0] {
	case "start":
		m.start()
	case "crash":
		m.crash(int(arg("written", 0)))
		return
	case "tick":
		for range arg("n", 1) {
			m.step(replica.Tick{})
			s.effects(m)
		}
		return
	case "campaign":
		m.step(replica.Campaign{})
	case "propose":
		m.ids++
		m.step(replica.Propose{ID: m.ids, Data: []byte(f[2])})
	case "change":
		cc := &raftpb.ConfChangeSingle{}
		for typ, name := range map[raftpb.ConfChangeType]string{
			raftpb.ConfChangeAddNode: "add", raftpb.ConfChangeAddLearnerNode: "learner", raftpb.ConfChangeRemoveNode: "remove",
		} {
			if id := arg(name, 0); id != 0 {
				cc.Type, cc.NodeId = typ.Enum(), new(id)
			}
		}
		m.ids++
		m.step(replica.ProposeConfChange{ID: m.ids, Change: &raftpb.ConfChangeV2{Changes: []*raftpb.ConfChangeSingle{cc}}})
	case "read":
		m.read()
	case "append", "apply":
		switch {
		case f[0] == "append" && len(m.appends) > 0:
			m.appendNext()
		case f[0] == "apply" && len(m.applies) > 0:
			m.applyNext()
		default:
			s.out.WriteString("  nothing to do\n")
			return
		}
	case "refuse":
		m.refuse = func(*raftpb.ConfState) bool { return true }
		return
	case "transfer":
		m.step(replica.TransferLeader{To: s.number(f[2])})
	case "answers":
		for _, r := range m.ready {
			fmt.Fprintf(&s.out, "  %s\n", describe(&r))
		}
		return
	case "flush":
		m.flush(arg("keep", 0))
		return
	case "status":
		st := m.r.Status()
		fmt.Fprintf(&s.out, "  %v leader=%d term=%d vote=%d committed=%d applied=%d last=%d transfer=%d learner=%t lone=%t\n",
			st.Role, st.Leader, st.Term, st.Vote, st.Committed, st.Applied, st.LastIndex, st.Transfer, st.Learner, st.Lone)
		return
	case "deliver", "drop":
		s.move(m.id, s.number(f[2]), int(arg("n", 1)), f[0] == "deliver")
		return
	default:
		s.t.Fatalf("unknown command %v", f)
	}
	s.effects(m)
}

func (s *script) move(from, to uint64, n int, deliver bool) {
	s.t.Helper()
	for i := 0; i < len(s.c.network) && n > 0; {
		msg := s.c.network[i]
		if msg.GetFrom() != from || msg.GetTo() != to {
			i++
			continue
		}
		n--
		if !deliver {
			s.c.network = append(s.c.network[:i:i], s.c.network[i+1:]...)
			continue
		}
		s.c.deliver(i)
		if m := s.c.member(to); m.r != nil {
			s.effects(m)
		}
	}
	if n > 0 {
		fmt.Fprintf(&s.out, "  no message\n")
	}
}

func (s *script) effects(m *member) {
	for _, e := range m.effects {
		fmt.Fprintf(&s.out, "  %s\n", describe(e))
	}
}

func (s *script) number(v string) (n uint64) {
	s.t.Helper()
	if _, err := fmt.Sscanf(v, "%d", &n); err != nil {
		s.t.Fatalf("number %q: %v", v, err)
	}
	return n
}
