package dev

import (
	"os"
	"time"

	"google.golang.org/grpc"
)

// member is one place of the cluster and the process in it, if there is one. It belongs to the fleet's goroutine.
//
//	down ──start──► starting ──answers──► up ◄──answers / does not──► silent
//	  ▲                 │                  │ ▲                          │
//	  │                 │            pause ▼ │ resume                   │
//	  │                 │                paused                         │
//	  └──── its end ────┴──────────────────┴────────────────────────────┘
type member struct {
	place
	args []string // of its process

	child *child // nil: down
	run   int    // counts its processes, so that an answer of an earlier one is known

	// What it was last asked to do. An end that comes unasked is one by itself.
	ending bool // by kill or stop
	paused bool

	reason    string // why it is down; empty: it has not been started
	answered  bool   // since it was started
	silent    bool   // the last question got no answer
	status    status // the last answer; valid if answered
	startedAt time.Time
	restartAt time.Time     // when it is to be started again; zero: not by itself
	delay     time.Duration // before the latest of its restarts

	conn   *grpc.ClientConn
	asking bool // a question is under way
}

const (
	restartDelayMin = time.Second
	restartDelayMax = 30 * time.Second
	// steadyAfter is how long a process has to live for the next restart to be prompt again.
	steadyAfter = 10 * time.Second
)

// state is one word, or two, for what the member is doing.
func (m *member) state() string {
	switch {
	case m.child == nil:
		return "down"
	case m.ending:
		return "ending"
	case m.paused:
		return "paused"
	case !m.answered:
		return "starting"
	case m.silent:
		return "silent"
	}
	return m.status.role
}

// started notes a new process.
func (m *member) started(c *child, now time.Time) {
	m.child, m.startedAt, m.restartAt = c, now, time.Time{}
	m.run++
	m.ending, m.paused, m.answered, m.silent, m.reason = false, false, false, false, ""
}

// ended notes that its process is no more. It returns whether that was asked for.
func (m *member) ended(state *os.ProcessState) bool {
	m.reason = state.String()
	if words := m.child.lastWords(); words != "" && !m.ending {
		m.reason += ": " + words
	}
	asked := m.ending
	m.child, m.ending, m.paused, m.asking = nil, false, false, false
	return asked
}

// answer takes a report, unless it is about an earlier process.
func (m *member) answer(r report) {
	if r.run != m.run || m.child == nil {
		return
	}
	m.asking = false
	if m.silent = r.err != nil; !m.silent {
		m.status, m.answered = r.status, true
	}
}

// planRestart says when to start it again: after a pause that grows for as long as its processes end early.
func (m *member) planRestart(now time.Time) {
	if m.delay == 0 || now.Sub(m.startedAt) >= steadyAfter {
		m.delay = restartDelayMin
	} else {
		m.delay = min(2*m.delay, restartDelayMax)
	}
	m.restartAt = now.Add(m.delay)
}
