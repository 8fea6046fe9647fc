package transport

import (
	"bufio"
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"net"
	"slices"
	"sync/atomic"
	"testing"
	"time"

	"go.etcd.io/raft/v3/raftpb"
	"google.golang.org/protobuf/proto"

	"keelson/env"
)

// TestOrder sends many messages of both sorts to two peers: all arrive, in order, unchanged.
func TestOrder(t *testing.T) {
	a, b, c := newMember(t, 1), newMember(t, 2), newMember(t, 3)
	join(t, a, b, c)
	const n = 3000
	var sent []*raftpb.Message
	for i := uint64(1); i <= n; i++ {
		toB := a.append(b, i, int(i*7)%600)
		toC := proto.Clone(toB).(*raftpb.Message)
		toC.To, toC.Entries = new(c.id), toB.Entries
		sent = append(sent, toB)
		a.send(toB, a.beat(c, i), toC, a.beat(b, i))
	}
	for _, m := range []*member{b, c} {
		m.waitNumber(a, raftpb.MsgApp, n)
		m.waitNumber(a, raftpb.MsgHeartbeat, n)
		m.mu.Lock()
		for _, typ := range []raftpb.MessageType{raftpb.MsgApp, raftpb.MsgHeartbeat} {
			if list := m.numbers(a.id, typ); len(list) != n || !slices.IsSorted(list) {
				t.Errorf("%d messages of type %v at %d, sorted %v", len(list), typ, m.id, slices.IsSorted(list))
			}
		}
		m.mu.Unlock()
	}
	for _, m := range b.messages() {
		if m.GetType() == raftpb.MsgApp && !proto.Equal(m, sent[m.GetCommit()-1]) {
			t.Fatalf("got %v\nsent %v", m, sent[m.GetCommit()-1])
		}
	}
	if s := a.stats(2); s.SentMessages != 2*n || s.SendFailures != 0 || s.QueuedBytes != 0 || !s.Live {
		t.Errorf("%+v", s)
	}
	if s := b.stats(1); s.ReceivedMessages != 2*n || s.ReceiveFailures != 0 || s.ReceivedBytes < n*300 {
		t.Errorf("%+v", s)
	}
	if len(a.lost())+len(b.lost()) > 0 {
		t.Errorf("unreachable: %v, %v", a.lost(), b.lost())
	}
}

// TestLargeMessage sends one entry that is larger than any buffer.
func TestLargeMessage(t *testing.T) {
	a, b := newMember(t, 1), newMember(t, 2)
	join(t, a, b)
	m := a.append(b, 1, 9<<20)
	for i := range m.Entries[0].Data {
		m.Entries[0].Data[i] = byte(i * i >> 7)
	}
	a.send(m, a.append(b, 2, 10))
	b.waitNumber(a, raftpb.MsgApp, 2)
	if !proto.Equal(b.messages()[0], m) {
		t.Error("a large message is not what was sent")
	}
}

// TestOverflow fills the queue towards a peer that takes nothing: the rest is dropped, which is said, and what was kept
// arrives in order when the peer goes on. Another peer does not notice, and heartbeats pass.
func TestOverflow(t *testing.T) {
	a, b, c := newMember(t, 1, func(o *Options) { o.MessagesBytesMax = 4 << 20 }), newMember(t, 2), newMember(t, 3)
	join(t, a, b, c)
	entered, release := b.holdEntries()
	defer release()
	const size = 256 << 10
	var kept []uint64
	send := func(n uint64) {
		before := a.stats(2).SendFailures
		if a.send(a.append(b, n, size)); a.stats(2).SendFailures == before {
			kept = append(kept, n)
		}
	}
	send(1)
	<-entered
	n := uint64(1)
	for a.stats(2).SendFailures < 10 {
		n++
		send(n)
	}
	a.waitUnreachable(2)
	a.send(a.append(c, 1, size), a.beat(b, 1))
	c.waitNumber(a, raftpb.MsgApp, 1)
	b.waitNumber(a, raftpb.MsgHeartbeat, 1)
	release()
	b.waitNumber(a, raftpb.MsgApp, kept[len(kept)-1])
	b.mu.Lock()
	list := b.numbers(a.id, raftpb.MsgApp)
	b.mu.Unlock()
	if !slices.Equal(list, kept) {
		t.Errorf("kept %d messages, %d arrived", len(kept), len(list))
	}
	poll(t, "an empty queue", func() bool { return a.stats(2).QueuedBytes == 0 })
	if lost := a.lost(); lost[2] == 0 || lost[3] != 0 {
		t.Errorf("unreachable %v", lost)
	}
}

// TestControlOvertakes checks that a heartbeat arrives while entries wait.
func TestControlOvertakes(t *testing.T) {
	a, b := newMember(t, 1), newMember(t, 2)
	join(t, a, b)
	entered, release := b.holdEntries()
	defer release()
	for i := uint64(1); i < 50; i++ {
		a.send(a.append(b, i, 256<<10))
	}
	<-entered // the other side is busy with entries, and everything behind them waits
	a.send(a.beat(b, 1))
	b.waitNumber(a, raftpb.MsgHeartbeat, 1)
	release()
	b.waitNumber(a, raftpb.MsgApp, 49)
}

// A handler that waits for its disk is not taken for silence, however long it takes.
func TestHandlersMayTakeTheirTime(t *testing.T) {
	silence := 400 * time.Millisecond
	for !streamsOutlastAHandler(t, silence) {
		if silence *= 2; silence > 4*time.Second { // a machine that stands still for less than that is silent as well
			t.Fatal("the streams were lost again and again")
		}
	}
}

// streamsOutlastAHandler has a handler take its time, and reports whether the streams are the same all the while.
func streamsOutlastAHandler(t *testing.T, silence time.Duration) bool {
	timeouts := func(o *Options) { o.ReadTimeout, o.WriteTimeout = silence, silence }
	a, b := newMember(t, 1, timeouts), newMember(t, 2, timeouts)
	join(t, a, b)
	entered, release := b.holdEntries()
	defer release()
	since, _ := a.transport.ConnectedSince(2)
	last := func() bool {
		now, ok := a.transport.ConnectedSince(2)
		return ok && now == since
	}
	arrives := func(typ raftpb.MessageType, n uint64) bool {
		poll(t, fmt.Sprintf("%v %d", typ, n), func() bool {
			b.mu.Lock()
			arrived := slices.Contains(b.numbers(a.id, typ), n)
			b.mu.Unlock()
			return arrived || !last()
		})
		return last()
	}
	a.send(a.append(b, 1, 10))
	poll(t, "entries", func() bool { return len(entered) > 0 || !last() })
	time.Sleep(silence * 15 / 4) // more than three times what either side takes for silence
	if !last() {
		return false
	}
	a.send(a.append(b, 2, 10), a.beat(b, 1))
	if !arrives(raftpb.MsgHeartbeat, 1) {
		return false
	}
	release()
	return arrives(raftpb.MsgApp, 2)
}

// TestReconnect breaks connections: the loss is reported, and the streams come back by themselves.
func TestReconnect(t *testing.T) {
	network := &lines{}
	a, b := newMember(t, 1, func(o *Options) { o.Dial = network.dial }), newMember(t, 2)
	join(t, a, b)
	for n := uint64(1); n <= 3; n++ {
		before, _ := a.transport.ConnectedSince(2)
		a.note(func() { a.unreachable[2] = 0 })
		network.cut()
		a.waitUnreachable(2)
		a.reach(b, n)
		a.waitLive(2)
		b.waitLive(1)
		if after, _ := a.transport.ConnectedSince(2); after <= before {
			t.Errorf("connected since %v, before %v", after, before)
		}
	}
	if s := a.stats(2); s.Disconnects < 3 {
		t.Errorf("%d disconnects", s.Disconnects)
	}
}

// TestPeerThatComesLater sends to a member that does not listen yet: that is reported once, and later the stream is there.
func TestPeerThatComesLater(t *testing.T) {
	gone := newMember(t, 2)
	address := gone.listener.Addr().String()
	gone.server.Close()
	gone.transport.Stop()
	a := newMember(t, 1)
	a.transport.SetPeers([]Peer{gone.peer()})
	a.waitUnreachable(2)
	poll(t, "messages dropped without a connection", func() bool {
		before := a.stats(2).SendFailures
		a.send(a.append(gone, 1, 0), a.beat(gone, 1))
		return a.stats(2).SendFailures == before+2
	})
	b := newMemberAt(t, 2, address)
	b.knows(a)
	a.reach(b, 1)
	a.waitLive(2)
	b.waitLive(1)
}

// TestFirstMessagesWait checks that what is sent while the first connection is made is not lost.
func TestFirstMessagesWait(t *testing.T) {
	a, b := newMember(t, 1), newMember(t, 2)
	a.knows(b)
	a.send(a.append(b, 1, 0), a.beat(b, 1))
	b.waitNumber(a, raftpb.MsgApp, 1)
	b.waitNumber(a, raftpb.MsgHeartbeat, 1)
}

// TestHalfOpen lets a network swallow everything: both sides notice by themselves, and find each other afterwards.
func TestHalfOpen(t *testing.T) {
	network := &lines{}
	a := newMember(t, 1, impatient, func(o *Options) { o.Dial = network.dial })
	b := newMember(t, 2, impatient)
	join(t, a, b)
	network.silence(true)
	a.waitUnreachable(2)
	a.waitNotLive(2)
	b.waitNotLive(1)
	network.silence(false)
	a.reach(b, 1)
	a.waitLive(2)
	b.waitLive(1)
}

// TestBusyIsNotSilent checks what keeps a stream alive while a ping waits behind entries: the accepting side says so, once
// in a while, when bytes arrive, even in the middle of a frame.
func TestBusyIsNotSilent(t *testing.T) {
	clock := &setClock{Clock: env.SystemClock()}
	clock.now.Store(int64(time.Hour))
	m := newMember(t, 1, func(o *Options) { o.Clock = clock })
	here, there := net.Pipe()
	in := &incoming{streamID: streamID{m.id, kindMessages}, counters: new(counters)}
	l := m.transport.newLine(there, in.counters)
	received := make(chan error, 1)
	go func() { received <- m.transport.receive(in, l) }()
	answers := make(chan uint64, 100)
	go func() {
		defer close(answers)
		for r := (frameReader{r: bufio.NewReader(here), headBytesMax: pingHeadBytes}); ; {
			f, err := r.next()
			if err != nil {
				return
			}
			answers <- binary.LittleEndian.Uint64(f.head)
		}
	}()
	b := encode(m.append(m, 1, 1000))
	const parts = 50
	for at := range parts {
		clock.now.Add(int64(keepAlive))
		here.Write(b[at : at+1])
	}
	here.Write(b[parts:])
	here.Write(appendPing(nil, framePing, 77))
	m.wait("the message", func() bool { return len(m.received) == 1 })
	unasked := 0
	for token := range answers {
		if token == 77 {
			break
		}
		unasked++
	}
	// The clock may have moved twice between two looks at it, but there was one look for each part.
	if unasked < parts/4 || unasked > parts+1 {
		t.Errorf("%d signs of life in %d parts", unasked, parts)
	}
	here.Close()
	if err := <-received; err != io.EOF {
		t.Error(err)
	}
	for range answers { // until its goroutine has ended
	}
}

// setClock is a clock whose monotonic time is set.
type setClock struct {
	env.Clock
	now atomic.Int64
}

func (c *setClock) Monotonic() time.Duration { return time.Duration(c.now.Load()) }

// TestAddressChange moves a member: the streams follow. Of several addresses the one that works is found.
func TestAddressChange(t *testing.T) {
	network := &lines{slow: map[string]bool{"192.0.2.1:1": true}}
	a, b := newMember(t, 1, func(o *Options) { o.Dial = network.dial }), newMember(t, 2)
	join(t, a, b)
	a.reach(b, 1)
	sent := a.stats(2).SentMessages
	moved := newMember(t, 2)
	moved.knows(a)
	a.transport.SetPeers([]Peer{{ID: 2, URLs: []string{"http://192.0.2.1:1", "ftp://x", moved.url()}}})
	a.reach(moved, 2)
	a.waitLive(2)
	if got := a.stats(2).SentMessages; got < sent+2 {
		t.Errorf("%d messages counted, then %d", sent, got)
	}
	b.mu.Lock()
	defer b.mu.Unlock()
	if slices.Contains(b.numbers(1, raftpb.MsgApp), 2) {
		t.Error("the old address still gets messages")
	}
}

// TestPeersLeave checks that a member that is not listed any more gets nothing, and that its stream of ours has ended.
func TestPeersLeave(t *testing.T) {
	a, b, c := newMember(t, 1), newMember(t, 2), newMember(t, 3)
	join(t, a, b, c)
	a.knows(c)
	b.waitNotLive(1)
	a.send(a.append(b, 1, 0), a.beat(b, 1), a.append(c, 1, 0))
	c.waitNumber(a, raftpb.MsgApp, 1)
	if _, ok := a.transport.ConnectedSince(2); ok || len(a.transport.Stats()) != 1 {
		t.Errorf("%+v", a.transport.Stats())
	}
	a.knows(b, c)
	a.reach(b, 2)
	if b.mu.Lock(); slices.Contains(b.numbers(1, raftpb.MsgApp), 1) {
		t.Error("a member that had left got a message")
	}
	b.mu.Unlock()
}

// TestStrangers lets a member that does not know the other one yet hear from it: a joining member begins like that.
func TestStrangers(t *testing.T) {
	a, b := newMember(t, 1), newMember(t, 2)
	a.knows(b)
	a.reach(b, 1)
	if _, ok := b.transport.ConnectedSince(1); ok {
		t.Error("a stranger is live")
	}
	b.knows(a)
	b.waitLive(1)
	if s := b.stats(1); s.ReceivedMessages < 2 {
		t.Errorf("what a stranger sent is not counted: %+v", s)
	}
}

// TestStop stops members in the middle of everything. Whatever they started has ended then.
func TestStop(t *testing.T) {
	a, b := newMember(t, 1), newMember(t, 2)
	join(t, a, b)
	entered, release := b.holdEntries()
	defer release()
	for i := uint64(1); i < 100; i++ {
		a.send(a.append(b, i, 100<<10))
	}
	<-entered
	a.transport.Stop()
	a.transport.Stop()
	a.send(a.append(b, 1, 1))
	a.knows(b)
	if _, err := a.transport.OpenBulk(context.Background(), 2); !errors.Is(err, ErrStopped) {
		t.Errorf("a bulk stream after Stop: %v", err)
	}
	stopped := make(chan struct{})
	go func() {
		b.transport.Stop()
		b.mu.Lock()
		b.stopped = true
		b.mu.Unlock()
		close(stopped)
	}()
	poll(t, "a stopping member", func() bool { return b.transport.ctx.Err() != nil })
	select {
	case <-stopped:
		t.Error("stopped while a handler was running")
	default:
	}
	release()
	<-stopped
}

// TestRoundTrip checks that the time of an answer is measured and told.
func TestRoundTrip(t *testing.T) {
	told := make(chan time.Duration, 100)
	a := newMember(t, 1, func(o *Options) {
		o.RoundTrip = func(id uint64, d time.Duration) { told <- d }
	})
	b := newMember(t, 2)
	join(t, a, b)
	if d := <-told; d <= 0 || d > patience {
		t.Errorf("%v", d)
	}
	poll(t, "a round trip", func() bool { return a.stats(2).RoundTrip > 0 })
}

// TestPromptWritesIntoAFullSocket sends small messages one by one, which their sender writes, to a member that does not read for a
// while: what its socket does not take comes later, in order, and the sender never waits.
func TestPromptWritesIntoAFullSocket(t *testing.T) {
	a, b := newMember(t, 1), newMember(t, 2)
	join(t, a, b)
	entered, release := b.holdEntries()
	a.send(a.append(b, 1, 100))
	<-entered
	const n = 3000
	for i := uint64(2); i <= n; i++ {
		a.send(a.append(b, i, 8<<10))
	}
	release()
	b.waitNumber(a, raftpb.MsgApp, n)
	b.mu.Lock()
	defer b.mu.Unlock()
	if list := b.numbers(a.id, raftpb.MsgApp); len(list) != n || !slices.IsSorted(list) {
		t.Errorf("%d messages, sorted %v", len(list), slices.IsSorted(list))
	}
}
