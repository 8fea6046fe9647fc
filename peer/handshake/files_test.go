package handshake

import (
	"crypto/x509"
	"encoding/json"
	"encoding/pem"
	"fmt"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"
)

// TestFilesThatChange changes certificates, keys, authorities and the list of what is revoked below a server's feet.
func TestFilesThatChange(t *testing.T) {
	t.Parallel()
	who := subject{name: "second", ips: []string{"127.0.0.1"}, dns: []string{"localhost"}}
	second := actors.ca.issue(who)
	ofForeign := actors.foreign.issue(subject{name: "client", dns: []string{"client.example"}})
	write := func(name string, text []byte) func(string) {
		return func(dir string) { put(dir, name, text) }
	}
	remove := func(name string) func(string) {
		return func(dir string) { os.Remove(filepath.Join(dir, name)) }
	}
	steps := []struct {
		what   string
		change func(dir string)
	}{
		{"as it was", func(string) {}},
		{"another certificate, with its key", func(dir string) { putPair(dir, "server", second) }},
		{"a certificate without its key", write("server.pem", chainPEM(actors.server))},
		{"its key too", write("server.key", keyPEM(actors.server))},
		{"no certificate", remove("server.pem")},
		{"garbage for a certificate", write("server.pem", []byte("garbage\n"))},
		{"an empty certificate", write("server.pem", nil)},
		{"the certificate is back", write("server.pem", chainPEM(actors.server))},
		{"no key", remove("server.key")},
		{"garbage for a key", write("server.key", []byte("garbage\n"))},
		{"the key is back", write("server.key", keyPEM(actors.server))},
		{"another authority", write("ca.pem", actors.foreign.pem())},
		{"no authority", remove("ca.pem")},
		{"both authorities", write("ca.pem", append(actors.ca.pem(), actors.foreign.pem()...))},
		{"one who was right is revoked", write("revoked.crl", actors.ca.revoke(time.Hour, actors.right.cert))},
		{"nobody is revoked", write("revoked.crl", actors.ca.revoke(time.Hour))},
		{"no list", remove("revoked.crl")},
		{"garbage for a list", write("revoked.crl", []byte("garbage\n"))},
		{"a list again", write("revoked.crl", actors.ca.revoke(time.Hour, actors.revoked.cert))},
	}
	situation{args: with("--cert-file=@dir/server.pem", "--key-file=@dir/server.key", "--trusted-ca-file=@dir/ca.pem", "--client-cert-auth", "--client-crl-file=@dir/revoked.crl"),
		prepare: func(dir string) {
			putPair(dir, "server", actors.server)
			put(dir, "ca.pem", actors.ca.pem())
			put(dir, "revoked.crl", actors.ca.revoke(time.Hour, actors.revoked.cert))
		},
		look: func(s *side) {
			for _, step := range steps {
				step.change(s.dir)
				for _, c := range []client{actors.right, actors.revoked, {"of another authority", ofForeign}} {
					s.shake(step.what+": "+c.name, "@client", c.as()) // once: the log leaves out what it says often
				}
				s.get(step.what+": HTTP", "https://@client/health", actors.named("address").as(), true)
				s.call(step.what+": gRPC", "@client", actors.named("address").as(), "", read)
			}
		}}.compare(t)
}

// about notes what the log says with messages like this, once each.
func (s *side) about(message string) {
	lines := map[string]bool{}
	for _, run := range s.runs {
		written, _ := run.Out.Text()
		for line := range strings.Lines(written) {
			var entry struct{ Level, Msg, Error string }
			if json.Unmarshal([]byte(line), &entry) == nil && strings.Contains(entry.Msg, message) {
				lines[fmt.Sprintf("%s %s: %s", entry.Level, entry.Msg, entry.Error)] = true
			}
		}
	}
	s.note("log: "+message, strings.Join(slices.Sorted(maps.Keys(lines)), "\n"), "")
}

// TestOwnCertificates looks at certificates that servers make themselves.
func TestOwnCertificates(t *testing.T) {
	seen := func(s *side) {
		for _, file := range []string{"client/cert.pem", "client/key.pem", "peer/cert.pem", "peer/key.pem"} {
			s.note(file, describe(filepath.Join(s.dir, "data/fixtures", file)), "")
		}
		for _, address := range []string{"@client", "@metrics", "@peer"} {
			for _, c := range []client{actors.nobody, actors.named("address")} {
				config := c.as()
				s.shake(c.name+" who verifies at "+address, address, config)
				config = c.as()
				config.InsecureSkipVerify = true
				s.shake(c.name+" who does not at "+address, address, config)
				config = c.as()
				config.RootCAs = x509.NewCertPool()
				if text, err := os.ReadFile(filepath.Join(s.dir, "data/fixtures/client/cert.pem")); err == nil {
					config.RootCAs.AppendCertsFromPEM(text)
				}
				s.shake(c.name+" who trusts it at "+address, address, config)
			}
		}
		s.about("certs given")
		s.about("automatically generate certificates")
	}
	none := []string{"--cert-file=", "--key-file="}
	for name, args := range map[string][]string{
		"clients":                        with(append(none, "--auto-tls")...),
		"clients, for three years":       with(append(none, "--auto-tls", "--self-signed-cert-validity=3", "--listen-metrics-urls=https://@metrics")...),
		"clients and certificates":       with("--auto-tls", "--listen-metrics-urls=https://@metrics"),
		"clients, who have to show some": with(append(none, "--auto-tls", "--trusted-ca-file=@files/ca.pem", "--client-cert-auth")...),
		"clients, who have to show any":  with(append(none, "--auto-tls", "--client-cert-auth")...),
		"clients, sockets":               with(append(none, "--auto-tls", "--listen-client-urls=https://@client,unixs://@dir/socket", "--listen-client-http-urls=https://@http")...),
		"peers":                          with("--peer-auto-tls", "--listen-peer-urls=https://@peer", "--initial-advertise-peer-urls=https://@peer", "--initial-cluster=m1=https://@peer"),
		"peers, who are asked": with("--peer-auto-tls", "--peer-client-cert-auth", "--peer-trusted-ca-file=@files/ca.pem", "--listen-peer-urls=https://@peer",
			"--initial-advertise-peer-urls=https://@peer", "--initial-cluster=m1=https://@peer"),
		"both":    with(append(none, "--auto-tls", "--peer-auto-tls", "--listen-peer-urls=https://@peer", "--initial-advertise-peer-urls=https://@peer", "--initial-cluster=m1=https://@peer")...),
		"TLS 1.3": with(append(none, "--auto-tls", "--tls-min-version=TLS1.3")...),
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			situation{args: args, look: seen}.compare(t)
		})
	}
}

// describe is what a certificate or a key says, but for what is of its moment.
func describe(file string) string {
	info, err := os.Stat(file)
	if err != nil {
		return "there is none"
	}
	dir, err := os.Stat(filepath.Dir(file))
	if err != nil {
		return err.Error()
	}
	text, err := os.ReadFile(file)
	if err != nil {
		return err.Error()
	}
	block, rest := pem.Decode(text)
	if block == nil {
		return "no PEM"
	}
	saw := fmt.Sprintf("mode %v in %v, %s, %d bytes behind it", info.Mode(), dir.Mode(), block.Type, len(rest))
	c, err := x509.ParseCertificate(block.Bytes)
	if err != nil {
		key, err := x509.ParseECPrivateKey(block.Bytes)
		if err != nil {
			return saw + ", " + err.Error()
		}
		return saw + ", " + key.Curve.Params().Name
	}
	return fmt.Sprintf("%s: of %v for %v, addresses %v, names %v, usage %b, %v, an authority %t, version %d, %v, for %v, serial of less than 128 bits %t",
		saw, c.Issuer, c.Subject, c.IPAddresses, c.DNSNames, c.KeyUsage, c.ExtKeyUsage, c.IsCA, c.Version, c.SignatureAlgorithm, c.NotAfter.Sub(c.NotBefore), c.SerialNumber.BitLen() <= 128)
}

// TestOwnCertificatesStay starts servers again that have made their certificates, and others beside files that are incomplete.
func TestOwnCertificatesStay(t *testing.T) {
	t.Parallel()
	args := with("--cert-file=", "--key-file=", "--auto-tls")
	fixtures := "data/fixtures/client"
	situation{args: args, look: func(s *side) {
		first := s.runs[0]
		cert := func() string {
			text, _ := os.ReadFile(filepath.Join(s.dir, fixtures, "cert.pem"))
			return string(text)
		}
		before := cert()
		for _, change := range []struct {
			what string
			do   func()
		}{
			{"again", func() {}},
			{"without its key", func() { os.Remove(filepath.Join(s.dir, fixtures, "key.pem")) }},
			{"without its certificate", func() { os.Remove(filepath.Join(s.dir, fixtures, "cert.pem")) }},
			{"garbage", func() { put(filepath.Join(s.dir, fixtures), "cert.pem", []byte("garbage\n")) }},
		} {
			if err := first.Stop(); err != nil {
				s.t.Error(err)
			}
			change.do()
			if first = s.start(nil, append(args, only[sideOf(s)]...)...); first == nil {
				return
			}
			s.note(change.what, fmt.Sprintf("serves %t, the same certificate %t", s.ready(first), cert() == before), "")
			before = cert()
		}
	}}.compare(t)
}

// sideOf is the place of a side among the two.
func sideOf(s *side) int {
	if s.program == ours {
		return 1
	}
	return 0
}
