package handshake

import (
	"fmt"
	"slices"
	"strings"
	"testing"
)

const proxyLine = "started gRPC proxy"

// proxyArgs are the arguments of a proxy in front of a member, which shows a certificate without a name.
func proxyArgs(more ...string) []string {
	return append([]string{"grpc-proxy", "start", "--endpoints=https://@client", "--listen-addr=@proxy", "--advertise-client-url=@proxy", "--data-dir=@dir/proxy",
		"--cacert=@files/ca.pem", "--cert=@files/nameless.pem", "--key=@files/nameless.key"}, more...)
}

// startProxy starts one, and reports whether it serves and how to end it.
func (s *side) startProxy(more ...string) (end func(), started bool) {
	run := s.start(nil, proxyArgs(more...)...)
	if run == nil {
		return func() {}, false
	}
	started, err := run.Await(proxyLine, readyTimeout)
	if err != nil {
		s.t.Error(err)
	}
	return func() { run.Kill() }, started
}

var proxyPair = []string{"--cert-file=@files/server.pem", "--key-file=@files/server.key"}

// TestProxy has clients come to a proxy that demands more or less of them.
func TestProxy(t *testing.T) {
	for name, args := range map[string][]string{
		"nothing":             proxyPair,
		"authority":           append(slices.Clone(proxyPair), "--trusted-ca-file=@files/ca.pem"),
		"list":                append(slices.Clone(proxyPair), "--trusted-ca-file=@files/ca.pem", "--client-crl-file=@files/revoked.crl"),
		"TLS 1.3":             append(slices.Clone(proxyPair), "--tls-min-version=TLS1.3"),
		"TLS 1.2":             append(slices.Clone(proxyPair), "--tls-max-version=TLS1.2"),
		"suites":              append(slices.Clone(proxyPair), "--tls-max-version=TLS1.2", "--listen-cipher-suites=TLS_ECDHE_ECDSA_WITH_AES_128_GCM_SHA256"),
		"its own certificate": {"--auto-tls"},
		"clear text":          {},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			situation{args: with(append(slices.Clone(demanding), "--bcrypt-cost=4")...), lax: true, look: func(s *side) {
				end, started := s.startProxy(args...)
				defer end()
				if !started {
					s.note("proxy", "does not start", "")
					return
				}
				for _, who := range []string{"none", "right", "revoked", "of another authority", "expired", "usage: server", "nameless"} {
					s.use("@proxy", actors.named(who))
				}
				s.get("clear text", "http://@proxy/health", nil, false)
				s.call("clear text: gRPC", "@proxy", nil, "", read)
			}}.compare(t)
		})
	}
}

// TestProxyOfUsers has holders of certificates call through a proxy, with tokens and without.
func TestProxyOfUsers(t *testing.T) {
	everybody := holders()
	for name, args := range map[string][]string{
		"nothing":   proxyPair,
		"authority": append(slices.Clone(proxyPair), "--trusted-ca-file=@files/ca.pem"),
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			situation{args: with(append(slices.Clone(demanding), "--bcrypt-cost=4")...), lax: true, look: func(s *side) {
				end, started := s.startProxy(args...)
				defer end()
				if !started {
					s.note("proxy", "does not start", "")
					return
				}
				tokens := s.makeUsers(everybody[0].as())
				for _, who := range everybody {
					for _, call := range calls {
						s.call(who.name+": "+call.name, "@proxy", who.as(), "", call.do)
						s.call(who.name+" with a token of ann: "+call.name, "@proxy", who.as(), tokens["ann"], call.do)
						s.call(who.name+" with a token of root: "+call.name, "@proxy", who.as(), tokens["root"], call.do)
					}
				}
			}}.compare(t)
		})
	}
}

// TestProxyWithAName starts proxies that show the member a certificate with a name, which every client would be taken for.
func TestProxyWithAName(t *testing.T) {
	t.Parallel()
	situation{args: with(demanding...), look: func(s *side) {
		for _, more := range [][]string{
			{"--cert=@files/server.pem", "--key=@files/server.key"}, {"--cert=@files/server.pem", "--key=@files/nameless.key"}, {"--cert=@files/missing.pem"}, {"--key=@files/missing.key"},
			{"--cacert=@files/missing.pem"}, {"--cert-file=@files/server.pem", "--key-file=@files/nameless.key"}, {"--trusted-ca-file=@files/ca.pem"},
		} {
			run := s.start(nil, proxyArgs(more...)...)
			if run == nil {
				return
			}
			started, err := run.Await(proxyLine, readyTimeout)
			if err != nil {
				s.t.Error(err)
			}
			saw := fmt.Sprintf("starts %t", started)
			if !started {
				written, _ := run.Out.Text()
				saw += fmt.Sprintf(", code %d, names it %t", run.Code, strings.Contains(written, "cert has non empty Common Name"))
			}
			s.note(fmt.Sprint(more), saw, "")
			run.Kill()
		}
	}}.compare(t)
}
