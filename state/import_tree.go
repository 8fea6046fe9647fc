package state

import (
	"encoding/json"
	"errors"
	"fmt"
	"math"
	"path"
	"strconv"
	"strings"

	"github.com/cespare/xxhash/v2"
	"github.com/cockroachdb/pebble/v2/vfs"
	pb "go.etcd.io/etcd/api/v3/etcdserverpb"
	"go.etcd.io/raft/v3/raftpb"
	"google.golang.org/protobuf/proto"

	"keelson/command"
	"keelson/snapshot/etcddir"
	"keelson/snapshot/etcdfile"
	"keelson/state/tree"
	"keelson/storage"
)

// TreeSource is what an etcd's v2 store is taken over from.
type TreeSource struct {
	// Store is the store as of the newest snapshot, in etcd's JSON; empty: there was none yet.
	Store []byte
	// Read is the store itself, if it was read already.
	Read *etcddir.Store
	// Log is what follows on the snapshot. Of entries that are not about the store, the data may be missing.
	Log []*raftpb.Entry
}

// TreeNodes counts the nodes of the v2 tree that Import would take over, and what there is besides of users and roles.
func TreeNodes(from *etcdfile.Reader, s TreeSource) (nodes, access int, err error) {
	db, err := storage.Open(storage.Options{FS: vfs.NewMem(), Dir: "v2"})
	if err != nil {
		return 0, 0, err
	}
	defer func() { err = errors.Join(err, db.Close()) }()
	m := importer{db: db, from: from, digest: xxhash.New()}
	if err := m.importTree(1, s); err != nil {
		return 0, 0, err
	}
	err = tree.Export(db, func(key, _ []byte) error {
		switch kind := tree.KindOf(key); kind {
		case tree.KindNode:
			nodes++
		case tree.KindAccess:
			access++
		}
		return nil
	})
	return nodes, access, err
}

// treeReplay brings a v2 store up to the end of the log. etcd keeps in one store what clients see, what it knows of its members,
// and users and roles; all changes share one index. So the whole store becomes a tree, in a scratch database in memory (as etcd
// has it), its changes are made there as clients' are, and what belongs to the v2 API is copied from it in the end.
type treeReplay struct {
	db    *storage.DB
	table tree.Table
	state tree.State
	clock int64 // the newest moment that the log has told of, in nanoseconds since 1970
}

// openStoreTree makes the tree of a source. Close its database.
func openStoreTree(s TreeSource) (*treeReplay, error) {
	store := s.Read
	if store == nil {
		var err error
		if store, err = etcddir.DecodeStore(s.Store); err != nil {
			return nil, err
		}
	}
	db, err := storage.Open(storage.Options{FS: vfs.NewMem(), Dir: "v2", CacheBytes: 16 << 20, MemtableBytes: 16 << 20})
	if err != nil {
		return nil, err
	}
	r := &treeReplay{db: db}
	if err = r.load(store); err == nil {
		err = r.run(s.Log)
	}
	if err != nil {
		db.Close()
		return nil, err
	}
	return r, nil
}

func (r *treeReplay) load(s *etcddir.Store) error {
	b := r.db.NewBatch()
	l := tree.NewLoader(b)
	err := s.Nodes(func(n etcddir.StoreNode) error {
		return l.Node(&tree.Node{
			Path: n.Path, Dir: n.Dir, Value: []byte(n.Value), Created: n.Created, Modified: n.Modified, Deadline: n.Deadline,
		})
	})
	for i := range s.Events {
		if err == nil && s.Events[i].Node.Path != "" {
			l.Event(treeEvent(&s.Events[i]))
		}
	}
	if err != nil {
		b.Discard()
		return err
	}
	l.Finish(tree.Position{Index: s.Index, Floor: s.Floor}, false)
	if err := b.Commit(); err != nil {
		return err
	}
	r.state, err = tree.Load(r.db)
	return err
}

// treeEvent is an event of etcd's.
func treeEvent(e *etcddir.StoreEvent) *tree.Event {
	node := func(n *etcddir.StoreNode) tree.Node {
		return tree.Node{Path: n.Path, Dir: n.Dir, Value: []byte(n.Value), Created: n.Created, Modified: n.Modified, Deadline: n.Deadline}
	}
	to := &tree.Event{Node: node(&e.Node), Time: e.Time, Refresh: e.Refresh}
	for a := tree.ActionSet; a.String() != ""; a++ {
		if a.String() == e.Action {
			to.Action = a
		}
	}
	if e.Prev != nil {
		prev := node(e.Prev)
		to.Prev = &prev
	}
	if to.Action.Removes() {
		to.Node.Value, to.Node.Deadline = nil, 0
	}
	return to
}

// run carries out what the log asks of the store.
func (r *treeReplay) run(entries []*raftpb.Entry) error {
	for _, e := range entries {
		ops, err := r.ops(e)
		if err == nil && len(ops) > 0 {
			err = r.apply(ops)
		}
		if err != nil {
			return fmt.Errorf("entry %d of etcd's log: %w", e.GetIndex(), err)
		}
	}
	return nil
}

func (r *treeReplay) apply(ops []command.Op) error {
	b := r.db.NewBatch()
	tx := r.table.Begin(b, r.state)
	for _, op := range ops {
		var err error
		switch o := op.(type) {
		case *command.TreePut:
			_, _, err = tx.Put(o, r.clock)
		case *command.TreeDelete:
			_, _, err = tx.Delete(o, r.clock)
		case *command.TreeExpire:
			err = tx.Expire(o)
		}
		if err != nil {
			b.Discard()
			return err
		}
	}
	tx.Finish()
	if err := b.Commit(); err != nil {
		return err
	}
	tx.Publish()
	r.state = tx.State()
	return nil
}

// ops are the changes of the store that an entry asks for.
func (r *treeReplay) ops(e *raftpb.Entry) ([]command.Op, error) {
	switch {
	case len(e.GetData()) == 0:
		return nil, nil
	case e.GetType() == raftpb.EntryType_EntryConfChange:
		var c raftpb.ConfChange
		if err := proto.Unmarshal(e.GetData(), &c); err != nil {
			return nil, fmt.Errorf("%w: no change of members: %w", etcdfile.ErrDamaged, err)
		}
		return memberOps(&c), nil
	case e.GetType() != raftpb.EntryType_EntryNormal:
		return nil, nil
	}
	if q, ok := etcddir.DecodeTreeRequest(e.GetData()); ok {
		r.clock = max(r.clock, q.Time)
		if op := treeOp(&q); op != nil {
			return []command.Op{op}, nil
		}
		return nil, nil
	}
	q := new(pb.InternalRaftRequest)
	if err := proto.Unmarshal(e.GetData(), q); err != nil {
		return nil, fmt.Errorf("%w: no request: %w", etcdfile.ErrDamaged, err)
	}
	switch {
	case q.ClusterVersionSet != nil:
		return []command.Op{&command.TreePut{Path: etcddir.StoreCluster + "/version"}}, nil
	case q.ClusterMemberAttrSet != nil:
		return []command.Op{&command.TreePut{Path: memberPath(q.ClusterMemberAttrSet.Member_ID) + "/attributes"}}, nil
	}
	return nil, nil
}

func memberPath(id uint64) string {
	return etcddir.StoreCluster + "/members/" + strconv.FormatUint(id, 16)
}

// memberOps are what etcd writes down about a change of members: what it says does not matter here, only that it counts.
func memberOps(c *raftpb.ConfChange) []command.Op {
	switch id := c.GetNodeId(); c.GetType() {
	case raftpb.ConfChangeType_ConfChangeRemoveNode:
		return []command.Op{
			&command.TreeDelete{Path: memberPath(id), Dir: true, Recursive: true},
			&command.TreePut{Path: etcddir.StoreCluster + "/removed_members/" + strconv.FormatUint(id, 16), Mode: command.TreeCreate},
		}
	default:
		return []command.Op{&command.TreePut{Path: memberPath(id) + "/raftAttributes"}}
	}
}

// treeOp is a request of the v2 API as a command; nil: it changes nothing.
func treeOp(q *etcddir.TreeRequest) command.Op {
	q.Path = path.Clean("/" + q.Path) // etcd itself writes some with a slash at the end
	compares := q.PrevIndex != 0 || q.PrevValue != ""
	switch q.Method {
	case "SYNC":
		return &command.TreeExpire{Stamp: q.Time, Limit: math.MaxInt64}
	case "DELETE":
		return &command.TreeDelete{
			Path: q.Path, Compare: compares, Dir: q.Dir, Recursive: q.Recursive, PrevValue: []byte(q.PrevValue), PrevIndex: q.PrevIndex,
		}
	case "POST", "PUT":
		o := &command.TreePut{
			Path: q.Path, Dir: q.Dir, Value: []byte(q.Value), Deadline: q.Expiration, Refresh: q.Refresh != nil && *q.Refresh,
			PrevValue: []byte(q.PrevValue), PrevIndex: q.PrevIndex,
		}
		exists := q.PrevExist != nil && *q.PrevExist
		switch {
		case q.Method == "POST":
			o.Mode = command.TreeCreateInOrder
		case q.PrevExist != nil && !exists:
			o.Mode = command.TreeCreate
		case compares:
			o.Mode = command.TreeCompareAndSwap
		case exists:
			o.Mode = command.TreeUpdate
		}
		return o
	}
	return nil
}

// copyTo gives what belongs to the v2 API to the tree of the cluster that is founded; some is false if there is nothing.
func (r *treeReplay) copyTo(next func() (*tree.Loader, error)) (some bool, err error) {
	c := treeCopy{next: next}
	if err := tree.Export(r.db, c.record); err != nil {
		return false, err
	}
	l, err := next()
	if err != nil || c.nodes+c.records == 0 {
		return false, err
	}
	l.Finish(r.state.Position, c.enabled)
	return true, nil
}

// treeCopy picks out of a whole store what belongs to the v2 API.
type treeCopy struct {
	next    func() (*tree.Loader, error)
	nodes   int
	records int // of users and roles
	enabled bool
}

func (c *treeCopy) record(key, value []byte) error {
	n, e, err := tree.Decode(key, value)
	if err != nil || n == nil && e == nil {
		return err
	}
	l, err := c.next()
	if err != nil {
		return err
	}
	if e != nil {
		if rest, ok := strings.CutPrefix(e.Node.Path, etcddir.StoreKeys+"/"); ok {
			e.Node.Path = "/" + rest
			if e.Prev != nil {
				e.Prev.Path = e.Node.Path
			}
			l.Event(e)
		}
		return nil
	}
	if rest, ok := strings.CutPrefix(n.Path, etcddir.StoreKeys+"/"); ok {
		n.Path = "/" + rest
		c.nodes++
		return l.Node(n)
	}
	if rest, ok := strings.CutPrefix(n.Path, etcddir.StoreAccess+"/"); ok && !n.Dir {
		c.records++
		return c.access(l, rest, n.Value)
	}
	return nil
}

// access copies what etcd keeps of users and roles: JSON in files.
func (c *treeCopy) access(l *tree.Loader, rest string, value []byte) error {
	kind, name, _ := strings.Cut(rest, "/")
	var err error
	switch kind {
	case "enabled":
		c.enabled = string(value) == "true"
	case "users":
		var u struct {
			Password string   `json:"password"`
			Roles    []string `json:"roles"`
		}
		if err = json.Unmarshal(value, &u); err == nil {
			l.User(&tree.User{Name: name, Hash: []byte(u.Password), Roles: u.Roles})
		}
	case "roles":
		var role struct {
			Permissions struct {
				KV struct{ Read, Write []string } `json:"kv"`
			} `json:"permissions"`
		}
		if err = json.Unmarshal(value, &role); err == nil {
			l.Role(&tree.Role{Name: name, Read: role.Permissions.KV.Read, Write: role.Permissions.KV.Write})
		}
	}
	if err != nil {
		return fmt.Errorf("%w: %s %.60q of the v2 API: %w", etcdfile.ErrDamaged, kind, name, err)
	}
	return nil
}
