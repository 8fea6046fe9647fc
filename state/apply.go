package state

import (
	"fmt"

	"go.etcd.io/raft/v3/raftpb"

	"keelson/command"
	"keelson/state/alarm"
	"keelson/state/auth"
	"keelson/state/lease"
	"keelson/state/members"
	"keelson/state/mvcc"
	"keelson/state/tree"
	"keelson/storage"
)

// run is one call of Apply.
type run struct {
	m       *Machine
	b       *storage.Batch
	kv      *mvcc.Tx
	leases  *lease.Tx
	members *members.Tx
	alarms  *alarm.Tx
	tree    *tree.Tx
	users   *auth.Tx

	at      Position
	ordinal uint32 // of the command within its entry
	hash    uint64
	out     Outcome

	// Of the entry under way: whether it changes raft's configuration, and the configuration that leads to.
	confChange bool
	confState  []byte
}

// Apply applies entries that follow on the newest one applied, in one storage batch. What it returns has been published.
// An error means the disk, or an entry that is damaged or of a later version: the member must stop, and Apply does
// nothing any more.
//
// A change of raft's configuration must be the last entry: what follows it depends on Outcome.ConfRefused.
func (m *Machine) Apply(entries []Entry) (Outcome, error) { return m.ApplyTelling(entries, nil) }

// ApplyTelling is Apply. tokens, if there is one, is told what has happened to tokens, if anything has: when that is in the store, and before
// the users and roles that come with it can be seen. So nobody takes a token that has ended for one of theirs.
func (m *Machine) ApplyTelling(entries []Entry, tokens func([]auth.TokenChange)) (Outcome, error) {
	if m.failed != nil {
		return Outcome{}, m.failed
	}
	r := m.begin()
	if err := r.apply(entries, tokens); err != nil {
		m.failed = fmt.Errorf("state: apply: %w", err)
		return Outcome{}, m.failed
	}
	return r.out, nil
}

func (m *Machine) begin() *run {
	p := m.shared.Load()
	b := m.db.NewBatch()
	return &run{
		m:       m,
		b:       b,
		kv:      m.kv.Begin(b),
		leases:  m.leases.Begin(b),
		members: members.Begin(b, p.members),
		alarms:  alarm.Begin(b, p.alarms),
		tree:    m.trees.Begin(b, p.tree),
		users:   auth.Begin(b, m.users.Load()),
		at:      p.applied,
		hash:    p.hash,
	}
}

func (r *run) apply(entries []Entry, tokens func([]auth.TokenChange)) error {
	for i := range entries {
		if entries[i].ConfChange && i < len(entries)-1 {
			panic(fmt.Sprintf("state: entry %d of a run up to %d changes the configuration", entries[i].Index, entries[len(entries)-1].Index))
		}
		if err := r.entry(&entries[i]); err != nil {
			r.b.Discard()
			return fmt.Errorf("entry %d: %w", entries[i].Index, err)
		}
	}
	r.kv.Finish()
	r.tree.Finish()
	r.b.Set(storage.Meta, metaApplied, appendApplied(nil, r.at, r.hash))
	if err := r.b.Commit(); err != nil {
		return err
	}
	if changes := r.users.Tokens(); len(changes) > 0 && tokens != nil {
		tokens(changes)
	}
	r.publish()
	return nil
}

// publish makes the committed batch visible: first who may see what, so that nobody sees pairs by rights that had been taken
// away before they were written, then the pairs, then the position that promises them.
func (r *run) publish() {
	r.m.users.Store(r.users.Set())
	r.out.Events, r.out.Light = r.kv.Events(), r.kv.Light()
	r.out.Revision = r.kv.Revision()
	r.m.kv.Publish(r.kv)
	r.tree.Publish()
	r.out.Tree = r.tree.Events()
	r.out.TreeIndex = r.tree.Position().Index
	r.m.shared.Store(&publication{
		applied: r.at,
		hash:    r.hash,
		members: r.members.Set(),
		alarms:  r.alarms.Set(),
		tree:    r.tree.State(),
	})
	r.out.Members = r.members.Changed()
	r.out.Alarms = r.alarms.Changed()
	r.out.Users = r.users.Changed()
	r.out.Tokens = r.users.Tokens()
}

// entry applies one entry.
func (r *run) entry(e *Entry) error {
	if e.Index != r.at.Index+1 || e.Term < r.at.Term {
		panic(fmt.Sprintf("state: entry %d of term %d does not follow on %d of term %d", e.Index, e.Term, r.at.Index, r.at.Term))
	}
	r.at = Position{Index: e.Index, Term: e.Term}
	r.out.Counts.Entries++
	events, before := len(r.kv.Events()), r.members.Set()
	treeEvents := len(r.tree.Events())
	var results []Result
	var err error
	switch {
	case e.ConfChange:
		results, err = r.confEntry(e)
	case e.ConfState != nil:
		panic(fmt.Sprintf("state: entry %d has a configuration, and is no change of it", e.Index))
	case len(e.Data) > 0:
		results, err = r.batchEntry(e)
	}
	if err != nil {
		return err
	}
	r.kv.EndEntry()
	changed := r.members.Set()
	if changed == before {
		changed = nil
	}
	r.fold(e, results, r.kv.Events()[events:], r.tree.Events()[treeEvents:], changed, r.users.TakeWritten())
	return nil
}

// batchEntry applies an ordinary entry.
func (r *run) batchEntry(e *Entry) ([]Result, error) {
	batch, err := r.batch(e.Data)
	if err != nil {
		return nil, err
	}
	r.out.Batches = append(r.out.Batches, batch)
	return batch.Results, nil
}

// confEntry applies a change of raft's configuration. If anything is wrong with it, it is refused, damage included: raft
// has its configuration from the change itself, and what leads to no change there must not stop a member here.
func (r *run) confEntry(e *Entry) ([]Result, error) {
	id, c, ok := onlyCommand(e.Data)
	if !ok {
		r.out.ConfRefused = true
		return nil, nil
	}
	r.ordinal = 0
	r.confChange, r.confState = true, e.ConfState
	results := make([]Result, 1)
	if err := r.command(&c, &results[0]); err != nil {
		return nil, fmt.Errorf("command 0: %w", err)
	}
	r.confChange, r.confState = false, nil
	r.out.ConfRefused = results[0].Refusal != nil
	r.out.Batches = append(r.out.Batches, BatchResult{ID: id, Results: results})
	return results, nil
}

// Refuses reports whether Apply will refuse a change of raft's configuration that leads to conf, if it is the next entry. It may
// be asked while nothing is being applied.
func (m *Machine) Refuses(change *raftpb.Entry, conf *raftpb.ConfState) (bool, error) {
	_, c, ok := onlyCommand(changeContext(change))
	if !ok || !changesConfiguration(c.Op) {
		return true, nil
	}
	v := m.View() // keeps the database open
	defer v.Close()
	s := v.store
	b := s.db.NewBatch()
	defer b.Discard()
	p, users := s.shared.Load(), s.users.Load()
	r := &run{m: m, b: b, members: members.Begin(b, p.members), alarms: alarm.Begin(b, p.alarms), confState: encodeConfState(conf)}
	err := admit(p.alarms, users, b, &c)
	if err == nil {
		err = r.execute(&c, new(Result))
	}
	if isRefusal(err) {
		return true, nil
	}
	return false, err
}

// onlyCommand reads a batch of one command; ok is false if data is none.
func onlyCommand(data []byte) (id command.BatchID, c command.Command, ok bool) {
	batch, err := command.OpenBatch(data)
	if err != nil {
		return id, c, false
	}
	if c, ok, err = batch.Next(); !ok || err != nil {
		return id, c, false
	}
	_, more, err := batch.Next()
	return batch.ID, c, !more && err == nil
}

// batch applies the commands of one entry.
func (r *run) batch(data []byte) (BatchResult, error) {
	batch, err := command.OpenBatch(data)
	if err != nil {
		return BatchResult{}, err
	}
	results := make([]Result, 0, batch.Count())
	for r.ordinal = 0; ; r.ordinal++ {
		c, ok, err := batch.Next()
		if err != nil {
			return BatchResult{}, fmt.Errorf("command %d: %w", r.ordinal, err)
		}
		if !ok {
			return BatchResult{ID: batch.ID, Results: results}, nil
		}
		results = append(results, Result{})
		if err := r.command(&c, &results[len(results)-1]); err != nil {
			return BatchResult{}, fmt.Errorf("command %d: %w", r.ordinal, err)
		}
	}
}

// command applies one command, all of it or nothing. An error is a failure.
func (r *run) command(c *command.Command, res *Result) error {
	r.out.Counts.Commands++
	var err error
	if r.confChange != changesConfiguration(c.Op) {
		err = ErrMisplaced
	}
	if err == nil {
		err = admit(r.alarms.Set(), r.users.Set(), r.b, c)
	}
	if err == nil {
		err = r.execute(c, res)
	}
	if err != nil {
		if !isRefusal(err) {
			return err
		}
		if r.kv.Changed() {
			panic(fmt.Sprintf("state: command %d of entry %d refused half way: %v", r.ordinal, r.at.Index, err))
		}
		r.out.Counts.Refusals++
		*res = Result{Refusal: err}
	}
	res.Revision, _ = r.kv.EndCommand()
	return nil
}

// changesConfiguration reports whether op belongs into a change of raft's configuration.
func changesConfiguration(op command.Op) bool {
	switch op.(type) {
	case *command.MemberAdd, *command.MemberRemove, *command.MemberPromote:
		return true
	}
	return false
}

// execute carries out one command that nothing speaks against in general. If it returns a refusal it has changed nothing.
func (r *run) execute(c *command.Command, res *Result) error {
	switch o := c.Op.(type) {
	case *command.Put:
		return r.applyPut(o, res)
	case *command.DeleteRange:
		return r.applyDeleteRange(o, res)
	case *command.Txn:
		return r.applyTxn(o, res)
	case *command.Compact:
		return r.applyCompact(o)
	case *command.LeaseGrant:
		return r.applyLeaseGrant(o, res)
	case *command.LeaseRevoke:
		return r.applyLeaseRevoke(o, res)
	case *command.LeaseCheckpoint:
		return r.applyLeaseCheckpoint(o)
	case *command.MemberPublish:
		return r.members.Publish(o.ID, o.Name, o.ClientURLs)
	case *command.MemberAdd:
		m := members.Member{ID: o.ID, PeerURLs: o.PeerURLs, IsLearner: o.IsLearner, AutoPromote: o.AutoPromote}
		return r.members.Add(m, o.LearnersMax, r.confState)
	case *command.MemberRemove:
		return r.applyMemberRemove(o)
	case *command.MemberUpdate:
		return r.members.Update(o.ID, o.PeerURLs)
	case *command.MemberPromote:
		return r.members.Promote(o.ID, r.confState)
	case *command.ClusterVersion:
		r.members.SetVersion(o.Version)
	case *command.Downgrade:
		return r.members.SetDowngrade(o.Target)
	case *command.HashCheck:
		r.applyHashCheck(o)
	case *command.Alarm:
		r.applyAlarm(o, res)
	case *command.TreePut, *command.TreeDelete, *command.TreeExpire:
		return r.applyTree(o, c.Time, res)
	case *command.TreeUser, *command.TreeRole, *command.TreeAccess:
		return r.applyTreeAccess(o, res)
	case *command.Range, *command.Noop: // a range alone has nobody to answer to
	default:
		known, err := r.users.Apply(c.Op, r.at.Index)
		if !known {
			panic(fmt.Sprintf("state: op %T", c.Op))
		}
		res.Index = r.at.Index
		return err
	}
	return nil
}

func (r *run) applyCompact(o *command.Compact) error {
	if err := r.kv.Compact(o.Revision); err != nil {
		return err
	}
	r.out.Floor = true
	return nil
}

func (r *run) applyMemberRemove(o *command.MemberRemove) error {
	if err := r.members.Remove(o.ID, r.confState); err != nil {
		return err
	}
	r.alarms.ClearOf(o.ID)
	r.out.Removed = append(r.out.Removed, o.ID)
	return nil
}

// applyHashCheck compares, and changes nothing: what this member finds is not part of the state.
func (r *run) applyHashCheck(o *command.HashCheck) {
	ours, known := r.m.hashes.get(o.Index)
	r.out.Checks = append(r.out.Checks, HashCheck{Index: o.Index, From: o.From, Theirs: o.Hash, Ours: ours, Known: known})
}

// applyAlarm raises or clears an alarm. Of a member that was removed there is none, also if it is raised only now: whoever
// saw a reason may not have heard yet that the member has gone, and the alarm would be there for good.
func (r *run) applyAlarm(o *command.Alarm, res *Result) {
	a := alarm.Alarm{Member: o.Member, Type: alarm.Type(o.Type)}
	if o.Raise {
		if r.members.Set().Removed(o.Member) {
			return
		}
		r.alarms.Raise(a)
		if a.Type != alarm.None {
			res.Alarm = &a
		}
		return
	}
	if r.alarms.Clear(a) {
		res.Alarm = &a
	}
}
