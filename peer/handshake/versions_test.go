package handshake

import (
	"crypto/tls"
	"fmt"
	"strings"
	"testing"
	"time"
)

// TestVersions has clients of every version come to servers of some.
func TestVersions(t *testing.T) {
	look := func(s *side) {
		for _, c := range []struct{ min, max uint16 }{
			{tls.VersionTLS10, tls.VersionTLS10}, {tls.VersionTLS11, tls.VersionTLS11}, {tls.VersionTLS12, tls.VersionTLS12}, {tls.VersionTLS13, tls.VersionTLS13},
			{tls.VersionTLS10, tls.VersionTLS11}, {tls.VersionTLS10, tls.VersionTLS12}, {tls.VersionTLS10, tls.VersionTLS13}, {tls.VersionTLS12, tls.VersionTLS13},
		} {
			config := actors.named("address").as()
			config.MinVersion, config.MaxVersion = c.min, c.max
			what := tls.VersionName(c.min) + " to " + tls.VersionName(c.max)
			for _, address := range []string{"@client", "@peer", "@metrics"} {
				s.shake(what+" at "+address, address, config)
			}
			s.get(what+": HTTP", "https://@client/health", config, false)
			s.call(what+": gRPC", "@client", config, "", read)
		}
	}
	secured := append([]string{"--listen-metrics-urls=https://@metrics", "--listen-peer-urls=https://@peer", "--initial-advertise-peer-urls=https://@peer",
		"--initial-cluster=m1=https://@peer", "--peer-cert-file=@files/server.pem", "--peer-key-file=@files/server.key"}, demanding...)
	for _, args := range [][]string{
		nil, {"--tls-min-version=TLS1.2"}, {"--tls-min-version=TLS1.3"}, {"--tls-max-version=TLS1.2"}, {"--tls-max-version=TLS1.3"},
		{"--tls-min-version=TLS1.2", "--tls-max-version=TLS1.2"}, {"--tls-min-version=TLS1.2", "--tls-max-version=TLS1.3"}, {"--tls-min-version=TLS1.3", "--tls-max-version=TLS1.3"},
	} {
		t.Run(fmt.Sprint(args), func(t *testing.T) {
			t.Parallel()
			situation{args: with(append(args, secured...)...), look: look}.compare(t)
		})
	}
}

// required are the suites one of which etcd needs to go on serving HTTP/2.
const required = "TLS_ECDHE_RSA_WITH_AES_128_GCM_SHA256,TLS_ECDHE_ECDSA_WITH_AES_128_GCM_SHA256"

// TestSuites has clients come that know few suites, to servers that allow few, and with certificates of both kinds of keys.
func TestSuites(t *testing.T) {
	suites := []uint16{
		tls.TLS_ECDHE_RSA_WITH_AES_128_GCM_SHA256, tls.TLS_ECDHE_RSA_WITH_AES_256_GCM_SHA384, tls.TLS_ECDHE_RSA_WITH_CHACHA20_POLY1305_SHA256,
		tls.TLS_ECDHE_ECDSA_WITH_AES_128_GCM_SHA256, tls.TLS_ECDHE_ECDSA_WITH_AES_256_GCM_SHA384, tls.TLS_ECDHE_ECDSA_WITH_CHACHA20_POLY1305_SHA256,
		tls.TLS_ECDHE_RSA_WITH_AES_128_CBC_SHA, tls.TLS_ECDHE_ECDSA_WITH_AES_128_CBC_SHA, tls.TLS_ECDHE_ECDSA_WITH_AES_128_CBC_SHA256,
		tls.TLS_RSA_WITH_AES_128_GCM_SHA256, tls.TLS_RSA_WITH_AES_128_CBC_SHA, tls.TLS_RSA_WITH_3DES_EDE_CBC_SHA, tls.TLS_RSA_WITH_RC4_128_SHA,
	}
	for _, key := range []string{"server", "rsa"} {
		for _, list := range suiteLists {
			// Without the required suites etcd ends. It gets them, and nobody comes who knows them.
			short := list != "" && !strings.Contains(list, "AES_128_GCM_SHA256")
			var known []uint16
			for _, suite := range suites {
				if !short || !strings.Contains(required, tls.CipherSuiteName(suite)) {
					known = append(known, suite)
				}
			}
			look := func(s *side) {
				come := func(what string, suites []uint16, offer []string, min, max uint16) {
					config := actors.nobody.as()
					config.CipherSuites, config.NextProtos, config.MinVersion, config.MaxVersion = suites, offer, min, max
					s.shake(what, "@client", config)
				}
				for _, suite := range known {
					come(tls.CipherSuiteName(suite), []uint16{suite}, nil, 0, tls.VersionTLS12)
					come(tls.CipherSuiteName(suite)+", HTTP/2", []uint16{suite}, []string{"h2"}, 0, tls.VersionTLS12)
				}
				come("all", known, nil, 0, tls.VersionTLS12)
				come("one, but any version", known[:1], nil, 0, 0)
				come("TLS 1.3", nil, nil, tls.VersionTLS13, 0)
				s.call("gRPC", "@client", actors.nobody.as(), "", read)
			}
			r := situation{args: with("--cert-file=@files/"+key+".pem", "--key-file=@files/"+key+".key"), look: look}
			if list != "" {
				allowed := "--cipher-suites=" + list
				r.apart = [2][]string{{allowed}, {allowed}}
				if short {
					r.apart[0][0] += "," + required
				}
			}
			t.Run(key+" "+list, func(t *testing.T) {
				t.Parallel()
				r.compare(t)
			})
		}
	}
}

// TestSuitesApart has clients come with suites that HTTP/2 prohibits, to addresses for calls, and for HTTP alone.
func TestSuitesApart(t *testing.T) {
	t.Parallel()
	situation{args: with("--listen-client-http-urls=https://@http"), look: func(s *side) {
		for _, address := range []string{"@client", "@http"} {
			config := actors.nobody.as()
			config.CipherSuites, config.NextProtos = []uint16{tls.TLS_ECDHE_ECDSA_WITH_AES_128_CBC_SHA}, []string{"h2"}
			config.MaxVersion = tls.VersionTLS12
			s.shake(address, address, config)
			s.get(address, "https://"+address+"/health", config, true)
			s.call(address, address, config, "", read)
		}
	}}.compare(t)
}

// TestSuitesThatEtcdNeeds starts etcd without them.
func TestSuitesThatEtcdNeeds(t *testing.T) {
	t.Parallel()
	s := newSide(t, theirs)
	run := s.start(nil, with("--cipher-suites=TLS_ECDHE_ECDSA_WITH_AES_256_GCM_SHA384")...)
	defer run.Kill()
	if _, err := run.Await("listener failed", patience); err != nil {
		t.Fatal(err)
	}
	select {
	case <-run.Ended:
	case <-time.After(patience):
	}
	if written, _ := run.Out.Text(); run.Code != 1 || !strings.Contains(written, "CipherSuites is missing an HTTP/2-required AES_128_GCM_SHA256 cipher") {
		t.Errorf("etcd serves, or ends for another reason, code %d: docs/differences.md says otherwise\n%s", run.Code, written)
	}
}

var suiteLists = []string{
	"", "TLS_ECDHE_RSA_WITH_AES_128_GCM_SHA256", "TLS_ECDHE_ECDSA_WITH_AES_256_GCM_SHA384,TLS_ECDHE_RSA_WITH_AES_256_GCM_SHA384",
	"TLS_ECDHE_RSA_WITH_CHACHA20_POLY1305,TLS_ECDHE_ECDSA_WITH_CHACHA20_POLY1305", "TLS_ECDHE_RSA_WITH_CHACHA20_POLY1305_SHA256,TLS_ECDHE_ECDSA_WITH_CHACHA20_POLY1305_SHA256",
	"TLS_RSA_WITH_AES_128_CBC_SHA,TLS_RSA_WITH_3DES_EDE_CBC_SHA,TLS_RSA_WITH_RC4_128_SHA", "TLS_AES_256_GCM_SHA384",
	"TLS_ECDHE_ECDSA_WITH_AES_128_CBC_SHA,TLS_ECDHE_RSA_WITH_AES_128_CBC_SHA",
}
