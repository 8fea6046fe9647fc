package auth

import (
	"errors"
	"fmt"
	"math/rand/v2"
	"testing"

	"keelson/command"
)

// naive decides as the specification tells it, key by key, over a universe of all keys that can make a difference.
type naive struct {
	set    *Set
	user   string
	leases leased
}

// universe are keys in each gap between the ones that tests use as bounds: a to h, alone and followed by a zero byte or more.
var universe = func() (keys []string) {
	keys = append(keys, "\x00", "A")
	for c := 'a'; c <= 'h'; c++ {
		keys = append(keys, string(c), string(c)+"\x00", string(c)+"\x00\x00", string(c)+"m", string(c)+"\xff")
	}
	return append(keys, "z", "\xff", "\xff\xff")
}()

// selected are the keys of the universe that a range selector selects.
func selected(key, end []byte) (keys []string) {
	for _, k := range universe {
		switch {
		case len(end) == 0:
			if k == string(key) {
				keys = append(keys, k)
			}
		case string(end) == "\x00":
			if k >= string(key) {
				keys = append(keys, k)
			}
		case k >= string(key) && k < string(end):
			keys = append(keys, k)
		}
	}
	return keys
}

// may reports whether some permission of some role covers one key.
func (n *naive) may(key string, access Access) bool {
	for _, name := range n.set.User(n.user).Roles {
		role := n.set.Role(name)
		if role == nil {
			continue
		}
		for _, p := range role.Permissions {
			if p.Access != access && p.Access != ReadWrite {
				continue
			}
			for _, k := range append(selected(p.Key, p.End), "") {
				if k == key && k != "" {
					return true
				}
			}
		}
	}
	return false
}

func (n *naive) mayAll(key, end []byte, access Access) bool {
	for _, k := range selected(key, end) {
		if !n.may(k, access) {
			return false
		}
	}
	// All that is at or behind the last key that anybody could name: only an open permission reaches it.
	return true
}

func (n *naive) lease(id int64, access Access) bool {
	for _, k := range n.leases[id] {
		if !n.may(k, access) {
			return false
		}
	}
	return true
}

func (n *naive) op(r Request) bool {
	switch o := r.(type) {
	case *command.Range:
		return n.mayAll(o.Key, o.End, Read)
	case Watch:
		return n.mayAll(o.Key, o.End, Read)
	case *command.Put:
		ok := n.mayAll(o.Key, nil, Write)
		if o.PrevKV {
			ok = ok && n.mayAll(o.Key, nil, Read)
		}
		if o.Lease != 0 {
			ok = ok && n.lease(o.Lease, Write)
		}
		return ok
	case *command.DeleteRange:
		return n.mayAll(o.Key, o.End, Write) && (!o.PrevKV || n.mayAll(o.Key, o.End, Read))
	case *command.Txn:
		for _, c := range o.Compares {
			if !n.mayAll(c.Key, c.End, Read) {
				return false
			}
		}
		for _, op := range o.Success {
			if !n.op(op) {
				return false
			}
		}
		for _, op := range o.Failure {
			if !n.op(op) {
				return false
			}
		}
		return true
	case *command.LeaseRevoke:
		return n.lease(o.ID, Write)
	case LeaseRenew:
		return n.lease(o.ID, Write)
	case LeaseLookup:
		return !o.Keys || n.lease(o.ID, Read)
	case LeaseList:
		for id := range n.leases {
			if !n.lease(id, Read) {
				return false
			}
		}
		return true
	case Keys:
		for _, k := range o.Keys {
			if !n.may(string(k), Read) {
				return false
			}
		}
		return true
	}
	panic(fmt.Sprintf("%T", r))
}

// dice makes requests.
type dice struct{ *rand.Rand }

func (d dice) key() []byte {
	k := []byte{byte('a' + d.IntN(8))}
	switch d.IntN(8) {
	case 0:
		k = append(k, 0)
	case 1:
		k = append(k, 'm')
	}
	return k
}

// selector is a range that holds a key at least.
func (d dice) selector() (key, end []byte) {
	key = d.key()
	switch d.IntN(5) {
	case 0, 1:
		return key, nil
	case 2:
		return key, []byte{0}
	}
	for {
		if end = d.key(); string(end) > string(key) {
			return key, end
		}
		if key[0] == 'h' {
			return key, []byte("i")
		}
	}
}

func (d dice) request(depth int) command.Op {
	key, end := d.selector()
	switch d.IntN(8) {
	case 0, 1, 2:
		return &command.Range{Key: key, End: end}
	case 3, 4:
		p := &command.Put{Key: key, PrevKV: d.IntN(4) == 0}
		if d.IntN(4) == 0 {
			p.Lease = int64(1 + d.IntN(3))
		}
		return p
	case 5, 6:
		return &command.DeleteRange{Key: key, End: end, PrevKV: d.IntN(4) == 0}
	}
	if depth == 0 {
		return &command.Range{Key: key}
	}
	txn := &command.Txn{}
	for range d.IntN(2) {
		key, end := d.selector()
		txn.Compares = append(txn.Compares, command.Compare{Key: key, End: end})
	}
	for range d.IntN(3) {
		txn.Success = append(txn.Success, d.request(depth-1))
	}
	for range d.IntN(3) {
		txn.Failure = append(txn.Failure, d.request(depth-1))
	}
	return txn
}

func (d dice) any() Request {
	switch d.IntN(12) {
	case 0:
		key, end := d.selector()
		return Watch{key, end}
	case 1:
		return &command.LeaseRevoke{ID: int64(d.IntN(4))}
	case 2:
		return LeaseRenew{int64(d.IntN(4))}
	case 3:
		return LeaseLookup{int64(d.IntN(4)), d.IntN(3) > 0}
	case 4:
		return LeaseList{}
	case 5:
		return Keys{[][]byte{d.key(), d.key()}}
	}
	return d.request(3)
}

// Every decision about keys is that of the naive evaluator (S4, S6, S7: nested transactions, prev_kv, leases, open ranges).
func TestDecisionsAreThoseOfTheNaiveEvaluator(t *testing.T) {
	d := dice{random(t)}
	allowed, denied := 0, 0
	for range *roundsFlag {
		x := newTable(t)
		x.must(&command.UserAdd{Name: Root}, &command.UserGrantRole{Name: Root, Role: Root}, &command.UserAdd{Name: "u"})
		for i := range 1 + d.IntN(3) {
			role := string(rune('p' + i))
			x.must(&command.RoleAdd{Name: role}, &command.UserGrantRole{Name: "u", Role: role})
			for range d.IntN(6) {
				key, end := d.selector()
				x.must(&command.RoleGrantPermission{Role: role, Access: int32(d.IntN(4)), Key: key, End: end})
			}
		}
		if d.IntN(4) == 0 { // a name that stands for nothing
			x.must(&command.RoleAdd{Name: "gone"}, &command.UserGrantRole{Name: "u", Role: "gone"}, &command.RoleDelete{Name: "gone"})
		}
		x.must(&command.AuthEnable{})
		leases := leased{}
		for id := range 1 + d.IntN(3) {
			for range d.IntN(4) {
				leases[int64(id+1)] = append(leases[int64(id+1)], string(d.key()))
			}
		}
		n := &naive{set: x.set, user: "u", leases: leases}
		for range 60 {
			r := d.any()
			err := x.set.Authorize(Caller{User: "u", Revision: x.set.Revision()}, r, leases)
			want := error(nil)
			if !n.op(r) {
				want = ErrDenied
			}
			if err != want {
				t.Fatalf("%T %+v: %v, want %v\nleases %v\n%s", r, r, err, want, leases, dump(x.set))
			}
			if err == nil {
				allowed++
			} else {
				denied++
			}
			if err := x.set.Authorize(Caller{User: Root, Revision: x.set.Revision()}, r, leases); err != nil {
				t.Fatalf("root, %T: %v", r, err)
			}
		}
	}
	if allowed < denied/20 || denied < allowed/20 {
		t.Errorf("%d allowed, %d denied: one-sided", allowed, denied)
	}
}

// The table of the specification, row by row.
func TestPermissionTable(t *testing.T) {
	x := newTable(t)
	grant := func(access Access, key, end string) command.Op {
		return &command.RoleGrantPermission{Role: "r", Access: int32(access), Key: []byte(key), End: []byte(end)}
	}
	x.must(
		&command.UserAdd{Name: Root}, &command.UserGrantRole{Name: Root, Role: Root},
		&command.UserAdd{Name: "u"}, &command.RoleAdd{Name: "r"}, &command.RoleAdd{Name: "other"}, &command.UserGrantRole{Name: "u", Role: "r"},
		grant(Read, "r", ""), grant(Write, "w", ""), grant(ReadWrite, "b", ""),
		grant(Read, "ra", "rc"), grant(ReadWrite, "rc", "re"), grant(Write, "x", "\x00"),
		&command.AuthEnable{},
	)
	leases := leased{1: {"w", "b"}, 2: {"w", "r"}, 3: {"r", "b"}}
	k := func(s string) []byte { return []byte(s) }
	put := func(key string, lease int64, prev bool) *command.Put {
		return &command.Put{Key: k(key), Lease: lease, PrevKV: prev}
	}
	nest := func(ops ...command.Op) *command.Txn {
		return &command.Txn{Success: []command.Op{&command.Txn{Failure: []command.Op{&command.Txn{Success: ops}}}}}
	}
	for _, c := range []struct {
		name    string
		request Request
		want    error // for user u
	}{
		{"range", &command.Range{Key: k("r")}, nil},
		{"range of what one may write", &command.Range{Key: k("w")}, ErrDenied},
		{"range, keys only", &command.Range{Key: k("w"), KeysOnly: true}, ErrDenied},
		{"range, count only", &command.Range{Key: k("w"), CountOnly: true}, ErrDenied},
		{"range over touching permissions", &command.Range{Key: k("ra"), End: k("re")}, nil},
		{"range beyond them", &command.Range{Key: k("ra"), End: k("re\x00")}, ErrDenied},
		{"range from a key on", &command.Range{Key: k("r"), End: k("\x00")}, ErrDenied},
		{"watch", Watch{k("r"), nil}, nil},
		{"watch from a readable key on (S6)", Watch{k("r"), k("\x00")}, ErrDenied},
		{"watch of everything", Watch{k("\x00"), k("\x00")}, ErrDenied},
		{"put", put("w", 0, false), nil},
		{"put of what one may read", put("r", 0, false), ErrDenied},
		{"put with prev_kv", put("b", 0, true), nil},
		{"put with prev_kv, unreadable", put("w", 0, true), ErrDenied},
		{"put from x on", put("zzz", 0, false), nil},
		{"put to a lease of writable keys", put("w", 1, false), nil},
		{"put to a lease of another key", put("w", 2, false), ErrDenied},
		{"put to a lease without keys", put("w", 9, false), nil},
		{"delete", &command.DeleteRange{Key: k("w")}, nil},
		{"delete from x on", &command.DeleteRange{Key: k("y"), End: k("\x00")}, nil},
		{"delete from w on", &command.DeleteRange{Key: k("w"), End: k("\x00")}, ErrDenied},
		{"delete with prev_kv, unreadable", &command.DeleteRange{Key: k("w"), PrevKV: true}, ErrDenied},
		{"txn", &command.Txn{Success: []command.Op{put("w", 0, false)}}, nil},
		{"txn, denied in the branch not taken", &command.Txn{Failure: []command.Op{put("r", 0, false)}}, ErrDenied},
		{"txn, unreadable compare", &command.Txn{Compares: []command.Compare{{Key: k("w")}}}, ErrDenied},
		{"txn, compare of an unreadable range", &command.Txn{Compares: []command.Compare{{Key: k("r"), End: k("\x00")}}}, ErrDenied},
		{"nested put (S4)", nest(put("r", 0, false)), ErrDenied},
		{"nested prev_kv (S4)", nest(put("w", 0, true)), ErrDenied},
		{"nested lease (S4)", nest(put("w", 2, false)), ErrDenied},
		{"nested range (S4)", nest(&command.Range{Key: k("w")}), ErrDenied},
		{"nested delete (S4)", nest(&command.DeleteRange{Key: k("r")}), ErrDenied},
		{"nested, all allowed", nest(put("w", 1, false), &command.Range{Key: k("r")}), nil},
		{"op that does not belong into a txn", &command.Txn{Success: []command.Op{&command.Compact{}}}, ErrDenied},
		{"lease grant", &command.LeaseGrant{ID: 5}, nil},
		{"lease revoke", &command.LeaseRevoke{ID: 1}, nil},
		{"lease revoke, another's key", &command.LeaseRevoke{ID: 2}, ErrDenied},
		{"lease renewal", LeaseRenew{1}, nil},
		{"lease renewal, another's key", LeaseRenew{2}, ErrDenied},
		{"lease renewal, no keys", LeaseRenew{9}, nil},
		{"lease lookup", LeaseLookup{ID: 2}, nil},
		{"lease lookup with keys (S7)", LeaseLookup{ID: 2, Keys: true}, ErrDenied},
		{"lease lookup with readable keys", LeaseLookup{ID: 3, Keys: true}, nil},
		{"lease list", LeaseList{}, ErrDenied},
		{"keys", Keys{[][]byte{k("r"), k("w")}}, ErrDenied},
		{"compaction", &command.Compact{}, ErrDenied},
		{"alarm", &command.Alarm{}, ErrDenied},
		{"member add", &command.MemberAdd{}, ErrDenied},
		{"member remove", &command.MemberRemove{}, ErrDenied},
		{"member update", &command.MemberUpdate{}, ErrDenied},
		{"member promote", &command.MemberPromote{}, ErrDenied},
		{"administration", Administration{}, ErrDenied},
		{"any user", AnyUser{}, nil},
		{"public", Public{}, nil},
		{"enable", &command.AuthEnable{}, ErrDenied},
		{"disable", &command.AuthDisable{}, ErrDenied},
		{"user add", &command.UserAdd{Name: "x"}, ErrDenied},
		{"user delete", &command.UserDelete{Name: "u"}, ErrDenied},
		{"own password", &command.UserChangePassword{Name: "u"}, ErrDenied},
		{"user grant role", &command.UserGrantRole{Name: "u", Role: Root}, ErrDenied},
		{"user revoke role", &command.UserRevokeRole{Name: "u", Role: "r"}, ErrDenied},
		{"role add", &command.RoleAdd{Name: "x"}, ErrDenied},
		{"role delete", &command.RoleDelete{Name: "r"}, ErrDenied},
		{"role grant", grant(Read, "secret", ""), ErrDenied},
		{"role revoke", &command.RoleRevokePermission{Role: "r"}, ErrDenied},
		{"oneself", UserLookup{"u"}, nil},
		{"another", UserLookup{Root}, ErrDenied},
		{"own role", RoleLookup{"r"}, nil},
		{"another role", RoleLookup{"other"}, ErrDenied},
		{"downgrade", &command.Downgrade{}, ErrDenied},
		{"what only members say: publish", &command.MemberPublish{}, ErrDenied},
		{"what only members say: version", &command.ClusterVersion{}, ErrDenied},
		{"what only members say: hash", &command.HashCheck{}, ErrDenied},
		{"what only members say: checkpoint", &command.LeaseCheckpoint{}, ErrDenied},
		{"noop", &command.Noop{}, ErrDenied},
		{"what nobody knows", struct{}{}, ErrDenied},
		{"nothing", nil, ErrDenied},
	} {
		t.Run(c.name, func(t *testing.T) {
			now := x.set.Revision()
			if err := x.set.Authorize(Caller{User: "u", Revision: now}, c.request, leases); err != c.want {
				t.Errorf("u: %v, want %v", err, c.want)
			}
			if _, ok := c.request.(Public); ok {
				return
			}
			if err := x.set.Authorize(Caller{Revision: now}, c.request, leases); err != ErrUserEmpty && err != ErrDenied || err == nil {
				t.Errorf("nobody: %v", err)
			}
			if err := x.set.Authorize(Caller{User: "gone", Revision: now}, c.request, leases); err != ErrUserNotFound && err != ErrDenied {
				t.Errorf("a user who is not there: %v", err)
			}
		})
	}
}

// Who he is, and as of when, decides which refusal it is.
func TestCallers(t *testing.T) {
	x := newTable(t)
	x.must(&command.UserAdd{Name: Root}, &command.UserGrantRole{Name: Root, Role: Root}, &command.UserAdd{Name: "u"}, &command.AuthEnable{})
	now := x.set.Revision()
	read, administer := Request(&command.Range{Key: []byte("k")}), Request(Administration{})
	for _, c := range []struct {
		name    string
		who     Caller
		request Request
		want    error
	}{
		{"nobody reads", Caller{Revision: now}, read, ErrUserEmpty},
		{"nobody administers", Caller{Revision: now}, administer, ErrUserEmpty},
		{"nobody looks himself up", Caller{Revision: now}, UserLookup{}, ErrUserEmpty},
		{"a certificate without a name reads", Caller{Revision: now, Unnamed: true}, read, ErrDenied},
		{"a certificate without a name administers", Caller{Revision: now, Unnamed: true}, administer, ErrUserEmpty},
		{"somebody unknown reads", Caller{User: "x", Revision: now}, read, ErrDenied},
		{"somebody unknown administers", Caller{User: "x", Revision: now}, administer, ErrUserNotFound},
		{"somebody unknown looks himself up", Caller{User: "x", Revision: now}, UserLookup{"x"}, nil},
		{"root of before reads", Caller{User: Root, Revision: now - 1}, read, ErrOldRevision},
		{"root of before administers", Caller{User: Root, Revision: now - 1}, administer, nil},
		{"root reads", Caller{User: Root, Revision: now}, read, nil},
		{"u reads", Caller{User: "u", Revision: now}, read, ErrDenied},
		{"a token for a password of before", Caller{User: "u", Revision: now - 1}, &command.TokenAssign{User: "u"}, ErrOldRevision},
		{"a token", Caller{User: "u", Revision: now}, &command.TokenAssign{User: "u"}, nil},
	} {
		if err := x.set.Authorize(c.who, c.request, leased{}); err != c.want {
			t.Errorf("%s: %v, want %v", c.name, err, c.want)
		}
	}
	own := command.Command{Op: &command.LeaseRevoke{ID: 1}}
	if err := x.set.Admit(&own, leased{1: {"k"}}); err != nil {
		t.Errorf("the member's own revoke: %v", err)
	}
	anonymous := command.Command{AuthRevision: now, Op: own.Op}
	if err := x.set.Admit(&anonymous, leased{1: {"k"}}); err != ErrUserEmpty {
		t.Errorf("anybody's revoke: %v", err)
	}
	x.must(&command.AuthDisable{})
	if err := x.set.Authorize(Caller{}, administer, nil); err != nil {
		t.Errorf("disabled: %v", err)
	}
}

// A range of no keys needs the right to its first key all the same.
func TestRangesOfNoKeys(t *testing.T) {
	in := merge([]span{spanOf([]byte("b"), []byte("d"))})
	for _, c := range []struct {
		key, end string
		want     bool
	}{{"c", "c", true}, {"cc", "c", true}, {"c", "a", true}, {"b", "b", true}, {"d", "c", false}, {"e", "c", false}, {"a", "a", false}} {
		if got := in.hasAll([]byte(c.key), []byte(c.end)); got != c.want {
			t.Errorf("%q to %q: %v", c.key, c.end, got)
		}
	}
}

type brokenLeases struct{}

var errBroken = errors.New("broken")

func (brokenLeases) KeyFrom(int64, []byte) ([]byte, bool, error) { return nil, false, errBroken }
func (brokenLeases) AllKeys(func([]byte) bool) error             { return errBroken }

// A failure to read leases is no permission.
func TestFailureOfLeases(t *testing.T) {
	x := newTable(t)
	x.must(
		&command.UserAdd{Name: Root}, &command.UserGrantRole{Name: Root, Role: Root}, &command.UserAdd{Name: "u"}, &command.RoleAdd{Name: "r"},
		&command.UserGrantRole{Name: "u", Role: "r"}, &command.RoleGrantPermission{Role: "r", Access: 2, Key: []byte{0}, End: []byte{0}},
		&command.AuthEnable{},
	)
	for _, r := range []Request{&command.LeaseRevoke{ID: 1}, LeaseList{}, &command.Put{Key: []byte("k"), Lease: 1}} {
		if err := x.set.Authorize(Caller{User: "u", Revision: x.set.Revision()}, r, brokenLeases{}); err != errBroken {
			t.Errorf("%T: %v", r, err)
		}
	}
}

// A permission for a lease with very many keys costs as many looks as there are spans, not as keys.
func TestLeasesWithManyKeysAreCheap(t *testing.T) {
	x := newTable(t)
	x.must(
		&command.UserAdd{Name: Root}, &command.UserGrantRole{Name: Root, Role: Root}, &command.UserAdd{Name: "u"}, &command.RoleAdd{Name: "r"},
		&command.UserGrantRole{Name: "u", Role: "r"}, &command.RoleGrantPermission{Role: "r", Access: 2, Key: []byte("a"), End: []byte("b")},
		&command.RoleGrantPermission{Role: "r", Access: 2, Key: []byte("c"), End: []byte("d")}, &command.AuthEnable{},
	)
	l := &countedLeases{leased: leased{}}
	for i := range 1000 {
		l.leased[1] = append(l.leased[1], fmt.Sprintf("a%d", i), fmt.Sprintf("c%d", i))
	}
	if err := x.set.Authorize(Caller{User: "u", Revision: x.set.Revision()}, &command.LeaseRevoke{ID: 1}, l); err != nil || l.looks > 3 {
		t.Errorf("%v after %d looks", err, l.looks)
	}
}

type countedLeases struct {
	leased
	looks int
}

func (l *countedLeases) KeyFrom(id int64, from []byte) ([]byte, bool, error) {
	l.looks++
	return l.leased.KeyFrom(id, from)
}
