package replica_test

import (
	"flag"
	"fmt"
	"math/rand/v2"
	"slices"
	"testing"
	"testing/cryptotest"
	"time"

	"go.etcd.io/raft/v3"
	"go.etcd.io/raft/v3/raftpb"

	"keelson/replica"
)

var (
	seedFlag  = flag.Uint64("seed", 0, "seed of the random test; 0: a new one each time")
	seedsFlag = flag.Int("seeds", 15, "number of seeds, counted up from -seed")
	stepsFlag = flag.Int("steps", 1200, "steps per seed before the network heals")
)

// TestRandomSchedules runs clusters through seeded schedules in which messages are lost, repeated and reordered, appends
// and applies take any time, and members crash with any part of their pending appends on disk. At every step: nothing is
// sent that the disk does not hold (checkDurable), everybody applies the same at the same index, a read answered is not
// older than what was acknowledged before it was asked. At the end the network heals and everything must arrive.
func TestRandomSchedules(t *testing.T) {
	seed := *seedFlag
	if seed == 0 {
		seed = uint64(time.Now().UnixNano())
	}
	for i := range *seedsFlag {
		s := seed + uint64(i)
		t.Run(fmt.Sprint(s), func(t *testing.T) {
			defer func() {
				if t.Failed() {
					t.Logf("replay: go test ./replica -run TestRandomSchedules -seed=%d -seeds=1 -steps=%d", s, *stepsFlag)
				}
			}()
			newSchedule(t, s).run(*stepsFlag)
		})
	}
}

// schedule is one seeded run.
type schedule struct {
	*cluster
	rng       *rand.Rand
	loss      int // percent
	proposed  int
	acked     map[string]bool
	ackedUpTo uint64
	reads     []pendingRead
	answers   int
	promised  map[uint64]promise
	cut       map[uint64]bool // members nobody reaches
}

// promise is a proposal that has to become an entry, unless its member crashes.
type promise struct {
	member *member
	start  uint64
	data   string
}

// pendingRead is a read that was asked for when everything up to floor was acknowledged.
type pendingRead struct {
	member *member
	start  uint64 // the run of the member it belongs to
	ticket uint64
	floor  uint64
}

func newSchedule(t *testing.T, seed uint64) *schedule {
	cryptotest.SetGlobalRandom(t, seed)
	s := &schedule{rng: rand.New(rand.NewPCG(seed, 1)), acked: map[string]bool{}, promised: map[uint64]promise{}, cut: map[uint64]bool{}}
	small := s.rng.IntN(2) == 0
	voters := []int{1, 3, 3, 3, 5}[s.rng.IntN(5)]
	s.cluster = newCluster(t, voters, s.rng.IntN(2), func(o *replica.Options) {
		if small { // pages of one entry (known bug A19), windows of one message
			o.MessageBytesMax, o.ApplyBytesMax, o.InflightMessagesMax = 1, 1, 1
		}
	})
	s.loss = s.rng.IntN(30)
	s.startAll()
	return s
}

func (s *schedule) run(steps int) {
	for range steps {
		s.one()
		s.check()
	}
	s.heal()
}

func (s *schedule) pick() *member { return s.members[s.rng.IntN(len(s.members))] }

func (s *schedule) one() {
	m := s.pick()
	if m.r == nil {
		if s.rng.IntN(10) == 0 {
			m.start()
		}
		return
	}
	switch n := s.rng.IntN(1000); {
	case n < 150:
		m.step(replica.Tick{})
	case n < 450:
		if len(s.network) > 0 {
			s.transmit(s.rng.IntN(min(len(s.network), 8)))
		}
	case n < 600:
		if len(m.appends) > 0 {
			m.appendNext()
		}
	case n < 750:
		if len(m.applies) > 0 {
			m.applyNext()
		}
	case n < 850:
		s.propose(m)
	case n < 853:
		id := uint64(s.rng.IntN(s.proposed + 1))
		delete(s.promised, id)
		m.step(replica.Forget{ID: id})
	case n < 950:
		s.reads = append(s.reads, pendingRead{m, m.starts, m.read(), s.ackedUpTo})
	case n < 960:
		m.flush(uint64(s.rng.IntN(5)))
	case n < 967:
		m.crash(s.rng.IntN(len(m.appends) + 1))
	case n < 975:
		m.step(replica.TransferLeader{To: s.pick().id})
	case n < 982:
		s.cut[m.id] = !s.cut[m.id]
	case n < 990:
		s.changeMembers(m)
	case n < 995:
		m.step(replica.SnapshotSent{ID: s.pick().id, Failed: s.rng.IntN(2) == 0})
	default:
		m.step(replica.Unreachable{ID: s.pick().id})
	}
}

func (s *schedule) propose(m *member) {
	s.proposed++
	data := fmt.Sprintf("%d from %d", s.proposed, m.id)
	s.promised[uint64(s.proposed)] = promise{m, m.starts, data}
	m.step(replica.Propose{ID: uint64(s.proposed), Data: []byte(data)})
}

// changeMembers turns the last member into a learner or a voter, often while another change is pending.
func (s *schedule) changeMembers(m *member) {
	if len(s.members) < 3 {
		return
	}
	typ := raftpb.ConfChangeAddNode
	if s.rng.IntN(2) == 0 {
		typ = raftpb.ConfChangeAddLearnerNode
	}
	s.proposed++
	m.step(replica.ProposeConfChange{ID: uint64(s.proposed), Change: &raftpb.ConfChangeV2{Context: fmt.Append(nil, s.proposed), Changes: []*raftpb.ConfChangeSingle{
		{Type: typ.Enum(), NodeId: new(s.members[len(s.members)-1].id)},
	}}})
}

// transmit delivers, loses or repeats one message.
func (s *schedule) transmit(i int) {
	msg := s.network[i]
	lost := s.cut[msg.GetFrom()] || s.cut[msg.GetTo()]
	switch n := s.rng.IntN(100); {
	case lost || n < s.loss:
		s.network = append(s.network[:i:i], s.network[i+1:]...)
	case n < s.loss+5 && len(s.network) < 1000:
		s.network = append(s.network, msg)
		s.deliver(i)
	default:
		s.deliver(i)
	}
}

func (s *schedule) check() {
	s.t.Helper()
	for _, m := range s.members {
		if m.r == nil {
			continue
		}
		for _, d := range m.dropped {
			delete(s.promised, d.ID)
		}
		m.dropped = nil
		// Whoever proposed it acknowledges what it has applied.
		once := map[string]bool{}
		for _, rec := range m.state.records {
			if once[rec.data] {
				s.t.Fatalf("member %d applied %q twice", m.id, rec.data)
			}
			once[rec.data] = true
			var n int
			var from uint64
			if fmt.Sscanf(rec.data, "%d from %d", &n, &from); from == m.id {
				s.acked[rec.data] = true
				s.ackedUpTo = max(s.ackedUpTo, rec.index)
			}
		}
		if st := m.r.Status(); st.Applied > st.Committed || st.Committed > st.LastIndex || st.Applied != m.state.applied {
			s.t.Fatalf("member %d applied %d: %+v", m.id, m.state.applied, st)
		}
	}
	waiting := s.reads[:0]
	for _, r := range s.reads {
		switch i, ok := r.member.answered(r.ticket); {
		case r.member.r == nil || r.member.starts != r.start:
		case !ok:
			waiting = append(waiting, r)
		case i < r.floor:
			s.t.Fatalf("member %d may read at %d, but %d was acknowledged before", r.member.id, i, r.floor)
		default:
			s.answers++
		}
	}
	s.reads = waiting
}

// heal lets everything through and checks that the cluster works and has lost nothing.
func (s *schedule) heal() {
	s.t.Helper()
	s.cut = nil
	for _, m := range s.members {
		if m.r == nil {
			m.start()
		}
	}
	for range 400 {
		for _, m := range s.members {
			m.step(replica.Tick{})
			if m.r.Status().Role == raft.StateLeader { // a snapshot that got lost would be waited for
				m.r.Progress(func(p replica.Progress) {
					if p.Snapshot {
						m.step(replica.SnapshotSent{ID: p.ID, Failed: true})
					}
				})
			}
		}
		s.settle()
		s.check()
		if l := s.leader(); l != nil && s.caughtUp(l) && s.unkept() == "" {
			break
		}
	}
	l := s.leader()
	if l == nil {
		s.t.Fatal("nobody leads in a healthy network")
	}
	if d := s.unkept(); d != "" {
		s.t.Errorf("%q was proposed and never applied", d)
	}
	s.proposed++
	l.step(replica.Propose{ID: uint64(s.proposed), Data: []byte("last")})
	s.settle()
	floor := l.state.applied
	ticket := s.members[0].read()
	s.settle()
	for range 400 { // a change of members may still be under way, and end this leader's term
		if _, ok := s.members[0].answered(ticket); ok && s.haveAll("last") {
			break
		}
		if s.members[0].refused(ticket) {
			ticket = s.members[0].read()
		}
		for _, m := range s.members {
			m.step(replica.Tick{})
		}
		s.settle()
	}
	index, ok := s.members[0].answered(ticket)
	for _, m := range s.members {
		have := map[string]bool{}
		for _, d := range m.data() {
			have[d] = true
		}
		for d := range s.acked {
			if !have[d] {
				s.t.Errorf("member %d lost %q, which was acknowledged", m.id, d)
			}
		}
		if !have["last"] {
			s.t.Errorf("member %d did not get the last proposal: %+v", m.id, m.r.Status())
		}
	}
	if !ok || index < floor {
		s.t.Errorf("the last read is answered: %t, at %d of %d", ok, index, floor)
	}
}

// unkept is a proposal that was neither applied nor dropped, though its member is still the one that took it.
func (s *schedule) unkept() string {
	have := map[string]bool{}
	for _, d := range s.members[0].data() {
		have[d] = true
	}
	for _, p := range s.promised {
		if p.member.r != nil && p.member.starts == p.start && !have[p.data] {
			return p.data
		}
	}
	return ""
}

// haveAll reports whether everybody has applied a proposal.
func (s *schedule) haveAll(data string) bool {
	for _, m := range s.members {
		if !slices.Contains(m.data(), data) {
			return false
		}
	}
	return true
}

func (s *schedule) caughtUp(l *member) bool {
	for _, m := range s.members {
		if m.state.applied != l.state.applied || m.r.Status().Leader != l.id {
			return false
		}
	}
	return true
}
