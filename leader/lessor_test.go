package leader

import (
	"cmp"
	"flag"
	"fmt"
	"math/rand/v2"
	"slices"
	"testing"
	"time"

	"keelson/command"
	"keelson/state/lease"
)

var (
	seedFlag   = flag.Uint64("seed", 0, "seed of random tests; 0: draw one")
	roundsFlag = flag.Int("rounds", 300, "histories to try in random tests")
)

// model is a Lessor that looks at everything every time.
type model struct {
	o      LessorOptions
	term   uint64
	leases map[lease.ID]*modelLease
}

type modelLease struct {
	id       lease.ID
	ttl      int64
	expiry   time.Duration
	retry    time.Duration // 0: no revoke was given out
	grant    lease.Grant
	recorded bool
	checked  uint64 // entry of the newest checkpoint
}

func (m *model) granted(id lease.ID, grant lease.Grant, ttl int64, now time.Duration) {
	if m.term == 0 {
		return
	}
	m.leases[id] = &modelLease{id: id, ttl: ttl, expiry: now + time.Duration(ttl)*time.Second, grant: grant}
}

func (m *model) expired(now time.Duration, limit int) []command.LeaseRevoke {
	var due []*modelLease
	for _, l := range m.leases {
		if l.retry == 0 && l.expiry <= now || l.retry != 0 && l.retry <= now {
			due = append(due, l)
		}
	}
	slices.SortFunc(due, func(a, b *modelLease) int {
		return cmp.Or(cmp.Compare(a.due(), b.due()), a.grant.Compare(b.grant))
	})
	var revokes []command.LeaseRevoke
	for _, l := range due[:min(limit, len(due))] {
		l.retry = now + m.o.RetryInterval
		revokes = append(revokes, command.LeaseRevoke{
			ID: l.id, Term: m.term, GrantIndex: l.grant.Index, GrantOrdinal: l.grant.Ordinal,
		})
	}
	return revokes
}

func (l *modelLease) due() time.Duration {
	if l.retry != 0 {
		return l.retry
	}
	return l.expiry
}

func (m *model) renew(id lease.ID, now time.Duration) (int64, RenewStatus) {
	l, ok := m.leases[id]
	switch {
	case m.term == 0:
		return 0, NotLeading
	case !ok:
		return 0, NotFound
	case l.retry != 0 || l.expiry <= now:
		return 0, Pending
	case l.recorded:
		return 0, Recorded
	}
	l.expiry = now + time.Duration(l.ttl)*time.Second
	return l.ttl, Renewed
}

func (m *model) promote(now time.Duration, term uint64, leases []lease.Lease) {
	m.term, m.leases = term, map[lease.ID]*modelLease{}
	for _, g := range leases {
		left := g.TTLSeconds
		if g.RemainingSeconds > 0 {
			left = min(left, g.RemainingSeconds)
		}
		m.granted(g.ID, g.Grant, g.TTLSeconds, now)
		m.leases[g.ID].expiry = now + m.o.Extension + time.Duration(left)*time.Second
		m.leases[g.ID].recorded, m.leases[g.ID].checked = g.RemainingSeconds > 0, g.CheckpointIndex
	}
}

// Whatever happens in whatever order, the Lessor answers as one that keeps no queue.
func TestLessorAgainstModel(t *testing.T) {
	s := *seedFlag
	if s == 0 {
		s = rand.Uint64()
	}
	t.Logf("-seed=%d", s)
	rnd := rand.New(rand.NewPCG(s, 0))
	for round := range *roundsFlag {
		o := LessorOptions{
			Extension:        time.Duration(rnd.IntN(3000)) * time.Millisecond,
			RetryInterval:    time.Duration(1+rnd.IntN(5000)) * time.Millisecond,
			RevokesPerSecond: 1000,
		}
		h := history{t: t, name: fmt.Sprintf("round %d", round), r: rnd, l: NewLessor(o), m: &model{o: o}, ids: int64(1 + rnd.IntN(30))}
		for range 300 {
			h.step()
		}
	}
}

// history is one run of the Lessor beside the model.
type history struct {
	t    *testing.T
	name string
	r    *rand.Rand
	l    *Lessor
	m    *model
	ids  int64
	now  time.Duration
	term uint64
	log  lease.Grant // the newest place in the log
}

func (h *history) step() {
	h.now += time.Duration(h.r.IntN(2000)) * time.Millisecond
	id := h.r.Int64N(h.ids) - h.ids/2
	switch n := h.r.IntN(100); {
	case n < 30:
		ttl := h.r.Int64N(20)
		grant := h.place()
		h.l.Granted(id, grant, ttl, h.now)
		h.m.granted(id, grant, ttl, h.now)
	case n < 60:
		ttl, status := h.l.Renew(id, h.now)
		wantTTL, want := h.m.renew(id, h.now)
		h.check("renew", [2]any{ttl, status}, [2]any{wantTTL, want})
	case n < 80:
		limit := 1 + h.r.IntN(5)
		var got []command.LeaseRevoke
		for _, r := range h.l.Expired(h.now, limit) {
			got = append(got, *r)
		}
		h.check("expired", got, h.m.expired(h.now, limit))
	case n < 90:
		h.l.Revoked(id)
		delete(h.m.leases, id)
	case n < 96:
		remaining, at := h.r.Int64N(3), h.place().Index
		if h.r.IntN(4) == 0 {
			at -= min(at, 3) // told again
		}
		h.l.Checkpointed(id, remaining, at)
		if l := h.m.leases[id]; l != nil && at > l.checked {
			l.recorded, l.checked = remaining != 0, at
		}
	case n < 97:
		h.l.Demote()
		h.m.term, h.m.leases = 0, nil
	case n < 99:
		h.promote()
	default:
		h.compareAll()
	}
	h.check("number", h.l.Len(), len(h.m.leases))
}

// place is where the next grant is in the log: in the same entry as the one before, or in a later one.
func (h *history) place() lease.Grant {
	if h.log.Ordinal++; h.r.IntN(2) == 0 {
		h.log = lease.Grant{Index: h.log.Index + 1 + h.r.Uint64N(3)}
	}
	return h.log
}

func (h *history) promote() {
	h.term++
	var leases []lease.Lease
	for i := range h.ids {
		if h.r.IntN(2) == 0 {
			leases = append(leases, lease.Lease{
				ID: i - h.ids/2, TTLSeconds: h.r.Int64N(20), RemainingSeconds: h.r.Int64N(10),
				Grant: h.place(), CheckpointIndex: h.log.Index * h.r.Uint64N(2),
			})
		}
	}
	h.m.promote(h.now, h.term, leases)
	h.r.Shuffle(len(leases), func(i, j int) { leases[i], leases[j] = leases[j], leases[i] })
	h.l.Promote(h.now, h.term, leases)
}

func (h *history) compareAll() {
	list := h.l.All(h.now)
	for i, s := range list {
		m := h.m.leases[s.ID]
		left := int64((m.expiry - h.now) / time.Second)
		if s.RemainingSeconds > left || s.RemainingSeconds < left-int64(h.m.o.Extension/time.Second)-1 {
			h.t.Fatalf("%s: lease %d: %d s left, want about %d", h.name, s.ID, s.RemainingSeconds, left)
		}
		if i > 0 && h.m.leases[list[i-1].ID].expiry > m.expiry {
			h.t.Fatalf("%s: %d before %d", h.name, list[i-1].ID, s.ID)
		}
	}
	h.check("list", len(list), len(h.m.leases))
}

func (h *history) check(what string, got, want any) {
	h.t.Helper()
	if g, w := fmt.Sprint(got), fmt.Sprint(want); g != w {
		h.t.Fatalf("%s, at %v: %s: got %s, want %s", h.name, h.now, what, g, w)
	}
}

// A lease that nobody renews is offered for revocation for as long as it exists, through elections and lost revokes
// (known bug L3); and it never is before its time.
func TestEveryLeaseExpiresEventually(t *testing.T) {
	l := NewLessor(LessorOptions{Extension: time.Second, RetryInterval: time.Second})
	granted := []lease.Lease{{ID: 7, TTLSeconds: 10}}
	now := time.Duration(0)
	for term := uint64(1); term < 20; term++ {
		l.Promote(now, term, granted)
		if got := l.Expired(now+11*time.Second-1, 10); got != nil {
			t.Fatalf("term %d: revoked early", term)
		}
		for try := range 5 {
			got := l.Expired(now+11*time.Second+time.Duration(try)*time.Second, 10)
			if len(got) != 1 || got[0].ID != 7 || got[0].Term != term {
				t.Fatalf("term %d, try %d: %v", term, try, got)
			}
		}
		now += 17 * time.Second
		l.Demote()
	}
}

// A revoke says which grant has run out: of an id that is granted again, each lease has revokes of its own, whether the
// lessor was told of the grant or found it when it was promoted.
func TestRevokesNameTheGrant(t *testing.T) {
	l := NewLessor(LessorOptions{RetryInterval: time.Second})
	first, second, third := lease.Grant{Index: 3, Ordinal: 1}, lease.Grant{Index: 3, Ordinal: 4}, lease.Grant{Index: 9}
	want := func(now time.Duration, term uint64, g lease.Grant) {
		t.Helper()
		got := l.Expired(now, 10)
		if len(got) != 1 || *got[0] != (command.LeaseRevoke{ID: 7, Term: term, GrantIndex: g.Index, GrantOrdinal: g.Ordinal}) {
			t.Fatalf("at %v: %v, want one of %v", now, got, g)
		}
	}
	l.Promote(0, 5, []lease.Lease{{ID: 7, TTLSeconds: 10, Grant: first}})
	want(10*time.Second, 5, first)
	want(11*time.Second, 5, first) // again, the first may be lost
	l.Revoked(7)
	l.Granted(7, second, 10, 11*time.Second)
	if got := l.Expired(21*time.Second-1, 10); got != nil {
		t.Fatalf("the new lease ends with the old one: %v", got)
	}
	want(21*time.Second, 5, second)
	l.Granted(7, third, 10, 21*time.Second) // in place of the lease that is being revoked
	want(31*time.Second, 5, third)
	l.Promote(40*time.Second, 6, []lease.Lease{{ID: 7, TTLSeconds: 10, Grant: third}})
	want(50*time.Second, 6, third)
}

func manyLeases(n int) []lease.Lease {
	leases := make([]lease.Lease, n)
	for i := range leases {
		leases[i] = lease.Lease{ID: int64(i) - int64(n)/2, TTLSeconds: int64(10 + i%600), Grant: lease.Grant{Index: uint64(i)}}
	}
	return leases
}

func BenchmarkRenewOf200000(b *testing.B) {
	const n = 200_000
	l := NewLessor(LessorOptions{})
	l.Promote(0, 1, manyLeases(n))
	now := time.Duration(0)
	i := int64(0)
	b.ReportAllocs()
	for b.Loop() {
		now += 10 * time.Microsecond
		l.Renew(i%n-n/2, now)
		i += 7919
	}
}

// One operation is one lease that expires, is revoked, and is granted again, among 200,000.
func BenchmarkExpireOneOf200000(b *testing.B) {
	const n = 200_000
	l := NewLessor(LessorOptions{RevokesPerSecond: 1 << 20})
	l.Promote(0, 1, manyLeases(n))
	now := time.Duration(0)
	b.ReportAllocs()
	for b.Loop() {
		now += 200 * time.Microsecond
		for _, r := range l.Expired(now, 1) {
			l.Revoked(r.ID)
			l.Granted(r.ID, lease.Grant{Index: r.GrantIndex + n}, 600, now)
		}
	}
}

func BenchmarkPromoteWith200000(b *testing.B) {
	leases := manyLeases(200_000)
	l := NewLessor(LessorOptions{})
	for b.Loop() {
		l.Promote(0, 1, leases)
	}
}

func TestTransferLeavesDoubt(t *testing.T) {
	l := NewLessor(LessorOptions{Extension: time.Second, StallMax: time.Second})
	l.Transferring(0)
	if l.InDoubt(0) {
		t.Error("in doubt without leading")
	}
	l.Promote(time.Minute, 3, nil)
	if l.InDoubt(time.Minute) {
		t.Error("a doubt of an earlier time")
	}
	l.Transferring(time.Minute)
	l.Transferring(time.Minute + time.Second)
	if at := time.Minute + 2*time.Second; !l.InDoubt(at) {
		t.Error("no doubt while the others may have another leader")
	}
	if at := time.Minute + 3*time.Second; l.InDoubt(at) {
		t.Error("doubt that never ends")
	}
	l.Transferring(time.Minute + 3*time.Second)
	l.Demote()
	l.Promote(time.Minute+3*time.Second, 5, nil)
	if l.InDoubt(time.Minute + 3*time.Second) {
		t.Error("a doubt of an earlier term")
	}
}
