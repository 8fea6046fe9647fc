package handshake

import (
	"crypto/tls"
	"crypto/x509"
	"fmt"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"keelson/peer/process"
)

// TestPeerAddress has every kind of client come to the address of the other members.
func TestPeerAddress(t *testing.T) {
	all := func(s *side) {
		for _, c := range actors.all {
			s.come("@peer", c)
		}
	}
	secured := func(more ...string) []string {
		list := slices.Clone(securePeers[:5])
		return with(append(list, more...)...)
	}
	trusting := []string{"--peer-trusted-ca-file=@files/ca.pem", "--peer-client-cert-auth"}
	skipping := append(trusting, "--peer-skip-client-san-verification")
	for name, args := range map[string][]string{
		"nothing":              secured(),
		"authority":            secured("--peer-trusted-ca-file=@files/ca.pem"),
		"certificate":          secured("--peer-client-cert-auth"),
		"both":                 secured(trusting...),
		"any address":          secured(skipping...),
		"list":                 secured(append(skipping, "--peer-crl-file=@files/revoked.crl")...),
		"list and address":     secured(append(trusting, "--peer-crl-file=@files/revoked.crl")...),
		"garbage for a list":   secured(append(skipping, "--peer-crl-file=@files/garbage.crl")...),
		"missing list":         secured(append(skipping, "--peer-crl-file=@files/missing.crl")...),
		"name":                 secured(append(skipping, "--peer-cert-allowed-cn=other,client.example")...),
		"host":                 secured(append(skipping, "--peer-cert-allowed-hostname=client.example")...),
		"address":              secured(append(skipping, "--peer-cert-allowed-hostname=127.0.0.1,nobody")...),
		"name, no certificate": secured("--peer-cert-allowed-cn=other"),
		"name and address":     secured(append(trusting, "--peer-cert-allowed-cn=client")...),
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			situation{args: args, look: all}.compare(t)
		})
	}
}

// pair is a cluster of two, of which each is given more arguments. It forms if they reach each other.
type pair struct {
	name     string
	common   []string
	one, two []string
	// says is what the one that refuses says; empty: it forms.
	says string
	// theirs: etcd's forms all the same. That is a row of docs/differences.md.
	theirs  bool
	schemes [2]string // of their addresses; empty: https
}

// TestPairs starts clusters of two with certificates that fit or do not, and wants those of ours to form that etcd's do, and the
// others to say why not.
func TestPairs(t *testing.T) {
	dir := t.TempDir()
	issue := func(name string, a *authority, s subject) []string {
		if s.ips == nil && s.dns == nil {
			s.ips, s.dns = []string{"127.0.0.1"}, []string{"localhost"}
		}
		putPair(dir, name, a.issue(s))
		return []string{"--peer-cert-file=" + dir + "/" + name + ".pem", "--peer-key-file=" + dir + "/" + name + ".key"}
	}
	a := issue("a", actors.ca, subject{name: "a"})
	b := issue("b", actors.ca, subject{name: "b"})
	foreign := issue("foreign", actors.foreign, subject{name: "b"})
	expired := issue("expired", actors.ca, subject{name: "b", from: -2 * time.Hour, to: -time.Hour})
	elsewhere := issue("elsewhere", actors.ca, subject{name: "b", ips: []string{"192.0.2.1"}})
	server := issue("serveronly", actors.ca, subject{name: "b", usages: []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth}})
	clientOnly := issue("clientonly", actors.ca, subject{name: "b", usages: []x509.ExtKeyUsage{x509.ExtKeyUsageClientAuth}})
	unsaid := issue("unsaid", actors.ca, subject{name: "b", anyUsage: true})
	chained := issue("chained", actors.middle, subject{name: "b"})
	issue("asclient", actors.ca, subject{name: "b", usages: []x509.ExtKeyUsage{x509.ExtKeyUsageClientAuth}})
	asClient := []string{"--peer-client-cert-file=" + dir + "/asclient.pem", "--peer-client-key-file=" + dir + "/asclient.key"}
	stolen := must(tls.LoadX509KeyPair(dir+"/b.pem", dir+"/b.key"))
	put(dir, "b.crl", actors.ca.revoke(time.Hour, &stolen))
	trusting := []string{"--peer-trusted-ca-file=@files/ca.pem", "--peer-client-cert-auth"}
	withAlso := func(list []string, more ...string) []string { return append(slices.Clone(list), more...) }
	for _, p := range []pair{
		{name: "right", common: trusting, one: a, two: b},
		{name: "authority only", common: trusting[:1], one: a, two: b},
		{name: "through a middle", common: trusting, one: a, two: chained},
		{name: "no word about usages", common: trusting, one: a, two: unsaid},
		{name: "another authority", common: trusting, one: a, two: foreign, says: "certificate signed by unknown authority"},
		{name: "system's authorities", one: a, two: b, says: "certificate signed by unknown authority"},
		{name: "expired", common: trusting, one: a, two: expired, says: "certificate has expired"},
		{name: "elsewhere", common: trusting, one: a, two: elsewhere, says: "certificate is valid for 192.0.2.1, not 127.0.0.1"},
		{name: "elsewhere, not looked at", common: withAlso(trusting, "--peer-skip-client-san-verification"), one: a, two: elsewhere, theirs: true, says: "certificate is valid for 192.0.2.1, not 127.0.0.1"},
		{name: "server only", common: trusting, one: a, two: server, says: "certificate specifies an incompatible key usage"},
		{name: "client only", common: trusting, one: a, two: clientOnly, theirs: true, says: "certificate specifies an incompatible key usage"},
		{name: "server, and another for clients", common: trusting, one: a, two: append(slices.Clone(server), asClient...)},
		{name: "names", common: withAlso(trusting, "--peer-cert-allowed-cn=a,b"), one: a, two: b},
		{name: "wrong name", common: withAlso(trusting, "--peer-cert-allowed-cn=a,c"), one: a, two: b, says: "client certificate authentication failed"},
		{name: "name as a client", common: withAlso(trusting, "--peer-cert-allowed-cn=a"), one: a,
			two: withAlso(b, "--peer-client-cert-file="+dir+"/a.pem", "--peer-client-key-file="+dir+"/a.key")},
		{name: "hosts", common: withAlso(trusting, "--peer-cert-allowed-hostname=x,localhost"), one: a, two: b},
		{name: "wrong host", common: withAlso(trusting, "--peer-cert-allowed-hostname=x"), one: a, two: b, says: "client certificate authentication failed"},
		{name: "revoked", common: withAlso(trusting, "--peer-crl-file="+dir+"/b.crl"), one: a, two: b, says: "revoked"},
		{name: "http and https", common: trusting, one: a, two: b, schemes: [2]string{"https", "http"}},
		{name: "own", common: []string{"--peer-auto-tls"}},
		{name: "own, who are asked", common: withAlso(trusting, "--peer-auto-tls")},
		{name: "own and another's", one: []string{"--peer-auto-tls"}, two: withAlso(b, trusting...), says: "certificate"},
		{name: "versions", common: trusting, one: withAlso(a, "--tls-min-version=TLS1.3"), two: withAlso(b, "--tls-max-version=TLS1.2"), says: "unsupported version"},
		{name: "suites", common: trusting, one: withAlso(a, "--tls-max-version=TLS1.2", "--cipher-suites=TLS_ECDHE_ECDSA_WITH_AES_128_GCM_SHA256"),
			two: withAlso(b, "--tls-max-version=TLS1.2", "--cipher-suites=TLS_ECDHE_ECDSA_WITH_AES_256_GCM_SHA384,TLS_ECDHE_RSA_WITH_AES_128_GCM_SHA256"), says: "no cipher suite supported by both"},
	} {
		t.Run(p.name, func(t *testing.T) {
			t.Parallel()
			var both sync.WaitGroup
			for i, program := range []process.Program{theirs, ours} {
				both.Go(func() { p.meet(t, i, program) })
			}
			both.Wait()
		})
	}
}

// meet starts a cluster and looks what becomes of it.
func (p pair) meet(t *testing.T, place int, program process.Program) {
	s := newSide(t, program)
	defer s.stop()
	schemes := p.schemes
	if schemes[0] == "" {
		schemes = [2]string{"https", "https"}
	}
	peers := []string{schemes[0] + "://@peer", schemes[1] + "://@peer2"}
	var runs []*process.Run
	for i, own := range [][]string{p.one, p.two} {
		client := "http://" + []string{"@client", "@client2"}[i]
		args := []string{
			fmt.Sprintf("--name=m%d", i), "--heartbeat-interval=50", "--election-timeout=500", fmt.Sprintf("--data-dir=@dir/data%d", i), "--listen-client-urls=" + client, "--advertise-client-urls=" + client,
			"--listen-peer-urls=" + peers[i], "--initial-advertise-peer-urls=" + peers[i], "--initial-cluster=m0=" + peers[0] + ",m1=" + peers[1],
		}
		run := s.start(nil, slices.Concat(args, p.common, own, only[place])...)
		if run == nil {
			return
		}
		runs = append(runs, run)
	}
	if p.says == "" || p.theirs && program == theirs {
		for i, run := range runs {
			if ready, err := run.Await(readyLine, readyTimeout); err != nil || !ready {
				t.Errorf("%s: member %d does not come to serve: %v", program.Name, i, err)
			}
		}
		return
	}
	awaitEither(t, runs, p.says)
	for i, run := range runs {
		if written, _ := run.Out.Text(); strings.Contains(written, readyLine) {
			t.Errorf("%s: member %d serves:\n%s", program.Name, i, written)
		}
	}
}

// awaitEither waits until one of the members says something for the second time: ours says once for each of its streams what does not change.
func awaitEither(t *testing.T, runs []*process.Run, text string) {
	t.Helper()
	const times = 2
	deadline := time.After(readyTimeout)
	for {
		var texts [2]string
		var changed [2]<-chan struct{}
		for i, run := range runs {
			texts[i], changed[i] = run.Out.Text()
			if strings.Count(texts[i], text) >= times {
				return
			}
		}
		select {
		case <-changed[0]:
		case <-changed[1]:
		case <-deadline:
			t.Errorf("%s: neither member says %q:\n%s\n%s", runs[0].Program.Name, text, texts[0], texts[1])
			return
		}
	}
}
