package certs

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"strings"
	"testing"
	"time"

	"go.uber.org/zap"
	"go.uber.org/zap/zapcore"
	"go.uber.org/zap/zaptest/observer"

	"keelson/config"
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
						case !demands && len(allowed.cns)+len(allowed.hosts) > 0:
							continue // names that nobody proves
						case !demands && list == crl+".missing":
							want = "list of revoked"
						case !demands:
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

// Each handshake goes by the files as they are then, in both roles.
func TestFilesThatChange(t *testing.T) {
	c := newCast(t)
	crl := c.ca.Revoke()
	core, logs := observer.New(zapcore.DebugLevel)
	o := serverOptions(c, true, crl, nil, nil)
	o.Logger = zap.New(core)
	server := must(t, o)
	client := must(t, Options{CertFile: c.client.Cert, KeyFile: c.client.Key, TrustedCAFile: c.ca.File, Logger: zap.New(core)})
	serials := func() (shown string, err error) {
		state, serverErr, clientErr := meet(t, server, client)
		if err := errors.Join(serverErr, clientErr); err != nil {
			return "", err
		}
		return state.PeerCertificates[0].SerialNumber.Text(16), nil
	}
	if _, err := serials(); err != nil {
		t.Fatal(err)
	}

	renewed := c.ca.Issue("client", testkit.Subject{CommonName: "client"})
	if got, err := serials(); err != nil || got != renewed.Serial.Text(16) {
		t.Errorf("after a renewal of the client's: %s, %v; want %x", got, err, renewed.Serial)
	}

	c.ca.Issue("server", testkit.Subject{Hosts: []string{"elsewhere.example"}})
	if _, err := serials(); err == nil || !strings.Contains(err.Error(), "doesn't contain any IP SANs") {
		t.Errorf("the server's old certificate is still shown: %v", err)
	}
	c.server = c.ca.Issue("server", testkit.Subject{Hosts: []string{"127.0.0.1"}})
	if _, err := serials(); err != nil {
		t.Errorf("after a renewal of the server's: %v", err)
	}

	c.ca.Revoke(renewed)
	if _, err := serials(); err == nil || !strings.Contains(err.Error(), "revoked") {
		t.Errorf("after its revocation: %v", err)
	}
	c.ca.Revoke()
	if _, err := serials(); err != nil {
		t.Errorf("after the revocation of its revocation: %v", err)
	}

	for _, test := range []struct {
		file, text string
		want       string
	}{
		{c.server.Cert, "", "failed to find peer cert files"},
		{c.server.Key, "garbage", "failed to create peer certificate"},
		{c.client.Key, "", "failed to find client cert files"},
		{c.client.Cert, "garbage", "failed to create client certificate"},
	} {
		before, err := os.ReadFile(test.file)
		if err != nil {
			t.Fatal(err)
		}
		if test.text == "" {
			err = os.Remove(test.file)
		} else {
			err = os.WriteFile(test.file, []byte(test.text), 0o600)
		}
		if err != nil {
			t.Fatal(err)
		}
		if _, err := serials(); err == nil {
			t.Errorf("%s: a handshake without it", test.want)
		}
		if logs.FilterMessage(test.want).Len() != 1 {
			t.Errorf("%s: it is not in the log", test.want)
		}
		if err := os.WriteFile(test.file, before, 0o600); err != nil {
			t.Fatal(err)
		}
		if _, err := serials(); err != nil {
			t.Errorf("%s: once it is back: %v", test.want, err)
		}
	}
}

// A file that does not change is read once, however many ask.
func TestReadOnce(t *testing.T) {
	file := t.TempDir() + "/file"
	if err := os.WriteFile(file, []byte("1"), 0o600); err != nil {
		t.Fatal(err)
	}
	reads := 0
	f := newFresh(func(contents [][]byte) (string, error) {
		reads++
		return string(contents[0]), nil
	}, file)
	ask := func(want string, wantReads int) {
		t.Helper()
		if got, err := f.get(); err != nil || got != want || reads != wantReads {
			t.Errorf("%q, %v after %d reads; want %q after %d", got, err, reads, want, wantReads)
		}
	}
	ask("1", 1)
	ask("1", 2) // just written: another change could have the same time
	old := time.Now().Add(-time.Hour)
	if err := os.Chtimes(file, old, old); err != nil {
		t.Fatal(err)
	}
	ask("1", 3)
	ask("1", 3)
	if err := os.WriteFile(file, []byte("2"), 0o600); err != nil {
		t.Fatal(err)
	}
	ask("2", 4)
}

// fakeDNS answers from two tables.
type fakeDNS struct {
	hosts     map[string][]string
	addresses map[string][]string
}

func (d fakeDNS) LookupHost(_ context.Context, host string) ([]string, error) {
	return d.hosts[host], errUnknown(d.hosts[host])
}

func (d fakeDNS) LookupAddr(_ context.Context, address string) ([]string, error) {
	return d.addresses[address], errUnknown(d.addresses[address])
}

func errUnknown(found []string) error {
	if len(found) == 0 {
		return errors.New("unknown")
	}
	return nil
}

func TestAddressOfAPeer(t *testing.T) {
	dns := fakeDNS{
		hosts:     map[string][]string{"forward.example": {"10.0.0.9", "10.0.0.1"}, "elsewhere.example": {"10.0.0.2"}},
		addresses: map[string][]string{"10.0.0.1": {"host.reverse.example."}},
	}
	p := must(t, Options{Resolver: dns})
	from := &net.TCPAddr{IP: net.ParseIP("10.0.0.1"), Port: 1}
	for _, test := range []struct {
		names []string
		ips   []net.IP
		want  string // empty: passes
	}{
		{},
		{ips: []net.IP{net.ParseIP("10.0.0.3"), from.IP}},
		{ips: []net.IP{net.ParseIP("10.0.0.3")}, want: "x509: certificate is valid for 10.0.0.3, not 10.0.0.1"},
		{names: []string{"forward.example"}},
		{names: []string{"host.reverse.example"}},
		{names: []string{"HOST.reverse.example"}},
		{names: []string{"*.reverse.example"}},
		{names: []string{"*.example"}, want: `tls: "10.0.0.1" does not match any of DNSNames ["*.example"]`},
		{names: []string{"forward.example"}, ips: []net.IP{net.ParseIP("10.0.0.3")}},
		{names: []string{"elsewhere.example"}, want: `tls: "10.0.0.1" does not match any of DNSNames ["elsewhere.example"]`},
		{names: []string{"nowhere.example"}, want: `tls: "10.0.0.1" does not match any of DNSNames ["nowhere.example"] (unknown)`},
	} {
		err := p.checkAddress(t.Context(), &x509.Certificate{DNSNames: test.names, IPAddresses: test.ips}, from)
		if got := fmt.Sprint(err); test.want == "" && err != nil || test.want != "" && got != test.want {
			t.Errorf("%v %v: %v, want %q", test.names, test.ips, err, test.want)
		}
	}
	if err := p.checkAddress(t.Context(), &x509.Certificate{DNSNames: []string{"x"}}, &net.UnixAddr{Name: "@"}); err != nil {
		t.Errorf("a socket has no address to compare: %v", err)
	}
}

// Refusals are told to the log with their reason; who just goes away is not worth a line.
func TestRefusalsAreLogged(t *testing.T) {
	c := newCast(t)
	core, logs := observer.New(zapcore.DebugLevel)
	o := serverOptions(c, true, "", nil, nil)
	o.Logger, o.CheckAddresses, o.Endpoint = zap.New(core), true, "peer"
	server := must(t, o)
	meet(t, server, must(t, Options{CertFile: c.client.Cert, KeyFile: c.client.Key, TrustedCAFile: c.ca.File, ServerName: "localhost"}))
	refused := logs.FilterMessage("rejected connection on peer endpoint").All()
	if len(refused) != 1 || refused[0].Level != zapcore.WarnLevel {
		t.Fatalf("logged %v", refused)
	}
	fields := refused[0].ContextMap()
	if fields["server-name"] != "localhost" || fmt.Sprint(fields["dns-names"]) != "[client.example]" ||
		!strings.Contains(fmt.Sprint(fields["error"]), `does not match any of DNSNames ["client.example"]`) ||
		!strings.HasPrefix(fmt.Sprint(fields["remote-addr"]), "127.0.0.1:") {
		t.Errorf("fields %v", fields)
	}

	acceptor, err := server.Acceptor()
	if err != nil {
		t.Fatal(err)
	}
	ours, theirs := net.Pipe()
	theirs.Close()
	if _, err := acceptor.Accept(t.Context(), ours); err == nil {
		t.Error("a handshake with nobody")
	}
	if n := logs.FilterMessage("rejected connection on peer endpoint").FilterLevelExact(zapcore.DebugLevel).Len(); n != 1 {
		t.Errorf("%d lines at debug", n)
	}
}

func TestOwnCertificate(t *testing.T) {
	dir := t.TempDir() + "/fixtures/peer"
	now := time.Now()
	cert, key, made, err := makeOwn(dir, []string{"127.0.0.1", "localhost"}, 2, now)
	if err != nil || !made {
		t.Fatal(err)
	}
	for _, file := range []string{cert, key} {
		if info, err := os.Stat(file); err != nil || info.Mode().Perm() != 0o600 {
			t.Errorf("%s: %v, %v", file, info, err)
		}
	}
	pair, err := tls.LoadX509KeyPair(cert, key)
	if err != nil {
		t.Fatal(err)
	}
	leaf := pair.Leaf
	if !leaf.IsCA || leaf.Subject.Organization[0] != "etcd" || leaf.VerifyHostname("127.0.0.1") != nil || leaf.VerifyHostname("localhost") != nil ||
		leaf.NotAfter.Sub(leaf.NotBefore) != 2*365*24*time.Hour || leaf.ExtKeyUsage[0] != x509.ExtKeyUsageServerAuth {
		t.Errorf("certificate %+v", leaf)
	}
	before, err := os.ReadFile(cert)
	if err != nil {
		t.Fatal(err)
	}
	if _, _, made, err := makeOwn(dir, []string{"other"}, 1, now); err != nil || made {
		t.Errorf("made again: %t, %v", made, err)
	}
	if after, err := os.ReadFile(cert); err != nil || string(after) != string(before) {
		t.Errorf("it was changed: %v", err)
	}
	own := must(t, Options{CertFile: cert, KeyFile: key, Unverified: true})
	if _, serverErr, clientErr := meet(t, own, own); serverErr != nil || clientErr != nil {
		t.Errorf("members do not take each other's own certificates: %v; %v", serverErr, clientErr)
	}
}

// A connection ends when its certificate is revoked, others go on, and those that are closed are forgotten.
func TestRevokedConnectionsEnd(t *testing.T) {
	c := newCast(t)
	crl := c.ca.Revoke()
	core, logs := observer.New(zapcore.WarnLevel)
	o := serverOptions(c, true, crl, nil, nil)
	o.Logger = zap.New(core)
	server := must(t, o)
	acceptor, err := server.Acceptor()
	if err != nil {
		t.Fatal(err)
	}
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	connect := func(pair testkit.Pair) (theirs, ours *tls.Conn) {
		t.Helper()
		accepted := make(chan *tls.Conn, 1)
		go func() {
			raw, err := l.Accept()
			if err != nil {
				t.Error(err)
			}
			conn, err := acceptor.Accept(t.Context(), raw)
			if err != nil {
				t.Error(err)
			}
			accepted <- conn
		}()
		config := must(t, Options{CertFile: pair.Cert, KeyFile: pair.Key, TrustedCAFile: c.ca.File, ServerName: "localhost"}).Client()
		conn, err := tls.Dial("tcp", l.Addr().String(), config)
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { conn.Close() })
		return conn, <-accepted
	}
	stolen, _ := connect(c.stolen)
	kept, keptHere := connect(c.client)
	_, gone := connect(c.client)
	gone.Close()
	server.EndRevoked()
	if n := len(server.open.list); n != 2 {
		t.Errorf("%d connections are watched", n)
	}

	c.ca.Revoke(c.stolen)
	server.EndRevoked()
	if _, err := stolen.Read(make([]byte, 1)); err == nil {
		t.Error("the revoked one goes on")
	}
	if logs.FilterMessage("ended a connection on client endpoint").Len() != 1 {
		t.Errorf("logged %v", logs.All())
	}
	if _, err := keptHere.Write([]byte("x")); err != nil {
		t.Error(err)
	}
	if _, err := io.ReadFull(kept, make([]byte, 1)); err != nil {
		t.Errorf("another ended, too: %v", err)
	}
	if err := os.Remove(crl); err != nil {
		t.Fatal(err)
	}
	server.EndRevoked()
	if n := len(server.open.list); n != 1 {
		t.Errorf("%d connections are watched", n)
	}
}

func TestPlanesOfSettings(t *testing.T) {
	c := newCast(t)
	load := func(args ...string) *config.Config {
		t.Helper()
		settings, _, err := config.Load("etcd", append([]string{"--data-dir=" + t.TempDir()}, args...), config.Machine{ReadFile: os.ReadFile})
		if err != nil {
			t.Fatal(err)
		}
		return settings
	}
	pair := []string{"--peer-cert-file=" + c.server.Cert, "--peer-key-file=" + c.server.Key}
	core, logs := observer.New(zapcore.WarnLevel)
	peers := func(args ...string) *Plane {
		t.Helper()
		p, err := ForPeers(load(args...), zap.New(core))
		if err != nil {
			t.Fatal(err)
		}
		return p
	}
	// Records in DNS are for members of the domain; with an authority of the cluster's own, its word is enough.
	if name := peers(append(pair, "--discovery-srv=example.com")...).Client().ServerName; name != "example.com" {
		t.Errorf("the server name is %q", name)
	}
	if name := peers(append(pair, "--discovery-srv=example.com", "--peer-trusted-ca-file="+c.ca.File)...).Client().ServerName; name != "" {
		t.Errorf("with an authority the server name is %q", name)
	}
	if p := peers(pair...); !p.o.CheckAddresses || p.DemandsCertificates() {
		t.Errorf("%+v", p.o)
	}
	if p := peers(append(pair, "--peer-skip-client-san-verification", "--peer-client-cert-auth")...); p.o.CheckAddresses || !p.DemandsCertificates() {
		t.Errorf("%+v", p.o)
	}
	if p := peers(append(pair, "--peer-auto-tls")...); p.o.Unverified || logs.FilterMessage("ignoring peer auto TLS since certs given").Len() != 1 {
		t.Errorf("%+v, %v", p.o, logs.All())
	}
	// Nothing is made where nothing is to be shown.
	settings := load("--auto-tls")
	if p, err := ForClients(settings, zap.NewNop()); err != nil || p.Serves() {
		t.Errorf("%v, %v", p, err)
	}
	if _, err := os.Stat(settings.Member.DataDir + "/fixtures"); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("made without need: %v", err)
	}
	settings = load("--auto-tls", "--self-signed-cert-validity=3", "--listen-client-urls=https://127.0.0.1:1", "--advertise-client-urls=https://127.0.0.1:1",
		"--listen-metrics-urls=https://localhost:2")
	p, err := ForClients(settings, zap.NewNop())
	if err != nil || !p.Serves() {
		t.Fatal(err)
	}
	made, err := p.server.get()
	if err != nil || made.Leaf.VerifyHostname("127.0.0.1") != nil || made.Leaf.VerifyHostname("localhost") != nil ||
		made.Leaf.NotAfter.Sub(made.Leaf.NotBefore) != 3*365*24*time.Hour {
		t.Errorf("%+v, %v", made.Leaf, err)
	}
}
