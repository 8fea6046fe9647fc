package main

import (
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
	list := newV2Client(t, members[0]).do("GET", "/v2/members", "").body
	if !strings.Contains(list, `"name":"one"`) || !strings.Contains(list, `"name":"two"`) {
		t.Errorf("members: %s", list)
	}
	if e := c.must("GET", token, "", 0); len(e.Node.Nodes) != 2 {
		t.Errorf("registered: %+v", e.Node)
	}
}

// TestV2DiscoveryFoundsOurs: three members that know nothing but a URL find each other, through another keelson and through
// etcd 3.4. A fourth one comes too late.
func TestV2DiscoveryFoundsOurs(t *testing.T) {
	testkit.Need(t, "etcd")
	for _, through := range []string{"keelson", "etcd"} {
		t.Run(through, func(t *testing.T) {
			host := testkit.NewProcess(t)
			if through == "etcd" {
				asEtcd(t, host, "host")
			}
			host.Start()
			c := newV2Client(t, host)
			var url string
			if through == "etcd" {
				const token = "/_etcd/registry/6c007a14875d53d9bf0ef5a6fc0257c8"
				c.must("PUT", token+"/_config/size?prevExist=false", "value=3", 0)
				url = "http://" + host.Endpoint + "/v2/keys" + token
			} else {
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
