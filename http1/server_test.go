package http1

import (
	"bufio"
	"bytes"
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"fmt"
	"io"
	"log"
	"math/big"
	"net"
	"net/http"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"
)

// service is a server whose handler echoes, with net/http behind it.
type service struct {
	t      *testing.T
	server *Server
	rest   *http.Server
	addr   string
	secure *tls.Config // nil: plain
	simple atomic.Int64

	mu    sync.Mutex
	polls map[string]*Poll
	left  map[string]int
}

func newService(t *testing.T, o Options, secure bool) *service {
	s := &service{t: t, polls: map[string]*Poll{}, left: map[string]int{}}
	o.Handler = s
	o.ErrorLog = log.New(io.Discard, "", 0)
	s.server = New(o)
	s.rest = &http.Server{Handler: http.HandlerFunc(s.net)}
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	s.addr = l.Addr().String()
	if secure {
		serving := &tls.Config{Certificates: []tls.Certificate{certificate(t)}}
		s.secure = &tls.Config{InsecureSkipVerify: true}
		l = shaking{l, serving}
	}
	var serving sync.WaitGroup
	serving.Go(func() { s.server.Serve(l) })
	serving.Go(func() { s.rest.Serve(s.server.Handed()) })
	t.Cleanup(func() {
		s.server.Close()
		s.rest.Close()
		serving.Wait()
		await(t, "connections", 0, s.connections)
	})
	return s
}

func (s *service) connections() int {
	s.server.mu.Lock()
	defer s.server.mu.Unlock()
	return len(s.server.conns)
}

// shaking makes the handshake before it yields a connection, as a mux does.
type shaking struct {
	net.Listener
	config *tls.Config
}

func (l shaking) Accept() (net.Conn, error) {
	c, err := l.Listener.Accept()
	if err != nil {
		return nil, err
	}
	secure := tls.Server(c, l.config)
	_ = secure.Handshake() // who does not make it, is found out by reading
	return secure, nil
}

func certificate(t *testing.T) tls.Certificate {
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	template := &x509.Certificate{SerialNumber: big.NewInt(1), NotAfter: time.Now().Add(time.Hour)}
	der, err := x509.CreateCertificate(rand.Reader, template, template, &key.PublicKey, key)
	if err != nil {
		t.Fatal(err)
	}
	return tls.Certificate{Certificate: [][]byte{der}, PrivateKey: key}
}

// AnswersAtOnce implements Handler.
func (s *service) AnswersAtOnce(r *Request) bool { return !bytes.HasPrefix(r.Path, []byte("/poll/")) }

// ServeHTTP1 echoes, and does what some paths say.
func (s *service) ServeHTTP1(x *Exchange) bool {
	s.simple.Add(1)
	switch path := string(x.Path); {
	case path == "/declined":
		return false
	case path == "/panic":
		panic("as asked")
	case path == "/pieces":
		x.Begin(200, nil)
		for range 100 {
			if x.Piece([]byte(strings.Repeat("piece", 1000))) != nil {
				panic(http.ErrAbortHandler)
			}
		}
		x.End()
	case path == "/conn":
		x.Answer(200, nil, fmt.Append(nil, x.Context().Value(connKey{})))
	case strings.HasPrefix(path, "/poll/"):
		s.mu.Lock()
		defer s.mu.Unlock()
		s.polls[path] = x.Wait(200, []byte("X-Poll: yes\r\n"), func() {
			s.mu.Lock()
			defer s.mu.Unlock()
			s.left[path]++
		})
	default:
		x.Answer(200, []byte("X-By: http1\r\n"), fmt.Appendf(nil, "%s %s %s %s", x.Method, x.Path, x.Query, x.Body))
	}
	return true
}

func (s *service) net(w http.ResponseWriter, r *http.Request) {
	body, _ := io.ReadAll(r.Body)
	w.Header().Set("X-By", "net/http")
	w.Header().Set("X-Secure", fmt.Sprint(r.TLS != nil))
	fmt.Fprintf(w, "%s %s %s %s", r.Method, r.URL.Path, r.URL.RawQuery, body)
}

// client is a connection spoken to byte by byte.
type client struct {
	t *testing.T
	net.Conn
	in *bufio.Reader
}

func (s *service) dial() *client {
	c, err := net.Dial("tcp", s.addr)
	if err != nil {
		s.t.Fatal(err)
	}
	if s.secure != nil {
		secure := tls.Client(c, s.secure)
		if err := secure.Handshake(); err != nil {
			s.t.Fatal(err)
		}
		c = secure
	}
	s.t.Cleanup(func() { c.Close() })
	c.SetDeadline(time.Now().Add(30 * time.Second))
	return &client{s.t, c, bufio.NewReader(c)}
}

func (c *client) send(text string) {
	if _, err := io.WriteString(c, text); err != nil {
		c.t.Fatal(err)
	}
}

// answer reads an answer to a method, as status, who gave it, and body.
func (c *client) answer(method string) string {
	c.t.Helper()
	resp, err := http.ReadResponse(c.in, &http.Request{Method: method})
	if err != nil {
		c.t.Fatal(err)
	}
	body, err := io.ReadAll(resp.Body)
	if err != nil {
		c.t.Fatal(err)
	}
	text := fmt.Sprintf("%d %s: %s", resp.StatusCode, resp.Header.Get("X-By"), body)
	if resp.Close {
		text += " (close)"
	}
	return text
}

func (c *client) want(method, answer string) {
	c.t.Helper()
	if got := c.answer(method); got != answer {
		c.t.Errorf("%.200q, want %q", got, answer)
	}
}

// ended reports whether the server has closed the connection.
func (c *client) ended() bool {
	_, err := c.in.ReadByte()
	return err != nil
}

const get = "GET /a?b HTTP/1.1\r\nHost: h\r\n\r\n"

func put(path, body string) string {
	return fmt.Sprintf("PUT %s HTTP/1.1\r\nHost: h\r\nContent-Length: %d\r\n\r\n%s", path, len(body), body)
}

// bothWays runs a test over TCP and over TLS.
func bothWays(t *testing.T, o Options, f func(s *service)) {
	for _, secure := range []bool{false, true} {
		t.Run(fmt.Sprint("secure=", secure), func(t *testing.T) { f(newService(t, o, secure)) })
	}
}

func TestAnswers(t *testing.T) {
	bothWays(t, Options{}, func(s *service) {
		c := s.dial()
		for range 3 {
			c.send(get)
			c.want("GET", "200 http1: GET /a b ")
			c.send(put("/x", "value=1"))
			c.want("PUT", "200 http1: PUT /x  value=1")
		}
		c.send("HEAD /a HTTP/1.1\r\nHost: h\r\n\r\n")
		c.want("HEAD", "200 http1: ")
		c.send("GET /pieces HTTP/1.1\r\nHost: h\r\n\r\n")
		if got := c.answer("GET"); len(got) != len("200 : ")+100*5000 {
			t.Errorf("%d bytes in pieces", len(got))
		}
		c.send("GET /end HTTP/1.1\r\nHost: h\r\nConnection: close\r\n\r\n")
		c.want("GET", "200 http1: GET /end   (close)")
		if !c.ended() {
			t.Error("the connection goes on")
		}
	})
}

// connKey is where a connection's context carries its name.
type connKey struct{}

func TestConnContext(t *testing.T) {
	named := 0
	o := Options{ConnContext: func(ctx context.Context, c net.Conn) context.Context {
		named++
		return context.WithValue(ctx, connKey{}, fmt.Sprint("connection ", named))
	}}
	s := newService(t, o, false)
	for _, want := range []string{"connection 1", "connection 2"} {
		c := s.dial()
		for range 2 {
			c.send("GET /conn HTTP/1.1\r\nHost: h\r\n\r\n")
			c.want("GET", "200 : "+want)
		}
	}
	if reply := newService(t, Options{}, false).dial(); reply != nil {
		reply.send("GET /conn HTTP/1.1\r\nHost: h\r\n\r\n")
		reply.want("GET", "200 : <nil>")
	}
}

// Requests that come at once are answered in order, however they are cut into pieces.
func TestPipelining(t *testing.T) {
	bothWays(t, Options{}, func(s *service) {
		var all strings.Builder
		for i := range 40 {
			all.WriteString(put(fmt.Sprint("/", i), strings.Repeat("v", i)))
		}
		all.WriteString("POST /p HTTP/1.1\r\nHost: h\r\nContent-Length: 1\r\n\r\nx\r\n" + get)
		for _, size := range []int{1, 7, 1000, 1 << 20} {
			c := s.dial()
			go func() {
				for text := all.String(); text != ""; text = text[min(size, len(text)):] {
					if _, err := io.WriteString(c, text[:min(size, len(text))]); err != nil {
						return
					}
				}
			}()
			for i := range 40 {
				c.want("PUT", fmt.Sprintf("200 http1: PUT /%d  %s", i, strings.Repeat("v", i)))
			}
			c.want("POST", "200 http1: POST /p  x")
			c.want("GET", "200 http1: GET /a b ")
		}
	})
}

// What is odd goes to net/http, with the requests before it answered and those after it kept.
func TestHandedOver(t *testing.T) {
	bothWays(t, Options{}, func(s *service) {
		large := strings.Repeat("v", inputMax)
		for _, c := range []struct{ request, answer string }{
			{"PUT /c HTTP/1.1\r\nHost: h\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n0\r\n\r\n", "200 net/http: PUT /c  abc"},
			{"PUT /e HTTP/1.1\r\nHost: h\r\nContent-Length: 3\r\nX: \xe4\r\n\r\nabc", "200 net/http: PUT /e  abc"},
			{put("/large", large), "200 net/http: PUT /large  " + large},
			{"GET /declined HTTP/1.1\r\nHost: h\r\n\r\n", "200 net/http: GET /declined  "},
			{"GET /b HTTP/1.1\r\n\r\n", "400 : 400 Bad Request: missing required Host header (close)"},
			{"GET /b HTTP/1.1\r\nHost: h\r\nHost: i\r\n\r\n", "400 : 400 Bad Request (close)"},
			{"PUT /b HTTP/1.1\r\nHost: h\r\nContent-Length: 3\r\nContent-Length: 4\r\n\r\nabcd", "400 : 400 Bad Request (close)"},
		} {
			k := s.dial()
			go io.WriteString(k, put("/before", "1")+c.request+put("/after", "2"))
			k.want("PUT", "200 http1: PUT /before  1")
			k.want("PUT", c.answer)
			if !strings.Contains(c.answer, "close") {
				k.want("PUT", "200 net/http: PUT /after  2")
			}
		}
		c := s.dial()
		c.send("GET /declined HTTP/1.1\r\nHost: h\r\n\r\n")
		resp, err := http.ReadResponse(c.in, nil)
		if err != nil || resp.Header.Get("X-Secure") != fmt.Sprint(s.secure != nil) {
			t.Errorf("%+v, %v", resp, err)
		}
	})
}

// await waits until a number is reached.
func await(t *testing.T, what string, want int, now func() int) {
	t.Helper()
	for deadline := time.Now().Add(30 * time.Second); ; time.Sleep(time.Millisecond) {
		got := now()
		if got == want {
			return
		}
		if time.Now().After(deadline) {
			t.Fatalf("%s: %d, want %d", what, got, want)
		}
	}
}

func (s *service) poll(path string) (p *Poll) {
	s.t.Helper()
	await(s.t, "polls at "+path, 1, func() int {
		s.mu.Lock()
		defer s.mu.Unlock()
		if p = s.polls[path]; p == nil {
			return 0
		}
		delete(s.polls, path)
		return 1
	})
	return p
}

func (s *service) leftOf(path string) int {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.left[path]
}

// A poll's head comes at once, its body when there is one, and then the connection goes on.
func TestPolls(t *testing.T) {
	bothWays(t, Options{IdleBeat: 5 * time.Millisecond}, func(s *service) {
		c := s.dial()
		for range 3 {
			c.send("GET /poll/a HTTP/1.1\r\nHost: h\r\n\r\n")
			p := s.poll("/poll/a")
			if line, err := c.in.Peek(len("HTTP/1.1 200 OK")); err != nil || string(line) != "HTTP/1.1 200 OK" {
				t.Fatalf("%q, %v", line, err)
			}
			p.Finish([]byte("event"))
			c.want("GET", "200 : event")
			c.send(get)
			c.want("GET", "200 http1: GET /a b ")
		}
		// What comes before the answer waits for it.
		c.send("GET /poll/b HTTP/1.1\r\nHost: h\r\n\r\n" + get)
		p := s.poll("/poll/b")
		c.send(get[:10])
		p.Finish(nil)
		c.want("GET", "200 : ")
		c.want("GET", "200 http1: GET /a b ")
		c.send(get[10:])
		c.want("GET", "200 http1: GET /a b ")
		// One that ends the connection.
		c.send("GET /poll/c HTTP/1.1\r\nHost: h\r\nConnection: close\r\n\r\n")
		s.poll("/poll/c").Finish([]byte("x"))
		c.want("GET", "200 : x (close)")
		if !c.ended() {
			t.Error("the connection goes on")
		}
	})
}

// A client that goes is noticed, once, and what comes for it afterwards is dropped.
func TestClientOfPollGoes(t *testing.T) {
	bothWays(t, Options{}, func(s *service) {
		for i := range 20 {
			path := fmt.Sprint("/poll/", i)
			c := s.dial()
			c.send("GET " + path + " HTTP/1.1\r\nHost: h\r\n\r\n")
			p := s.poll(path)
			if i%2 == 0 {
				c.Close()
				await(t, "gone", 1, func() int { return s.leftOf(path) })
				p.Finish([]byte("x"))
			} else { // both at once
				go c.Close()
				p.Finish([]byte("x"))
			}
			await(t, "connections", 0, s.connections)
			if left := s.leftOf(path); left > 1 || i%2 == 0 && left != 1 {
				t.Errorf("gone %d times", left)
			}
		}
	})
}

// A connection without requests rests, and goes on when one comes.
func TestIdleConnectionsRest(t *testing.T) {
	bothWays(t, Options{IdleBeat: 2 * time.Millisecond}, func(s *service) {
		var clients []*client
		for range 50 {
			clients = append(clients, s.dial())
		}
		for range 3 {
			for _, c := range clients {
				c.send(get)
				c.want("GET", "200 http1: GET /a b ")
			}
			if s.secure != nil || !s.server.resting.takes(anyConn(s)) {
				continue
			}
			await(t, "at rest", len(clients), func() (n int) {
				s.server.each(func(c *conn) {
					if c.idle.Load() == atRest {
						n++
					}
				})
				return n
			})
		}
	})
}

// A client that sends no more, and says so at once with a request, is answered, and then the connection ends, whether it is the first
// request or a later one.
func TestEndThatComesWithARequest(t *testing.T) {
	s := newService(t, Options{IdleBeat: 2 * time.Millisecond}, false)
	for range 50 {
		for _, before := range []int{0, 1, 2} {
			c := s.dial()
			for range before {
				c.send(get)
				c.want("GET", "200 http1: GET /a b ")
			}
			c.send(get)
			if err := c.Conn.(*net.TCPConn).CloseWrite(); err != nil {
				t.Fatal(err)
			}
			c.want("GET", "200 http1: GET /a b ")
			if !c.ended() {
				t.Fatalf("after %d requests the connection goes on", before)
			}
		}
	}
}

// Requests that come while a connection waits for the next one.
func TestLaterRequests(t *testing.T) {
	bothWays(t, Options{}, func(s *service) {
		for _, later := range []struct {
			requests string
			answers  []string // the last one of a connection that ends: "end"
		}{
			{get + get, []string{"200 http1: GET /a b ", "200 http1: GET /a b "}},
			{"GET /poll/now HTTP/1.1\r\nHost: h\r\n\r\n" + get, []string{"200 : x", "200 http1: GET /a b "}},
			{get + "GET /declined HTTP/1.1\r\nHost: h\r\n\r\n", []string{"200 http1: GET /a b ", "200 net/http: GET /declined  "}},
			{"GET /e HTTP/1.1\r\nHost: h\r\nConnection: close\r\n\r\n" + get, []string{"200 http1: GET /e   (close)", "end"}},
			{get + "GET /panic HTTP/1.1\r\nHost: h\r\n\r\n" + get, []string{"end"}},
		} {
			c := s.dial()
			for range 2 {
				c.send(get)
				c.want("GET", "200 http1: GET /a b ")
			}
			c.send(later.requests)
			if strings.Contains(later.requests, "/poll/now") {
				s.poll("/poll/now").Finish([]byte("x"))
			}
			for _, answer := range later.answers {
				if answer != "end" {
					c.want("GET", answer)
				} else if !c.ended() {
					t.Errorf("%q: the connection goes on", later.requests)
				}
			}
		}
	})
}

// Who disturbs a connection that waits may come late, when it rests already, or waits for an answer.
func TestLateDisturbance(t *testing.T) {
	bothWays(t, Options{IdleBeat: 2 * time.Millisecond}, func(s *service) {
		c := s.dial()
		c.send(get)
		c.want("GET", "200 http1: GET /a b ")
		conn := anyConn(s)
		if s.secure == nil && s.server.resting.takes(conn) {
			await(t, "at rest", atRest, func() int { return int(conn.idle.Load()) })
		}
		conn.disturb()
		c.send(get)
		c.want("GET", "200 http1: GET /a b ")

		c.send("GET /poll/a HTTP/1.1\r\nHost: h\r\n\r\n")
		p := s.poll("/poll/a")
		conn.disturb()
		c.send(get)
		p.Finish([]byte("x"))
		c.want("GET", "200 : x")
		c.want("GET", "200 http1: GET /a b ")
	})
}

// anyConn is any connection of a service.
func anyConn(s *service) (any *conn) {
	s.server.each(func(c *conn) { any = c })
	return any
}

// Whoever begins a request and does not go on is answered 408; whoever sends nothing is not.
func TestSlowRequests(t *testing.T) {
	bothWays(t, Options{RequestTimeout: 50 * time.Millisecond}, func(s *service) {
		quiet := s.dial()
		quiet.send(get)
		quiet.want("GET", "200 http1: GET /a b ")
		for _, begun := range []string{"G", get[:len(get)-2], put("/x", "12345")[:40], get + "GET"} {
			c := s.dial()
			c.send(begun)
			if strings.HasPrefix(begun, get) {
				c.want("GET", "200 http1: GET /a b ")
			}
			c.want("GET", "408 : 408 Request Timeout (close)")
			if !c.ended() {
				t.Errorf("%q: the connection goes on", begun)
			}
		}
		quiet.send(get)
		quiet.want("GET", "200 http1: GET /a b ")
		quiet.send("G")
		quiet.want("GET", "408 : 408 Request Timeout (close)")
	})
}

// noted is a connection that takes note of its deadline.
type noted struct {
	net.Conn
	deadline atomic.Int64 // 0: none
}

func (n *noted) SetReadDeadline(at time.Time) error {
	n.deadline.Store(max(at.Unix(), 0))
	return n.Conn.SetReadDeadline(at)
}

// A request that has begun has its time, and the next one does not have what is left of that.
func TestTimeOfRequests(t *testing.T) {
	s := newService(t, Options{}, false)
	near, far := net.Pipe()
	n := &noted{Conn: far}
	s.server.take(n)
	c := &client{t, near, bufio.NewReader(near)}
	hasDeadline := func() int { return int(min(n.deadline.Load(), 1)) }
	for range 3 {
		c.send(get[:5])
		await(t, "deadline of a request", 1, hasDeadline)
		c.send(get[5:])
		c.want("GET", "200 http1: GET /a b ")
		await(t, "deadline of nothing", 0, hasDeadline)
	}
}

// A client that takes nothing of its answers is given up, and with it what it has asked for.
func TestClientThatReadsNothing(t *testing.T) {
	bothWays(t, Options{WriteTimeout: 50 * time.Millisecond}, func(s *service) {
		c := s.dial()
		go func() {
			for {
				if _, err := io.WriteString(c, "GET /pieces HTTP/1.1\r\nHost: h\r\n\r\n"); err != nil {
					return
				}
			}
		}()
		await(t, "requests", 1, func() int { return min(int(s.simple.Load()), 1) })
		await(t, "connections", 0, s.connections)
	})
}

func TestPanicEndsTheConnectionAlone(t *testing.T) {
	bothWays(t, Options{}, func(s *service) {
		other, c := s.dial(), s.dial()
		other.send(get)
		c.send("GET /panic HTTP/1.1\r\nHost: h\r\n\r\n")
		if !c.ended() {
			t.Error("the connection goes on")
		}
		other.want("GET", "200 http1: GET /a b ")
	})
}

// What can go goes: one connection each time, none with a request, a poll, or a request that has begun.
func TestShed(t *testing.T) {
	bothWays(t, Options{}, func(s *service) {
		polling, begun := s.dial(), s.dial()
		polling.send("GET /poll/a HTTP/1.1\r\nHost: h\r\n\r\n")
		p := s.poll("/poll/a")
		begun.send(get + get[:10])
		begun.want("GET", "200 http1: GET /a b ")
		var idle []*client
		for range 3 {
			c := s.dial()
			c.send(get)
			c.want("GET", "200 http1: GET /a b ")
			idle = append(idle, c)
		}
		gone := 0
		await(t, "connections that could go", len(idle), func() int {
			if s.server.Shed() {
				gone++
			}
			return gone
		})
		await(t, "connections that are left", 2, s.connections)
		if s.server.Shed() {
			t.Error("another one went")
		}
		for _, c := range idle {
			if !c.ended() {
				t.Error("one goes on")
			}
		}
		p.Finish([]byte("x"))
		polling.want("GET", "200 : x")
		begun.send(get[10:])
		begun.want("GET", "200 http1: GET /a b ")
	})
}

// An orderly end: connections without a request are closed, polls when they are answered.
func TestShutdown(t *testing.T) {
	bothWays(t, Options{IdleBeat: 2 * time.Millisecond}, func(s *service) {
		idle, fresh, polling := s.dial(), s.dial(), s.dial()
		idle.send(get)
		idle.want("GET", "200 http1: GET /a b ")
		polling.send("GET /poll/a HTTP/1.1\r\nHost: h\r\n\r\n")
		p := s.poll("/poll/a")
		fresh.send(get)
		fresh.want("GET", "200 http1: GET /a b ")
		done := make(chan error, 1)
		go func() { done <- s.server.Shutdown(context.Background()) }()
		if !idle.ended() || !fresh.ended() {
			t.Error("idle connections go on")
		}
		select {
		case err := <-done:
			t.Fatalf("ended before the poll: %v", err)
		default:
		}
		p.Finish([]byte("end"))
		polling.want("GET", "200 : end")
		if !polling.ended() {
			t.Error("the connection of the poll goes on")
		}
		if err := <-done; err != nil {
			t.Error(err)
		}
		ctx, cancel := context.WithCancel(context.Background())
		cancel()
		if err := New(Options{Handler: s}).Shutdown(ctx); err != nil {
			t.Errorf("with nothing to wait for: %v", err)
		}
	})
}

func TestCloseEndsPolls(t *testing.T) {
	bothWays(t, Options{}, func(s *service) {
		c := s.dial()
		c.send("GET /poll/a HTTP/1.1\r\nHost: h\r\n\r\n")
		p := s.poll("/poll/a")
		s.server.Close()
		await(t, "gone", 1, func() int { return s.leftOf("/poll/a") })
		p.Finish(nil)
		if err := s.server.Serve(freshListener(t)); err != ErrStopped {
			t.Errorf("serving goes on: %v", err)
		}
	})
}

func freshListener(t *testing.T) net.Listener {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	return l
}
