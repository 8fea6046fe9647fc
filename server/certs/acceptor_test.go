package certs

import (
	"context"
	"crypto/x509"
	"errors"
	"fmt"
	"net"
	"strings"
	"testing"

	"go.uber.org/zap"
	"go.uber.org/zap/zapcore"
	"go.uber.org/zap/zaptest/observer"
)

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
