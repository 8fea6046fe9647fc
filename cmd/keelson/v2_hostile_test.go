package main

import (
	"bufio"
	"context"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"strconv"
	"strings"
	"testing"
	"time"

	"keelson/internal/testkit"
)

// rawClient speaks HTTP/1.1 byte by byte.
type rawClient struct {
	t *testing.T
	net.Conn
	in *bufio.Reader
}

func newRawClient(t *testing.T, p *testkit.Process) *rawClient {
	t.Helper()
	c, err := net.Dial("tcp", p.Endpoint)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { c.Close() })
	c.SetDeadline(time.Now().Add(time.Minute))
	return &rawClient{t, c, bufio.NewReader(c)}
}

// send sends what the server takes of a text.
func (h *rawClient) send(text string) *rawClient {
	io.WriteString(h, text)
	return h
}

// status is that of the next answer, whose body is read; 0: there is none any more.
func (h *rawClient) status() int {
	resp, err := http.ReadResponse(h.in, nil)
	if err != nil {
		return 0
	}
	defer resp.Body.Close()
	io.Copy(io.Discard, resp.Body)
	return resp.StatusCode
}

func (h *rawClient) want(what string, statuses ...int) {
	h.t.Helper()
	for _, want := range statuses {
		if got := h.status(); got != want {
			h.t.Errorf("%s: status %d, want %d", what, got, want)
		}
	}
}

// residentMiB is the memory that a process has.
func residentMiB(t *testing.T, p *testkit.Process) int {
	text, err := os.ReadFile(fmt.Sprintf("/proc/%d/status", p.PID()))
	if err != nil {
		t.Fatal(err)
	}
	_, rest, _ := strings.Cut(string(text), "VmRSS:")
	kib, err := strconv.Atoi(strings.Fields(rest)[0])
	if err != nil {
		t.Fatal(err)
	}
	return kib / 1024
}

// TestHostileHTTP: whatever single clients do on the HTTP/1.1 side, others are served, each is told what is wrong, and
// memory stays bounded. The process may open 3000 files, so there are 1500 connections of clients.
func TestHostileHTTP(t *testing.T) {
	testkit.Need(t, "prlimit")
	p := testkit.NewProcess(t, "--enable-v2")
	p.Wrap = []string{"prlimit", "--nofile=3000"}
	p.Start()
	c := newV2Client(t, p)
	c.must("PUT", "/a", "value=1", 0)
	before := residentMiB(t, p)
	served := func(t *testing.T) {
		t.Helper()
		http := &http.Client{Transport: &http.Transport{}, Timeout: 30 * time.Second} // connections of its own
		defer http.CloseIdleConnections()
		own := &v2Client{t: t, base: c.base, http: http}
		for i := range 5 {
			own.must("PUT", "/a", fmt.Sprint("value=", i), 0)
			own.must("GET", "/a?quorum=true", "", 0)
		}
	}
	const get = "GET /v2/keys/a HTTP/1.1\r\nHost: h\r\n\r\n"

	t.Run("idle connections", func(t *testing.T) {
		for i := range 4000 { // more than fit: the oldest make room
			h := newRawClient(t, p)
			if h.send(get).status() != 200 {
				t.Fatalf("connection %d is not served", i)
			}
		}
		served(t)
	})
	t.Run("idle connections of net/http", func(t *testing.T) {
		for i := range 2000 {
			h := newRawClient(t, p)
			if h.send("GET /version HTTP/1.1\r\nHost: h\r\n\r\n").status() != 200 {
				t.Fatalf("connection %d is not served", i)
			}
		}
		served(t)
	})
	t.Run("slow loris", func(t *testing.T) {
		for i := range 900 {
			h := newRawClient(t, p).send(get)
			if h.status() != 200 {
				t.Fatalf("connection %d is not served", i)
			}
			h.send("PUT /v2/keys/a HTTP/1.1\r\nHost: h\r\nX: " + strings.Repeat("y", 1000+10*i))
		}
		served(t)
	})
	t.Run("connections that say nothing", func(t *testing.T) {
		for range 500 {
			newRawClient(t, p)
		}
		served(t)
	})
	t.Run("huge headers", func(t *testing.T) {
		newRawClient(t, p).send("GET /v2/keys/a HTTP/1.1\r\nHost: h\r\nX: "+strings.Repeat("y", 2<<20)+"\r\n\r\n").want("a huge field", 431)
		newRawClient(t, p).send("GET /v2/keys/a HTTP/1.1\r\nHost: h\r\n"+strings.Repeat("X: y\r\n", 100_000)+"\r\n").want("many fields", 431)
		newRawClient(t, p).send("GET /v2/keys/a?x="+strings.Repeat("y", 2<<20)+" HTTP/1.1\r\nHost: h\r\n\r\n").want("a huge target", 431)
		served(t)
	})
	t.Run("lying lengths", func(t *testing.T) {
		put := func(length, body string) string {
			return "PUT /v2/keys/lie HTTP/1.1\r\nHost: h\r\nContent-Type: application/x-www-form-urlencoded\r\nContent-Length: " + length + "\r\n\r\n" + body
		}
		newRawClient(t, p).send(put("7", "value=1and more that is no request\r\n\r\n")).want("too short", 201, 400)
		newRawClient(t, p).send(put("7", "value=2"+get)).want("followed by a request", 200, 200)
		h := newRawClient(t, p).send(put("100", "value=3"))
		h.Conn.(*net.TCPConn).CloseWrite()
		h.want("cut off", 0)
		newRawClient(t, p).send(put("-1", "value=4")).want("negative", 400)
		newRawClient(t, p).send(put("7\r\nContent-Length: 8", "value=55")).want("two", 400)
		newRawClient(t, p).send(put("99999999999999999999", "value=6")).want("more than there is", 400)
		if e := c.must("GET", "/lie", "", 0); e.Node.value() != "2" {
			t.Errorf("stored: %+v", e.Node)
		}
		// What follows on chunks may be meant by somebody else for a request of theirs: it is not looked at.
		newRawClient(t, p).send(put("7\r\nTransfer-Encoding: chunked", "0\r\n\r\n")+get).want("chunked and a length", 200, 0)
		served(t)
	})
	t.Run("bombs", func(t *testing.T) {
		nested := strings.Repeat("[", 500_000)
		for _, at := range []string{"POST /v2/members", "PUT /v2/auth/users/x", "PUT /v2/auth/roles/x", "POST /v3/kv/put"} {
			request := fmt.Sprintf("%s HTTP/1.1\r\nHost: h\r\nContent-Type: application/json\r\nContent-Length: %d\r\n\r\n%s", at, len(nested), nested)
			newRawClient(t, p).send(request).want(at, 400)
		}
		many := strings.Repeat("a=b&", 300_000)
		newRawClient(t, p).send(fmt.Sprintf("PUT /v2/keys/many HTTP/1.1\r\nHost: h\r\nContent-Type: application/x-www-form-urlencoded\r\nContent-Length: %d\r\n\r\n%s", len(many), many)).want("many parameters", 400)
		newRawClient(t, p).send("PUT /v2/keys"+strings.Repeat("/d", 2000)+" HTTP/1.1\r\nHost: h\r\nContent-Length: 0\r\n\r\n").want("a deep path", 400)
		served(t)
	})
	t.Run("answers that nobody takes", func(t *testing.T) {
		for i := range 200 {
			c.must("PUT", fmt.Sprintf("/big/%d", i), "value="+strings.Repeat("v", 50_000), 0)
		}
		for range 100 {
			newRawClient(t, p).send(strings.Repeat("GET /v2/keys/big HTTP/1.1\r\nHost: h\r\n\r\n", 20))
		}
		served(t)
	})
	t.Run("half-open polls", func(t *testing.T) {
		ctx, cancel := context.WithTimeout(t.Context(), patience)
		defer cancel()
		for range 500 {
			h := newRawClient(t, p).send("GET /v2/keys/never?wait=true HTTP/1.1\r\nHost: h\r\n\r\n")
			if line, err := h.in.ReadString('\n'); err != nil || !strings.Contains(line, "200") {
				t.Fatalf("%q, %v", line, err)
			}
			h.Conn.(*net.TCPConn).CloseWrite()
		}
		for !strings.Contains(c.do("GET", "/v2/stats/store", "").body, `"watchers":0`) {
			if ctx.Err() != nil {
				t.Fatal("polls of clients that have gone go on")
			}
			time.Sleep(10 * time.Millisecond)
		}
		served(t)
	})
	if after := residentMiB(t, p); after > before+300 {
		t.Errorf("%d MiB of memory, before %d", after, before)
	}
}
