package state

import (
	"errors"

	"keelson/command"
	"keelson/state/alarm"
	"keelson/state/auth"
	"keelson/state/lease"
	"keelson/state/members"
	"keelson/state/mvcc"
)

// View is the state at one moment, to read from. Pairs are those of its revision; members, version and alarms are those
// that were published when it was made. What it says of leases is as of the call. Close it.
//
// It has everything that was applied at Machine.Applied, if that was asked before.
//
// It may be used by several goroutines until it is closed.
type View struct {
	*mvcc.View
	store     *store
	published *publication
}

// View opens a view of the newest state published.
func (m *Machine) View() *View {
	v := m.view() // apart, so that this can be inlined, and a View that stays with its caller is not allocated
	return &v
}

func (m *Machine) view() View {
	for {
		s := m.current.Load()
		if v := s.kv.View(); v != nil { // otherwise another store has just taken its place
			return View{View: v, store: s, published: s.shared.Load()}
		}
	}
}

// ErrNotReadOnly is the error of a transaction that would write, given to a view.
var ErrNotReadOnly = errors.New("state: a view can't write")

// Txn carries out a transaction of nothing but ranges. Errors: ErrNotReadOnly, mvcc.ErrTooLarge, and the refusals of a transaction.
func (v *View) Txn(o *command.Txn) (*TxnResult, error) {
	if !o.ReadOnly() {
		return nil, ErrNotReadOnly
	}
	t := &txn{from: v.View, heldMax: replyMax}
	res, err := t.run(o)
	if err == nil && t.cut {
		return nil, mvcc.ErrTooLarge
	}
	return res, err
}

// Members is the member list, with the cluster's id and version.
func (v *View) Members() *members.Set { return v.published.members }

// Alarms is what is raised.
func (v *View) Alarms() *alarm.Set { return v.published.alarms }

// Users is users and roles as of the call: at least as new as the pairs.
func (v *View) Users() *auth.Set { return v.store.users.Load() }

// Authorize decides whether a caller may have what he asks for; see auth.Set.Authorize.
func (v *View) Authorize(who auth.Caller, r auth.Request) error {
	return v.Users().Authorize(who, r, leasedKeys{v.store.db})
}

// Admit says what would be refused of a command before it is carried out, by the alarms, users and roles of the moment. An
// error that is no refusal is a failure.
func (v *View) Admit(c *command.Command) error {
	return admit(v.Alarms(), v.Users(), v.store.db, c)
}

// Lease returns a lease; ok is false if there is none.
func (v *View) Lease(id lease.ID) (l lease.Lease, ok bool, err error) {
	return lease.Get(v.store.db, id)
}

// Leases yields all leases, in order of the ids' unsigned values, until yield returns false.
func (v *View) Leases(yield func(lease.Lease) bool) error { return lease.All(v.store.db, yield) }

// LeaseKeys yields the keys that hang on a lease, in order, until yield returns false; none if there is no such lease.
// A key is valid only during the call.
func (v *View) LeaseKeys(id lease.ID, yield func(key []byte) bool) error {
	return lease.Keys(v.store.db, id, yield)
}

// LeaseWithKeys returns a lease and the keys that hung on it at one moment; ok is false if there is none.
func (v *View) LeaseWithKeys(id lease.ID) (l lease.Lease, keys [][]byte, ok bool, err error) {
	for {
		l, ok, err = v.Lease(id)
		if err != nil || !ok {
			return lease.Lease{}, nil, false, err
		}
		keys = nil
		err = v.LeaseKeys(id, func(key []byte) bool {
			keys = append(keys, append([]byte(nil), key...))
			return true
		})
		if err != nil {
			return lease.Lease{}, nil, false, err
		}
		again, still, err := v.Lease(id)
		if err != nil || !still {
			return lease.Lease{}, nil, false, err
		}
		if again.Grant == l.Grant { // otherwise it was revoked and granted again while the keys were read
			return again, keys, true, nil
		}
	}
}
