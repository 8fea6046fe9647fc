package state

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"

	"keelson/snapshot/etcddir"
	"keelson/snapshot/etcdfile"
	"keelson/state/tree"
	"keelson/storage"
)

// ExportPairs writes what Export writes, but for members and the v2 tree, as of another place: for a cluster that is founded
// with what is in db.
func ExportPairs(ctx context.Context, db, scratch *storage.DB, to *etcdfile.Writer, at etcddir.Place, voters []uint64) error {
	s, err := openStore(db, Options{NewestCacheBytes: -1})
	if err != nil {
		return fmt.Errorf("state: export: %w", err)
	}
	x := exporter{ctx: ctx, s: s, to: to}
	meta := func() error {
		return to.PutMeta(etcdfile.Meta{
			Index: at.Index, Term: at.Term, Voters: voters, Scheduled: s.kv.Compacted(), Finished: s.kv.Compacted(),
		})
	}
	for _, part := range []func() error{meta, x.users, x.leases, func() error { return x.pairs(scratch) }} {
		if err := part(); err != nil {
			return fmt.Errorf("state: export: %w", err)
		}
	}
	return nil
}

// ExportStore makes an etcd's v2 store of the v2 tree in db, a checkpoint that nobody writes to: nodes, the window of events,
// users and roles, under the same indexes. All of it is held in memory, as an etcd does.
func ExportStore(db *storage.DB) (_ *etcddir.Store, err error) {
	known, err := tree.Load(db)
	if err != nil {
		return nil, fmt.Errorf("state: export: %w", err)
	}
	s := etcddir.NewStore(known.Index)
	err = tree.Export(db, func(key, value []byte) error {
		n, e, err := tree.Decode(key, value)
		switch {
		case err != nil:
			return err
		case n != nil:
			return s.Put(storeNode(n))
		case e != nil:
			s.Events = append(s.Events, storeEvent(e))
			s.Floor = min(s.Floor, e.Index())
		}
		return nil
	})
	if err == nil {
		err = exportTreeAccess(db, known.Access, s)
	}
	if err != nil {
		return nil, fmt.Errorf("state: export: %w", err)
	}
	return s, nil
}

func storeNode(n *tree.Node) etcddir.StoreNode {
	return etcddir.StoreNode{
		Path: etcddir.StoreKeys + n.Path, Dir: n.Dir, Value: string(n.Value), Created: n.Created, Modified: n.Modified, Deadline: n.Deadline,
	}
}

func storeEvent(e *tree.Event) etcddir.StoreEvent {
	to := etcddir.StoreEvent{Action: e.Action.String(), Node: storeNode(&e.Node), Time: e.Time, Refresh: e.Refresh}
	if e.Prev != nil {
		prev := storeNode(e.Prev)
		to.Prev = &prev
	}
	return to
}

// exportTreeAccess writes users and roles as the files that etcd keeps them in.
func exportTreeAccess(db *storage.DB, access tree.Access, s *etcddir.Store) (err error) {
	if access.Revision == 0 {
		return nil // nobody has ever asked for them
	}
	v, err := tree.Open(db)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, v.Close()) }()
	file := func(path string, value any) error {
		text, err := json.Marshal(value)
		if err != nil {
			return err
		}
		return s.Put(etcddir.StoreNode{Path: etcddir.StoreAccess + path, Value: string(text), Created: s.Index, Modified: s.Index})
	}
	for _, dir := range []string{"", "/users", "/roles"} {
		if err := s.Put(etcddir.StoreNode{Path: etcddir.StoreAccess + dir, Dir: true, Created: s.Index, Modified: s.Index}); err != nil {
			return err
		}
	}
	users, err := v.Users()
	if err != nil {
		return err
	}
	for _, u := range users {
		if err := file("/users/"+u.Name, map[string]any{"user": u.Name, "password": string(u.Hash), "roles": u.Roles}); err != nil {
			return err
		}
	}
	roles, err := v.Roles()
	if err != nil {
		return err
	}
	for _, r := range roles {
		if r.Name == tree.RootRole {
			continue // it is always there
		}
		permissions := map[string]any{"kv": map[string]any{"read": r.Read, "write": r.Write}}
		if err := file("/roles/"+r.Name, map[string]any{"role": r.Name, "permissions": permissions}); err != nil {
			return err
		}
	}
	return file("/enabled", access.Enabled)
}
