package bootstrap

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net"
	"net/http"
	"net/http/httptest"
	"path/filepath"
	"strings"
	"testing"

	"go.uber.org/zap"
	"go.uber.org/zap/zapcore"
	"go.uber.org/zap/zaptest/observer"

	"keelson/config"
	"keelson/env"
	"keelson/internal/testkit"
)

// dns is a resolver that knows a few names and services; the latter as _service._tcp.domain.
type dns struct {
	hosts    map[string]string
	services map[string][]*net.SRV
}

func (d dns) LookupHost(_ context.Context, host string) ([]string, error) {
	if a, ok := d.hosts[host]; ok {
		return []string{a}, nil
	}
	return nil, errors.New("no such host " + host)
}

func (d dns) LookupSRV(_ context.Context, service, proto, name string) (string, []*net.SRV, error) {
	if records, ok := d.services["_"+service+"._"+proto+"."+name]; ok {
		return name, records, nil
	}
	return "", nil, errors.New("no such service")
}

// peer is what the peer port of a running member answers.
type peer struct {
	cluster string // header, hex
	members string // body of /members; empty: 404
	version string // etcdcluster of /version; empty: 404
}

func (p *peer) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	switch {
	case r.URL.Path == "/members" && p.members != "":
		w.Header().Set("X-Etcd-Cluster-Id", p.cluster)
		fmt.Fprint(w, p.members)
	case r.URL.Path == "/version" && p.version != "":
		fmt.Fprintf(w, `{"etcdserver":"3.7.1","etcdcluster":%q,"storage":"3.7.0"}`, p.version)
	default:
		http.NotFound(w, r)
	}
}

// startPeer serves a peer and returns its URL.
func startPeer(t *testing.T, h http.Handler) string {
	t.Helper()
	s := httptest.NewServer(h)
	t.Cleanup(s.Close)
	return s.URL
}

// deadURL is one that nobody listens on, nor is given while the test runs.
func deadURL(t *testing.T) string {
	t.Helper()
	return "http://" + testkit.FreeAddress(t)
}

func membersJSON(t *testing.T, list ...Member) string {
	t.Helper()
	text, err := json.Marshal(list)
	if err != nil {
		t.Fatal(err)
	}
	return string(text)
}

// options loads the settings of a member called name and puts everything else around them.
func options(t *testing.T, name string, args ...string) (Options, *observer.ObservedLogs) {
	t.Helper()
	args = append([]string{"--name=" + name, "--data-dir=" + filepath.Join(t.TempDir(), "data")}, args...)
	c, _, err := config.Load("keelson serve", args, config.Machine{})
	if err != nil {
		t.Fatalf("%s: %v", args, err)
	}
	core, logs := observer.New(zapcore.InfoLevel)
	return Options{
		Config: c, Resolver: dns{}, Peers: NewClient(nil, nil), Clock: env.SystemClock(), Logger: zap.New(core),
	}, logs
}

// member is how the settings of one of several members look: its name, its own URL, and the initial cluster.
func memberArgs(own string, pairs ...string) []string {
	return []string{"--initial-advertise-peer-urls=" + own, "--initial-cluster=" + strings.Join(pairs, ",")}
}

// fails checks the text of a failure to begin.
func fails(t *testing.T, o Options, want string) {
	t.Helper()
	b, err := Begin(context.Background(), o)
	failed(t, b, err, want)
}

// failed checks the text of a failure.
func failed(t *testing.T, b Beginning, err error, want string) {
	t.Helper()
	if err == nil || err.Error() != want {
		t.Errorf("got %+v, %v\nwant %s", b, err, want)
	}
	if _, ok := errors.AsType[*Error](err); !ok {
		t.Errorf("%T is not an *Error", err)
	}
}
