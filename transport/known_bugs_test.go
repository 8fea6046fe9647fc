package transport

import (
	"bytes"
	"encoding/binary"
	"fmt"
	"hash/crc32"
	"io"
	"net"
	"runtime"
	"testing"
	"time"

	"go.etcd.io/raft/v3/raftpb"
)

// Bugs that other implementations had, each as the situation in which it showed.

// A member that got the address of another one took its messages for its own.
func TestM9MessagesForSomebodyElseAreDropped(t *testing.T) {
	m, peer := newMember(t, 1), newMember(t, 0xa)
	m.knows(peer)
	conn, _, resp := m.request(streamPath, nil)
	if resp.StatusCode != 101 {
		t.Fatalf("status %d", resp.StatusCode)
	}
	message := func(from, to uint64, typ raftpb.MessageType) []byte {
		x := shaped(typ)
		x.From, x.To = &from, &to
		return encode(x)
	}
	for _, b := range [][]byte{
		message(0xa, 2, raftpb.MsgApp),       // for another member
		message(0xa, 0, raftpb.MsgApp),       // for nobody
		message(3, 1, raftpb.MsgApp),         // in the name of another
		message(0, 1, raftpb.MsgApp),         // of nobody
		message(0xa, 1, raftpb.MsgHeartbeat), // not on this stream
		message(3, 1, raftpb.MsgProp),        // passed on: good
		message(3, 2, raftpb.MsgProp),        // passed on, but for another
		message(0xa, 1, raftpb.MsgApp),       // good
	} {
		conn.Write(b)
	}
	m.wait("the last message", func() bool { return len(m.received) == 2 })
	if s := m.stats(0xa); s.ReceiveFailures != 6 || s.ReceivedMessages != 2 {
		t.Errorf("%+v", s)
	}
	if got := m.messages(); got[0].GetType() != raftpb.MsgProp || got[1].GetType() != raftpb.MsgApp {
		t.Errorf("%v", got)
	}
	// The same with the whole stream: another member at an address that a peer had.
	other := newMember(t, 7)
	m.transport.SetPeers([]Peer{{ID: 8, URLs: []string{other.url()}}})
	m.waitLog("peer refused a stream")
	other.waitLog("refused a stream")
	if n := len(other.messages()); n > 0 {
		t.Errorf("%d messages came through", n)
	}
}

// Without a bound on handshakes, a peer that accepts and says nothing held a connection for ever.
func TestS10SilentHandshakeEnds(t *testing.T) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	ended := make(chan error, 100)
	done := make(chan struct{})
	defer func() { l.Close(); <-done }()
	go func() {
		defer close(done)
		for {
			conn, err := l.Accept()
			if err != nil {
				return
			}
			go func() {
				defer conn.Close()
				conn.SetDeadline(time.Now().Add(patience))
				_, err := io.Copy(io.Discard, conn)
				ended <- err
			}()
		}
	}()
	a := newMember(t, 1, impatient)
	a.transport.SetPeers([]Peer{{ID: 2, URLs: []string{"http://" + l.Addr().String()}}})
	for range queueKinds {
		if err := <-ended; err != nil {
			t.Error(err)
		}
	}
	a.waitUnreachable(2)
	a.transport.Stop()
}

// A peer's handler read a body without a bound. Here none is read.
func TestS11BodiesAreNotRead(t *testing.T) {
	m := newMember(t, 1)
	conn, err := net.Dial("tcp", m.listener.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	conn.SetDeadline(time.Now().Add(patience))
	// As many bytes as fit are offered, more than anybody should take.
	fmt.Fprintf(conn, "POST %s HTTP/1.1\r\nHost: x\r\nContent-Length: %d\r\n\r\n", streamPath, 1<<40)
	written := 0
	for chunk := make([]byte, 1<<20); ; {
		n, err := conn.Write(chunk)
		if written += n; err != nil {
			break
		}
		if written > 64<<20 {
			t.Fatal("the body is read without a bound")
		}
	}
}

// A length alone made the receiver allocate.
func TestS17LengthsAllocateLittle(t *testing.T) {
	b := encode(shaped(raftpb.MsgApp))
	binary.LittleEndian.PutUint32(b, uint32(kindMessages.tailBytesMax()))
	binary.LittleEndian.PutUint32(b[12:], crc32.Update(crc32.Checksum(b[:12], castagnoli), castagnoli, b[frameHeaderBytes:]))
	b = append(b, bytes.Repeat([]byte{1}, 1000)...)
	var before, after runtime.MemStats
	runtime.ReadMemStats(&before)
	_, err := decode(b)
	runtime.ReadMemStats(&after)
	if err != io.ErrUnexpectedEOF {
		t.Errorf("%v", err)
	}
	if n := after.TotalAlloc - before.TotalAlloc; n > 8<<20 {
		t.Errorf("a length made us allocate %d bytes", n)
	}
	tail := binary.AppendUvarint(nil, 1<<62)
	if _, err := decodeEntries(append(tail, make([]byte, 100)...)); err == nil {
		t.Error("more entries than bytes")
	}
}
