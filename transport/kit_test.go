package transport

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"maps"
	"net"
	"net/http"
	"slices"
	"sync"
	"testing"
	"time"

	"go.etcd.io/raft/v3/raftpb"
	"go.uber.org/zap"
	"go.uber.org/zap/zaptest/observer"

	"keelson/env"
)

const testCluster = 0xc1

// patience is how long a test waits for what has to happen; it passes only in a test that fails.
const patience = 20 * time.Second

// member is a transport with a real listener, and a handler that notes what it is told.
type member struct {
	t         testing.TB
	id        uint64
	transport *Transport
	listener  net.Listener
	server    *http.Server
	logs      *observer.ObservedLogs

	mu          sync.Mutex
	changed     chan struct{} // closed and replaced at each change
	received    []*raftpb.Message
	unreachable map[uint64]int
	removed     int
	intercept   func(ms []*raftpb.Message) // if set, called with what comes
	stopped     bool
	bulk        func(ctx context.Context, from uint64, conn io.ReadWriter) // if set, called by Bulk
}

// newMember starts a member on a port of its own.
func newMember(t testing.TB, id uint64, change ...func(*Options)) *member {
	t.Helper()
	return newMemberAt(t, id, "127.0.0.1:0", change...)
}

func newMemberAt(t testing.TB, id uint64, address string, change ...func(*Options)) *member {
	t.Helper()
	core, logs := observer.New(zap.InfoLevel)
	m := &member{t: t, id: id, logs: logs, changed: make(chan struct{}), unreachable: make(map[uint64]int)}
	o := Options{ClusterID: testCluster, MemberID: id, Handler: m, Version: "test", Logger: zap.New(core)}
	for _, f := range change {
		f(&o)
	}
	l, err := net.Listen("tcp", address)
	if err != nil {
		t.Fatal(err)
	}
	m.transport, m.listener = New(o), l
	m.server = &http.Server{Handler: m.transport, ReadHeaderTimeout: patience}
	served := make(chan struct{})
	go func() { m.server.Serve(l); close(served) }()
	t.Cleanup(func() {
		m.server.Close()
		m.transport.Stop()
		<-served
	})
	return m
}

func (m *member) url() string { return "http://" + m.listener.Addr().String() }
func (m *member) peer() Peer  { return Peer{ID: m.id, URLs: []string{m.url()}} }

// intercepts has f called first with what comes.
func (m *member) intercepts(f func(ms []*raftpb.Message)) {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.intercept = f
}

// holdEntries has what brings entries wait. entered tells that it does.
func (m *member) holdEntries() (entered <-chan struct{}, release func()) {
	in, free := make(chan struct{}, 1), make(chan struct{})
	m.intercepts(func(ms []*raftpb.Message) {
		if ms[0].GetType() == raftpb.MsgApp {
			select {
			case in <- struct{}{}:
			default:
			}
			<-free
		}
	})
	return in, sync.OnceFunc(func() { close(free) })
}

// knows tells m about others.
func (m *member) knows(others ...*member) {
	var list []Peer
	for _, o := range others {
		list = append(list, o.peer())
	}
	m.transport.SetPeers(list)
}

// join makes members of one cluster, and waits until all are live.
func join(t testing.TB, members ...*member) {
	t.Helper()
	for _, m := range members {
		m.knows(slices.DeleteFunc(slices.Clone(members), func(o *member) bool { return o == m })...)
	}
	for _, m := range members {
		for _, o := range members {
			if o != m {
				m.waitLive(o.id)
			}
		}
	}
}

func (m *member) note(f func()) {
	m.mu.Lock()
	defer m.mu.Unlock()
	f()
	close(m.changed)
	m.changed = make(chan struct{})
}

func (m *member) Receive(ms []*raftpb.Message)        { m.take(kindControl, ms) }
func (m *member) ReceiveEntries(ms []*raftpb.Message) { m.take(kindMessages, ms) }

func (m *member) take(from kind, ms []*raftpb.Message) {
	for _, msg := range ms {
		if k, _ := route(msg.GetType()); k != from {
			m.t.Errorf("a %v came with those of the stream %v", msg.GetType(), from)
		}
	}
	m.mu.Lock()
	f := m.intercept
	if m.stopped {
		m.t.Error("a message after Stop")
	}
	m.mu.Unlock()
	if f != nil {
		f(ms)
	}
	m.note(func() { m.received = append(m.received, ms...) })
}

func (m *member) Unreachable(id uint64) { m.note(func() { m.unreachable[id]++ }) }
func (m *member) Removed(uint64)        { m.note(func() { m.removed++ }) }

func (m *member) Bulk(ctx context.Context, from uint64, conn io.ReadWriter) {
	m.mu.Lock()
	f := m.bulk
	m.mu.Unlock()
	if f != nil {
		f(ctx, from, conn)
	}
}

func (m *member) Fetch(ctx context.Context, from uint64, conn io.ReadWriter) { m.Bulk(ctx, from, conn) }

// wait waits until the notes fulfil a condition.
func (m *member) wait(what string, ok func() bool) {
	m.t.Helper()
	deadline := time.After(patience)
	for {
		m.mu.Lock()
		done, changed := ok(), m.changed
		m.mu.Unlock()
		if done {
			return
		}
		select {
		case <-changed:
		case <-deadline:
			m.mu.Lock()
			defer m.mu.Unlock()
			m.t.Fatalf("member %d waited in vain for %s: %d messages, unreachable %v, removed %d\n%v", m.id, what, len(m.received),
				m.unreachable, m.removed, m.logText())
		}
	}
}

// lost is how often Unreachable was said, by peer.
func (m *member) lost() map[uint64]int {
	m.mu.Lock()
	defer m.mu.Unlock()
	return maps.Clone(m.unreachable)
}

// messages is what was received.
func (m *member) messages() []*raftpb.Message {
	m.mu.Lock()
	defer m.mu.Unlock()
	return slices.Clone(m.received)
}

func (m *member) removals() int {
	m.mu.Lock()
	defer m.mu.Unlock()
	return m.removed
}

func (m *member) waitUnreachable(id uint64) {
	m.t.Helper()
	m.wait(fmt.Sprintf("%d to be unreachable", id), func() bool { return m.unreachable[id] > 0 })
}

// poll waits for what nobody reports.
func poll(t testing.TB, what string, ok func() bool) {
	t.Helper()
	for end := time.Now().Add(patience); !ok(); time.Sleep(time.Millisecond) {
		if time.Now().After(end) {
			t.Fatalf("waited in vain for %s", what)
		}
	}
}

func (m *member) waitLive(id uint64) {
	m.t.Helper()
	poll(m.t, fmt.Sprintf("%d live at %d", id, m.id), func() bool { _, ok := m.transport.ConnectedSince(id); return ok })
}

func (m *member) waitNotLive(id uint64) {
	m.t.Helper()
	poll(m.t, fmt.Sprintf("%d not live at %d", id, m.id), func() bool { _, ok := m.transport.ConnectedSince(id); return !ok })
}

func (m *member) waitLog(text string) {
	m.t.Helper()
	poll(m.t, text+" in the log", func() bool { return m.logs.FilterMessage(text).Len() > 0 })
}

func (m *member) logText() (text string) {
	for _, e := range m.logs.All() {
		text += fmt.Sprintf("  %s %v\n", e.Message, e.ContextMap())
	}
	return text
}

func (m *member) stats(id uint64) PeerStats {
	m.t.Helper()
	for _, s := range m.transport.Stats() {
		if s.ID == id {
			return s
		}
	}
	m.t.Fatalf("member %d has no stats of %d", m.id, id)
	return PeerStats{}
}

// append is a message with one entry, whose data begins with n.
func (m *member) append(to *member, n uint64, size int) *raftpb.Message {
	data := binary.LittleEndian.AppendUint64(make([]byte, 0, 8+size), n)
	return &raftpb.Message{
		Type: raftpb.MsgApp.Enum(), To: new(to.id), From: new(m.id), Term: new(uint64(1)), LogTerm: new(uint64(1)), Index: new(n), Commit: new(n),
		Entries: []*raftpb.Entry{{Term: new(uint64(1)), Index: new(n + 1), Data: data[:8+size]}},
	}
}

// beat is a message of the other stream, with n as its commit index.
func (m *member) beat(to *member, n uint64) *raftpb.Message {
	return &raftpb.Message{Type: raftpb.MsgHeartbeat.Enum(), To: new(to.id), From: new(m.id), Term: new(uint64(1)), Commit: new(n)}
}

func (m *member) send(ms ...*raftpb.Message) { m.transport.Send(ms) }

// numbers lists the commit indexes of the received messages of a type from a member, in order. m.mu is held.
func (m *member) numbers(from uint64, typ raftpb.MessageType) (list []uint64) {
	for _, got := range m.received {
		if got.GetFrom() == from && got.GetType() == typ {
			list = append(list, got.GetCommit())
		}
	}
	return list
}

// waitNumbers waits until the newest message of a type from a member has number n.
func (m *member) waitNumber(from *member, typ raftpb.MessageType, n uint64) {
	m.t.Helper()
	m.wait(fmt.Sprintf("%v %d from %d", typ, n, from.id), func() bool {
		list := m.numbers(from.id, typ)
		return len(list) > 0 && list[len(list)-1] == n
	})
}

// reach sends messages until one arrives: what is sent before streams are up may be lost.
func (m *member) reach(to *member, n uint64) {
	m.t.Helper()
	poll(m.t, fmt.Sprintf("a way from %d to %d", m.id, to.id), func() bool {
		m.send(m.append(to, n, 0), m.beat(to, n))
		to.mu.Lock()
		defer to.mu.Unlock()
		return slices.Contains(to.numbers(m.id, raftpb.MsgApp), n) && slices.Contains(to.numbers(m.id, raftpb.MsgHeartbeat), n)
	})
}

// impatient makes a transport notice silence soon.
func impatient(o *Options) {
	o.ReadTimeout, o.WriteTimeout = 400*time.Millisecond, 400*time.Millisecond
}

// lines is a network whose connections can be made to fall silent or to break.
type lines struct {
	mu    sync.Mutex
	conns []*lineConn
	mute  bool
	slow  map[string]bool // addresses that are never reached
}

var errNoRoute = errors.New("no route")

func (n *lines) dial(ctx context.Context, network, address string) (net.Conn, error) {
	n.mu.Lock()
	mute, slow := n.mute, n.slow[address]
	n.mu.Unlock()
	if slow {
		<-ctx.Done()
		return nil, ctx.Err()
	}
	if mute {
		return nil, errNoRoute
	}
	conn, err := env.SystemNetwork().Dial(ctx, network, address)
	if err != nil {
		return nil, err
	}
	c := &lineConn{Conn: conn, network: n}
	n.mu.Lock()
	defer n.mu.Unlock()
	n.conns = append(n.conns, c)
	return c, nil
}

// silence keeps connections open but lets nothing through any more, in either direction, and no new ones begin.
func (n *lines) silence(on bool) {
	n.mu.Lock()
	defer n.mu.Unlock()
	n.mute = on
}

// cut breaks all connections.
func (n *lines) cut() {
	n.mu.Lock()
	defer n.mu.Unlock()
	for _, c := range n.conns {
		c.Conn.Close()
	}
	n.conns = nil
}

func (n *lines) isMute() bool {
	n.mu.Lock()
	defer n.mu.Unlock()
	return n.mute
}

type lineConn struct {
	net.Conn
	network *lines
}

func (c *lineConn) Read(p []byte) (int, error) {
	for {
		n, err := c.Conn.Read(p)
		if err != nil || !c.network.isMute() {
			return n, err
		}
	}
}

func (c *lineConn) Write(p []byte) (int, error) {
	if c.network.isMute() {
		return len(p), nil
	}
	return c.Conn.Write(p)
}
