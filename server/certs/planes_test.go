package certs

import (
	"errors"
	"os"
	"testing"
	"time"

	"go.uber.org/zap"
	"go.uber.org/zap/zapcore"
	"go.uber.org/zap/zaptest/observer"

	"keelson/config"
)

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
	// Nobody vouches for what members have made themselves, so nothing of it can be demanded.
	secured := []string{"--listen-peer-urls=https://127.0.0.1:1", "--initial-advertise-peer-urls=https://127.0.0.1:1", "--initial-cluster=default=https://127.0.0.1:1"}
	own := peers(append(secured, "--peer-auto-tls", "--peer-client-cert-auth", "--peer-trusted-ca-file="+c.ca.File, "--peer-cert-allowed-cn=x")...)
	if own.DemandsCertificates() || !own.Serves() || logs.FilterMessageSnippet("what is demanded of peer certificates is ignored").Len() != 1 {
		t.Errorf("%+v, %v", own.o, logs.All())
	}
	if _, serverErr, clientErr := meet(t, own, own); serverErr != nil || clientErr != nil {
		t.Errorf("they do not take each other's: %v; %v", serverErr, clientErr)
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
