package transport

import (
	"bufio"
	"context"
	"crypto/tls"
	"fmt"
	"io"
	"math"
	"net"
	"net/http"
	"net/url"
	"strconv"
	"strings"
)

// A stream begins as an HTTP/1.1 request of the member that will send, which the other one answers with 101 and its own
// half of the same headers, or refuses with a status and a reason.
const (
	streamPath  = "/raft/stream"
	upgradeName = "keelson-peer"

	headerProtocol    = "Keelson-Protocol"     // newest that is spoken; in the answer: the one to speak
	headerProtocolMin = "Keelson-Protocol-Min" // oldest that is spoken
	headerCluster     = "Keelson-Cluster"      // ids in hexadecimal
	headerFrom        = "Keelson-From"
	headerTo          = "Keelson-To"
	headerStream      = "Keelson-Stream"
	headerVersion     = "Keelson-Version" // of the software, for logs

	protocolMin = 1
	protocolMax = 1
)

// hello is what one side says in a handshake.
type hello struct {
	protocol, protocolMin uint64
	cluster, from, to     uint64
	stream                string
	version               string
}

// writeTo sets the headers that say h. Values that are not known stay out.
func (h hello) writeTo(header http.Header) {
	header.Set(headerProtocol, strconv.FormatUint(h.protocol, 10))
	header.Set(headerProtocolMin, strconv.FormatUint(h.protocolMin, 10))
	header.Set(headerCluster, strconv.FormatUint(h.cluster, 16))
	header.Set(headerFrom, strconv.FormatUint(h.from, 16))
	if h.to != 0 {
		header.Set(headerTo, strconv.FormatUint(h.to, 16))
	}
	if h.stream != "" {
		header.Set(headerStream, h.stream)
	}
	if h.version != "" {
		header.Set(headerVersion, h.version)
	}
}

// readHello is the reverse; ok is false if a number is missing or malformed.
func readHello(header http.Header) (h hello, ok bool) {
	ok = true
	number := func(name string, base int) uint64 {
		v, err := strconv.ParseUint(header.Get(name), base, 64)
		ok = ok && err == nil
		return v
	}
	h = hello{
		protocol: number(headerProtocol, 10), protocolMin: number(headerProtocolMin, 10),
		cluster: number(headerCluster, 16), from: number(headerFrom, 16), to: number(headerTo, 16),
		stream: header.Get(headerStream), version: header.Get(headerVersion),
	}
	return h, ok
}

func isUpgrade(header http.Header) bool {
	return strings.EqualFold(header.Get("Upgrade"), upgradeName) && strings.Contains(strings.ToLower(header.Get("Connection")), "upgrade")
}

func (t *Transport) hello(to uint64, stream string) hello {
	return hello{
		protocol: protocolMax, protocolMin: protocolMin,
		cluster: t.o.ClusterID, from: t.o.MemberID, to: to, stream: stream, version: t.o.Version,
	}
}

// judge decides about a request for a stream. An empty reason accepts it.
func (t *Transport) judge(r *http.Request) (h hello, k kind, reason string) {
	if r.Method != http.MethodGet || !isUpgrade(r.Header) || r.ProtoMajor != 1 {
		return h, k, reasonNoUpgrade
	}
	h, ok := readHello(r.Header)
	if !ok || h.protocol < h.protocolMin {
		return h, k, reasonHeaders
	}
	k, ok = kindNamed(h.stream)
	switch {
	case h.protocol < protocolMin || h.protocolMin > protocolMax:
		return h, k, reasonProtocol
	case h.cluster != t.o.ClusterID:
		return h, k, reasonOtherCluster
	case h.to != t.o.MemberID || h.from == t.o.MemberID || h.from == 0:
		return h, k, reasonOtherMember
	case t.o.IsRemoved(h.from):
		return h, k, reasonRemoved
	case !ok:
		return h, k, reasonKind
	}
	return h, k, ""
}

// dial opens a stream to a peer, trying all its addresses in turn.
//
// Errors: the last address's; *RefusedError.
func (t *Transport) dial(ctx context.Context, p *peer, k kind) (*line, *bufio.Reader, error) {
	first := int(p.turn.Load())
	var err error
	for i := range p.urls {
		at := (first + i) % len(p.urls)
		var l *line
		var r *bufio.Reader
		if l, r, err = t.dialURL(ctx, p, p.urls[at], k); err == nil {
			p.turn.Store(int32(at))
			return l, r, nil
		}
		if ctx.Err() != nil {
			break
		}
	}
	return nil, nil, err
}

func (t *Transport) dialURL(ctx context.Context, p *peer, address string, k kind) (_ *line, _ *bufio.Reader, err error) {
	ctx, cancel := context.WithTimeout(ctx, t.o.ReadTimeout)
	defer cancel()
	defer func() {
		if err != nil {
			err = fmt.Errorf("stream %v to %s: %w", k, address, err)
		}
	}()
	u, err := url.Parse(address)
	if err != nil {
		return nil, nil, err
	}
	network, at := addressOf(u)
	conn, err := t.connect(ctx, network, at)
	if err != nil {
		return nil, nil, err
	}
	// Until the handshake is done, closing the connection is what ends it.
	undo := context.AfterFunc(ctx, func() { closeNow(conn) })
	l, r, err := t.greet(ctx, p, u, conn, k)
	if !undo() && err == nil {
		err = ctx.Err()
	}
	if err != nil {
		closeNow(conn)
		return nil, nil, err
	}
	return l, r, nil
}

// connect gives up early: a network that heals is found by asking again, sooner than by waiting for the same question to
// be repeated.
func (t *Transport) connect(ctx context.Context, network, address string) (net.Conn, error) {
	ctx, cancel := context.WithTimeout(ctx, connectTimeout)
	defer cancel()
	return t.o.Dial(ctx, network, address)
}

// addressOf is where a URL is dialed.
func addressOf(u *url.URL) (network, address string) {
	switch u.Scheme {
	case "unix", "unixs":
		return "unix", u.Host + u.Path
	}
	return "tcp", hostPort(u)
}

func hostPort(u *url.URL) string {
	port := u.Port()
	switch {
	case port != "":
		return u.Host
	case u.Scheme == "https":
		port = "443"
	default:
		port = "80"
	}
	return net.JoinHostPort(u.Hostname(), port)
}

// greet makes the handshake on a new connection. It is ended by closing the connection.
func (t *Transport) greet(ctx context.Context, p *peer, u *url.URL, conn net.Conn, k kind) (*line, *bufio.Reader, error) {
	read, write := t.timeoutsOf(k)
	setUserTimeout(conn, max(read, write))
	switch u.Scheme {
	case "http", "unix":
	case "https", "unixs":
		c, err := t.encrypt(ctx, u, conn)
		if err != nil {
			return nil, nil, err
		}
		conn = c
	default:
		return nil, nil, fmt.Errorf("scheme %q", u.Scheme)
	}
	l := t.newLine(conn, p.counters)
	header := make(http.Header)
	header.Set("Connection", "Upgrade")
	header.Set("Upgrade", upgradeName)
	t.hello(p.id, k.String()).writeTo(header)
	var request strings.Builder
	fmt.Fprintf(&request, "GET %s HTTP/1.1\r\nHost: %s\r\n", streamPath, hostHeader(u))
	header.Write(&request) // into memory: can't fail
	request.WriteString("\r\n")
	if _, err := io.WriteString(l, request.String()); err != nil {
		return nil, nil, err
	}
	limited := &io.LimitedReader{R: l, N: answerBytesMax}
	r := bufio.NewReaderSize(limited, 4<<10)
	resp, err := http.ReadResponse(r, &http.Request{Method: http.MethodGet})
	if err != nil {
		return nil, nil, fmt.Errorf("answer: %w", unexpected(err))
	}
	if err := t.understand(resp, p); err != nil {
		return nil, nil, err
	}
	limited.N = math.MaxInt64
	l.read.timeout, l.write.timeout = read, write
	return l, r, nil
}

// hostHeader names the host; that of a socket could have any characters.
func hostHeader(u *url.URL) string {
	if network, _ := addressOf(u); network == "unix" {
		return "localhost"
	}
	return u.Host
}

func (t *Transport) encrypt(ctx context.Context, u *url.URL, conn net.Conn) (net.Conn, error) {
	if t.o.TLS == nil {
		return nil, fmt.Errorf("no TLS is configured for peers")
	}
	c := t.o.TLS.Clone()
	c.NextProtos = []string{"http/1.1"}
	switch {
	case c.ServerName != "":
	case u.Scheme == "unixs":
		c.ServerName = "localhost"
	default:
		c.ServerName = u.Hostname()
	}
	encrypted := tls.Client(conn, c)
	return encrypted, encrypted.HandshakeContext(ctx)
}

// understand checks the answer to a handshake.
func (t *Transport) understand(resp *http.Response, p *peer) error {
	h, ok := readHello(resp.Header)
	if resp.StatusCode != http.StatusSwitchingProtocols {
		body, _ := io.ReadAll(io.LimitReader(resp.Body, 1<<10)) // as much of the reason as comes
		reason := strings.TrimSpace(string(body))
		// Whoever else is there now may not say that we are removed.
		if resp.StatusCode == http.StatusGone && ok && h.cluster == t.o.ClusterID && h.from == p.id && h.to == t.o.MemberID {
			t.reports.removed(p.id)
		}
		return &RefusedError{Status: resp.StatusCode, Reason: reason}
	}
	switch {
	case !ok || !isUpgrade(resp.Header):
		return fmt.Errorf("accepted by something else than a member")
	case h.cluster != t.o.ClusterID || h.from != p.id || h.to != t.o.MemberID:
		return fmt.Errorf("accepted by member %x of cluster %x for member %x", h.from, h.cluster, h.to)
	case h.protocol < protocolMin || h.protocol > protocolMax:
		return fmt.Errorf("accepted with protocol version %d", h.protocol)
	}
	return nil
}
