package dev

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/signal"
	"runtime"
	"strings"
	"sync"
	"syscall"
	"time"
)

const (
	// stopGrace is how long members may take to stop in order before they are killed.
	stopGrace = 20 * time.Second
	// answersMax bounds the answers that wait to be looked at.
	answersMax = 2 * membersMax
)

// fleet runs the members. All of it but the askers and waiters happens on one goroutine, on one thread.
type fleet struct {
	options Options
	program string // started for each member, with command before its flags
	command []string
	members []*member
	names   []string
	screen  *screen

	lifeline *os.File // read by the children, never written
	signals  chan os.Signal
	lines    <-chan string // typed; closed at the end of input
	ends     chan end
	reports  chan report

	cancel  context.CancelFunc // ends the askers
	ctx     context.Context
	helpers sync.WaitGroup // askers and waiters

	quitOnEOF bool
	quitting  bool
	killAt    time.Time // when quitting: when patience ends
	forced    bool      // a member had to be killed
}

// run starts the members and returns when all have ended, with the exit code.
func (f *fleet) run() int {
	// The end of this thread would kill the children, where the system kills them at all.
	runtime.LockOSThread()
	defer runtime.UnlockOSThread()
	read, write, err := os.Pipe()
	if err != nil {
		f.screen.say("keelson dev: " + err.Error())
		return 1
	}
	defer write.Close() // after the last child has ended, or with this process
	defer read.Close()
	f.lifeline = read
	f.ctx, f.cancel = context.WithCancel(context.Background())
	signal.Notify(f.signals, syscall.SIGINT, syscall.SIGTERM, syscall.SIGHUP)
	defer signal.Stop(f.signals)
	for _, m := range f.members {
		f.start(m)
	}
	f.screen.show(f.rows())
	f.loop()
	f.cancel()
	f.helpers.Wait()
	for _, m := range f.members {
		m.conn.Close()
	}
	f.screen.close()
	if f.forced {
		return 1
	}
	return 0
}

func (f *fleet) loop() {
	ticker := time.NewTicker(askEvery)
	defer ticker.Stop()
	for !f.quitting || f.alive() > 0 {
		select {
		case line, ok := <-f.lines:
			f.typed(line, ok)
		case s := <-f.signals:
			f.quit(s.String())
		case e := <-f.ends:
			f.ended(e)
		case r := <-f.reports:
			r.member.answer(r)
		case now := <-ticker.C:
			f.tick(now)
		}
		f.screen.show(f.rows())
	}
}

func (f *fleet) rows() []row {
	rows := make([]row, len(f.members))
	for i, m := range f.members {
		rows[i] = m.row()
	}
	return rows
}

func (f *fleet) say(format string, args ...any) { f.screen.say(fmt.Sprintf(format, args...)) }

func (f *fleet) alive() int {
	n := 0
	for _, m := range f.members {
		if m.child != nil {
			n++
		}
	}
	return n
}

// start starts a member that is down.
func (f *fleet) start(m *member) {
	args := append(append([]string(nil), f.command...), m.args...)
	c, err := startChild(f.program, args, m.logPath, f.lifeline)
	if err != nil {
		m.reason = err.Error()
		return
	}
	m.started(c, time.Now())
	f.helpers.Go(func() { f.ends <- end{m, c.wait()} }) // there is room: a member has one process at a time
}

func (f *fleet) ended(e end) {
	m := e.member
	asked := m.ended(e.state)
	switch {
	case asked || f.quitting:
		return
	case f.options.Restart:
		m.planRestart(time.Now())
		f.say("%s ended by itself (%s); it is started again in %v", m.name, m.reason, m.delay)
	default:
		f.say("%s ended by itself (%s); its log is %s, and start %s starts it again", m.name, m.reason, m.logPath, m.name)
	}
}

// tick asks the members how they are, and does what is due.
func (f *fleet) tick(now time.Time) {
	for _, m := range f.members {
		switch {
		case m.child != nil && !m.asking && !m.paused:
			f.ask(m)
		case m.child == nil && !f.quitting && !m.restartAt.IsZero() && !now.Before(m.restartAt):
			f.start(m)
		}
	}
	if f.quitting && now.After(f.killAt) {
		f.killAll()
	}
}

func (f *fleet) ask(m *member) {
	m.asking = true
	r := report{member: m, run: m.run}
	f.helpers.Go(func() {
		r.status, r.err = ask(f.ctx, m.conn)
		select {
		case f.reports <- r:
		case <-f.ctx.Done():
		}
	})
}

// quit stops all members in order, and kills them when it is asked for again.
func (f *fleet) quit(why string) {
	if f.quitting {
		f.killAll()
		return
	}
	f.quitting, f.killAt = true, time.Now().Add(stopGrace)
	f.say("%s: stopping %d members; to kill them, quit again", why, f.alive())
	for _, m := range f.members {
		f.stop(m)
	}
}

func (f *fleet) killAll() {
	for _, m := range f.members {
		if m.child != nil {
			f.forced = true
			f.check(m.child.signal(syscall.SIGKILL))
		}
	}
}

// stop asks a member to end in order. One that is paused has to go on for that.
func (f *fleet) stop(m *member) {
	if m.child == nil {
		return
	}
	m.ending = true
	f.check(errors.Join(m.child.signal(syscall.SIGTERM), m.child.signal(syscall.SIGCONT)))
}

func (f *fleet) check(err error) {
	if err != nil {
		f.say("%v", err)
	}
}

// typed carries out a line that was typed. The end of input means leaving where somebody sits at a terminal; elsewhere
// there was never anybody to type.
func (f *fleet) typed(line string, ok bool) {
	if !ok {
		f.lines = nil
		if f.quitOnEOF && !f.quitting {
			f.quit("end of input")
		}
		return
	}
	f.screen.typed(line)
	o, err := parseOrder(line, f.names)
	if err != nil {
		f.say("%v", err)
		return
	}
	switch o.verb {
	case "":
	case "quit":
		f.quit("quit")
	case "help":
		f.say("%s", strings.TrimRight(commandsText, "\n"))
	case "status":
		f.screen.print(f.rows(), true)
	default:
		for _, m := range f.members {
			if m.name == o.member {
				f.carryOut(o.verb, m)
			}
		}
	}
}

// carryOut does to a member what was typed.
func (f *fleet) carryOut(verb string, m *member) {
	m.restartAt = time.Time{}
	switch {
	case f.quitting:
		f.say("%s: everything is being stopped", verb)
	case verb == "start" && m.child != nil:
		f.say("%s runs already, as process %d", m.name, m.child.pid())
	case verb == "start":
		f.start(m)
	case m.child == nil:
		f.say("%s is down", m.name)
	case verb == "stop":
		f.stop(m)
	case verb == "kill":
		m.ending = true
		f.check(m.child.signal(syscall.SIGKILL))
	case verb == "pause":
		m.paused = true
		f.check(m.child.signal(syscall.SIGSTOP))
	case verb == "resume":
		m.paused = false
		f.check(m.child.signal(syscall.SIGCONT))
	}
}
