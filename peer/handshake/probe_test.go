package handshake

import (
	"bufio"
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"regexp"
	"strings"
	"syscall"
	"time"

	pb "go.etcd.io/etcd/api/v3/etcdserverpb"
	"golang.org/x/net/http2"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/credentials"
	"google.golang.org/grpc/credentials/insecure"
	"google.golang.org/grpc/metadata"
	"google.golang.org/grpc/status"
)

// patience is how long anything may take before it counts as no answer.
const patience = 30 * time.Second

// refused is what clients see that are not let in. Which error that is depends on what they were about to do; the one that TLS
// has is compared where nothing else is done.
const refused = "refused"

// connect is a connection from a port that no other one of the side has come from: the log tells of connections by their ports.
func (s *side) connect(ctx context.Context, address string) (net.Conn, error) {
	dialer := net.Dialer{Timeout: patience, LocalAddr: &net.TCPAddr{IP: net.IPv4(127, 0, 0, 1)}}
	for {
		conn, err := dialer.DialContext(ctx, "tcp", address)
		if err != nil || s.isNew(conn.LocalAddr().String()) {
			return conn, err
		}
		conn.Close()
	}
}

// shake makes a handshake with the server at address, and then asks for its version, or for its settings if HTTP/2 was agreed
// on: with TLS 1.3, only then a client learns whether it was let in.
func (s *side) shake(what, address string, config *tls.Config) {
	raw, err := s.connect(context.Background(), s.addresses[address])
	if err != nil {
		s.note(what, "no connection: "+err.Error(), "")
		return
	}
	defer raw.Close()
	from := raw.LocalAddr().String()
	raw.SetDeadline(time.Now().Add(patience))
	conn := tls.Client(raw, config)
	if err := conn.Handshake(); err != nil {
		s.note(what, "no handshake: "+ending(err), from)
		return
	}
	state := conn.ConnectionState()
	saw := fmt.Sprintf("%s, %s, protocol %q, server %s", tls.VersionName(state.Version), tls.CipherSuiteName(state.CipherSuite), state.NegotiatedProtocol,
		state.PeerCertificates[0].Subject)
	if state.NegotiatedProtocol == "h2" {
		saw += "; " + firstFrame(conn)
	} else {
		saw += "; " + firstLine(conn)
	}
	s.note(what, saw, from)
}

// firstLine is the status of the answer to a request in HTTP/1.1.
func firstLine(conn io.ReadWriter) string {
	io.WriteString(conn, "GET /version HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n") // reading tells why that fails
	line, err := bufio.NewReader(conn).ReadString('\n')
	if !strings.HasPrefix(line, "HTTP/1.1 ") { // whoever speaks only HTTP/2 may have begun to
		return "no HTTP/1.1, " + ending(err)
	}
	return strings.TrimSpace(line)
}

// ending is how a connection ends. Whether that shows as an end or as a reset depends on what was on its way then.
func ending(err error) string {
	if errors.Is(err, io.EOF) || errors.Is(err, syscall.ECONNRESET) || errors.Is(err, syscall.EPIPE) {
		return "it ends"
	}
	return err.Error()
}

// firstFrame is the first frame of the server, in HTTP/2.
func firstFrame(conn io.ReadWriter) string {
	framer := http2.NewFramer(conn, conn)
	io.WriteString(conn, http2.ClientPreface)
	framer.WriteSettings()
	frame, err := framer.ReadFrame()
	if err != nil {
		return ending(err)
	}
	if away, ok := frame.(*http2.GoAwayFrame); ok {
		return "HTTP/2 GOAWAY " + away.ErrCode.String()
	}
	return "HTTP/2 " + frame.Header().Type.String()
}

// get makes one request over HTTP/1.1, or HTTP/2.
func (s *side) get(what, url string, config *tls.Config, h2 bool) {
	s.request(what, "GET", url, "", config, h2)
}

// request makes one request, with headers given as name and value in turn.
func (s *side) request(what, method, url, body string, config *tls.Config, h2 bool, header ...string) {
	transport := &http.Transport{TLSClientConfig: config, DisableKeepAlives: true, ForceAttemptHTTP2: h2,
		DialContext: func(ctx context.Context, _, address string) (net.Conn, error) { return s.connect(ctx, address) }}
	if !h2 {
		transport.TLSNextProto = map[string]func(string, *tls.Conn) http.RoundTripper{}
	}
	s.ask(what, method, url, body, transport, header...)
}

// ask makes one request.
func (s *side) ask(what, method, url, body string, transport *http.Transport, header ...string) {
	defer transport.CloseIdleConnections()
	r, err := http.NewRequest(method, s.fill(url)[0], strings.NewReader(body))
	if err != nil {
		s.note(what, err.Error(), "")
		return
	}
	for i := 0; i < len(header); i += 2 {
		r.Header.Set(header[i], header[i+1])
	}
	answer, err := (&http.Client{Transport: transport, Timeout: patience}).Do(r)
	if err != nil {
		s.note(what, refusal(err), "")
		return
	}
	defer answer.Body.Close()
	text, err := io.ReadAll(answer.Body)
	if strings.HasPrefix(r.URL.Path, "/metrics") {
		text = []byte("(metrics)")
	}
	saw := fmt.Sprintf("%s %s %s: %s", answer.Proto, answer.Status, answer.Header.Get("Content-Type"), steady(string(text)))
	if err != nil {
		saw += " " + err.Error()
	}
	s.note(what, saw, "")
}

// clear makes one request in HTTP/2 without TLS.
func (s *side) clear(what, address string) {
	transport := &http.Transport{DisableKeepAlives: true, Protocols: new(http.Protocols),
		DialContext: func(ctx context.Context, _, address string) (net.Conn, error) { return s.connect(ctx, address) }}
	transport.Protocols.SetUnencryptedHTTP2(true)
	s.ask(what, "GET", "http://"+address+"/health", "", transport)
}

// refusal tells a connection that was not wanted from one on which nothing happened.
func refusal(err error) string {
	var timeout net.Error
	if errors.As(err, &timeout) && timeout.Timeout() || errors.Is(err, context.DeadlineExceeded) {
		return "no answer"
	}
	return refused
}

// volatile are ids, terms, tokens and versions, which follow from addresses, time and chance, and the spaces that protobuf puts into JSON.
var volatile = []struct {
	pattern *regexp.Regexp
	with    string
}{
	{regexp.MustCompile(`"(cluster_id|member_id|raft_term|revision|ID)": ?"\d+"`), `"$1":"<>"`},
	{regexp.MustCompile(`"token": ?"[^"]*"`), `"token":"<>"`},
	{regexp.MustCompile(`"(etcdcluster|storage)": ?"[^"]*"`), `"$1":"<>"`}, // known a little after the start
	{regexp.MustCompile(`([,:]) `), `$1`},
}

func steady(text string) string {
	text = strings.ReplaceAll(text, "\u00a0", " ")
	for _, v := range volatile {
		text = v.pattern.ReplaceAllString(text, v.with)
	}
	return strings.TrimSpace(text)
}

// dial is a gRPC client; config nil: without TLS.
func (s *side) dial(address string, config *tls.Config) *grpc.ClientConn {
	security := insecure.NewCredentials()
	if config != nil {
		security = credentials.NewTLS(config)
	}
	conn, err := grpc.NewClient("passthrough:///"+s.addresses[address], grpc.WithTransportCredentials(security), grpc.WithContextDialer(s.connect))
	if err != nil {
		panic(err)
	}
	return conn
}

// call makes calls and notes how they end. token may be empty.
func (s *side) call(what, address string, config *tls.Config, token string, do func(context.Context, *grpc.ClientConn) (any, error)) {
	conn := s.dial(address, config)
	defer conn.Close()
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	defer cancel()
	if token != "" {
		ctx = metadata.AppendToOutgoingContext(ctx, "token", token)
	}
	answer, err := do(ctx, conn)
	saw := "done"
	switch code := status.Code(err); {
	case code == codes.Unavailable:
		saw = refused
	case err != nil:
		saw = fmt.Sprintf("%v: %s", code, status.Convert(err).Message())
	case answer != nil:
		saw += " " + fmt.Sprint(answer)
	}
	s.note(what, saw, "")
}

// read is the call that most clients make.
func read(ctx context.Context, conn *grpc.ClientConn) (any, error) {
	r, err := pb.NewKVClient(conn).Range(ctx, &pb.RangeRequest{Key: []byte("a")})
	if err != nil {
		return nil, err
	}
	return r.Count, nil
}

// come is a client with a certificate, or none, who makes handshakes with an address that serves everything, in TLS 1.3 and 1.2.
func (s *side) come(address string, c client) {
	for _, version := range []uint16{tls.VersionTLS13, tls.VersionTLS12} {
		config := c.as()
		config.MinVersion, config.MaxVersion = version, version
		s.shake(c.name+" at "+address+": "+tls.VersionName(version), address, config)
	}
}

// use is a client that comes, and calls besides.
func (s *side) use(address string, c client) {
	s.come(address, c)
	for _, h2 := range []bool{false, true} {
		s.get(fmt.Sprintf("%s: HTTP, HTTP/2 %t", c.name, h2), "https://"+address+"/health", c.as(), h2)
	}
	s.call(c.name+": gRPC", address, c.as(), "", read)
}
