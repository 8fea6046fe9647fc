package sim

import (
	"errors"
	"fmt"

	"go.etcd.io/raft/v3/raftpb"

	"keelson/raftlog"
	"keelson/server/datadir"
	"keelson/storage"
)

// A member whose store is damaged fetches another one's state: what server's engine does at a start, in the same order.
//
//	running ── damage ──► noted in the data directory, the process ends
//	                            │ next start               open ── damage ──┐
//	                            ▼                                           ▼
//	                        fetched from another member, opened, switched to ──► the log is opened behind it
//
// Who finds nobody to fetch from starts again later. Where nobody is left who could give its state, the note is removed.

// errNobodyGives is a start's that found nobody to fetch from.
var errNobodyGives = errors.New("no member gave its state")

// damageNote is what the data directory holds when damage is noted.
const damageNote = memberDir + "/DAMAGED"

// noteDamage is told by the store that it is damaged. As long as it is being opened, that is not the end.
func (m *member) noteDamage(reason string) (goOn bool) {
	m.damaged = true
	if err := m.dir.NoteDamage(datadir.Store, reason); err != nil {
		m.shrugOff("note damage", err)
	}
	return m.opening
}

// openAll opens store and log, the store of another member if its own is damaged.
func (m *member) openAll() error {
	part, reason, err := m.dir.Damage()
	if err != nil {
		return err
	}
	m.opening = true
	defer func() { m.opening = false }()
	if part == "" {
		err = m.openOwn()
		if err == nil && m.damaged {
			err = storage.ErrDamaged
		}
		if !errors.Is(err, storage.ErrDamaged) && !errors.Is(err, raftlog.ErrStateBehind) || !m.host.mayFetch() {
			return err
		}
		reason = err.Error()
	}
	if m.disk.crashed() {
		return nil
	}
	if err := m.rebuild(reason); err != nil || m.disk.crashed() {
		return err
	}
	if err := m.openLog(); err != nil || m.disk.crashed() {
		return err
	}
	if m.w.bug("drop-log-when-fetched") {
		if err := m.log.Reset(raftlog.Position(m.machine.Applied()), nil); err != nil {
			return err
		}
	}
	first, _ := m.log.FirstIndex()
	m.w.reach("a log went on behind a state that was fetched", first <= m.machine.Applied().Index)
	return m.dir.ForgetDamage()
}

// openOwn opens the member's own store, and its log.
func (m *member) openOwn() error {
	if err := m.openStore(m.dir.State()); err != nil || m.disk.crashed() {
		return err
	}
	return m.openLog()
}

// rebuild puts another member's state in the place of a damaged one, and opens it.
func (m *member) rebuild(reason string) error {
	m.w.tracef("%v looks for a state in the place of its own: %s", m, reason)
	m.host.fetching = true
	if m.log != nil {
		_ = m.log.Close()
	}
	if m.machine != nil {
		_ = m.machine.Close()
	}
	m.log, m.machine = nil, nil
	base, err := raftlog.Base(m.logOptions())
	if err != nil || m.disk.crashed() {
		return err
	}
	at, received, err := m.fetch(base.Index)
	if err != nil || m.disk.crashed() {
		return err
	}
	kept, err := m.dir.Adopt(received)
	if err != nil || m.disk.crashed() {
		return err
	}
	m.damaged = false
	if err := m.openStore(kept); err != nil || m.disk.crashed() {
		return err
	}
	if got := raftlog.Position(m.machine.Applied()); got != at {
		m.w.violate("%v has fetched a state at %v, and is at %v", m, at, got)
	}
	m.host.ledger.installing = &installation{at: at}
	old, err := m.dir.Activate(kept, datadir.Position(at))
	if err != nil || m.disk.crashed() {
		return err
	}
	m.removeStore(old)
	m.disk.forgetFlaws(old)
	m.w.reach("a damaged store was fetched anew", true)
	return nil
}

// fetch gets the state of some other member, and where it stands in the log: at least where this one's begins.
func (m *member) fetch(least uint64) (at raftlog.Position, received string, err error) {
	w := m.w
	others := w.running()
	w.rng.Shuffle(len(others), func(i, k int) { others[i], others[k] = others[k], others[i] })
	for _, o := range others {
		links := w.network.links
		cut := links[m.host.index][o.host.index].cut || links[o.host.index][m.host.index].cut
		if o == m || !o.running || cut || o.host.pausedUntil > w.now || o.disk.crashed() {
			continue
		}
		if o.hasRemoved(m.host.id) {
			w.reach("a member that wants a state was told that it is removed", true)
			m.host.gone = true
			return at, "", errNobodyGives
		}
		msg := &raftpb.Message{Type: raftpb.MsgSnap.Enum(), From: new(o.host.id), To: new(m.host.id)}
		dir := m.disk.PathJoin(o.dir.Outgoing(), fmt.Sprintf("fetch-%x", m.host.id))
		msg, ok := o.checkpointIn(dir, msg)
		if !ok {
			continue
		}
		received, _ := o.stream(m, dir, msg, func() error {
			if msg.GetTo() != m.host.id || position(msg.GetSnapshot()).Index == 0 {
				return errors.New("not a state for this member")
			}
			if position(msg.GetSnapshot()).Index < least {
				err = raftlog.ErrStateBehind
			}
			return err
		})
		if o.disk.crashed() || m.disk.crashed() {
			return at, "", errNobodyGives
		}
		if err := o.disk.RemoveAll(dir); err != nil {
			o.shrugOff("remove a checkpoint", err)
		}
		if received != "" {
			return position(msg.GetSnapshot()), received, nil
		}
	}
	return at, "", errors.Join(errNobodyGives, err)
}

// hasRemoved reports whether the member knows that another one was removed.
func (m *member) hasRemoved(id uint64) bool {
	view := m.machine.View()
	defer view.Close()
	return view.Members().Removed(id)
}

// mayFetch reports whether there are others to fetch a state from, and a quorum of them is sound.
func (h *host) mayFetch() bool {
	_, belongs := h.w.model.roster.list[h.id]
	return belongs && h.w.othersAreSound(h)
}

// unnote removes the note of damage: what is damaged was given back, or was none.
func (h *host) unnote() {
	h.fetching = false
	if h.disk.find(damageNote) != nil {
		h.disk.erase(damageNote)
	}
}
