package state

import (
	"context"
	"fmt"

	"go.etcd.io/etcd/api/v3/authpb"
	pb "go.etcd.io/etcd/api/v3/etcdserverpb"
	"go.etcd.io/etcd/api/v3/mvccpb"

	"keelson/snapshot/etcdfile"
	"keelson/state/alarm"
	"keelson/state/lease"
	"keelson/state/mvcc"
	"keelson/state/tree"
	"keelson/storage"
)

// Export writes the state in db, a checkpoint that nobody writes to, into an etcd file: pairs with their history, leases,
// users and roles, members and alarms, and the v2 tree in a place of its own, which etcd does not look at. scratch is an empty
// database for putting things in order.
func Export(ctx context.Context, db, scratch *storage.DB, to *etcdfile.Writer) error {
	s, err := openStore(db, Options{NewestCacheBytes: -1})
	if err != nil {
		return fmt.Errorf("state: export: %w", err)
	}
	x := exporter{ctx: ctx, s: s, to: to}
	for _, part := range []func() error{x.meta, x.members, x.alarms, x.users, x.leases, x.tree, func() error { return x.pairs(scratch) }} {
		if err := part(); err != nil {
			return fmt.Errorf("state: export: %w", err)
		}
	}
	return nil
}

// exporter is one Export.
type exporter struct {
	ctx context.Context
	s   *store
	to  *etcdfile.Writer
}

func (x *exporter) meta() error {
	p := x.s.shared.Load()
	return x.to.PutMeta(etcdfile.Meta{
		Index: p.applied.Index, Term: p.applied.Term,
		Voters: p.members.Voters(), Learners: p.members.Learners(),
		Scheduled: x.s.kv.Compacted(), Finished: x.s.kv.Compacted(), // what is below is left out, removed or not
		ClusterVersion: p.members.Version(),
	})
}

func (x *exporter) members() error {
	set := x.s.shared.Load().members
	for _, m := range set.List() {
		err := x.to.PutMember(etcdfile.Member{
			ID: m.ID, Name: m.Name, PeerURLs: m.PeerURLs, ClientURLs: m.ClientURLs, IsLearner: m.IsLearner,
		})
		if err != nil {
			return err
		}
	}
	for _, id := range set.RemovedIDs() {
		if err := x.to.PutRemoved(id); err != nil {
			return err
		}
	}
	return nil
}

func (x *exporter) alarms() error {
	for _, a := range x.s.shared.Load().alarms.List(alarm.None) {
		if err := x.to.PutAlarm(&pb.AlarmMember{MemberID: a.Member, Alarm: pb.AlarmType(a.Type)}); err != nil {
			return err
		}
	}
	return nil
}

func (x *exporter) users() error {
	set := x.s.users.Load()
	if err := x.to.PutAuth(set.Enabled(), set.Revision()); err != nil {
		return err
	}
	for _, u := range set.Users() {
		err := x.to.PutUser(&authpb.User{
			Name: []byte(u.Name), Password: u.Hash, Roles: u.Roles, Options: &authpb.UserAddOptions{NoPassword: u.NoPassword},
		})
		if err != nil {
			return err
		}
	}
	for _, r := range set.Roles() {
		role := &authpb.Role{Name: []byte(r.Name)}
		for _, p := range r.Permissions {
			role.KeyPermission = append(role.KeyPermission, &authpb.Permission{
				PermType: authpb.Permission_Type(p.Access), Key: p.Key, RangeEnd: p.End,
			})
		}
		if err := x.to.PutRole(role); err != nil {
			return err
		}
	}
	return nil
}

func (x *exporter) leases() (err error) {
	e := lease.All(x.s.db, func(l lease.Lease) bool {
		if err = x.ctx.Err(); err == nil {
			err = x.to.PutLease(etcdfile.Lease{ID: l.ID, TTLSeconds: l.TTLSeconds, RemainingSeconds: l.RemainingSeconds})
		}
		return err == nil
	})
	if err == nil {
		err = e
	}
	return err
}

func (x *exporter) tree() error {
	return tree.Export(x.s.db, func(key, value []byte) error {
		if err := x.ctx.Err(); err != nil {
			return err
		}
		return x.to.PutTree(key, value)
	})
}

func (x *exporter) pairs(scratch *storage.DB) error {
	kv := new(mvccpb.KeyValue)
	return x.s.kv.Export(scratch, func(v *mvcc.KeyValue, sub uint32) error {
		if err := x.ctx.Err(); err != nil {
			return err
		}
		kv.Key, kv.Value, kv.Lease = v.Key, v.Value, v.Lease
		kv.CreateRevision, kv.ModRevision, kv.Version = v.CreateRevision, v.ModRevision, v.Version
		isTombstone := v.Version == 0
		if isTombstone {
			kv.ModRevision = 0
		}
		return x.to.Append(etcdfile.Version{Main: v.ModRevision, Sub: int64(sub), Tombstone: isTombstone, KV: kv})
	})
}
