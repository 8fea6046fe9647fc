package main

import (
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"keelson/internal/testkit"
)

// TestV2DiscoveryFoundsAnEtcd: two members of another etcd, which know nothing but a token, find each other through ours.
func TestV2DiscoveryFoundsAnEtcd(t *testing.T) {
	testkit.Need(t, "etcd")
	ours := testkit.NewProcess(t)
	ours.Start()
	c := newV2Client(t, ours)
	const token = "/_etcd/registry/6c007a14875d53d9bf0ef5a6fc0257c8"
	c.must("PUT", token+"/_config/size?prevExist=false", "value=2", 0)
	var members []*testkit.Process
	for _, name := range []string{"one", "two"} {
		p := testkit.NewProcess(t)
		client, peer := "http://"+p.Endpoint, "http://"+p.Peer
		p.Name, p.Program, p.Env = name, "etcd", []string{"GODEBUG="}
		p.ExtraArgs = []string{
			"--name=" + name, "--data-dir=" + filepath.Join(t.TempDir(), name), "--enable-v2",
			"--listen-client-urls=" + client, "--advertise-client-urls=" + client,
			"--listen-peer-urls=" + peer, "--initial-advertise-peer-urls=" + peer,
			"--discovery=http://" + ours.Endpoint + "/v2/keys" + token,
		}
		if err := p.Begin(); err != nil {
			t.Fatal(err)
		}
		members = append(members, p)
	}
	for _, p := range members {
		if err := p.AwaitReady(); err != nil {
			t.Fatal(err)
		}
	}
	await(testContext(t), t, "both members in the list of one", func() bool { // a member makes its name known when it can
		list := newV2Client(t, members[0]).do("GET", "/v2/members", "").body
		return strings.Contains(list, `"name":"one"`) && strings.Contains(list, `"name":"two"`)
	})
	if e := c.must("GET", token, "", 0); len(e.Node.Nodes) != 2 {
		t.Errorf("registered: %+v", e.Node)
	}
}

// TestV2DiscoveryFoundsOurs: three members that know nothing but a URL find each other, through another keelson, through
// etcd 3.4, and through the discovery service that Debian has, which keeps what it knows in another keelson. A fourth one comes too
// late.
func TestV2DiscoveryFoundsOurs(t *testing.T) {
	testkit.Need(t, "etcd")
	testkit.Need(t, "discovery.etcd.io")
	for _, through := range []string{"keelson", "etcd", "discovery.etcd.io"} {
		t.Run(through, func(t *testing.T) {
			host := testkit.NewProcess(t)
			if through == "etcd" {
				asEtcd(t, host, "host")
			}
			host.Start()
			c := newV2Client(t, host)
			var url string
			switch through {
			case "discovery.etcd.io":
				service := discoveryService(t, host)
				if r := service.do("GET", "/new?size=three", ""); r.status != 400 {
					t.Errorf("a size that is none: %+v", r)
				}
				if url = service.do("GET", "/new?size=3", "").body; !strings.HasPrefix(url, service.base+"/") {
					t.Fatalf("a new URL: %q", url)
				}
				if r := service.do("GET", strings.TrimPrefix(url, service.base)+"/_config/size", ""); !strings.Contains(r.body, `"value":"3"`) {
					t.Errorf("the size: %+v", r)
				}
			case "etcd":
				const token = "/_etcd/registry/6c007a14875d53d9bf0ef5a6fc0257c8"
				c.must("PUT", token+"/_config/size?prevExist=false", "value=3", 0)
				url = "http://" + host.Endpoint + "/v2/keys" + token
			default:
				r := c.do("PUT", "/new?size=3", "")
				if url = r.body; r.status != 200 || !strings.HasPrefix(url, "http://"+host.Endpoint+"/v2/keys/_etcd/registry/") {
					t.Fatalf("%+v", r)
				}
				if r := c.do("GET", "/new?size=0", ""); r.status != 400 {
					t.Errorf("a size of 0: %+v", r)
				}
				if r := c.do("GET", strings.TrimPrefix(c.do("GET", "/new", "").body, "http://"+host.Endpoint)+"/_config/size", ""); !strings.Contains(r.body, `"value":"3"`) {
					t.Errorf("without a size: %+v", r)
				}
			}
			var members []*testkit.Process
			for _, name := range []string{"one", "two", "three"} {
				p := discovering(t, name, url)
				if err := p.Begin(); err != nil {
					t.Fatal(err)
				}
				members = append(members, p)
			}
			for _, p := range members {
				if err := p.AwaitReady(); err != nil {
					t.Fatal(err)
				}
			}
			newV2Client(t, members[0]).must("PUT", "/a", "value=1", 0)
			for _, p := range members {
				if got := newV2Client(t, p).must("GET", "/a?quorum=true", "", 0); got.Node.value() != "1" {
					t.Errorf("%s: %+v", p.Name, got)
				}
			}
			late := discovering(t, "late", url)
			if err := late.TryStart(); err == nil || !late.Says("discovery: cluster is full") || !late.Says("do not reuse discovery token") {
				t.Errorf("the fourth: %v\n%s", err, late.Log())
			}
			members[1].Stop() // what has begun begins again without asking
			host.Stop()
			members[1].Start()
			if !members[1].Says("discovery token is ignored") {
				t.Errorf("%s", members[1].Log())
			}
		})
	}
}

// discovering is a member that looks for others at a URL.
func discovering(t *testing.T, name, url string) *testkit.Process {
	p := testkit.NewProcess(t)
	p.Name, p.Env = name, []string{"GOGC=100"}
	client, peer := "http://"+p.Endpoint, "http://"+p.Peer
	p.ExtraArgs = []string{
		"--name=" + name, "--data-dir=" + filepath.Join(t.TempDir(), name),
		"--listen-client-urls=" + client, "--advertise-client-urls=" + client,
		"--listen-peer-urls=" + peer, "--initial-advertise-peer-urls=" + peer, "--discovery=" + url,
	}
	return p
}

// discoveryService runs Debian's discovery service on a member until the test ends.
func discoveryService(t *testing.T, host *testkit.Process) *v2Client {
	c := newV2Client(t, host)
	address := testkit.FreeAddress(t)
	c.base = "http://" + address
	service := exec.Command("discovery.etcd.io", "-e", "http://"+host.Endpoint, "-h", c.base, "-a", address)
	var log strings.Builder
	service.Stdout, service.Stderr = &log, &log
	if err := testkit.Spawn(service); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		service.Process.Kill()
		service.Wait()
		if t.Failed() {
			t.Logf("the discovery service:\n%s", log.String())
		}
	})
	eventually(t, "connection refused", func() error {
		r, err := c.http.Get(c.base + "/health")
		if err == nil {
			r.Body.Close()
		}
		return err
	})
	return c
}

// asEtcd makes a process one of etcd 3.4, alone in its cluster.
func asEtcd(t *testing.T, p *testkit.Process, name string) {
	client, peer := "http://"+p.Endpoint, "http://"+p.Peer
	p.Name, p.Program, p.Env = name, "etcd", []string{"GODEBUG="}
	p.ExtraArgs = []string{
		"--name=" + name, "--data-dir=" + filepath.Join(t.TempDir(), name), "--enable-v2",
		"--listen-client-urls=" + client, "--advertise-client-urls=" + client,
		"--listen-peer-urls=" + peer, "--initial-advertise-peer-urls=" + peer, "--initial-cluster=" + name + "=" + peer,
	}
}
