package etcddir

import (
	"encoding/json"
	"fmt"
	"maps"
	"slices"
	"strings"
	"time"
)

// Places in a v2 store. What clients know as /a is at /1/a.
const (
	StoreCluster = "/0" // members and the cluster's version
	StoreKeys    = "/1"
	StoreAccess  = "/2" // users and roles
)

// Store is a v2 store.
type Store struct {
	// Index is that of the newest change, Floor that of the oldest event in Events: what came before is not known.
	Index, Floor uint64
	// Events are the newest ones, in order.
	Events []StoreEvent
	root   *storeNode
}

// StoreNode is a node of a v2 store.
type StoreNode struct {
	Path              string
	Dir               bool
	Value             string
	Created, Modified uint64
	// Deadline is when it runs out, in nanoseconds since 1970. 0: never.
	Deadline int64
}

// StoreEvent is an event of a v2 store. Prev is nil if there was nothing before. Time is the moment that times left count from,
// in nanoseconds since 1970; 0: none do.
type StoreEvent struct {
	Action  string
	Node    StoreNode
	Prev    *StoreNode
	Time    int64
	Refresh bool
}

// storeNode is a node in the JSON of a snapshot. Children is null in a file.
type storeNode struct {
	Path          string
	CreatedIndex  uint64
	ModifiedIndex uint64
	ExpireTime    time.Time
	Value         string
	Children      map[string]*storeNode
}

type storeJSON struct {
	Root         *storeNode
	CurrentIndex uint64
	WatcherHub   struct {
		EventHistory struct {
			Queue struct{ Events []*eventJSON }
		}
	}
}

type eventJSON struct {
	Action   string    `json:"action"`
	Node     *nodeJSON `json:"node"`
	PrevNode *nodeJSON `json:"prevNode,omitempty"`
	Refresh  bool      `json:"refresh,omitempty"`
}

type nodeJSON struct {
	Key           string     `json:"key"`
	Value         *string    `json:"value,omitempty"`
	Dir           bool       `json:"dir,omitempty"`
	Expiration    *time.Time `json:"expiration,omitempty"`
	TTL           int64      `json:"ttl,omitempty"`
	ModifiedIndex uint64     `json:"modifiedIndex"`
	CreatedIndex  uint64     `json:"createdIndex"`
}

// DecodeStore reads a v2 store; of nothing it makes an empty one. Errors: ErrDamaged.
func DecodeStore(b []byte) (*Store, error) {
	if len(b) == 0 {
		return &Store{root: &storeNode{}}, nil
	}
	var j storeJSON
	if err := json.Unmarshal(b, &j); err != nil {
		return nil, fmt.Errorf("%w: v2 store: %w", ErrDamaged, err)
	}
	if j.Root == nil {
		return nil, fmt.Errorf("%w: a v2 store without a root", ErrDamaged)
	}
	s := &Store{Index: j.CurrentIndex, Floor: j.CurrentIndex + 1, root: j.Root}
	for _, e := range j.WatcherHub.EventHistory.Queue.Events {
		if e == nil || e.Node == nil { // the queue is a ring, not all of which may be in use
			continue
		}
		event := StoreEvent{Action: e.Action, Refresh: e.Refresh}
		event.Node, event.Time = e.Node.node()
		if e.PrevNode != nil {
			prev, at := e.PrevNode.node()
			event.Prev = &prev
			if event.Time == 0 {
				event.Time = at
			}
		}
		s.Floor = min(s.Floor, event.Node.Modified)
		s.Events = append(s.Events, event)
	}
	slices.SortFunc(s.Events, func(a, b StoreEvent) int { return int(int64(a.Node.Modified - b.Node.Modified)) })
	return s, nil
}

// node is a node of an event, and the moment that its time left counts from.
func (j *nodeJSON) node() (n StoreNode, at int64) {
	n = StoreNode{Path: j.Key, Dir: j.Dir, Created: j.CreatedIndex, Modified: j.ModifiedIndex}
	if j.Value != nil {
		n.Value = *j.Value
	}
	if j.Expiration != nil {
		n.Deadline = j.Expiration.UnixNano()
		at = n.Deadline - j.TTL*int64(time.Second)
	}
	return n, at
}

// Nodes yields all nodes but the root; a directory comes before what is in it.
func (s *Store) Nodes(yield func(StoreNode) error) error { return s.root.walk("", yield) }

func (n *storeNode) walk(path string, yield func(StoreNode) error) error {
	for _, name := range slices.Sorted(maps.Keys(n.Children)) {
		child := n.Children[name]
		if child == nil {
			return fmt.Errorf("%w: no node at %s/%s of a v2 store", ErrDamaged, path, name)
		}
		node := StoreNode{
			Path: path + "/" + name, Dir: child.Children != nil, Value: child.Value, Created: child.CreatedIndex, Modified: child.ModifiedIndex,
		}
		if strings.Contains(name, "/") || len(node.Path) > 1<<16 {
			return fmt.Errorf("%w: a node named %.60q in a v2 store", ErrDamaged, name)
		}
		if !child.ExpireTime.IsZero() {
			node.Deadline = child.ExpireTime.UnixNano()
		}
		if err := yield(node); err != nil {
			return err
		}
		if err := child.walk(node.Path, yield); err != nil {
			return err
		}
	}
	return nil
}
