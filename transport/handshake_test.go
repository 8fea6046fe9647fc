package transport

import (
	"bufio"
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"io"
	"log"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"strings"
	"testing"
	"time"

	"go.etcd.io/raft/v3/raftpb"
)

// request asks a member for a stream by hand, with the headers of a proper one changed, and returns the connection after
// the answer.
func (m *member) request(path string, change map[string]string) (net.Conn, *bufio.Reader, *http.Response) {
	m.t.Helper()
	header := make(http.Header)
	header.Set("Connection", "Upgrade")
	header.Set("Upgrade", upgradeName)
	hello{protocol: 1, protocolMin: 1, cluster: testCluster, from: 0xa, to: m.id, stream: "messages", version: "x"}.writeTo(header)
	method := http.MethodGet
	for name, value := range change {
		switch {
		case name == "method":
			method = value
		case value == "":
			header.Del(name)
		default:
			header.Set(name, value)
		}
	}
	conn, err := net.Dial("tcp", m.listener.Addr().String())
	if err != nil {
		m.t.Fatal(err)
	}
	m.t.Cleanup(func() { conn.Close() })
	conn.SetDeadline(time.Now().Add(patience))
	fmt.Fprintf(conn, "%s %s HTTP/1.1\r\nHost: x\r\n", method, path)
	header.Write(conn)
	io.WriteString(conn, "\r\n")
	r := bufio.NewReader(conn)
	resp, err := http.ReadResponse(r, &http.Request{Method: method})
	if err != nil {
		m.t.Fatal(err)
	}
	return conn, r, resp
}

// TestRefusals asks for streams that there are not, and checks what is said about each.
func TestRefusals(t *testing.T) {
	const removed = 0xdead
	m := newMember(t, 1, func(o *Options) { o.IsRemoved = func(id uint64) bool { return id == removed } })
	for _, c := range []struct {
		name   string
		path   string
		change map[string]string
		status int
		reason string
	}{
		{"another path", "/raft/else", nil, 404, "404 page not found"},
		{"below the path", streamPath + "/x", nil, 404, "404 page not found"},
		{"no upgrade", "", map[string]string{"Upgrade": ""}, 400, reasonNoUpgrade},
		{"upgrade to something else", "", map[string]string{"Upgrade": "websocket"}, 400, reasonNoUpgrade},
		{"no connection header", "", map[string]string{"Connection": "keep-alive"}, 400, reasonNoUpgrade},
		{"POST", "", map[string]string{"method": "POST"}, 400, reasonNoUpgrade},
		{"no cluster", "", map[string]string{headerCluster: ""}, 400, reasonHeaders},
		{"cluster is no number", "", map[string]string{headerCluster: "xyz"}, 400, reasonHeaders},
		{"id too long", "", map[string]string{headerFrom: strings.Repeat("f", 17)}, 400, reasonHeaders},
		{"oldest above newest", "", map[string]string{headerProtocolMin: "2"}, 400, reasonHeaders},
		{"later protocol", "", map[string]string{headerProtocol: "9", headerProtocolMin: "2"}, 426, reasonProtocol},
		{"no protocol", "", map[string]string{headerProtocol: "0", headerProtocolMin: "0"}, 426, reasonProtocol},
		{"another cluster", "", map[string]string{headerCluster: "c2"}, 412, reasonOtherCluster},
		{"another member", "", map[string]string{headerTo: "2"}, 412, reasonOtherMember},
		{"our own id", "", map[string]string{headerFrom: "1"}, 412, reasonOtherMember},
		{"no id", "", map[string]string{headerFrom: "0"}, 412, reasonOtherMember},
		{"a removed member", "", map[string]string{headerFrom: "dead"}, 410, reasonRemoved},
		{"unknown kind", "", map[string]string{headerStream: "gossip"}, 400, reasonKind},
		{"no kind", "", map[string]string{headerStream: ""}, 400, reasonKind},
	} {
		path := c.path
		if path == "" {
			path = streamPath
		}
		conn, _, resp := m.request(path, c.change)
		body, _ := io.ReadAll(resp.Body)
		conn.Close()
		if got := strings.TrimSpace(string(body)); resp.StatusCode != c.status || got != c.reason {
			t.Errorf("%s: %d %q, want %d %q", c.name, resp.StatusCode, got, c.status, c.reason)
		}
		if resp.StatusCode != 404 && (resp.Header.Get(headerCluster) != "c1" || resp.Header.Get(headerFrom) != "1") {
			t.Errorf("%s: who refuses? %v", c.name, resp.Header)
		}
	}
	conn, _, resp := m.request(streamPath, map[string]string{headerProtocol: "7"}) // speaks 1 to 7
	if resp.StatusCode != 101 || resp.Header.Get(headerProtocol) != "1" || resp.Header.Get(headerTo) != "a" {
		t.Errorf("%d %v", resp.StatusCode, resp.Header)
	}
	conn.Close()
	m.waitLog("request cluster ID mismatch")
	for reason := range statusOf {
		if statusOf[reason] < 400 {
			t.Errorf("%q has status %d", reason, statusOf[reason])
		}
	}
}

// TestOtherCluster joins members of two clusters: both sides say so, not all the time, and nothing goes through.
func TestOtherCluster(t *testing.T) {
	a, b := newMember(t, 1, func(o *Options) { o.ClusterID++ }), newMember(t, 2)
	a.knows(b)
	b.waitLog("request cluster ID mismatch")
	a.waitLog("request sent was ignored by remote peer due to cluster ID mismatch")
	poll(t, "several attempts", func() bool {
		a.send(a.append(b, 1, 0))
		return a.stats(2).ReceivedBytes > 5*300
	})
	if n := a.logs.Len(); n != queueKinds {
		t.Errorf("%d lines about the same thing:\n%s", n, a.logText())
	}
	if n := b.logs.Len(); n != 1 {
		t.Errorf("%d lines about the same thing:\n%s", n, b.logText())
	}
	if n := len(b.messages()); n > 0 || a.removals() > 0 {
		t.Errorf("%d messages came through, %d times removed", n, a.removals())
	}
}

// TestRefusedError checks that the one who opens a bulk stream gets to know the reason.
func TestRefusedError(t *testing.T) {
	a, b := newMember(t, 1, func(o *Options) { o.ClusterID++ }), newMember(t, 2)
	a.knows(b)
	_, err := a.transport.OpenBulk(context.Background(), 2)
	var refused *RefusedError
	if !errors.As(err, &refused) || refused.Status != 412 || refused.Reason != reasonOtherCluster {
		t.Errorf("%v", err)
	}
	if _, err := a.transport.OpenBulk(context.Background(), 3); !errors.Is(err, ErrUnknownPeer) {
		t.Errorf("%v", err)
	}
}

// TestImpostors puts other things where a peer should be. None of them is taken for it.
func TestImpostors(t *testing.T) {
	for name, answer := range map[string]string{
		"not HTTP":      "SSH-2.0-OpenSSH_9.6\r\n\r\n",
		"a web server":  "HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok",
		"no headers":    "HTTP/1.1 101 Switching Protocols\r\n\r\n",
		"websocket":     "HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\r\n",
		"other member":  "HTTP/1.1 101 x\r\n" + answerHeaders(testCluster, 3, 1, 1) + "\r\n",
		"other cluster": "HTTP/1.1 101 x\r\n" + answerHeaders(7, 2, 1, 1) + "\r\n",
		"for another":   "HTTP/1.1 101 x\r\n" + answerHeaders(testCluster, 2, 5, 1) + "\r\n",
		"protocol":      "HTTP/1.1 101 x\r\n" + answerHeaders(testCluster, 2, 1, 9) + "\r\n",
		"endless":       "HTTP/1.1 101 x\r\nX: " + strings.Repeat("x", 2*answerBytesMax),
		"gone, says another cluster": "HTTP/1.1 410 Gone\r\nContent-Length: 0\r\n" +
			answerHeaders(7, 2, 1, 1) + "\r\n",
		"gone, says another member": "HTTP/1.1 410 Gone\r\nContent-Length: 0\r\n" +
			answerHeaders(testCluster, 3, 1, 1) + "\r\n",
		"gone, says a web server": "HTTP/1.1 410 Gone\r\nContent-Length: 0\r\n\r\n",
	} {
		t.Run(name, func(t *testing.T) {
			l, err := net.Listen("tcp", "127.0.0.1:0")
			if err != nil {
				t.Fatal(err)
			}
			done := make(chan struct{})
			defer func() { <-done }()
			defer l.Close()
			asked := make(chan struct{}, 100)
			go func() {
				defer close(done)
				for {
					conn, err := l.Accept()
					if err != nil {
						return
					}
					http.ReadRequest(bufio.NewReader(conn))
					io.WriteString(conn, answer)
					conn.Close()
					select {
					case asked <- struct{}{}:
					default:
					}
				}
			}()
			a := newMember(t, 1)
			a.transport.SetPeers([]Peer{{ID: 2, URLs: []string{"http://" + l.Addr().String()}}})
			for range 4 {
				<-asked
			}
			a.waitUnreachable(2)
			if _, live := a.transport.ConnectedSince(2); live || a.removals() > 0 || a.stats(2).SentMessages > 0 {
				t.Errorf("live %v, removed %d", live, a.removals())
			}
			if a.logs.Len() == 0 || a.logs.Len() > 2*queueKinds {
				t.Errorf("%d lines:\n%s", a.logs.Len(), a.logText())
			}
		})
	}
}

func answerHeaders(cluster, from, to, protocol uint64) string {
	header := make(http.Header)
	header.Set("Connection", "Upgrade")
	header.Set("Upgrade", upgradeName)
	hello{protocol: protocol, protocolMin: 1, cluster: cluster, from: from, to: to}.writeTo(header)
	var b strings.Builder
	header.Write(&b)
	return b.String()
}

// TestGarbage sends what no member would, after a proper handshake. The stream ends, what came before it counts, and nobody
// else is affected.
func TestGarbage(t *testing.T) {
	m, other := newMember(t, 1), newMember(t, 2)
	join(t, m, other)
	good := func(n uint64) []byte {
		return encode(&raftpb.Message{Type: raftpb.MsgApp.Enum(), To: new(m.id), From: new(uint64(0xa)), Commit: new(n)})
	}
	huge := []byte{0xff, 0xff, 0xff, 0xff, 19, 0, 1, 0}
	limit := good(0)
	limit[3] = 0x20 // a tail of 512 MiB, with no checksum to match
	for i, garbage := range [][]byte{
		[]byte(strings.Repeat("GET / HTTP/1.1\r\n", 10)),
		append(huge, make([]byte, 100)...),
		limit,
		appendPing(nil, framePong, 1),
		make([]byte, 64),
		good(0)[:30],
		append(good(0)[:len(good(0))-1], 0xff),
	} {
		n := uint64(i + 1)
		conn, r, resp := m.request(streamPath, nil)
		if resp.StatusCode != 101 {
			t.Fatalf("status %d", resp.StatusCode)
		}
		conn.Write(append(good(n), garbage...))
		conn.(*net.TCPConn).CloseWrite()
		m.wait("the good part", func() bool {
			list := m.numbers(0xa, raftpb.MsgApp)
			return len(list) > 0 && list[len(list)-1] == n
		})
		if _, err := io.Copy(io.Discard, r); errors.Is(err, os.ErrDeadlineExceeded) {
			t.Errorf("garbage %d does not end the stream", i)
		}
	}
	m.mu.Lock()
	if n := len(m.numbers(0xa, raftpb.MsgApp)); n != 7 {
		t.Errorf("%d messages", n)
	}
	m.mu.Unlock()
	other.reach(m, 1)
	if len(m.lost())+len(other.lost()) > 0 {
		t.Errorf("others were affected: %v %v", m.lost(), other.lost())
	}
}

// TestSilentStranger connects and says nothing: neither before nor after the handshake does it hold anything for long.
func TestSilentStranger(t *testing.T) {
	m := newMember(t, 1, impatient)
	conn, r, resp := m.request(streamPath, nil)
	if resp.StatusCode != 101 {
		t.Fatalf("status %d", resp.StatusCode)
	}
	if n, err := io.Copy(io.Discard, r); err != nil {
		t.Errorf("%d bytes, %v", n, err)
	}
	conn.Close()
	m.waitLog("lost the stream from a peer")
	poll(t, "nothing left of it", func() bool {
		m.transport.mu.Lock()
		defer m.transport.mu.Unlock()
		return len(m.transport.incoming) == 0 && len(m.transport.counters) == 0
	})
}

// TestStrangersAreBounded opens streams in the names of many members. Members that are known always find room.
func TestStrangersAreBounded(t *testing.T) {
	m := newMember(t, 1, func(o *Options) { o.ReadTimeout = patience }) // strangers are silent
	known := newMember(t, 2)
	m.knows(known)
	for i := range strangersMax {
		if _, _, resp := m.request(streamPath, map[string]string{headerFrom: fmt.Sprintf("%x", 100+i)}); resp.StatusCode != 101 {
			t.Fatalf("stranger %d: %d", i, resp.StatusCode)
		}
	}
	_, _, resp := m.request(streamPath, map[string]string{headerFrom: "99"})
	if body, _ := io.ReadAll(resp.Body); resp.StatusCode != 503 || strings.TrimSpace(string(body)) != reasonTooMany {
		t.Errorf("%d %s", resp.StatusCode, body)
	}
	if _, _, resp := m.request(streamPath, map[string]string{headerFrom: "64"}); resp.StatusCode != 101 {
		t.Errorf("a stream that replaces one: %d", resp.StatusCode)
	}
	known.knows(m)
	known.reach(m, 1)
}

// TestReplaced opens a stream again while the old one is there: the newer one counts, and the older ends.
func TestReplaced(t *testing.T) {
	m := newMember(t, 1)
	entered, release := m.holdEntries()
	defer release()
	message := func(n uint64) []byte {
		return encode(&raftpb.Message{Type: raftpb.MsgApp.Enum(), To: new(m.id), From: new(uint64(0xa)), Commit: new(n)})
	}
	old, oldR, _ := m.request(streamPath, nil)
	old.Write(message(1))
	<-entered // the old stream is in the middle of a message
	answered := make(chan net.Conn)
	go func() {
		conn, _, resp := m.request(streamPath, nil)
		if resp.StatusCode != 101 {
			t.Errorf("status %d", resp.StatusCode)
		}
		conn.Write(message(2))
		answered <- conn
	}()
	io.Copy(io.Discard, oldR) // it ends
	select {
	case <-answered:
		t.Error("the newer stream began before the older one had delivered")
	default:
	}
	release()
	<-answered
	m.wait("both messages", func() bool { return len(m.received) == 2 })
	if got := m.messages(); got[0].GetCommit() != 1 || got[1].GetCommit() != 2 {
		t.Errorf("%v", got)
	}
}

// TestRemoved removes a member: its streams end, it is told why, and it finds nobody.
func TestRemoved(t *testing.T) {
	gone := make(chan struct{})
	a := newMember(t, 1)
	b := newMember(t, 2, func(o *Options) {
		o.IsRemoved = func(id uint64) bool {
			select {
			case <-gone:
				return id == 1
			default:
				return false
			}
		}
	})
	join(t, a, b)
	close(gone)
	b.knows()
	a.wait("news of its removal", func() bool { return a.removed > 0 })
	a.waitNotLive(2)
	a.waitLog("peer refused a stream")
	if _, err := a.transport.OpenBulk(context.Background(), 2); err == nil || !strings.Contains(err.Error(), reasonRemoved) {
		t.Errorf("%v", err)
	}
}

// TestTLS joins members over TLS.
func TestTLS(t *testing.T) {
	certs := httptest.NewTLSServer(nil)
	defer certs.Close()
	pool := x509.NewCertPool()
	pool.AddCert(certs.Certificate())
	secure := func(o *Options) { o.TLS = &tls.Config{RootCAs: pool} }
	a, b := newMember(t, 1, secure), newMember(t, 2, secure)
	ends := make([]Peer, 2)
	for i, m := range []*member{a, b} {
		s := httptest.NewUnstartedServer(m.transport)
		s.Config.ErrorLog = log.New(io.Discard, "", 0)
		s.TLS = &tls.Config{Certificates: certs.TLS.Certificates}
		s.StartTLS()
		t.Cleanup(func() { m.transport.Stop(); s.Close() })
		ends[i] = Peer{ID: m.id, URLs: []string{s.URL}}
	}
	a.transport.SetPeers(ends[1:])
	b.transport.SetPeers(ends[:1])
	a.waitLive(2)
	b.waitLive(1)
	for i := uint64(1); i <= 200; i++ {
		a.send(a.append(b, i, int(i)*1000))
	}
	b.waitNumber(a, raftpb.MsgApp, 200)
	plain := newMember(t, 3)
	plain.transport.SetPeers(ends[1:])
	plain.waitLog("failed to connect to peer")
	if !strings.Contains(plain.logText(), "no TLS is configured") {
		t.Error(plain.logText())
	}
}

func TestHostPort(t *testing.T) {
	for address, want := range map[string]string{
		"http://a:1": "a:1", "https://a": "a:443", "http://a": "a:80", "http://[::1]": "[::1]:80", "https://[::1]:9": "[::1]:9",
	} {
		r, err := http.NewRequest("GET", address, nil)
		if err != nil {
			t.Fatal(err)
		}
		if got := hostPort(r.URL); got != want {
			t.Errorf("%s: %s", address, got)
		}
	}
}
