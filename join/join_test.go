package join

import (
	"bytes"
	"context"
	"errors"
	"flag"
	"net"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"go.etcd.io/etcd/api/v3/v3rpc/rpctypes"

	"keelson/config"
	"keelson/server/bootstrap"
)

// newcomer is a machine that joins, with free addresses.
type newcomer struct {
	dir          string
	peer, client string
	giveUp       context.CancelFunc
	environ      []string
	impatient    bool // gives up as soon as it is told that something is tried again
	out          bytes.Buffer
}

// Write takes what the command says.
func (n *newcomer) Write(p []byte) (int, error) {
	if n.impatient && bytes.Contains(p, []byte("trying again")) {
		n.giveUp()
	}
	return n.out.Write(p)
}

func newNewcomer(t *testing.T) *newcomer {
	return &newcomer{dir: filepath.Join(t.TempDir(), "data"), peer: closedURL(t), client: closedURL(t)}
}

func (n *newcomer) join(peer string, more ...string) ([]string, error) {
	ctx, cancel := context.WithCancel(context.Background())
	defer cancel()
	n.giveUp = cancel
	j := joiner{environ: n.environ, hostname: func() (string, error) { return "third", nil }, pause: time.Millisecond, out: n}
	return j.prepare(ctx, append([]string{
		"--peer", peer, "--data-dir=" + n.dir, "--listen-peer-urls", n.peer, "--listen-client-urls=" + n.client,
	}, more...))
}

// settings are what a member makes of its flags.
func (n *newcomer) settings(t *testing.T, flags []string) *config.Config {
	t.Helper()
	c, _, err := config.Load("serve", flags, config.Machine{Environ: n.environ, ReadFile: os.ReadFile, DefaultHost: config.DefaultHost})
	if err != nil {
		t.Fatalf("%q: %v", flags, err)
	}
	return c
}

func TestJoin(t *testing.T) {
	f, n := newFakeCluster(t), newNewcomer(t)
	n.environ = []string{"ETCD_SNAPSHOT_COUNT=77", "HOME=/"}
	flags, err := n.join(strings.TrimPrefix(f.peerURL, "http://")+"/", "--max-learners", "3")
	if err != nil {
		t.Fatal(err)
	}
	if len(f.added) != 1 || !f.added[0].IsLearner || !slices.Equal(f.added[0].PeerURLs, []string{n.peer}) || !slices.Equal(f.promoting, []string{"true"}) {
		t.Errorf("added %v, metadata %v", f.added, f.promoting)
	}
	c := n.settings(t, flags)
	initial := "third=" + n.peer + ",first=" + f.peerURL + ",second=http://10.0.0.2:2380,second=http://10.0.0.2:2390"
	if c.Member.Name != "third" || c.Cluster.Initial != initial || !c.Cluster.Joining() || c.Cluster.MaxLearners != 3 || c.Storage.SnapshotCount != 77 ||
		c.Cluster.AdvertiseClientURLs.String() != n.client || c.Cluster.AdvertisePeerURLs.String() != n.peer {
		t.Errorf("name %s, initial cluster %s, advertised %v %v", c.Member.Name, c.Cluster.Initial, c.Cluster.AdvertisePeerURLs, c.Cluster.AdvertiseClientURLs)
	}
	if !strings.Contains(n.out.String(), "added to cluster c1 as learner 9 through "+f.clientURL) {
		t.Errorf("said %s", &n.out)
	}

	// Cut short here and repeated, it takes the same place.
	again, err := n.join(f.peerURL, "--max-learners", "3")
	if err != nil || !slices.Equal(again, flags) || len(f.added) != 1 {
		t.Errorf("again: %q, %v; %d added", again, err, len(f.added))
	}
	if !strings.Contains(n.out.String(), "member 9 was added before and has not run yet") {
		t.Errorf("said %s", &n.out)
	}

	// Once it has run, a machine without its data is not it.
	f.members[2].Name = "third"
	if flags, err := n.join(f.peerURL); err == nil || !strings.Contains(err.Error(), "there is no data of it in "+n.dir) ||
		!strings.Contains(err.Error(), "etcdctl member remove 9") {
		t.Errorf("without its data: %q, %v", flags, err)
	}

	// With its data it just starts, whether or not anybody answers.
	if err := os.MkdirAll(filepath.Join(n.dir, "member"), 0o700); err != nil {
		t.Fatal(err)
	}
	flags, err = n.join(closedURL(t))
	if err != nil || slices.ContainsFunc(flags, func(s string) bool { return strings.HasPrefix(s, "--initial-cluster") }) {
		t.Errorf("with its data: %q, %v", flags, err)
	}
	if c := n.settings(t, flags); c.Member.Name != "third" || c.Member.DataDir != n.dir {
		t.Errorf("with its data: %+v", c.Member)
	}
}

// The first peer URL that answers will do.
func TestSeveralPeers(t *testing.T) {
	f, n := newFakeCluster(t), newNewcomer(t)
	if flags, err := n.join(closedURL(t) + "," + f.peerURL); err != nil || len(f.added) != 1 {
		t.Errorf("%q, %v", flags, err)
	}
}

// An answer that got lost does not make two members of one.
func TestLostAnswer(t *testing.T) {
	f, n := newFakeCluster(t), newNewcomer(t)
	f.lost = 1
	if _, err := n.join(f.peerURL); err != nil || len(f.added) != 1 || len(f.members) != 3 {
		t.Errorf("%v; members %v", err, f.members)
	}
	// The same when the list lags behind: the member that adds knows it first.
	a := &admission{peers: []string{f.peerURL}, name: "third", peerURLs: []string{n.peer}, client: bootstrap.NewClient(nil, nil), say: t.Logf}
	if _, err := a.add(t.Context(), bootstrap.Cluster{ID: clusterID, Members: f.members}); !errors.Is(err, rpctypes.ErrPeerURLExist) {
		t.Errorf("added twice: %v", err)
	}
}

// What may pass is waited for.
func TestClusterIsNotReady(t *testing.T) {
	f, n := newFakeCluster(t), newNewcomer(t)
	f.refusals = []error{rpctypes.ErrGRPCTooManyLearners, rpctypes.ErrGRPCNoLeader}
	if _, err := n.join(f.peerURL); err != nil {
		t.Fatal(err)
	}
	for _, want := range []string{"waiting for another learner to be promoted", "etcdserver: no leader; trying again"} {
		if !strings.Contains(n.out.String(), want) {
			t.Errorf("%q is missing in %s", want, &n.out)
		}
	}
	n = newNewcomer(t)
	n.impatient, f.refusals = true, []error{rpctypes.ErrGRPCUnhealthy}
	if _, err := n.join(f.peerURL); err == nil || !strings.HasPrefix(err.Error(), "gave up: ") || !strings.Contains(err.Error(), "unhealthy cluster") {
		t.Errorf("got %v", err)
	}
}

func TestRefusals(t *testing.T) {
	own := func(n *newcomer) []bootstrap.Member {
		return []bootstrap.Member{{ID: 5, PeerURLs: []string{n.peer, "http://h:1"}}}
	}
	cases := []struct {
		name    string
		prepare func(f *fakeCluster, n *newcomer)
		args    string
		want    []string
	}{
		{"name", func(f *fakeCluster, n *newcomer) {}, "--name=first", []string{"member a at", "is called first already", "another --name"}},
		{"overlap", func(f *fakeCluster, n *newcomer) { f.members = append(f.members, own(n)...) }, "",
			[]string{"Peer URLs already exists", "another member has one of", "--initial-advertise-peer-urls"}},
		{"root", func(f *fakeCluster, n *newcomer) { f.refusals = []error{rpctypes.ErrGRPCUserEmpty} }, "",
			[]string{"only root may add members", "etcdctl --user root member add third --learner --peer-urls=http://"}},
		{"bad urls", func(f *fakeCluster, n *newcomer) { f.refusals = []error{rpctypes.ErrGRPCMemberBadURLs} }, "",
			[]string{"adding this member through", "given member URLs are invalid"}},
		{"foreign", func(f *fakeCluster, n *newcomer) { f.id = 7 }, "",
			[]string{"no member of cluster c1 can be reached as a client", "belongs to another cluster, 7", "--advertise-client-urls"}},
		{"no client urls", func(f *fakeCluster, n *newcomer) { f.members[0].ClientURLs, f.members[1].ClientURLs = nil, nil }, "",
			[]string{"cluster c1 has no member that says where clients reach it"}},
		{"learners only", func(f *fakeCluster, n *newcomer) { f.members[0].IsLearner, f.members[1].IsLearner = true, true }, "",
			[]string{"cluster c1 has no member that says"}},
	}
	for _, c := range cases {
		t.Run(c.name, func(t *testing.T) {
			f, n := newFakeCluster(t), newNewcomer(t)
			n.impatient = true
			c.prepare(f, n)
			_, err := n.join(f.peerURL, strings.Fields(c.args)...)
			for _, want := range c.want {
				if err == nil || !strings.Contains(err.Error(), want) {
					t.Errorf("%v does not say %q", err, want)
				}
			}
			if len(f.added) != 0 {
				t.Errorf("added %v", f.added)
			}
		})
	}
}

// Whoever gives the client URL is told what a peer URL is.
func TestNobodyAnswers(t *testing.T) {
	f, n := newFakeCluster(t), newNewcomer(t)
	for _, u := range []string{closedURL(t), f.clientURL} {
		if _, err := n.join(u); err == nil || !strings.Contains(err.Error(), "no member answers: ") || !strings.Contains(err.Error(), u) {
			t.Errorf("%s: %v", u, err)
		}
	}
}

// A machine that can't serve is not added.
func TestBusyAddress(t *testing.T) {
	f, n := newFakeCluster(t), newNewcomer(t)
	l, err := net.Listen("tcp", strings.TrimPrefix(n.client, "http://"))
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	if _, err := n.join(f.peerURL); err == nil || !strings.Contains(err.Error(), "give other --listen-client-urls") || len(f.added) > 0 {
		t.Errorf("%v, %v", err, f.added)
	}
}

func TestAutoPromoteFlag(t *testing.T) {
	for line, stay := range map[string]bool{
		"--peer a:1": false, "--auto-promote --peer a:1": false, "--auto-promote=true --peer a:1": false, "--auto-promote=false --peer a:1": true,
	} {
		if l, err := parseLine(strings.Fields(line), nil); err != nil || l.stay != stay || len(l.serve) != 0 {
			t.Errorf("%s: %+v, %v", line, l, err)
		}
	}
	if _, err := parseLine([]string{"--auto-promote=perhaps", "--peer", "a:1"}, nil); err == nil || err.Error() != "--auto-promote=perhaps: true or false is needed" {
		t.Errorf("%v", err)
	}
}

func TestUsage(t *testing.T) {
	n := newNewcomer(t)
	for line, want := range map[string]string{
		"":                               "--peer is missing: the peer URL of a running member, for example --peer http://10.0.0.1:2380",
		"--peer":                         "--peer=: URL address does not have the form \"host:port\": http://",
		"--peer=ftp://a:1":               "--peer=ftp://a:1: URL scheme must be http, https, unix, or unixs: ftp://a:1",
		"--peer a:1 --join-timeout soon": "--join-timeout=soon: a duration like 30s is needed",
		"--peer a:1 --join-timeout=-1s":  "--join-timeout=-1s: a duration like 30s is needed",
		"--peer 127.0.0.1:1 --listen-peer-urls=x":           "--listen-peer-urls=x: URL scheme must be http, https, unix, or unixs: x",
		"--peer 127.0.0.1:1 --initial-cluster=a=http://b:1": "--initial-cluster (a=http://b:1) can't be given to a member that joins: the cluster is asked instead",
	} {
		n.out.Reset()
		j := joiner{hostname: os.Hostname, out: n}
		_, err := j.prepare(t.Context(), append([]string{"--data-dir=" + n.dir}, strings.Fields(line)...))
		var wrong usageError
		if !errors.As(err, &wrong) || wrong.Error() != want {
			t.Errorf("%s: %v, want %s", line, err, want)
		}
		if code := j.report(err); code != 2 || n.out.String() != "keelson join: "+want+"\n" {
			t.Errorf("%s: %d, %s", line, code, &n.out)
		}
	}
	j := joiner{hostname: func() (string, error) { return "", errors.New("none") }, stdout: n, out: n}
	if _, err := j.prepare(t.Context(), []string{"--peer=127.0.0.1:1"}); err == nil || err.Error() != "this machine has no host name: give the member a --name" {
		t.Errorf("without a host name: %v", err)
	}
	if _, err := j.prepare(t.Context(), []string{"--peer=127.0.0.1:1", "--help"}); !errors.Is(err, flag.ErrHelp) || j.report(err) != 0 || !strings.Contains(n.out.String(), usageText) {
		t.Errorf("help: %v", err)
	}
	n.out.Reset()
	_, err := j.prepare(t.Context(), []string{"--peer=127.0.0.1:1", "--name=x", "--nothing"})
	if code := j.report(err); code != 2 || !strings.Contains(n.out.String(), "flag provided but not defined: -nothing") {
		t.Errorf("unknown flag: %d, %s", code, &n.out)
	}
	j.environ = []string{"ETCD_CONFIG_FILE=" + filepath.Join(t.TempDir(), "none")}
	n.out.Reset()
	_, err = j.prepare(t.Context(), []string{"--peer=127.0.0.1:1", "--name=x"})
	if code := j.report(err); code != 1 || !strings.Contains(n.out.String(), "no such file") {
		t.Errorf("no such file: %d, %s", code, &n.out)
	}
}

// A file replaces flags, so that what the cluster answers would be lost.
func TestFileIsRefused(t *testing.T) {
	f, n := newFakeCluster(t), newNewcomer(t)
	path := filepath.Join(t.TempDir(), "keelson.yml")
	if err := os.WriteFile(path, []byte("name: x\ndata-dir: "+n.dir+"\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	if _, err := n.join(f.peerURL, "--config-file", path); err == nil || !strings.Contains(err.Error(), "--config-file ("+path+") can't be given") {
		t.Errorf("got %v", err)
	}
	if err := os.MkdirAll(filepath.Join(n.dir, "member"), 0o700); err != nil {
		t.Fatal(err)
	}
	if _, err := n.join(f.peerURL, "--config-file", path); err != nil {
		t.Errorf("with data: %v", err)
	}
}

func TestDefaults(t *testing.T) {
	for _, c := range []struct{ args, local, want string }{
		{"", "10.0.0.5", "--name=h --listen-peer-urls=http://10.0.0.5:2380 --initial-advertise-peer-urls=http://10.0.0.5:2380 " +
			"--listen-client-urls=http://10.0.0.5:2379,http://127.0.0.1:2379 --advertise-client-urls=http://10.0.0.5:2379"},
		{"", "127.0.0.1", "--name=h --listen-peer-urls=http://127.0.0.1:2380 --initial-advertise-peer-urls=http://127.0.0.1:2380 " +
			"--listen-client-urls=http://127.0.0.1:2379 --advertise-client-urls=http://127.0.0.1:2379"},
		{"--name n --listen-peer-urls http://0.0.0.0:80 --listen-client-urls=http://[::]:90,http://localhost:91", "fd00::1",
			"--initial-advertise-peer-urls=http://[fd00::1]:80 --advertise-client-urls=http://[fd00::1]:90"},
		{"-name=n -listen-peer-urls=http://10.0.0.9:1 -initial-advertise-peer-urls=http://x:1 -listen-client-urls=http://127.0.0.1:9,http://127.0.0.2:8", "10.0.0.5",
			"--advertise-client-urls=http://127.0.0.1:9,http://127.0.0.2:8"},
		{"--name=n --initial-advertise-peer-urls=http://x:1 --advertise-client-urls=http://y:1", "10.0.0.5",
			"--listen-peer-urls=http://10.0.0.5:2380 --listen-client-urls=http://10.0.0.5:2379,http://127.0.0.1:2379"},
	} {
		l, err := parseLine(append(strings.Fields(c.args), "--peer=a:1"), []string{"ETCD_NAME="})
		if err != nil {
			t.Fatal(err)
		}
		got, err := l.complete("h", c.local)
		if err != nil || strings.Join(got, " ") != c.want {
			t.Errorf("%s: %v\n%s, want\n%s", c.args, err, strings.Join(got, " "), c.want)
		}
	}
	l, err := parseLine([]string{"--peer=a:1,https://b:2", "--peer", "c:3", "--join-timeout", "5s", "--pre-vote", "--name", "x"}, []string{"ETCD_LISTEN_PEER_URLS=http://1.2.3.4:5"})
	if err != nil || l.peers.String() != "http://a:1,https://b:2,http://c:3" || l.timeout != 5*time.Second ||
		!slices.Equal(l.serve, []string{"--pre-vote", "--name", "x"}) || l.given["listen-peer-urls"] != "http://1.2.3.4:5" {
		t.Errorf("%+v, %v", l, err)
	}
}

func TestLocalAddress(t *testing.T) {
	var urls config.URLs
	for text, want := range map[string]string{"http://127.0.0.1:2380": "127.0.0.1", "unix:///tmp/x": "127.0.0.1"} {
		if err := urls.Set(text); err != nil {
			t.Fatal(err)
		}
		if got, err := localAddress(urls[0]); got != want || err != nil {
			t.Errorf("%s: %s, %v", text, got, err)
		}
	}
}

func TestInitialCluster(t *testing.T) {
	members := []bootstrap.Member{
		{ID: 0xcc, Name: "a", PeerURLs: []string{"http://c:1"}},
		{ID: 0xbb, Name: "a", PeerURLs: []string{"http://b:2", "http://b:1"}},
		{ID: 0xaa, PeerURLs: []string{"http://me:1"}},
		{ID: 0xdd, PeerURLs: []string{"http://d:1"}},
		{ID: 0xee, Name: "x=y", PeerURLs: []string{"http://e:1"}},
		{ID: 0xff, Name: "me", PeerURLs: []string{"http://f:1"}},
	}
	const want = "me=http://me:1,a=http://b:1,a=http://b:2,cc=http://c:1,dd=http://d:1,ee=http://e:1,ff=http://f:1"
	if got := initialCluster(members, "me", []string{"http://me:1"}); got != want {
		t.Errorf("%s", got)
	}
	if parsed, err := config.ParseInitialCluster(want); err != nil || len(parsed) != len(members) {
		t.Errorf("%v, %v", parsed, err)
	}
}
