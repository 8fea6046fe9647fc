package node

import (
	"slices"
	"time"

	"keelson/command"
)

// Bounds of the commands that are held.
const (
	heldBytesMax    = 64 << 20
	heldCommandsMax = 64 << 10
	// What puts nothing has room on top: it is refused after puts.
	reliefBytesMax    = 16 << 20
	reliefCommandsMax = 16 << 10
	// turnBytes is how much of a flow's commands leave before it is the next flow's turn; at least one does.
	turnBytes = 4 << 10
)

// class says how commands are treated when there are too many.
type class int

const (
	relief  class = iota // what puts nothing: deletes, leases, compactions, alarms, members, users
	writes               // puts, and transactions that may put something
	classes = iota
)

// classOf is the class of a caller's command.
func classOf(op command.Op) class {
	switch o := op.(type) {
	case *command.Put, *command.TreePut:
		return writes
	case *command.Txn:
		if puts(o.Success) || puts(o.Failure) {
			return writes
		}
	}
	return relief
}

func puts(ops []command.Op) bool {
	return slices.ContainsFunc(ops, func(op command.Op) bool { return classOf(op) == writes })
}

// held are the commands that have to wait until fewer are under way, from which flows and classes take turns. The zero value
// is ready. proposals guards it.
type held struct {
	classes  [classes]turns
	bytes    int
	commands int
	last     class // the class that had its turn last
}

// turns are the flows of a class that have something held. The first in the ring is the next one.
type turns struct {
	flows map[any]*flow
	ring  []*flow
}

// flow is what is held of one flow, oldest first.
type flow struct {
	key      any
	commands []heldCommand
	bytes    int
	credit   int // bytes that may still leave in this turn; below 0: what earlier turns have taken too much
}

// heldCommand is an encoded command and who waits for its result.
type heldCommand struct {
	encoded []byte
	w       *waiter
}

// admits reports whether a command may be held. A flow may hold as much as it leaves free, so that the one that asks for most is
// refused first, and never leaves nothing for others.
func (h *held) admits(key any, c class, bytes int) bool {
	freeBytes, freeCommands := heldBytesMax-h.bytes, heldCommandsMax-h.commands
	if c == relief {
		freeBytes += reliefBytesMax
		freeCommands += reliefCommandsMax
	}
	f := h.classes[c].flows[key]
	if f == nil {
		return bytes <= freeBytes && freeCommands > 0
	}
	return f.bytes+bytes <= freeBytes && len(f.commands) < freeCommands
}

// put holds a command.
func (h *held) put(key any, c class, command heldCommand) {
	t := &h.classes[c]
	f := t.flows[key]
	if f == nil {
		f = &flow{key: key, credit: turnBytes}
		if t.flows == nil {
			t.flows = map[any]*flow{}
		}
		t.flows[key] = f
		t.ring = append(t.ring, f)
	}
	f.commands = append(f.commands, command)
	f.bytes += len(command.encoded)
	h.bytes += len(command.encoded)
	h.commands++
}

// peek is the size of the command whose turn it is; ok is false if nothing is held.
func (h *held) peek() (bytes int, ok bool) {
	if h.commands == 0 {
		return 0, false
	}
	return len(h.classes[h.turn()].first().commands[0].encoded), true
}

// next takes the command whose turn it is. There must be one.
func (h *held) next() heldCommand {
	h.last = h.turn()
	command := h.classes[h.last].next()
	h.bytes -= len(command.encoded)
	h.commands--
	return command
}

// turn is the class whose turn it is: each other one, if both have something.
func (h *held) turn() class {
	c := (h.last + 1) % classes
	if len(h.classes[c].ring) == 0 {
		return h.last
	}
	return c
}

// first is the flow whose turn it is.
func (t *turns) first() *flow {
	for {
		f := t.ring[0]
		if f.credit > 0 {
			return f
		}
		f.credit += turnBytes
		t.ring[0] = nil // it may be a connection's that is closed
		t.ring = append(t.ring[1:], f)
	}
}

func (t *turns) next() heldCommand {
	f := t.first()
	command := f.commands[0]
	f.commands[0] = heldCommand{}
	f.commands = f.commands[1:]
	f.bytes -= len(command.encoded)
	f.credit -= len(command.encoded)
	if len(f.commands) == 0 {
		delete(t.flows, f.key)
		t.ring[0] = nil
		t.ring = t.ring[1:]
	}
	return command
}

// expire takes out the commands that came before the given moment.
func (h *held) expire(before time.Duration) (old []heldCommand) {
	for c := range h.classes {
		t := &h.classes[c]
		t.ring = slices.DeleteFunc(t.ring, func(f *flow) bool {
			n := 0
			for n < len(f.commands) && f.commands[n].w.at < before {
				f.bytes -= len(f.commands[n].encoded)
				h.bytes -= len(f.commands[n].encoded)
				n++
			}
			h.commands -= n
			old = append(old, f.commands[:n]...)
			f.commands = slices.Delete(f.commands, 0, n)
			if len(f.commands) > 0 {
				return false
			}
			delete(t.flows, f.key)
			return true
		})
	}
	return old
}
