package state

import (
	"errors"
	"fmt"

	"keelson/internal/fault"
	"keelson/storage"
)

// ErrInstall is in the error of an Install that was turned down: the machine is as it was before.
var ErrInstall = errors.New("snapshot does not fit this member")

// Install replaces the whole state by the one in db, which was opened from a checkpoint of another member, or of this
// one at an earlier time, and belongs to the machine from then on. Views opened from now on, and everything else that is
// asked of the machine, see the new state alone. Views that are open, and what is under way on other goroutines, go on
// with the old database; what Install returns tells when they have ended, and closes it.
//
// It belongs to the goroutine that applies, and waits for nobody.
//
// Errors: ErrInstall, if the state is of another cluster or older than the present one, and failures of the new database.
// In either case db is still the caller's.
func (m *Machine) Install(db *storage.DB) (*Retired, error) {
	if m.failed != nil {
		return nil, m.failed
	}
	next, err := openStore(db, m.o)
	if err != nil {
		return nil, fmt.Errorf("state: install: %w", err)
	}
	if err := m.admitStore(next); err != nil {
		return nil, fmt.Errorf("state: install: %w", err)
	}
	old := m.store
	if fault.Mutant("forget-users-of-install") {
		next.users.Store(old.users.Load())
	}
	m.use(next) // first: whoever finds the old one retired looks here
	old.kv.Retire(next.kv)
	return &Retired{old}, nil
}

// admitStore returns what speaks against a new state: nothing that a reader has seen may be taken back.
func (m *Machine) admitStore(next *store) error {
	was, is := m.shared.Load(), next.shared.Load()
	switch {
	case was.members.ClusterID() != is.members.ClusterID():
		return fmt.Errorf("%w: it is of cluster %x, this member of cluster %x", ErrInstall, is.members.ClusterID(), was.members.ClusterID())
	case is.applied.Index < was.applied.Index || is.applied.Term < was.applied.Term:
		return fmt.Errorf("%w: it holds entries up to %d of term %d, this member's state up to %d of term %d",
			ErrInstall, is.applied.Index, is.applied.Term, was.applied.Index, was.applied.Term)
	case next.kv.Revision() < m.kv.Revision() || next.kv.Compacted() < m.kv.Compacted():
		return fmt.Errorf("%w: it is at revision %d with floor %d, this member's state at %d with floor %d",
			ErrInstall, next.kv.Revision(), next.kv.Compacted(), m.kv.Revision(), m.kv.Compacted())
	}
	return nil
}

// Retired is a state that Install has replaced.
type Retired struct{ store *store }

// Drained is closed when the last view of the old state is.
func (r *Retired) Drained() <-chan struct{} { return r.store.kv.Drained() }

// Close waits until nobody uses the old database any more and closes it. It is called once, by a goroutine that may
// wait; only then may the files be removed.
func (r *Retired) Close() error {
	r.store.kv.Wait()
	return r.store.db.Close()
}
