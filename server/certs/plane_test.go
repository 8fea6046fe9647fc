package certs

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"strings"
	"testing"
	"time"

	"keelson/internal/testkit"
)

// cast is who takes part in the tests: two authorities, and what they have issued.
type cast struct {
	ca, other               *testkit.Authority
	server, client, stolen  testkit.Pair
	foreign, expired, named testkit.Pair
}

func newCast(t *testing.T) cast {
	c := cast{ca: testkit.NewAuthority(t), other: testkit.NewAuthority(t)}
	c.server = c.ca.Issue("server", testkit.Subject{CommonName: "server", Hosts: []string{"127.0.0.1", "localhost"}, RSA: true})
	c.client = c.ca.Issue("client", testkit.Subject{CommonName: "client", Hosts: []string{"client.example"}})
	c.stolen = c.ca.Issue("stolen", testkit.Subject{CommonName: "client", Hosts: []string{"client.example"}})
	c.expired = c.ca.Issue("expired", testkit.Subject{CommonName: "client", Hosts: []string{"client.example"}, Age: time.Minute})
	c.named = c.ca.Issue("named", testkit.Subject{CommonName: "somebody", Hosts: []string{"somebody.example"}})
	c.foreign = c.other.Issue("foreign", testkit.Subject{CommonName: "client", Hosts: []string{"client.example"}})
	return c
}

// meet makes one handshake between a server and a client plane over loopback, and one echo. It returns what each side
// has to say about it.
func meet(t *testing.T, server, client *Plane, protocols ...string) (state tls.ConnectionState, serverErr, clientErr error) {
	t.Helper()
	acceptor, err := server.Acceptor("h2", "http/1.1")
	if err != nil {
		t.Fatal(err)
	}
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	served := make(chan error, 1)
	go func() {
		raw, err := l.Accept()
		if err != nil {
			served <- err
			return
		}
		defer raw.Close()
		ctx, cancel := context.WithTimeout(context.Background(), 10*time.Second)
		defer cancel()
		conn, err := acceptor.Accept(ctx, raw)
		if err == nil {
			_, err = io.CopyN(conn, conn, 1)
			state = conn.ConnectionState()
		}
		served <- err
	}()
	raw, err := net.Dial("tcp", l.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	defer raw.Close()
	c := client.Client()
	c.NextProtos = protocols
	if c.ServerName == "" {
		c.ServerName = "127.0.0.1"
	}
	conn := tls.Client(raw, c)
	if _, clientErr = conn.Write([]byte("x")); clientErr == nil {
		_, clientErr = io.ReadFull(conn, make([]byte, 1))
	}
	raw.Close()
	return state, <-served, clientErr
}

// must makes a plane whose settings are right.
func must(t *testing.T, o Options) *Plane {
	t.Helper()
	if o.VersionMin == 0 {
		o.VersionMin = tls.VersionTLS12
	}
	p, err := New(o)
	if err != nil {
		t.Fatal(err)
	}
	return p
}

// TestMatrix lets every kind of client meet every kind of server, in both versions, and compares with what the rules of
// the specification, written down once more below, have to say.
func TestMatrix(t *testing.T) {
	c := newCast(t)
	crl := c.ca.Revoke(c.stolen)
	type identity struct {
		name                                        string
		pair                                        testkit.Pair
		shown, trusted, expired, revoked, isAllowed bool
	}
	clients := []identity{
		{name: "none"},
		{name: "good", pair: c.client, shown: true, trusted: true, isAllowed: true},
		{name: "stolen", pair: c.stolen, shown: true, trusted: true, revoked: true, isAllowed: true},
		{name: "expired", pair: c.expired, shown: true, trusted: true, expired: true, isAllowed: true},
		{name: "foreign", pair: c.foreign, shown: true, isAllowed: true},
		{name: "somebody", pair: c.named, shown: true, trusted: true},
	}
	type allowance struct {
		name       string
		cns, hosts []string
	}
	allowances := []allowance{
		{name: "anybody"},
		{name: "by name", cns: []string{"x", "client"}},
		{name: "by host", hosts: []string{"x.example", "client.example"}},
	}
	for _, version := range []uint16{tls.VersionTLS12, tls.VersionTLS13} {
		for _, demands := range []bool{false, true} {
			for _, list := range []string{"", crl, crl + ".missing"} {
				for _, allowed := range allowances {
					server := must(t, serverOptions(c, demands, list, allowed.cns, allowed.hosts))
					for _, who := range clients {
						want := ""
						switch {
						case !demands: // nothing is shown that could be on a list
						case !who.shown:
							want = "didn't provide a certificate"
						case !who.trusted:
							want = "unknown authority"
						case who.expired:
							want = "expired"
						case list == crl+".missing":
							want = "list of revoked"
						case who.revoked && list == crl:
							want = fmt.Sprintf("transport: certificate serial %x revoked", who.pair.Serial)
						case len(allowed.cns)+len(allowed.hosts) > 0 && !who.isAllowed:
							want = "client certificate authentication failed"
						}
						name := fmt.Sprintf("%s/demands=%t/list=%t/%s/%s", tls.VersionName(version), demands, list == crl, allowed.name, who.name)
						client := must(t, Options{
							CertFile: who.pair.Cert, KeyFile: who.pair.Key, TrustedCAFile: c.ca.File,
							VersionMin: version, VersionMax: version,
						})
						state, serverErr, clientErr := meet(t, server, client)
						if want == "" && (serverErr != nil || clientErr != nil || state.Version != version) {
							t.Errorf("%s: refused: %v; %v", name, serverErr, clientErr)
						}
						if want != "" && (serverErr == nil || !strings.Contains(serverErr.Error(), want) || clientErr == nil) {
							t.Errorf("%s: server says %v, client %v; want %q", name, serverErr, clientErr, want)
						}
					}
				}
			}
		}
	}
}

// TestNamesAreOfThoseWhoConnect dials a server whose name is not among those that the one who dials allows.
func TestNamesAreOfThoseWhoConnect(t *testing.T) {
	c := newCast(t)
	server := must(t, Options{CertFile: c.server.Cert, KeyFile: c.server.Key, TrustedCAFile: c.ca.File, AllowedCNs: []string{"client"}})
	client := must(t, Options{CertFile: c.client.Cert, KeyFile: c.client.Key, TrustedCAFile: c.ca.File, AllowedCNs: []string{"client"}})
	if _, serverErr, clientErr := meet(t, server, client); serverErr != nil || clientErr != nil {
		t.Errorf("%v; %v", serverErr, clientErr)
	}
}

func serverOptions(c cast, demands bool, list string, cns, hosts []string) Options {
	o := Options{CertFile: c.server.Cert, KeyFile: c.server.Key, CRLFile: list, AllowedCNs: cns, AllowedHostnames: hosts, Endpoint: "client"}
	if demands {
		o.TrustedCAFile = c.ca.File
	}
	return o
}

func TestSettingsAreChecked(t *testing.T) {
	c := newCast(t)
	garbage := c.ca.File + ".garbage"
	if err := os.WriteFile(garbage, []byte("nothing"), 0o600); err != nil {
		t.Fatal(err)
	}
	for name, test := range map[string]struct {
		o    Options
		want string
	}{
		"no key":            {Options{CertFile: "a"}, "KeyFile and CertFile must both be present[key: , cert: a]"},
		"no certificate":    {Options{KeyFile: "a"}, "KeyFile and CertFile must both be present[key: a, cert: ]"},
		"no client key":     {Options{ClientCertFile: "a"}, "ClientKeyFile and ClientCertFile must both be present or both absent: key: , cert: a]"},
		"both kinds":        {Options{AllowedCNs: []string{"a"}, AllowedHostnames: []string{"b"}}, "AllowedCNs and AllowedHostnames are mutually exclusive (cns=[a], hostnames=[b])"},
		"missing":           {Options{CertFile: c.server.Cert + "x", KeyFile: c.server.Key}, "no such file"},
		"another's key":     {Options{CertFile: c.server.Cert, KeyFile: c.client.Key}, "private key"},
		"bad client pair":   {Options{CertFile: c.server.Cert, KeyFile: c.server.Key, ClientCertFile: garbage, ClientKeyFile: garbage}, "failed to find any PEM data"},
		"missing authority": {Options{TrustedCAFile: garbage + "x"}, "no such file"},
		"no authority":      {Options{TrustedCAFile: garbage}, "there is no certificate in"},
	} {
		if p, err := New(test.o); err == nil || !strings.Contains(err.Error(), test.want) {
			t.Errorf("%s: %v, %v; want %q", name, p, err, test.want)
		}
	}
	p := must(t, Options{TrustedCAFile: c.ca.File})
	if _, err := p.Acceptor("h2"); !errors.Is(err, errNoPair) || p.Serves() {
		t.Errorf("a plane without a certificate serves: %v", err)
	}
}

// Whoever has no certificate is not asked for one by the other side's words alone.
func TestClientPair(t *testing.T) {
	c := newCast(t)
	server := must(t, serverOptions(c, true, "", []string{"somebody"}, nil))
	client := must(t, Options{
		CertFile: c.client.Cert, KeyFile: c.client.Key, ClientCertFile: c.named.Cert, ClientKeyFile: c.named.Key, TrustedCAFile: c.ca.File,
	})
	if _, serverErr, clientErr := meet(t, server, client); serverErr != nil || clientErr != nil {
		t.Errorf("the client pair is not shown: %v; %v", serverErr, clientErr)
	}
}

func TestVersionsAndSuites(t *testing.T) {
	c := newCast(t)
	const suite, otherSuite = tls.TLS_ECDHE_RSA_WITH_AES_128_GCM_SHA256, tls.TLS_ECDHE_RSA_WITH_AES_256_GCM_SHA384
	for name, test := range map[string]struct {
		server, client Options
		version, suite uint16 // 0: refused
	}{
		"newest":      {Options{}, Options{}, tls.VersionTLS13, 0},
		"server 1.2":  {Options{VersionMax: tls.VersionTLS12}, Options{}, tls.VersionTLS12, 0},
		"server 1.3":  {Options{VersionMin: tls.VersionTLS13}, Options{VersionMax: tls.VersionTLS12}, 0, 0},
		"client 1.1":  {Options{}, Options{VersionMin: tls.VersionTLS10, VersionMax: tls.VersionTLS11}, 0, 0},
		"one suite":   {Options{Suites: []uint16{suite}}, Options{VersionMax: tls.VersionTLS12}, tls.VersionTLS12, suite},
		"none common": {Options{Suites: []uint16{suite}}, Options{VersionMax: tls.VersionTLS12, Suites: []uint16{otherSuite}}, 0, 0},
		"not for 1.3": {Options{Suites: []uint16{suite}}, Options{Suites: []uint16{otherSuite}}, tls.VersionTLS13, 0},
	} {
		test.server.CertFile, test.server.KeyFile = c.server.Cert, c.server.Key
		test.client.TrustedCAFile = c.ca.File
		state, serverErr, clientErr := meet(t, must(t, test.server), must(t, test.client))
		switch {
		case test.version == 0 && (serverErr == nil || clientErr == nil):
			t.Errorf("%s: %v, %v", name, serverErr, clientErr)
		case test.version != 0 && (serverErr != nil || state.Version != test.version || test.suite != 0 && state.CipherSuite != test.suite):
			t.Errorf("%s: %s %s, %v", name, tls.VersionName(state.Version), tls.CipherSuiteName(state.CipherSuite), serverErr)
		}
	}
}

func TestProtocols(t *testing.T) {
	c := newCast(t)
	server, client := must(t, serverOptions(c, false, "", nil, nil)), must(t, Options{TrustedCAFile: c.ca.File})
	for _, test := range []struct {
		offered []string
		want    string
	}{
		{nil, ""}, {[]string{"http/1.1"}, "http/1.1"}, {[]string{"http/1.1", "h2"}, "h2"},
	} {
		state, err, _ := meet(t, server, client, test.offered...)
		if err != nil || state.NegotiatedProtocol != test.want {
			t.Errorf("%q: %q, %v", test.offered, state.NegotiatedProtocol, err)
		}
	}
}

// Where HTTP/2 alone is spoken, a suite that it prohibits has to be asked for.
func TestSuitesOfHTTP2(t *testing.T) {
	c := newCast(t)
	const prohibited = tls.TLS_ECDHE_RSA_WITH_AES_128_CBC_SHA
	for _, test := range []struct {
		protocols []string
		suites    []uint16
		served    bool
	}{
		{[]string{"h2"}, nil, false},
		{[]string{"h2"}, []uint16{prohibited}, true},
		{[]string{"h2", "http/1.1"}, nil, true},
		{nil, nil, true},
	} {
		o := serverOptions(c, false, "", nil, nil)
		o.Suites = test.suites
		config := must(t, o).serverConfig(test.protocols)
		ours, theirs := net.Pipe()
		served := make(chan error, 1)
		go func() { served <- tls.Server(ours, config).Handshake() }()
		client := must(t, Options{TrustedCAFile: c.ca.File, Suites: []uint16{prohibited}, VersionMax: tls.VersionTLS12}).Client()
		client.ServerName = "127.0.0.1"
		conn := tls.Client(theirs, client)
		if err := errors.Join(conn.Handshake(), <-served); (err == nil) != test.served {
			t.Errorf("%q, suites %v: %v", test.protocols, test.suites, err)
		}
		ours.Close()
	}
}
