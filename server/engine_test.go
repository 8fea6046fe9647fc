package server

import (
	"context"
	"fmt"
	"net"
	"net/http"
	"net/http/httptest"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	clientv3 "go.etcd.io/etcd/client/v3"
	"go.uber.org/zap"
	"go.uber.org/zap/zapcore"
	"go.uber.org/zap/zaptest/observer"

	"keelson/config"
	"keelson/env"
	"keelson/internal/testkit"
	"keelson/raftlog"
	"keelson/server/bootstrap"
	"keelson/state"
	"keelson/state/members"
)

// freeURL is one on this machine that nobody listens on.
func freeURL(t *testing.T) string {
	t.Helper()
	return "http://" + testkit.FreeAddress(t) // outgoing connections do not take it meanwhile
}

// loadMember makes a configuration; settings given twice have the later value.
func loadMember(t *testing.T, dir string, args ...string) *config.Config {
	t.Helper()
	c, _, err := config.Load("keelson serve", append([]string{"--data-dir=" + dir}, args...), config.Machine{})
	if err != nil {
		t.Fatal(err)
	}
	return c
}

// opened is what an engine holds after a start.
type opened struct {
	member, cluster uint64
	applied         state.Position
	hash            uint64
	members         []members.Member
	last            uint64 // of the log
	logs            *observer.ObservedLogs
}

func openOnce(t *testing.T, c *config.Config) opened {
	t.Helper()
	core, logs := observer.New(zapcore.InfoLevel)
	e, err := openEngine(context.Background(), c, bootstrap.NewClient(nil, nil), nil, zap.New(core), quietHooks(t))
	if err != nil {
		t.Fatal(err)
	}
	o := opened{member: e.dir.Identity.MemberID, cluster: e.dir.Identity.ClusterID, applied: e.machine.Applied(), logs: logs}
	_, o.hash = e.machine.StateHash()
	view := e.machine.View()
	o.members = slices.Clone(view.Members().List())
	view.Close()
	o.last, _ = e.log.LastIndex()
	if err := e.close(); err != nil {
		t.Fatal(err)
	}
	return o
}

// All first members of a cluster start from the same state, under ids of their own.
func TestFirstMembersAgree(t *testing.T) {
	const n = 3
	var urls, pairs []string
	for i := range n {
		urls = append(urls, freeURL(t))
		pairs = append(pairs, fmt.Sprintf("m%d=%s", i, urls[i]))
	}
	var first opened
	ids := map[uint64]bool{}
	for i := range n {
		got := openOnce(t, loadMember(t, filepath.Join(t.TempDir(), "data"), fmt.Sprintf("--name=m%d", i),
			"--initial-advertise-peer-urls="+urls[i], "--initial-cluster="+strings.Join(pairs, ",")))
		if i == 0 {
			first = got
		}
		ids[got.member] = true
		if got.cluster != first.cluster || got.hash != first.hash || got.applied != (state.Position{Index: 1, Term: 1}) ||
			got.last != 1 || len(got.members) != n {
			t.Errorf("one member starts from %+v, another from %+v", first, got)
		}
	}
	if len(ids) != n {
		t.Errorf("%d ids of %d members", len(ids), n)
	}
}

// A member that joins starts from nothing, under the ids that the cluster has for it; from then on they are its own,
// whatever the settings say and whether or not anybody answers (known bug D11: it is not let in a second time).
func TestJoiningMemberStartsEmpty(t *testing.T) {
	own := freeURL(t)
	name := ""
	mux := http.NewServeMux()
	mux.HandleFunc("/members", func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("X-Etcd-Cluster-Id", "abc")
		fmt.Fprintf(w, `[{"id":1,"peerURLs":["http://%s"],"name":"a"},{"id":18446744073709551614,"peerURLs":[%q],"name":%q}]`, r.Host, own, name)
	})
	mux.HandleFunc("/version", func(w http.ResponseWriter, _ *http.Request) {
		fmt.Fprint(w, `{"etcdserver":"3.7.1","etcdcluster":"3.7.0"}`)
	})
	running := httptest.NewServer(mux)
	defer running.Close()
	dir := filepath.Join(t.TempDir(), "data")
	args := []string{"--name=b", "--initial-advertise-peer-urls=" + own, "--initial-cluster=a=" + running.URL + ",b=" + own, "--initial-cluster-state=existing"}
	check := func(got opened) {
		t.Helper()
		if got.cluster != 0xabc || got.member != 1<<64-2 || got.applied != (state.Position{}) || got.last != 0 || len(got.members) != 0 {
			t.Errorf("started from %+v", got)
		}
	}
	check(openOnce(t, loadMember(t, dir, args...)))

	name = "b" // it has run
	c := loadMember(t, filepath.Join(t.TempDir(), "data"), args...)
	core, logs := observer.New(zapcore.InfoLevel)
	_, err := openEngine(context.Background(), c, bootstrap.NewClient(nil, nil), nil, zap.New(core), quietHooks(t))
	if err == nil || !strings.HasPrefix(err.Error(), "member fffffffffffffffe of cluster abc has run before") {
		t.Errorf("with its data gone: %v", err)
	}
	if logs.FilterMessage("bootstrap failed").Len() != 1 {
		t.Errorf("logged %v", logs.All())
	}

	running.Close()
	check(openOnce(t, loadMember(t, dir, args...)))
	again := openOnce(t, loadMember(t, dir, "--name=c", "--discovery-token=x", "--discovery-endpoints="+freeURL(t)))
	check(again)
	for _, want := range []string{
		"server has already been initialized",
		"discovery token is ignored since cluster already initialized; valid logs are found",
	} {
		if again.logs.FilterMessage(want).Len() != 1 {
			t.Errorf("did not log %q", want)
		}
	}
}

// A member of three that is forced serves alone, under its ids, and goes on doing so with or without the flag.
func TestForcedMemberServes(t *testing.T) {
	client, peer := freeURL(t), freeURL(t)
	dir := filepath.Join(t.TempDir(), "data")
	args := []string{"--name=m1", "--listen-client-urls=" + client, "--advertise-client-urls=" + client,
		"--listen-peer-urls=" + peer, "--initial-advertise-peer-urls=" + peer,
		"--initial-cluster=m1=" + peer + ",m2=" + freeURL(t) + ",m3=" + freeURL(t)}
	first := openOnce(t, loadMember(t, dir, args...))
	for i, more := range [][]string{{"--force-new-cluster"}, {"--force-new-cluster"}, nil} {
		ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
		s, err := Start(ctx, loadMember(t, dir, append(args, more...)...), zap.NewNop())
		cancel()
		if err != nil {
			t.Fatalf("start %d: %v", i, err)
		}
		checkServesAlone(t, client, first, i)
		if err := s.Stop(); err != nil {
			t.Error(err)
		}
	}
}

// checkServesAlone writes a key, and looks for those of earlier rounds.
func checkServesAlone(t *testing.T, client string, first opened, round int) {
	t.Helper()
	c, err := clientv3.New(clientv3.Config{Endpoints: []string{client}, Logger: zap.NewNop()})
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
	defer cancel()
	if _, err := c.Put(ctx, fmt.Sprint("k", round), "v"); err != nil {
		t.Fatal(err)
	}
	got, err := c.Get(ctx, "k", clientv3.WithPrefix())
	if err != nil || len(got.Kvs) != round+1 {
		t.Errorf("%v, %v", got, err)
	}
	list, err := c.MemberList(ctx)
	if err != nil {
		t.Fatal(err)
	}
	if len(list.Members) != 1 || list.Members[0].ID != first.member || list.Header.ClusterId != first.cluster {
		t.Errorf("members %v of cluster %x, want %x of %x", list.Members, list.Header.ClusterId, first.member, first.cluster)
	}
}

// A running member is a discovery service.
func TestDiscoveryThroughAMember(t *testing.T) {
	served := load(t)
	s, err := Start(context.Background(), served, zap.NewNop())
	if err != nil {
		t.Fatal(err)
	}
	defer s.Stop()
	endpoint := served.Member.ListenClientURLs.String()
	c, err := clientv3.New(clientv3.Config{Endpoints: []string{endpoint}, Logger: zap.NewNop()})
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	if _, err := c.Put(context.Background(), "/_etcd/registry/tok/_config/size", "3"); err != nil {
		t.Fatal(err)
	}
	type outcome struct {
		b   bootstrap.Beginning
		err error
	}
	outcomes := make(chan outcome, 3)
	for i := range 3 {
		m := loadMember(t, filepath.Join(t.TempDir(), "data"), fmt.Sprintf("--name=d%d", i), "--initial-advertise-peer-urls="+freeURL(t),
			"--discovery-token=tok", "--discovery-endpoints="+endpoint)
		go func() {
			b, err := bootstrap.Begin(context.Background(), bootstrap.Options{
				Config: m, Resolver: net.DefaultResolver, Peers: bootstrap.NewClient(nil, nil), Clock: env.SystemClock(), Logger: zap.NewNop(),
			})
			outcomes <- outcome{b, err}
		}()
	}
	clusters := map[uint64]bool{}
	for range 3 {
		got := <-outcomes
		if got.err != nil || len(got.b.Members) != 3 {
			t.Errorf("%+v, %v", got.b, got.err)
		}
		clusters[got.b.ClusterID] = true
	}
	if len(clusters) != 1 {
		t.Errorf("they came to %d clusters", len(clusters))
	}
}

// quietHooks fail the test if the store gives up.
func quietHooks(t *testing.T) hooks {
	return hooks{
		fatal: func(err error) { t.Error(err) }, flushed: func() {},
		synced: func(o raftlog.Options) raftlog.Options { return o },
	}
}
