package handshake

import (
	"bytes"
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"net"
	"slices"
	"strings"
	"testing"
	"time"

	"golang.org/x/net/http2"
)

// apart are arguments of a member whose gRPC, HTTP and metrics have addresses of their own.
var apart = []string{"--listen-client-http-urls=https://@http", "--listen-metrics-urls=https://@metrics"}

// TestProtocols has clients offer protocols, and then speak one or the other, at every kind of address.
func TestProtocols(t *testing.T) {
	offers := [][]string{nil, {"h2"}, {"http/1.1"}, {"h2", "http/1.1"}, {"http/1.1", "h2"}, {"nosuch"}, {"nosuch", "h2"}, {"http/1.0"}, {"nosuch", "http/1.1"}, {"h2c"}, {"H2"}}
	look := func(s *side) {
		for _, address := range []string{"@client", "@http", "@metrics", "@peer"} {
			for _, offer := range offers {
				for _, version := range []uint16{tls.VersionTLS12, tls.VersionTLS13} {
					config := actors.named("address").as()
					config.NextProtos, config.MinVersion, config.MaxVersion = offer, version, version
					s.shake(fmt.Sprintf("%s: offers %q, %s", address, offer, tls.VersionName(version)), address, config)
				}
			}
		}
	}
	speak := func(s *side) {
		for _, address := range []string{"@client", "@http", "@metrics"} {
			for _, offer := range [][]string{nil, {"h2"}, {"http/1.1"}} {
				for _, speaks := range []string{"GET /health HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n", http2.ClientPreface} {
					config := actors.named("address").as()
					config.NextProtos = offer
					what := fmt.Sprintf("%s: offers %q, speaks %.10q", address, offer, speaks)
					raw, err := s.connect(context.Background(), s.addresses[address])
					if err != nil {
						s.note(what, err.Error(), "")
						continue
					}
					s.note(what, told(tls.Client(raw, config), speaks), raw.LocalAddr().String())
				}
			}
			for _, path := range []string{"/health", "/metrics", "/version", "/v3/kv/range", "/nosuch"} {
				for _, h2 := range []bool{false, true} {
					s.get(fmt.Sprintf("%s%s, HTTP/2 %t", address, path, h2), "https://"+address+path, actors.named("address").as(), h2)
				}
			}
			s.request(address+": gateway", "POST", "https://"+address+"/v3/kv/range", `{"key":"YQ=="}`, actors.named("nameless").as(), true)
			s.call(address+": gRPC", address, actors.named("address").as(), "", read)
		}
		for _, h2 := range []bool{false, true} {
			s.get(fmt.Sprintf("@peer/members, HTTP/2 %t", h2), "https://@peer/version", actors.named("address").as(), h2)
		}
	}
	for name, args := range map[string][]string{
		"together": with(slices.Concat(demanding, securePeers, []string{"--listen-client-http-urls=", "--listen-metrics-urls=https://@metrics,https://@http"})...),
		"apart":    with(slices.Concat(demanding, securePeers, apart)...),
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			situation{args: args, look: look}.compare(t)
		})
		t.Run(name+", spoken", func(t *testing.T) {
			t.Parallel()
			situation{args: args, look: speak}.compare(t)
		})
	}
}

// told is what comes back for some bytes until the other side ends the connection, or what it says first if it goes on.
func told(conn net.Conn, speaks string) string {
	defer conn.Close()
	conn.SetDeadline(time.Now().Add(patience))
	if speaks == http2.ClientPreface {
		return firstFrame(conn)
	}
	io.WriteString(conn, speaks)
	if half, ok := conn.(interface{ CloseWrite() error }); ok && speaks == "" {
		half.CloseWrite()
	}
	answer, err := io.ReadAll(conn)
	text := "nothing, or HTTP/2" // whose servers may speak first
	switch {
	case bytes.HasPrefix(answer, []byte("HTTP/")):
		text = sorted(string(answer))
	case bytes.HasPrefix(answer, []byte{alertRecord}):
		text = fmt.Sprintf("alert %x", answer)
	}
	var timeout net.Error
	if errors.As(err, &timeout) && timeout.Timeout() {
		text += ", and goes on"
	}
	return text
}

// alertRecord is how a record of TLS begins that tells what is wrong.
const alertRecord = 0x15

// sorted is an answer in HTTP/1.1 with its headers in order.
func sorted(answer string) string {
	head, body, _ := strings.Cut(strings.ReplaceAll(dates.ReplaceAllString(answer, "Date"), "\r\n", "\n"), "\n\n")
	lines := strings.Split(head, "\n")
	slices.Sort(lines[1:])
	return strings.Join(lines, "\n") + "\n\n" + steady(body)
}

// TestClearText has clients without TLS come where it is spoken, and clients with TLS where it is not.
func TestClearText(t *testing.T) {
	const host = " /health HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n"
	verbs := []string{"GET", "HEAD", "POST", "PUT", "OPTIONS", "DELETE", "PATCH"}
	// What is said where only TLS is spoken: neither an answer to it nor the refusal may have to wait for more.
	noRecords := []string{"nonsense\r\n\r\n", "GET /health HTTP/1.0\r\n\r\n", "\x80\x2e\x01\x03\x01\x00\x15\x00\x00\x00\x10", "\x16\x03\x01\x00\x05hello",
		"\x15\x03\x01\x00\x02\x02\x28", "\x16\x03\x01\xff\xff", ""}
	for name, r := range map[string]struct {
		args   []string
		secure string // addresses where only TLS is spoken
	}{
		"apart": {with(slices.Concat(apart, securePeers)...), "@client @http @metrics @peer"},
		"TLS":   {with("--listen-metrics-urls=https://@metrics,https://@http"), "@client @http @metrics"},
		"both, apart": {with("--listen-client-urls=https://@client,http://@client", "--listen-client-http-urls=http://@http,https://@http",
			"--listen-metrics-urls=http://@metrics"), ""},
		"both":                       {with("--listen-client-urls=https://@client,http://@client", "--listen-metrics-urls=http://@metrics,https://@http"), "@http"},
		"metrics without TLS, apart": {with("--listen-metrics-urls=http://@metrics", "--listen-client-http-urls=https://@http"), "@client @http"},
		"none, apart": {with("--listen-client-urls=http://@client", "--advertise-client-urls=http://@client", "--listen-client-http-urls=http://@http",
			"--listen-metrics-urls=http://@metrics"), ""},
		"none": {with("--listen-client-urls=http://@client", "--advertise-client-urls=http://@client", "--listen-metrics-urls=http://@metrics,http://@http", "--cert-file=", "--key-file="), ""},
	} {
		look := func(s *side) {
			tell := func(address, speaks string) {
				what := fmt.Sprintf("%s is told %.20q", address, speaks)
				conn, err := s.connect(context.Background(), s.addresses[address])
				if err != nil {
					s.note(what, err.Error(), "")
					return
				}
				s.note(what, told(conn, speaks), conn.LocalAddr().String())
			}
			for _, address := range []string{"@client", "@http", "@metrics", "@peer"} {
				secure := strings.Contains(r.secure, address)
				if address == "@peer" && !secure {
					continue
				}
				for _, verb := range verbs {
					tell(address, verb+host)
				}
				if secure {
					for _, speaks := range noRecords {
						tell(address, speaks)
					}
				}
				for _, path := range []string{"/health", "/metrics", "/v3/kv/range"} {
					s.get(address+path+" without TLS", "http://"+address+path, nil, false)
					s.get(address+path+" with TLS", "https://"+address+path, actors.nobody.as(), true)
				}
				s.clear(address+"/health in HTTP/2 without TLS", address)
				s.call(address+": gRPC without TLS", address, nil, "", read)
				s.call(address+": gRPC with TLS", address, actors.nobody.as(), "", read)
				s.shake(address+": TLS", address, actors.nobody.as())
			}
		}
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			situation{args: r.args, look: look}.compare(t)
		})
	}
}

// securePeers are the arguments of a member whose others come with TLS.
var securePeers = []string{"--listen-peer-urls=https://@peer", "--initial-advertise-peer-urls=https://@peer", "--initial-cluster=m1=https://@peer",
	"--peer-cert-file=@files/server.pem", "--peer-key-file=@files/server.key", "--peer-trusted-ca-file=@files/ca.pem", "--peer-client-cert-auth"}
