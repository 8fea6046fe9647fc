package etcddir

import (
	"encoding/json"
	"time"
)

// historyCapacity is how many events an etcd's store keeps.
const historyCapacity = 1000

// historyJSON is the window of events: a ring, of which Size are in use from Front on.
type historyJSON struct {
	Queue struct {
		Events                      []*eventJSON
		Size, Front, Back, Capacity int
	}
	StartIndex, LastIndex uint64
}

// Encode writes a store as DecodeStore, and etcd, reads it.
func (s *Store) Encode() ([]byte, error) {
	s.root.name("")
	return json.Marshal(map[string]any{
		"Root": s.root, "CurrentIndex": s.Index, "CurrentVersion": storeVersion, "WatcherHub": map[string]any{"EventHistory": s.history()},
	})
}

// history is the window of events. An etcd finds an event by its distance from the first one, so there has to be one for every
// index: for those that made none here, one that no watcher is told of.
func (s *Store) history() *historyJSON {
	h := &historyJSON{StartIndex: s.Index + 1, LastIndex: s.Index}
	h.Queue.Events, h.Queue.Capacity = make([]*eventJSON, historyCapacity), historyCapacity
	if len(s.Events) == 0 {
		return h
	}
	h.StartIndex = s.Events[0].Node.Modified
	if s.Index >= historyCapacity {
		h.StartIndex = max(h.StartIndex, s.Index-historyCapacity+1)
	}
	events := s.Events
	for i := h.StartIndex; i <= s.Index; i++ {
		for len(events) > 0 && events[0].Node.Modified < i {
			events = events[1:]
		}
		e := &StoreEvent{Action: "set", Node: StoreNode{Path: StoreAccess, Dir: true, Created: i, Modified: i}, Refresh: true}
		if len(events) > 0 && events[0].Node.Modified == i {
			e = &events[0]
		}
		h.Queue.Events[h.Queue.Size] = e.json()
		h.Queue.Size++
	}
	h.Queue.Back = h.Queue.Size % historyCapacity
	return h
}

// storeVersion is the version of the API that a store is for.
const storeVersion = 2

// name says in each node where it is, as etcd's do.
func (n *storeNode) name(path string) {
	if n.Path = path; path == "" {
		n.Path = "/"
	}
	for name, child := range n.Children {
		child.name(path + "/" + name)
	}
}

func (e *StoreEvent) json() *eventJSON {
	removes := e.Action == "delete" || e.Action == "compareAndDelete" || e.Action == "expire"
	j := &eventJSON{Action: e.Action, Refresh: e.Refresh, Node: e.Node.json(e.Time, removes)}
	if e.Prev != nil {
		j.PrevNode = e.Prev.json(e.Time, false)
	}
	return j
}

// json is a node of an event; at is the moment that its time left counts from. Directories, and what is gone, have no value.
func (n *StoreNode) json(at int64, gone bool) *nodeJSON {
	j := &nodeJSON{Key: n.Path, Dir: n.Dir, ModifiedIndex: n.Modified, CreatedIndex: n.Created}
	if !n.Dir && !gone {
		j.Value = &n.Value
	}
	if n.Deadline != 0 {
		at := max(at, 1)
		expiration := time.Unix(0, n.Deadline).UTC()
		j.Expiration, j.TTL = &expiration, (n.Deadline-at)/int64(time.Second)
	}
	return j
}
