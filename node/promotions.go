package node

import (
	"slices"
	"time"

	"keelson/command"
	"keelson/replica"
)

// promotions makes voters of those learners that are meant to become one as soon as they have caught up.
type promotions struct {
	asked map[uint64]time.Duration // monotonic: when a promotion was proposed last
}

// tick is for the keeper.
func (p promotions) tick(n *Node) {
	if !n.Status().Leading {
		clear(p.asked)
		return
	}
	for _, id := range n.autoPromoted() {
		now := n.o.Clock.Monotonic()
		if at, ok := p.asked[id]; ok && now-at < n.o.RequestTimeout || !n.hears(id) || n.checkPromotion(id) != nil {
			continue
		}
		p.asked[id] = now
		n.done.Add(1)
		go func() {
			defer n.done.Done()
			// What comes of it is seen in the membership; if nothing does, it is tried again.
			_, _ = n.ChangeMembers(n.stopped, &command.MemberPromote{ID: id})
		}()
	}
}

// hears reports whether this leader has heard of a member lately: one that is gone would only cost the voters their quorum.
func (n *Node) hears(id uint64) bool {
	return slices.ContainsFunc(n.Progress(), func(p replica.Progress) bool { return p.ID == id && p.Active })
}

// autoPromoted lists the learners that are to be promoted without being asked for.
func (n *Node) autoPromoted() (ids []uint64) {
	view := n.ReadLocal()
	defer view.Close()
	for _, m := range view.Members().List() {
		if m.IsLearner && m.AutoPromote {
			ids = append(ids, m.ID)
		}
	}
	return ids
}
