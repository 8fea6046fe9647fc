package sim

import (
	"fmt"
	"maps"
	"slices"
	"time"

	"go.etcd.io/raft/v3/raftpb"
	"google.golang.org/protobuf/proto"

	"keelson/command"
	"keelson/replica"
)

// operate is what operators do: they add and promote members, remove them, replace one by another at the same address,
// change addresses, and move the leader.
func (w *world) operate() {
	if w.healing {
		return
	}
	up := w.running()
	if len(up) == 0 {
		return
	}
	m := up[w.rng.IntN(len(up))]
	if n := w.rng.IntN(8); !w.changes || n < 2 {
		if w.moves {
			w.moveLeader()
		}
		return
	} else if len(m.proposals) >= w.load.waitingMax {
		return
	} else if n < 4 {
		w.addMember(m)
		return
	}
	id := w.anyMember()
	if k := slices.IndexFunc(w.hosts, func(h *host) bool { return h.ruined }); k >= 0 && !w.model.roster.removed[w.hosts[k].id] {
		m.proposeChange(&command.MemberRemove{ID: w.hosts[k].id}, raftpb.ConfChangeRemoveNode, w.hosts[k].id)
		return
	}
	if voters := w.model.roster.voters; len(voters) == 2 && w.rng.IntN(2) == 0 {
		if leader := w.leaders[w.newest]; slices.Contains(voters, leader) {
			id = leader // what is left is one who has to know
		}
	}
	switch w.rng.IntN(4) {
	case 0:
		w.promote(id)
	case 1:
		m.propose(&command.MemberUpdate{ID: id, PeerURLs: []string{w.addresses[id].url(w.rng.IntN(2))}})
	default:
		if len(w.model.roster.voters) <= w.votersMin && !w.model.roster.list[id].learner {
			return
		}
		w.reach("a leader is to remove itself", w.hostOf(id).member != nil && w.hostOf(id).member.leading != 0)
		m.proposeChange(&command.MemberRemove{ID: id}, raftpb.ConfChangeRemoveNode, id)
	}
}

// running lists the members that run, those that wait to be added included.
func (w *world) running() (list []*member) {
	for _, h := range w.hosts {
		if h.member != nil && !h.gone {
			list = append(list, h.member)
		}
	}
	return list
}

// anyMember is one of those who belong to the cluster by now.
func (w *world) anyMember() uint64 {
	ids := slices.Sorted(maps.Keys(w.model.roster.list))
	return ids[w.rng.IntN(len(ids))]
}

// addMember adds a member: on a host without one, or one that was to be added before.
func (w *world) addMember(through *member) {
	order := w.rng.Perm(len(w.hosts))
	if w.rng.IntN(2) == 0 { // rather at the address of one that was removed
		slices.SortStableFunc(order, func(a, b int) int { return int(min(w.hosts[b].generation, 1)) - int(min(w.hosts[a].generation, 1)) })
	}
	for _, k := range order {
		h := w.hosts[k]
		if _, belongs := w.model.roster.list[h.id]; belongs {
			continue
		}
		if h.isFree() {
			h.assign(w.rng.Uint64() | 1)
			w.after(time.Duration(w.rng.Int64N(int64(time.Second))), "start", nil, h.starter())
		} else if h.gone || w.model.roster.removed[h.id] {
			continue
		}
		op := &command.MemberAdd{ID: h.id, PeerURLs: []string{h.url(0)}, IsLearner: w.rng.IntN(4) > 0, LearnersMax: 2}
		typ := raftpb.ConfChangeAddLearnerNode
		if !op.IsLearner {
			typ = raftpb.ConfChangeAddNode
		}
		through.proposeChange(op, typ, h.id)
		return
	}
}

// promote makes a voter of a learner that has caught up, as its leader sees it.
func (w *world) promote(id uint64) {
	for _, m := range w.running() {
		if m.leading == 0 {
			continue
		}
		var own, match uint64
		m.replica.Progress(func(p replica.Progress) {
			switch p.ID {
			case m.host.id:
				own = p.Match
			case id:
				match = p.Match
			}
		})
		if match > 0 && match*100 >= own*90 {
			m.proposeChange(&command.MemberPromote{ID: id}, raftpb.ConfChangeAddNode, id)
		}
		return
	}
}

// moveLeader has a leader give leadership to another voter.
func (w *world) moveLeader() {
	for _, m := range w.running() {
		if m.leading == 0 {
			continue
		}
		voters := w.model.roster.voters
		to := voters[w.rng.IntN(len(voters))]
		w.tracef("%v gives leadership to %v", m, w.addresses[to])
		m.step(replica.TransferLeader{To: to})
		return
	}
}

// proposeChange proposes a command together with the change of raft's configuration that it stands for.
func (m *member) proposeChange(op command.Op, typ raftpb.ConfChangeType, id uint64) {
	m.w.tracef("%v is to change the members: %T %x", m, op, id)
	data := m.beginBatch(commandsOf([]command.Op{op}))
	m.step(replica.ProposeConfChange{ID: m.sequence, Change: &raftpb.ConfChangeV2{
		Changes: []*raftpb.ConfChangeSingle{{Type: typ.Enum(), NodeId: proto.Uint64(id)}}, Context: data,
	}})
}

// url is the host's address under one of its names.
func (h *host) url(name int) string { return fmt.Sprintf("http://127.0.%d.%d:2380", name, h.index+1) }

// isFree reports whether a new member may run here: the one before, if any, is gone for good.
func (h *host) isFree() bool {
	return h.member == nil && (h.id == 0 || h.gone || h.w.model.roster.removed[h.id])
}

// assign makes the host that of a new member without data.
func (h *host) assign(id uint64) {
	w := h.w
	w.reach("a member took the place of another one at its address", h.id != 0)
	if h.id != 0 {
		before := h.ledger
		w.former[h.id] = &before
	}
	disk := newDisk(h.disk.rng, h.disk.style)
	disk.bug, disk.reads = w.o.Bug, &w.reads
	h.generation++
	h.id, h.joins, h.disk, h.ruined, h.ledger = id, true, disk, false, ledger{}
	h.starts, h.born, h.gone, h.fetching, h.applied, h.pausedUntil = 0, false, false, false, 0, 0
	w.addresses[id] = h
	w.tracef("%v is member %x now", h, id)
}

// leave ends a member for good that was removed.
func (h *host) leave() {
	if h.gone || h.member == nil {
		return
	}
	h.w.reach("a member that was removed has ended", true)
	h.gone = true
	h.silenced = h.w.now
	h.disk.crash()
	h.die("has left")
	if !h.w.healing && h.w.rng.IntN(2) == 0 { // who remains must know without it, also after a crash
		h.w.inject("crash of all when a member leaves")
		for _, m := range h.w.running() {
			m.disk.crash()
		}
	}
}

// leaveLater lets a member that was removed end: after the time that it goes on answering, or at once.
func (m *member) leaveLater() {
	if m.leaving {
		return
	}
	m.leaving = true
	d := 3 * electionTimeout
	if m.w.rng.IntN(2) == 0 {
		d = 0
	}
	m.w.after(d, "removed", m, m.host.leave)
}
