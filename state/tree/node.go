package tree

import "time"

// Node is a file or a directory at one moment. What it refers to must not be changed.
type Node struct {
	Path string
	Dir  bool
	// Value is a file's value.
	Value []byte
	// Created is the index of the change that made or last replaced the node; Modified that of its last change, which for
	// a directory is not moved by a new deadline.
	Created, Modified uint64
	// Deadline is when it runs out, in nanoseconds since 1970. 0: never.
	Deadline int64
}

// TTLSeconds is how long the node has left as of now (nanoseconds since 1970), in whole seconds, rounded up; 0 if it has no
// deadline, less than 0 if it ran out more than a second ago.
func (n *Node) TTLSeconds(now int64) int64 {
	if n.Deadline == 0 {
		return 0
	}
	left := n.Deadline - now
	ttl := left / int64(time.Second)
	if left%int64(time.Second) > 0 {
		ttl++
	}
	return ttl
}

// Action says what an event did. The numbers are those of stored events.
type Action uint8

// The actions.
const (
	ActionSet Action = iota + 1
	ActionCreate
	ActionUpdate
	ActionDelete
	ActionCompareAndSwap
	ActionCompareAndDelete
	ActionExpire
	actionEnd
)

var actionNames = [actionEnd]string{
	ActionSet: "set", ActionCreate: "create", ActionUpdate: "update", ActionDelete: "delete",
	ActionCompareAndSwap: "compareAndSwap", ActionCompareAndDelete: "compareAndDelete", ActionExpire: "expire",
}

// String is the name that clients know.
func (a Action) String() string {
	if a == 0 || a >= actionEnd {
		return ""
	}
	return actionNames[a]
}

// Removes reports whether the node of such an event is gone.
func (a Action) Removes() bool {
	return a == ActionDelete || a == ActionCompareAndDelete || a == ActionExpire
}

// Event is one change of the tree. It is immutable.
type Event struct {
	Action Action
	// Node is the node as the change left it. Of one that was removed it has neither value nor deadline. Its Modified is
	// the event's index, also where the stored directory keeps an older one.
	Node Node
	// Prev is the node that was there before; nil: none.
	Prev *Node
	// Time is the moment that times left count from, in nanoseconds since 1970.
	Time int64
	// Refresh keeps the event from watchers.
	Refresh bool
}

// Index numbers the event.
func (e *Event) Index() uint64 { return e.Node.Modified }
