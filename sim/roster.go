package sim

import (
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"

	"keelson/command"
	"keelson/state"
	"keelson/state/members"
)

// roster is who belongs to the cluster, as it should be. It is immutable.
type roster struct {
	list    map[uint64]rosterMember
	removed map[uint64]bool
	voters  []uint64 // ascending
}

type rosterMember struct {
	urls    string // sorted, each behind a blank
	learner bool
}

func newRoster(list map[uint64]rosterMember, removed map[uint64]bool) *roster {
	r := &roster{list: list, removed: removed}
	for id, m := range list {
		if !m.learner {
			r.voters = append(r.voters, id)
		}
	}
	slices.Sort(r.voters)
	return r
}

func joinURLs(urls []string) (s string) {
	for _, u := range slices.Sorted(slices.Values(urls)) {
		s += " " + u
	}
	return s
}

// taken reports whether any of the addresses is another member's.
func (r *roster) taken(id uint64, urls []string) bool {
	for other, m := range r.list {
		for _, u := range urls {
			if other != id && strings.Contains(m.urls+" ", " "+u+" ") {
				return true
			}
		}
	}
	return false
}

// after is the roster behind a change, or why there is none.
func (r *roster) after(op command.Op) (*roster, error) {
	list, removed := maps.Clone(r.list), r.removed
	switch o := op.(type) {
	case *command.MemberAdd:
		switch _, there := list[o.ID]; {
		case removed[o.ID]:
			return nil, members.ErrNotFound
		case there:
			return nil, members.ErrExists
		case r.taken(o.ID, o.PeerURLs):
			return nil, members.ErrPeerURLExists
		case o.IsLearner && int64(len(list)-len(r.voters)) >= o.LearnersMax:
			return nil, members.ErrTooManyLearners
		}
		list[o.ID] = rosterMember{urls: joinURLs(o.PeerURLs), learner: o.IsLearner}
	case *command.MemberRemove:
		m, there := list[o.ID]
		switch {
		case !there:
			return nil, members.ErrNotFound
		case !m.learner && len(r.voters) == 1:
			return nil, members.ErrLastVoter
		}
		removed = maps.Clone(removed)
		removed[o.ID] = true
		delete(list, o.ID)
	case *command.MemberPromote:
		m, there := list[o.ID]
		switch {
		case !there:
			return nil, members.ErrNotFound
		case !m.learner:
			return nil, members.ErrNotLearner
		}
		m.learner = false
		list[o.ID] = m
	case *command.MemberUpdate:
		m, there := list[o.ID]
		switch {
		case !there:
			return nil, members.ErrNotFound
		case r.taken(o.ID, o.PeerURLs):
			return nil, members.ErrPeerURLExists
		}
		m.urls = joinURLs(o.PeerURLs)
		list[o.ID] = m
	default:
		return nil, errors.New("sim: no change of members")
	}
	return newRoster(list, removed), nil
}

// differs says how a state's members differ; empty if they do not.
func (r *roster) differs(view *state.View) string {
	set := view.Members()
	got := map[uint64]rosterMember{}
	for _, m := range set.List() {
		got[m.ID] = rosterMember{urls: joinURLs(m.PeerURLs), learner: m.IsLearner}
	}
	if !maps.Equal(got, r.list) {
		return fmt.Sprintf("%v, want %v", got, r.list)
	}
	for id := range r.removed {
		if !set.Removed(id) {
			return fmt.Sprintf("%x is not known to be removed", id)
		}
	}
	return ""
}
