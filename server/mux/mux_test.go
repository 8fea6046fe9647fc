package mux

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"runtime"
	"strings"
	"syscall"
	"testing"
	"time"

	"go.uber.org/goleak"
	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials/insecure"
	"google.golang.org/grpc/health"
	"google.golang.org/grpc/health/grpc_health_v1"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

func TestDecide(t *testing.T) {
	for n := range preface {
		if got := decide([]byte(preface[:n])); got != undecided {
			t.Errorf("%q: %d", preface[:n], got)
		}
		if got := decide([]byte(preface[:n] + "x")); got != http1 {
			t.Errorf("%q: %d", preface[:n]+"x", got)
		}
	}
	if decide([]byte(preface)) != http2 || decide([]byte(preface+"more")) != http2 {
		t.Error("the preface is not recognised")
	}
	for _, first := range []string{"G", "POST", "PUT", "PRI * HTTP/1", "\x16\x03\x01", "\x00"} {
		if got := decide([]byte(first)); got != http1 {
			t.Errorf("%q: %d", first, got)
		}
	}
}

func FuzzDecide(f *testing.F) {
	for _, seed := range []string{"", "P", preface, preface + "x", "POST / HTTP/1.1\r\n", "PRI * HTTP/2.0\r\n\r\nXX"} {
		f.Add([]byte(seed))
	}
	f.Fuzz(func(t *testing.T, first []byte) {
		got := decide(first)
		if (got == http2) != bytes.HasPrefix(first, []byte(preface)) {
			t.Errorf("%q: %d", first, got)
		}
		if got == undecided && len(first) >= len(preface) {
			t.Errorf("%q is still undecided", first)
		}
		for n := range first {
			if earlier := decide(first[:n]); earlier != undecided && earlier != got {
				t.Errorf("%q was decided %d, then %d", first, earlier, got)
			}
		}
	})
}

func listen(t *testing.T) net.Listener {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	return l
}

// serve runs m until the test ends.
func serve(t *testing.T, m *Mux) {
	t.Helper()
	done := make(chan error, 1)
	go func() { done <- m.Serve() }()
	t.Cleanup(func() {
		if err := m.Close(); err != nil {
			t.Error(err)
		}
		if err := <-done; !errors.Is(err, net.ErrClosed) {
			t.Errorf("Serve: %v", err)
		}
	})
}

func TestBothProtocols(t *testing.T) {
	var traffic Traffic
	l := listen(t)
	m := New(l, Options{Traffic: &traffic})
	serve(t, m)

	g := grpc.NewServer()
	grpc_health_v1.RegisterHealthServer(g, health.NewServer())
	served := make(chan error, 2)
	go func() { served <- g.Serve(m.GRPC()) }()
	h := &http.Server{Handler: http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		body, _ := io.ReadAll(r.Body)
		fmt.Fprintf(w, "%s %d", r.Method, len(body))
	})}
	go func() { served <- h.Serve(m.HTTP()) }()

	conn, err := grpc.NewClient(l.Addr().String(), grpc.WithTransportCredentials(insecure.NewCredentials()))
	if err != nil {
		t.Fatal(err)
	}
	reply, err := grpc_health_v1.NewHealthClient(conn).Check(context.Background(), &grpc_health_v1.HealthCheckRequest{})
	if err != nil || reply.Status != grpc_health_v1.HealthCheckResponse_SERVING {
		t.Fatalf("%v, %v", reply, err)
	}
	conn.Close()

	client := &http.Client{Transport: &http.Transport{}}
	before := traffic.Received.Load()
	if before < uint64(len(preface)) || traffic.Sent.Load() == 0 {
		t.Errorf("traffic %d, %d", before, traffic.Sent.Load())
	}
	for _, method := range []string{"GET", "PUT", "POST", "PATCH"} {
		r, err := http.NewRequest(method, "http://"+l.Addr().String(), strings.NewReader(strings.Repeat("x", 1000)))
		if err != nil {
			t.Fatal(err)
		}
		reply, err := client.Do(r)
		if err != nil {
			t.Fatal(err)
		}
		body, err := io.ReadAll(reply.Body)
		reply.Body.Close()
		if err != nil || string(body) != method+" 1000" {
			t.Errorf("%s: %q, %v", method, body, err)
		}
	}
	client.CloseIdleConnections()

	g.Stop()
	h.Close()
	for range 2 {
		if err := <-served; err != nil && !errors.Is(err, http.ErrServerClosed) {
			t.Error(err)
		}
	}
}

// The preface may come byte by byte, and what follows it must not be lost.
func TestDribble(t *testing.T) {
	m := New(listen(t), Options{})
	serve(t, m)
	for text, l := range map[string]net.Listener{
		preface + "frames":                m.GRPC(),
		"PRI * HTTP/2.0\r\n\r\nSM\r\n\rX": m.HTTP(),
		"PUT /a HTTP/1.1\r\n\r\n":         m.HTTP(),
	} {
		client, err := net.Dial("tcp", m.from.Addr().String())
		if err != nil {
			t.Fatal(err)
		}
		go func() {
			for i := range len(text) {
				if _, err := client.Write([]byte{text[i]}); err != nil {
					return
				}
				runtime.Gosched()
			}
			client.(*net.TCPConn).CloseWrite()
		}()
		server, err := l.Accept()
		if err != nil {
			t.Fatal(err)
		}
		got, err := io.ReadAll(server)
		if err != nil || string(got) != text {
			t.Errorf("%q arrived as %q, %v", text, got, err)
		}
		server.Close()
		client.Close()
	}
}

// isClosed waits until the other side has closed the connection.
func isClosed(conn net.Conn) error {
	var b [1]byte
	if n, err := conn.Read(b[:]); err == nil {
		return fmt.Errorf("read %d bytes", n)
	}
	return nil
}

func dial(t *testing.T, m *Mux, text string) net.Conn {
	t.Helper()
	conn, err := net.Dial("tcp", m.from.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { conn.Close() })
	if _, err := io.WriteString(conn, text); err != nil {
		t.Fatal(err)
	}
	return conn
}

func TestSilenceIsCutOff(t *testing.T) {
	m := New(listen(t), Options{DecideTimeout: 20 * time.Millisecond})
	serve(t, m)
	for _, text := range []string{"", "PRI * HTTP/2.0"} {
		if err := isClosed(dial(t, m, text)); err != nil {
			t.Errorf("after %q: %v", text, err)
		}
	}
}

// Once decided, a connection may be silent for as long as it likes.
func TestDeadlineEndsWithTheDecision(t *testing.T) {
	m := New(listen(t), Options{DecideTimeout: 2 * time.Second})
	serve(t, m)
	client := dial(t, m, "GET")
	server, err := m.HTTP().Accept()
	if err != nil {
		t.Fatal(err)
	}
	defer server.Close()
	if _, err := io.ReadFull(server, make([]byte, 3)); err != nil {
		t.Fatal(err)
	}
	read := make(chan error, 1)
	go func() {
		_, err := io.ReadFull(server, make([]byte, 1))
		read <- err
	}()
	if err := isClosed(dial(t, m, "")); err != nil { // takes longer than the deadline of the first connection
		t.Fatal(err)
	}
	if _, err := client.Write([]byte("x")); err != nil {
		t.Fatal(err)
	}
	if err := <-read; err != nil {
		t.Errorf("the connection was cut off: %v", err)
	}
}

func TestOldestUndecidedGivesWay(t *testing.T) {
	const most = 3
	m := New(listen(t), Options{UndecidedMax: most, DecideTimeout: time.Hour})
	serve(t, m)
	var silent []net.Conn
	for range most + 2 {
		silent = append(silent, dial(t, m, "P"))
	}
	for i := range 2 {
		if err := isClosed(silent[i]); err != nil {
			t.Fatalf("connection %d: %v", i, err)
		}
	}
	for _, conn := range silent[2:] {
		if _, err := io.WriteString(conn, "OST"); err != nil {
			t.Fatal(err)
		}
		server, err := m.HTTP().Accept()
		if err != nil {
			t.Fatal(err)
		}
		server.Close()
	}
}

// A connection that was handed over costs no goroutine of the mux, however long it idles.
func TestIdleConnectionsCostNothing(t *testing.T) {
	m := New(listen(t), Options{})
	serve(t, m)
	const connections = 50
	before := runtime.NumGoroutine()
	var servers []net.Conn
	for range connections {
		dial(t, m, preface)
		server, err := m.GRPC().Accept()
		if err != nil {
			t.Fatal(err)
		}
		servers = append(servers, server)
	}
	m.sorting.Wait()
	if after := runtime.NumGoroutine(); after > before+connections/2 {
		t.Errorf("%d goroutines before, %d after %d connections", before, after, connections)
	}
	if m.waiting.Len() != 0 {
		t.Errorf("%d connections are still undecided", m.waiting.Len())
	}
	for _, server := range servers {
		server.Close()
	}
}

func TestClose(t *testing.T) {
	m := New(listen(t), Options{DecideTimeout: time.Hour})
	done := make(chan error, 1)
	go func() { done <- m.Serve() }()
	silent, spoken, nobody := dial(t, m, ""), dial(t, m, preface), dial(t, m, "GET")
	server, err := m.GRPC().Accept()
	if err != nil {
		t.Fatal(err)
	}
	defer server.Close()
	for range 2 {
		if err := m.Close(); err != nil {
			t.Fatal(err)
		}
	}
	if err := <-done; !errors.Is(err, net.ErrClosed) {
		t.Errorf("Serve: %v", err)
	}
	for _, conn := range []net.Conn{silent, nobody} {
		if err := isClosed(conn); err != nil {
			t.Error(err)
		}
	}
	for _, l := range []net.Listener{m.GRPC(), m.HTTP()} {
		if _, err := l.Accept(); !errors.Is(err, net.ErrClosed) {
			t.Errorf("Accept: %v", err)
		}
	}
	if _, err := server.Write([]byte("x")); err != nil {
		t.Errorf("a connection that was handed over is closed: %v", err)
	}
	if _, err := io.ReadFull(spoken, make([]byte, 1)); err != nil {
		t.Error(err)
	}
}

// A server that closed its listener must not hold connections of its kind.
func TestClosedListenerRefuses(t *testing.T) {
	m := New(listen(t), Options{})
	serve(t, m)
	m.HTTP().Close()
	if err := isClosed(dial(t, m, "GET / HTTP/1.1\r\n")); err != nil {
		t.Error(err)
	}
}

// flaky fails a few times before it accepts, and then for good.
type flaky struct {
	net.Listener
	errs []error
}

func (f *flaky) Accept() (net.Conn, error) {
	if len(f.errs) == 0 {
		return f.Listener.Accept()
	}
	err := f.errs[0]
	f.errs = f.errs[1:]
	return nil, err
}

func TestAcceptErrors(t *testing.T) {
	full := &net.OpError{Op: "accept", Err: syscall.EMFILE}
	m := New(&flaky{listen(t), []error{full, full, full}}, Options{})
	serve(t, m)
	dial(t, m, "GET")
	server, err := m.HTTP().Accept()
	if err != nil {
		t.Fatal(err)
	}
	server.Close()

	broken := errors.New("broken")
	b := New(&flaky{listen(t), []error{broken}}, Options{})
	if err := b.Serve(); !errors.Is(err, broken) {
		t.Errorf("Serve: %v", err)
	}
	if err := b.Close(); err != nil {
		t.Error(err)
	}
}

func TestCounted(t *testing.T) {
	var traffic Traffic
	l := Counted(listen(t), &traffic)
	defer l.Close()
	client, err := net.Dial("tcp", l.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	defer client.Close()
	server, err := l.Accept()
	if err != nil {
		t.Fatal(err)
	}
	defer server.Close()
	if _, err := io.WriteString(client, "12345"); err != nil {
		t.Fatal(err)
	}
	if _, err := io.ReadFull(server, make([]byte, 5)); err != nil {
		t.Fatal(err)
	}
	if _, err := io.WriteString(server, "123"); err != nil {
		t.Fatal(err)
	}
	if traffic.Received.Load() != 5 || traffic.Sent.Load() != 3 {
		t.Errorf("received %d, sent %d", traffic.Received.Load(), traffic.Sent.Load())
	}
}
