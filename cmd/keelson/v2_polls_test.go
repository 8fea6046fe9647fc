package main

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httputil"
	"slices"
	"sync"
	"syscall"
	"testing"
	"time"

	"keelson/internal/testkit"
)

const (
	manyPolls = 20_000
	// manyConnections are as many as a hostile client makes.
	manyConnections = 20_000
	// filesSpared are the descriptors that a process needs for other things than these.
	filesSpared = 2000
	// pollGroup is how many keys a directory has. The first poll of a group is recursive, and at the directory.
	pollGroup = 1000
	// connsPerAddress is how many connections come from one loopback address, so that its ports suffice.
	connsPerAddress = 10_000
	// pollsAhead is how many connections are made before the first of them is answered. Of those that have not said anything yet
	// a member keeps a thousand.
	pollsAhead = 100
	// pollMemoryKiB bounds what a poll takes, over both protocols and with what the runtime keeps for itself.
	pollMemoryKiB = 12
)

// crowd are long polls of one member: as many over connections of HTTP/1.1 as a process may have, others as streams of
// HTTP/2.
type crowd struct {
	t     *testing.T
	p     *testkit.Process
	http1 []net.Conn
	http2 []*http.Response
}

func pollPath(i int) string {
	if i%pollGroup == 0 {
		return fmt.Sprintf("/polls/%d?wait=true&recursive=true", i/pollGroup)
	}
	return fmt.Sprintf("/polls/%d/%d?wait=true", i/pollGroup, i)
}

// filesMax is how many files a process may open.
func filesMax(t *testing.T) int {
	t.Helper()
	var files syscall.Rlimit
	if err := syscall.Getrlimit(syscall.RLIMIT_NOFILE, &files); err != nil {
		t.Fatal(err)
	}
	if files.Max < 2*filesSpared {
		t.Fatalf("a process may open %d files, which is too few: raise the limit with ulimit -n", files.Max)
	}
	return int(min(files.Max, 1<<30))
}

// newCrowd lets very many polls wait, and returns when each has its head.
func newCrowd(t *testing.T, p *testkit.Process) *crowd {
	c := &crowd{t: t, p: p}
	t.Cleanup(c.close)
	conns := min(manyPolls-pollGroup, filesMax(t)-filesSpared)
	for i := range conns + pollsAhead {
		if i < conns {
			c.dial(i)
		}
		if i >= pollsAhead {
			c.awaitHead(i-pollsAhead, c.http1[i-pollsAhead])
		}
	}
	c.openStreams(conns)
	return c
}

func (c *crowd) dial(i int) {
	c.t.Helper()
	d := net.Dialer{LocalAddr: &net.TCPAddr{IP: net.IPv4(127, 0, 0, byte(1+i/connsPerAddress))}, KeepAlive: -1}
	conn, err := d.Dial("tcp", c.p.Endpoint)
	if err != nil {
		c.t.Fatalf("connection %d: %v", i, err)
	}
	c.http1 = append(c.http1, conn)
	if _, err := fmt.Fprintf(conn, "GET /v2/keys%s HTTP/1.1\r\nHost: h\r\n\r\n", pollPath(i)); err != nil {
		c.t.Fatalf("poll %d: %v", i, err)
	}
}

// awaitHead reads the head of an answer and not one byte more: an answer whose event has not come ends there.
func (c *crowd) awaitHead(i int, conn net.Conn) {
	c.t.Helper()
	conn.SetReadDeadline(time.Now().Add(time.Minute))
	var head [2048]byte
	n := 0
	for !bytes.HasSuffix(head[:n], []byte("\r\n\r\n")) {
		more, err := conn.Read(head[n:])
		if err != nil {
			c.t.Fatalf("poll %d: %v after %q", i, err, head[:n])
		}
		n += more
	}
	if !bytes.HasPrefix(head[:n], []byte("HTTP/1.1 200 ")) {
		c.t.Fatalf("poll %d: %q", i, head[:n])
	}
}

// openStreams opens the polls from one on, as streams of HTTP/2.
func (c *crowd) openStreams(from int) {
	transport := &http.Transport{Protocols: new(http.Protocols)}
	transport.Protocols.SetUnencryptedHTTP2(true)
	c.t.Cleanup(transport.CloseIdleConnections)
	ctx, cancel := context.WithCancel(context.Background())
	c.t.Cleanup(cancel)
	c.http2 = make([]*http.Response, manyPolls-from)
	var group sync.WaitGroup
	next := make(chan int)
	for range 8 {
		group.Go(func() {
			for i := range next {
				r, err := http.NewRequestWithContext(ctx, http.MethodGet, "http://"+c.p.Endpoint+"/v2/keys"+pollPath(i), nil)
				if err != nil {
					c.t.Error(err)
					continue
				}
				resp, err := transport.RoundTrip(r)
				if err != nil || resp.StatusCode != http.StatusOK || resp.ProtoMajor != 2 {
					c.t.Errorf("poll %d: %+v, %v", i, resp, err)
					continue
				}
				c.http2[i-from] = resp
			}
		})
	}
	for i := range c.http2 {
		next <- from + i
	}
	close(next)
	group.Wait()
	if c.t.Failed() {
		c.t.FailNow()
	}
}

func (c *crowd) close() {
	for _, conn := range c.http1 {
		conn.Close()
	}
	for _, resp := range c.http2 {
		if resp != nil {
			resp.Body.Close()
		}
	}
}

// event reads what a poll has been told, to the end of its answer.
func (c *crowd) event(i int) (key string) {
	c.t.Helper()
	var body io.Reader
	if i < len(c.http1) {
		c.http1[i].SetReadDeadline(time.Now().Add(time.Minute))
		body = httputil.NewChunkedReader(c.http1[i])
	} else {
		body = c.http2[i-len(c.http1)].Body
	}
	text, err := io.ReadAll(body)
	var e struct {
		Node struct{ Key string }
	}
	if err == nil {
		err = json.Unmarshal(text, &e)
	}
	if err != nil {
		c.t.Fatalf("poll %d: %q, %v", i, text, err)
	}
	return e.Node.Key
}

// silent reports whether a poll over HTTP/1.1 has been told nothing.
func (c *crowd) silent(i int) bool {
	raw, err := c.http1[i].(*net.TCPConn).SyscallConn()
	if err != nil {
		c.t.Fatal(err)
	}
	silent := false
	err = raw.Control(func(fd uintptr) {
		var b [1]byte
		_, _, err := syscall.Recvfrom(int(fd), b[:], syscall.MSG_PEEK|syscall.MSG_DONTWAIT)
		silent = err == syscall.EAGAIN
	})
	return silent && err == nil
}

// TestV2ManyPolls lets 20,000 long polls wait at one member. They take little memory, and an event wakes those that it
// concerns, and nobody else.
func TestV2ManyPolls(t *testing.T) {
	p := testkit.NewProcess(t, "--enable-v2")
	p.Start()
	client := newV2Client(t, p)
	client.must("PUT", "/first", "value=1", 0)
	waiting := func() int {
		var stats struct{ Watchers int }
		if err := json.Unmarshal([]byte(client.do("GET", "/v2/stats/store", "").body), &stats); err != nil {
			t.Fatal(err)
		}
		return stats.Watchers
	}
	before := residentMiB(t, p)
	c := newCrowd(t, p)
	if n := waiting(); n != manyPolls {
		t.Fatalf("%d polls wait, want %d", n, manyPolls)
	}
	taken := residentMiB(t, p) - before
	t.Logf("%d polls over HTTP/1.1 and %d over HTTP/2 take %d MiB", len(c.http1), len(c.http2), taken)
	if taken > manyPolls*pollMemoryKiB/1024 {
		t.Errorf("%d polls take %d MiB", manyPolls, taken)
	}

	inStreams := len(c.http1) + len(c.http2)/2
	var woken []int
	for _, i := range []int{3*pollGroup + 500, 7*pollGroup + 1, inStreams | 1} {
		key := fmt.Sprintf("/polls/%d/%d", i/pollGroup, i)
		client.must("PUT", key, "value=x", 0)
		for _, poll := range []int{i, i - i%pollGroup} {
			if got := c.event(poll); got != key {
				t.Errorf("poll %d was told of %s, want %s", poll, got, key)
			}
			woken = append(woken, poll)
		}
	}
	client.must("PUT", "/elsewhere", "value=x", 0)
	if n := waiting(); n != manyPolls-len(woken) {
		t.Errorf("%d polls wait, want %d", n, manyPolls-len(woken))
	}
	for i := range c.http1 {
		if !slices.Contains(woken, i) && !c.silent(i) {
			t.Errorf("poll %d has been told something", i)
		}
	}
}
