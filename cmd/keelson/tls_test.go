package main

import (
	"bytes"
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"os/exec"
	"slices"
	"strings"
	"testing"
	"time"

	clientv3 "go.etcd.io/etcd/client/v3"
	"go.uber.org/zap"

	"keelson/internal/testkit"
)

// people are the certificates that most tests here need.
type people struct {
	ca                           *testkit.Authority
	server, client, revoked, odd testkit.Pair
	crl                          string
}

func newPeople(t *testing.T) people {
	ca := testkit.NewAuthority(t)
	p := people{
		ca:      ca,
		server:  ca.Issue("server", testkit.Subject{CommonName: "server", Hosts: []string{"127.0.0.1", "localhost"}, RSA: true}),
		client:  ca.Issue("client", testkit.Subject{CommonName: "client", Hosts: []string{"client.example"}}),
		revoked: ca.Issue("revoked", testkit.Subject{CommonName: "client", Hosts: []string{"client.example"}}),
		odd:     ca.Issue("odd", testkit.Subject{CommonName: "odd", Hosts: []string{"odd.example"}}),
	}
	p.crl = ca.Revoke(p.revoked)
	return p
}

// as is how a client that has a certificate, or none, connects.
func (p people) as(t *testing.T, pair testkit.Pair) *tls.Config {
	t.Helper()
	text, err := os.ReadFile(p.ca.File)
	if err != nil {
		t.Fatal(err)
	}
	c := &tls.Config{RootCAs: x509.NewCertPool()}
	c.RootCAs.AppendCertsFromPEM(text)
	if pair.Cert != "" {
		certificate, err := tls.LoadX509KeyPair(pair.Cert, pair.Key)
		if err != nil {
			t.Fatal(err)
		}
		c.Certificates = []tls.Certificate{certificate}
	}
	return c
}

// put stores a pair with a client of its own.
func put(endpoint string, security *tls.Config) error {
	c, err := clientv3.New(clientv3.Config{Endpoints: []string{endpoint}, TLS: security, Logger: zap.NewNop(), DialTimeout: time.Minute})
	if err != nil {
		return err
	}
	defer c.Close()
	ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
	defer cancel()
	_, err = c.Put(ctx, "k", "v")
	return err
}

// refusedPut is put for clients that are to be refused: they would try until their time is over.
func refusedPut(endpoint string, security *tls.Config) error {
	c, err := clientv3.New(clientv3.Config{Endpoints: []string{endpoint}, TLS: security, Logger: zap.NewNop()})
	if err != nil {
		return err
	}
	defer c.Close()
	ctx, cancel := context.WithTimeout(context.Background(), 300*time.Millisecond)
	defer cancel()
	_, err = c.Put(ctx, "k", "refused")
	return err
}

// get makes one HTTP request of its own connection, with HTTP/2 if it may.
func get(u string, security *tls.Config, h2 bool) (status int, version string, err error) {
	transport := &http.Transport{TLSClientConfig: security.Clone(), DisableKeepAlives: true, ForceAttemptHTTP2: h2}
	defer transport.CloseIdleConnections()
	r, err := (&http.Client{Transport: transport, Timeout: time.Minute}).Get(u)
	if err != nil {
		return 0, "", err
	}
	defer r.Body.Close()
	_, err = io.Copy(io.Discard, r.Body)
	return r.StatusCode, r.Proto, err
}

// TestTLSLayouts asks, for every layout of listeners, who gets in with which protocol: a revoked certificate, one of a name
// that is not allowed and none at all are refused wherever there is TLS.
func TestTLSLayouts(t *testing.T) {
	who := newPeople(t)
	secured := []string{
		"--cert-file=" + who.server.Cert, "--key-file=" + who.server.Key, "--trusted-ca-file=" + who.ca.File, "--client-cert-auth",
		"--client-crl-file=" + who.crl, "--client-cert-allowed-hostname=client.example",
	}
	identities := []struct {
		name    string
		pair    testkit.Pair
		welcome bool
	}{
		{"welcome", who.client, true}, {"nobody", testkit.Pair{}, false}, {"revoked", who.revoked, false}, {"not allowed", who.odd, false},
	}
	const grpc, web, metrics = "grpc", "web", "metrics"
	type address struct {
		url    string // scheme; the address is chosen
		serves []string
	}
	for _, layout := range []struct {
		name      string
		addresses map[string]address // by flag
		shared    bool               // client URL is plain too
		args      []string
	}{
		{name: "together, other server", args: []string{"--rpc-server=grpc-go"}, addresses: map[string]address{"listen-client-urls": {"https", []string{grpc, web}}}},
		{name: "together", addresses: map[string]address{"listen-client-urls": {"https", []string{grpc, web}}, "listen-metrics-urls": {"https", []string{metrics}}}},
		{name: "apart", addresses: map[string]address{
			"listen-client-urls": {"https", []string{grpc}}, "listen-client-http-urls": {"https", []string{web}}}},
		{name: "both on one address", shared: true, addresses: map[string]address{"listen-client-urls": {"https", []string{grpc, web}}}},
		{name: "both on one address, apart", shared: true, addresses: map[string]address{
			"listen-client-urls": {"https", []string{grpc}}, "listen-client-http-urls": {"https", []string{web}}}},
	} {
		t.Run(layout.name, func(t *testing.T) {
			p := testkit.NewProcess(t, append(slices.Clone(secured), layout.args...)...)
			p.TLS = who.as(t, who.client)
			at := map[string]string{}
			for flag, a := range layout.addresses {
				at[flag] = testkit.FreeAddress(t)
				urls := a.url + "://" + at[flag]
				if flag == "listen-client-urls" {
					at[flag] = p.Endpoint
					p.ClientURL = "https://" + p.Endpoint
					continue
				}
				if layout.shared {
					urls += ",http://" + at[flag]
				}
				p.ExtraArgs = append(p.ExtraArgs, "--"+flag+"="+urls)
			}
			if layout.shared {
				p.ClientURL += ",http://" + p.Endpoint
			}
			p.Start()
			for flag, a := range layout.addresses {
				for _, id := range identities {
					for _, what := range a.serves {
						errs := map[string]error{}
						check := func(protocol, path, want string, h2 bool) {
							status, version, err := get("https://"+at[flag]+path, who.as(t, id.pair), h2)
							if err == nil && (status != http.StatusOK || version != want) {
								err = fmt.Errorf("status %d by %s", status, version)
							}
							errs[protocol] = err
						}
						switch {
						case what == grpc && id.welcome:
							errs[grpc] = put(at[flag], who.as(t, id.pair))
						case what == grpc:
							errs[grpc] = refusedPut("https://"+at[flag], who.as(t, id.pair))
						case what == web:
							check("HTTP/1.1", "/version", "HTTP/1.1", false)
							check("HTTP/2", "/version", "HTTP/2.0", true)
						default:
							check("HTTP/1.1", "/metrics", "HTTP/1.1", false)
							check("HTTP/2", "/readyz", "HTTP/2.0", true)
						}
						for protocol, err := range errs {
							if (err == nil) != id.welcome {
								t.Errorf("%s, %s by %s: %v", flag, id.name, protocol, err)
							}
						}
					}
				}
				if layout.shared {
					for _, what := range a.serves {
						var err error
						if what == grpc {
							err = put("http://"+at[flag], nil)
						} else {
							_, _, err = get("http://"+at[flag]+"/version", new(tls.Config), false)
						}
						if err != nil {
							t.Errorf("%s without TLS: %v", flag, err)
						}
					}
				}
			}
			for _, want := range []string{
				"rejected connection on client endpoint", "client certificate authentication failed",
				fmt.Sprintf("transport: certificate serial %x revoked", who.revoked.Serial), "serving client traffic securely",
			} {
				if !p.Says(want) {
					t.Errorf("the log does not say %q", want)
				}
			}
			if got := strings.Contains(p.Log(), "serving client traffic insecurely"); got != layout.shared {
				t.Errorf("the log says insecurely: %t", got)
			}
		})
	}
}

// TestTLSGateway has JSON and calls share one connection's protocol, and a watch last over it.
func TestTLSGateway(t *testing.T) {
	testkit.Need(t, "curl")
	who := newPeople(t)
	p := testkit.NewProcess(t, "--cert-file="+who.server.Cert, "--key-file="+who.server.Key)
	p.TLS = who.as(t, testkit.Pair{})
	p.Start()
	for _, protocol := range []string{"--http1.1", "--http2"} {
		for _, step := range []struct{ path, body, want string }{
			{"/v3/kv/put", `{"key":"Zm9v","value":"YmFy"}`, `"revision":"`},
			{"/v3/kv/range", `{"key":"Zm9v"}`, `"value":"YmFy"`},
			{"/health", "", `{"health":"true","reason":""}`},
			{"/version", "", `"etcdserver":"3.7.1"`},
		} {
			args := []string{"-sS", "--cacert", who.ca.File, protocol, "https://" + p.Endpoint + step.path}
			if step.body != "" {
				args = append(args, "-d", step.body)
			}
			out, err := exec.Command("curl", args...).CombinedOutput()
			if err != nil || !bytes.Contains(out, []byte(step.want)) {
				t.Errorf("curl %q: %v, %s", args, err, out)
			}
		}
	}
	out, err := exec.Command("curl", "-sS", "http://"+p.Endpoint+"/version").CombinedOutput()
	if err != nil || !strings.Contains(string(out), "Client sent an HTTP request to an HTTPS server") {
		t.Errorf("in clear text: %v, %s", err, out)
	}
	c := p.Client()
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	defer cancel()
	watched := c.Watch(ctx, "w", clientv3.WithRev(1))
	if _, err := c.Put(ctx, "w", "1"); err != nil {
		t.Fatal(err)
	}
	if r := <-watched; r.Err() != nil || len(r.Events) != 1 {
		t.Errorf("watch: %v, %v", r.Events, r.Err())
	}
	if state := p.Stop(); !strings.Contains(state.String(), "terminated") {
		t.Errorf("it ended with %v", state)
	}
}

// TestTLSSuites looks for the suite that was asked for, and for the refusal of another, as the tests of etcd do.
func TestTLSSuites(t *testing.T) {
	testkit.Need(t, "curl")
	who := newPeople(t)
	p := testkit.NewProcess(t, "--cert-file="+who.server.Cert, "--key-file="+who.server.Key,
		"--cipher-suites=TLS_ECDHE_RSA_WITH_AES_128_GCM_SHA256,TLS_ECDHE_RSA_WITH_CHACHA20_POLY1305", "--tls-max-version=TLS1.2")
	p.TLS = who.as(t, testkit.Pair{})
	p.Start()
	for suite, want := range map[string]int{"ECDHE-RSA-AES128-GCM-SHA256": 0, "ECDHE-RSA-CHACHA20-POLY1305": 0, "ECDHE-RSA-AES256-GCM-SHA384": 35} {
		err := exec.Command("curl", "-sS", "--cacert", who.ca.File, "--tls-max", "1.2", "--ciphers", suite, "https://"+p.Endpoint+"/version").Run()
		code := 0
		if exit := (*exec.ExitError)(nil); errors.As(err, &exit) {
			code = exit.ExitCode()
		} else if err != nil {
			t.Fatal(err)
		}
		if code != want {
			t.Errorf("curl with %s ends with %d, want %d", suite, code, want)
		}
	}
}

// TestTLSEtcdctl lets etcd's client in with a certificate, and keeps it out without.
func TestTLSEtcdctl(t *testing.T) {
	testkit.Need(t, "etcdctl")
	who := newPeople(t)
	p := testkit.NewProcess(t, "--cert-file="+who.server.Cert, "--key-file="+who.server.Key, "--trusted-ca-file="+who.ca.File,
		"--client-crl-file="+who.crl)
	p.TLS = who.as(t, who.client)
	p.Start()
	flags := func(pair testkit.Pair) []string {
		return []string{"--cacert=" + who.ca.File, "--cert=" + pair.Cert, "--key=" + pair.Key}
	}
	if out := etcdctl(t, p, "", append(flags(who.client), "put", "a", "1")...); strings.TrimSpace(out) != "OK" {
		t.Errorf("put: %s", out)
	}
	if out := etcdctl(t, p, "", append(flags(who.client), "endpoint", "health")...); !strings.Contains(out, "is healthy") {
		t.Errorf("health: %s", out)
	}
	for name, args := range map[string][]string{
		"revoked": flags(who.revoked), "no certificate": {"--cacert=" + who.ca.File},
	} {
		if out, err := tryEtcdctl(t, p, "", append(args, "--command-timeout=2s", "--dial-timeout=2s", "put", "a", "2")...); err == nil {
			t.Errorf("%s: %s", name, out)
		}
	}
	if out := etcdctl(t, p, "", append(flags(who.client), "get", "a", "--print-value-only")...); strings.TrimSpace(out) != "1" {
		t.Errorf("get: %s", out)
	}
}

// peerArgs are the flags of members that show each other certificates.
func (p people) peerArgs(pair testkit.Pair, more ...string) []string {
	return append([]string{
		"--peer-cert-file=" + pair.Cert, "--peer-key-file=" + pair.Key,
		"--peer-trusted-ca-file=" + p.ca.File, "--peer-client-cert-auth",
	}, more...)
}

// secure makes all members of a cluster speak TLS with each other.
func secure(c *testkit.Cluster) {
	for _, m := range c.Members {
		m.PeerURL = "https://" + m.Peer
	}
	for _, m := range c.Members {
		m.Initial = c.Initial()
	}
}

// TestTLSCluster founds a cluster with TLS everywhere, loses and regains a member, grows it, renews all certificates while
// it runs, and finds a member without a proper certificate locked out.
func TestTLSCluster(t *testing.T) {
	who := newPeople(t)
	member := who.ca.Issue("member", testkit.Subject{CommonName: "member", Hosts: []string{"127.0.0.1", "localhost"}})
	stranger := who.ca.Issue("stranger", testkit.Subject{CommonName: "stranger", Hosts: []string{"127.0.0.1"}})
	args := append(who.peerArgs(member, "--peer-cert-allowed-cn=member"), "--cert-file="+who.server.Cert, "--key-file="+who.server.Key,
		"--trusted-ca-file="+who.ca.File, "--client-cert-auth")
	c := testkit.NewCluster(t, 3, append(args, testkit.FastArgs...)...)
	secure(c)
	for _, m := range c.Members {
		m.TLS = who.as(t, who.client)
	}
	c.Start()
	client := c.Client()
	write := func(n int) {
		t.Helper()
		for i := range n {
			ctx, cancel := context.WithTimeout(t.Context(), patience)
			_, err := client.Put(ctx, fmt.Sprint(i), "v")
			cancel()
			if err != nil {
				t.Fatal(err)
			}
		}
	}
	write(20)
	c.Agree()

	gone := c.Leader()
	gone.Kill()
	c.Leader(c.Others(gone)...)
	write(20)
	gone.Start()
	c.Agree()

	t.Run("whoever is not allowed", func(t *testing.T) {
		// It has a certificate of the right authority, but not the name.
		security := who.as(t, stranger)
		if status, _, err := get("https://"+c.Members[0].Peer+"/members", security, false); err == nil {
			t.Errorf("a stranger is told the members: status %d", status)
		}
		if status, _, err := get("https://"+c.Members[0].Peer+"/members", who.as(t, member), false); err != nil || status != http.StatusOK {
			t.Errorf("a member is not told the members: status %d, %v", status, err)
		}
		if m := c.Members[0]; !m.Says("rejected connection on peer endpoint") || !m.Says("client certificate authentication failed") {
			t.Error("the log does not say why")
		}
	})

	t.Run("renewal", func(t *testing.T) {
		renewed := who.ca.Issue("member", testkit.Subject{CommonName: "member", Hosts: []string{"127.0.0.1", "localhost"}})
		shown := who.ca.Issue("server", testkit.Subject{Hosts: []string{"127.0.0.1"}, RSA: true})
		for name, test := range map[string]struct {
			address string
			pair    testkit.Pair
			want    testkit.Pair
		}{"peer": {c.Members[1].Peer, renewed, renewed}, "client": {c.Members[1].Endpoint, who.client, shown}} {
			conn, err := tls.Dial("tcp", test.address, who.as(t, test.pair))
			if err != nil {
				t.Fatal(err)
			}
			if got := conn.ConnectionState().PeerCertificates[0].SerialNumber; got.Cmp(test.want.Serial) != 0 {
				t.Errorf("%s plane shows %x, want %x", name, got, test.want.Serial)
			}
			conn.Close()
		}
		m := c.Members[2]
		m.Kill()
		m.Start() // its new connections are made with the new certificate
		write(20)
		c.Agree()
	})

	added, id := c.Add(true) // it asks the others who belongs
	added.Start()
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	defer cancel()
	promote(ctx, t, client, id)
	c.Agree()
}

// TestAutoTLSCluster founds clusters whose members make their certificates themselves.
func TestAutoTLSCluster(t *testing.T) {
	c := testkit.NewCluster(t, 3, append([]string{"--auto-tls", "--peer-auto-tls"}, testkit.FastArgs...)...)
	secure(c)
	for _, m := range c.Members {
		m.TLS = &tls.Config{InsecureSkipVerify: true}
	}
	c.Start()
	client := c.Client()
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	defer cancel()
	if _, err := client.Put(ctx, "a", "1"); err != nil {
		t.Fatal(err)
	}
	c.Agree()
	m := c.Members[0]
	if !m.Says("automatically generate certificates") {
		t.Error("the log does not say that certificates were made")
	}
	made, err := os.ReadFile(m.DataDir + "/fixtures/client/cert.pem")
	if err != nil {
		t.Fatal(err)
	}
	m.Stop()
	m.Start()
	if again, err := os.ReadFile(m.DataDir + "/fixtures/client/cert.pem"); err != nil || !bytes.Equal(made, again) {
		t.Errorf("the certificate was made again: %v", err)
	}
	c.Agree()
}

// TestIdleTLSConnections opens connections that never finish their handshake, more than a listener keeps: others get in.
func TestIdleTLSConnections(t *testing.T) {
	who := newPeople(t)
	p := testkit.NewProcess(t, "--cert-file="+who.server.Cert, "--key-file="+who.server.Key)
	p.TLS = who.as(t, testkit.Pair{})
	p.Start()
	var idle []net.Conn
	defer func() {
		for _, c := range idle {
			c.Close()
		}
	}()
	for range 1100 {
		conn, err := net.Dial("tcp", p.Endpoint)
		if err != nil {
			t.Fatal(err)
		}
		idle = append(idle, conn)
		if _, err := conn.Write([]byte{0x16, 3, 1}); err != nil {
			t.Fatal(err)
		}
	}
	if err := put(p.Endpoint, p.TLS); err != nil {
		t.Errorf("with %d idle connections: %v", len(idle), err)
	}
	var b [1]byte
	for _, conn := range idle[:50] { // the oldest have given way
		if _, err := conn.Read(b[:]); err == nil {
			t.Error("an idle connection was answered")
		}
	}
}

// TestTLSRefusals are mistakes that end the start, with what the operator is told.
func TestTLSRefusals(t *testing.T) {
	who := newPeople(t)
	for _, c := range []struct {
		name, scheme string
		args         []string
		want         string
	}{
		{"no certificate", "https", nil, "TLS key/cert (--cert-file, --key-file) must be provided for client url https://"},
		{"no key", "https", []string{"--cert-file=" + who.server.Cert}, "KeyFile and CertFile must both be present[key: , cert: " + who.server.Cert + "]"},
		{"missing", "https", []string{"--cert-file=/nonexistent", "--key-file=" + who.server.Key}, "no such file"},
		{"wrong key", "https", []string{"--cert-file=" + who.server.Cert, "--key-file=" + who.client.Key}, "private key"},
		{"no CA", "https", []string{"--cert-file=" + who.server.Cert, "--key-file=" + who.server.Key, "--trusted-ca-file=" + who.server.Key}, "there is no certificate in"},
		{"metrics", "http", []string{"--listen-metrics-urls=https://127.0.0.1:0"},
			"client TLS key/cert (--cert-file, --key-file) must be provided for metrics secure url"},
		{"peer names", "http", []string{"--peer-cert-allowed-cn=a", "--peer-cert-allowed-hostname=b"},
			`AllowedCNs and AllowedHostnames are mutually exclusive (cns=[\"a\"], hostnames=[\"b\"])`},
	} {
		t.Run(c.name, func(t *testing.T) {
			p := testkit.NewProcess(t, c.args...)
			p.ClientURL = c.scheme + "://" + p.Endpoint
			err := p.TryStart()
			if err == nil || !strings.Contains(err.Error(), c.want) {
				t.Errorf("got %v, want %q", err, c.want)
			} else if code := p.AwaitExit().ExitCode(); code != 1 {
				t.Errorf("exit code %d", code)
			}
		})
	}
}

// TestPeerAddressMustMatch is the check of a dialing member's address, which --peer-skip-client-san-verification drops.
func TestPeerAddressMustMatch(t *testing.T) {
	who := newPeople(t)
	server := who.ca.Issue("peer", testkit.Subject{Hosts: []string{"127.0.0.1"}})
	away := who.ca.Issue("away", testkit.Subject{Hosts: []string{"10.1.2.3"}})
	for _, skip := range []bool{false, true} {
		p := testkit.NewProcess(t, who.peerArgs(server, fmt.Sprintf("--peer-skip-client-san-verification=%t", skip))...)
		p.PeerURL = "https://" + p.Peer
		p.Start()
		status, _, err := get(p.PeerURL+"/version", who.as(t, away), false)
		if (err == nil) != skip {
			t.Errorf("skip %t: status %d, %v", skip, status, err)
		}
		if want := "x509: certificate is valid for 10.1.2.3, not 127.0.0.1"; !skip && !p.Says(want) {
			t.Errorf("the log does not say %q", want)
		}
		if status, _, err := get(p.PeerURL+"/version", who.as(t, server), false); err != nil || status != http.StatusOK {
			t.Errorf("skip %t: status %d, %v", skip, status, err)
		}
		p.Stop()
	}
}

// TestTLSSockets uses TLS over unix sockets, for clients and between members.
func TestTLSSockets(t *testing.T) {
	who := newPeople(t)
	dir, err := os.MkdirTemp("", "kl") // the path of a socket has to be short
	if err != nil {
		t.Fatal(err)
	}
	defer os.RemoveAll(dir)
	c := testkit.NewCluster(t, 3, append(who.peerArgs(who.server), testkit.FastArgs...)...)
	for i, m := range c.Members {
		scheme := "unixs"
		if i == 0 {
			scheme = "unix"
		}
		m.PeerURL = fmt.Sprintf("%s://%s/%s", scheme, dir, m.Name)
		m.ExtraArgs = append(m.ExtraArgs, "--cert-file="+who.server.Cert, "--key-file="+who.server.Key)
		m.ClientURL = fmt.Sprintf("unixs://%s/c%s,https://%s", dir, m.Name, m.Endpoint)
		m.TLS = who.as(t, testkit.Pair{})
	}
	for _, m := range c.Members {
		m.Initial = c.Initial()
	}
	c.Start()
	client := c.Client()
	lease, err := client.Grant(t.Context(), 60)
	if err != nil {
		t.Fatal(err)
	}
	for _, m := range c.Members { // those who follow ask the leader, over its socket
		if _, err := m.Client().KeepAliveOnce(t.Context(), lease.ID); err != nil {
			t.Errorf("%s: %v", m.Name, err)
		}
	}
	security := who.as(t, testkit.Pair{})
	security.InsecureSkipVerify = true // the client demands the name of the file
	if err := put("unixs://"+dir+"/cm2", security); err != nil {
		t.Error(err)
	}
	c.Agree()
}

// TestJoinWithTLS: a new machine comes into a cluster that speaks nothing else, with certificates and with those of its own.
func TestJoinWithTLS(t *testing.T) {
	who := newPeople(t)
	for name, args := range map[string][]string{
		"certificates": append(who.peerArgs(who.server), "--cert-file="+who.server.Cert, "--key-file="+who.server.Key,
			"--trusted-ca-file="+who.ca.File, "--client-cert-auth"),
		"self-made": {"--auto-tls", "--peer-auto-tls"},
	} {
		t.Run(name, func(t *testing.T) {
			p := testkit.NewProcess(t, args...)
			p.PeerURL, p.TLS = "https://"+p.Peer, who.as(t, who.client)
			if name == "self-made" {
				p.TLS = &tls.Config{InsecureSkipVerify: true}
			}
			p.Start()
			client := testkit.FreeAddress(t)
			second := startJoin(t, append([]string{"--peer=" + p.PeerURL, "--name=second", "--data-dir=" + t.TempDir() + "/data",
				"--listen-peer-urls=https://" + testkit.FreeAddress(t), "--listen-client-urls=https://" + client}, args...)...)
			second.waitReady(t)
			ctx, cancel := context.WithTimeout(t.Context(), patience)
			defer cancel()
			waitVoters(ctx, t, p.Client(), 2)
			if err := put(client, p.TLS); err != nil {
				t.Error(err)
			}
		})
	}
}

// TestDevWithTLS: a cluster on one machine with TLS everywhere, by one word.
func TestDevWithTLS(t *testing.T) {
	dir := t.TempDir() + "/cluster"
	d := startDev(t, "--members=3", "--tls", "--data-dir="+dir, "--base-port="+freeDevPorts(t))
	d.leaderOf(3)
	match := endpointsLine.FindStringSubmatch(d.out.String())
	if match == nil || strings.Count(match[1], "https://") != 3 {
		t.Fatalf("endpoints %q", match)
	}
	if err := put(strings.Split(match[1], ",")[0], &tls.Config{InsecureSkipVerify: true}); err != nil {
		t.Error(err)
	}
	d.typeLine("quit")
	if err := d.cmd.Wait(); err != nil {
		t.Error(err)
	}
}

// TestRevocationEndsConnections: who is already in is put out, within the time between two looks at the list.
func TestRevocationEndsConnections(t *testing.T) {
	who := newPeople(t)
	who.ca.Revoke()
	p := testkit.NewProcess(t, "--cert-file="+who.server.Cert, "--key-file="+who.server.Key, "--trusted-ca-file="+who.ca.File,
		"--client-crl-file="+who.crl)
	p.TLS = who.as(t, who.client)
	p.Start()
	conn, err := tls.Dial("tcp", p.Endpoint, who.as(t, who.revoked))
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	who.ca.Revoke(who.revoked)
	if _, err := io.Copy(io.Discard, conn); err == nil && !p.Says("ended a connection on client endpoint") {
		t.Error("it ended for another reason")
	}
	if !p.Says(fmt.Sprintf("transport: certificate serial %x revoked", who.revoked.Serial)) {
		t.Error("the log does not say why")
	}
	if err := put(p.Endpoint, p.TLS); err != nil {
		t.Errorf("another client: %v", err)
	}
}

// TestPeerOfAnotherName: a member whose certificate has a name that is not allowed stays out, and both sides say why.
func TestPeerOfAnotherName(t *testing.T) {
	who := newPeople(t)
	member := who.ca.Issue("member", testkit.Subject{CommonName: "member", Hosts: []string{"127.0.0.1", "member.example"}})
	stranger := who.ca.Issue("stranger", testkit.Subject{CommonName: "stranger", Hosts: []string{"127.0.0.1", "stranger.example"}})
	for _, allowed := range []string{"--peer-cert-allowed-cn=member", "--peer-cert-allowed-hostname=member.example"} {
		c := testkit.NewCluster(t, 3, testkit.FastArgs...)
		secure(c)
		for i, m := range c.Members {
			if i < 2 {
				m.ExtraArgs = append(m.ExtraArgs, who.peerArgs(member, allowed)...)
			} else { // it takes everybody, but is taken by nobody
				m.ExtraArgs = append(m.ExtraArgs, who.peerArgs(stranger)...)
			}
		}
		for _, m := range c.Members {
			if err := m.Begin(); err != nil {
				t.Fatal(err)
			}
		}
		for _, m := range c.Members[:2] {
			if err := m.AwaitReady(); err != nil {
				t.Fatal(err)
			}
		}
		if !c.Members[2].Says("remote error: tls: bad certificate") {
			t.Errorf("%s: the stranger is not told that its certificate is bad", allowed)
		}
		if !c.Members[0].Says("client certificate authentication failed") || !c.Members[0].Says("rejected connection on peer endpoint") {
			t.Errorf("%s: a member does not say whom it has refused", allowed)
		}
		for _, m := range c.Members {
			m.Kill()
		}
	}
}
