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
