package main

import (
	"context"
	"reflect"
	"strings"
	"testing"
)

// authStep is one request to both, as somebody.
type authStep struct {
	user, method, path, body string
}

// bothAs sends a request to both, as a user ("name:password"; empty: a guest), and compares the answers.
func (p *v2Pair) bothAs(s authStep) {
	p.t.Helper()
	var replies [2]v2Reply
	for i, c := range []*v2Client{p.ours, p.theirs} {
		r := c.request(context.Background(), s.method, s.path, s.body)
		if name, password, ok := strings.Cut(s.user, ":"); ok {
			r.SetBasicAuth(name, password)
		} else if s.user != "" {
			r.Header.Set("Authorization", s.user)
		}
		replies[i] = c.send(r)
	}
	a, b := replies[0], replies[1]
	if a.status != b.status || !reflect.DeepEqual(comparable(a.body), comparable(b.body)) || strings.HasSuffix(a.body, "\n") != strings.HasSuffix(b.body, "\n") {
		p.t.Errorf("%+v:\nours   %d %q\ntheirs %d %q", s, a.status, a.body, b.status, b.body)
	}
	for _, name := range []string{"Content-Type", "Allow", "Www-Authenticate", "X-Etcd-Index"} {
		if x, y := a.header.Get(name), b.header.Get(name); x != y {
			p.t.Errorf("%+v: %s is %q, theirs is %q", s, name, x, y)
		}
	}
	if x, y := a.header.Get("X-Etcd-Cluster-Id"), b.header.Get("X-Etcd-Cluster-Id"); (x == "") != (y == "") {
		p.t.Errorf("%+v: cluster id is %q, theirs is %q", s, x, y)
	}
}

// TestV2AuthAgreesWithEtcd walks through users, roles and who may do what.
func TestV2AuthAgreesWithEtcd(t *testing.T) {
	p := newV2Pair(t)
	const root, alice, bob = "root:secret", "alice:pass", "bob:word"
	for _, s := range []authStep{
		{"", "GET", "/v2/auth/enable", ""},
		{"", "POST", "/v2/auth/enable", ""},
		{"", "PUT", "/v2/auth/enable", ""},
		{"", "DELETE", "/v2/auth/enable", ""},
		{"", "GET", "/v2/auth/users", ""},
		{"", "GET", "/v2/auth/users/", ""},
		{"", "GET", "/v2/auth/roles", ""},
		{"", "PUT", "/v2/auth/users", "{}"},
		{"", "POST", "/v2/auth/users/alice", "{}"},
		{"", "GET", "/v2/auth/users/a/b", ""},
		{"", "GET", "/v2/auth/users/nobody", ""},
		{"", "GET", "/v2/auth/roles/nobody", ""},
		{"", "GET", "/v2/auth/roles/guest", ""},
		{"", "GET", "/v2/auth/roles/root", ""},
		{"", "PUT", "/v2/auth/users/alice", "not json"},
		{"", "PUT", "/v2/auth/users/alice", `{"user":"bob"}`},
		{"", "PUT", "/v2/auth/users/alice", `{"user":"alice"}`},
		{"", "PUT", "/v2/auth/users/alice", `{"user":"alice","grant":["r"]}`},
		{"", "PUT", "/v2/auth/users/alice", `{"user":"alice","password":"first"}`},
		{"", "PUT", "/v2/auth/users/alice", `{"user":"alice","password":"pass"}`},
		{"", "PUT", "/v2/auth/users/alice", `{"user":"alice"}`},
		{"", "PUT", "/v2/auth/users/alice", `{"user":"alice","password":"x","roles":["r"]}`},
		{"", "PUT", "/v2/auth/users/alice", `{"user":"alice","roles":["r"],"grant":["s"]}`},
		{"", "PUT", "/v2/auth/users/alice", `{"user":"alice","grant":["r","files"]}`},
		{"", "PUT", "/v2/auth/users/alice", `{"user":"alice","grant":["r"]}`},
		{"", "PUT", "/v2/auth/users/alice", `{"user":"alice","revoke":["absent"]}`},
		{"", "GET", "/v2/auth/users/alice", ""},
		{"", "GET", "/v2/auth/users", ""},
		{"", "PUT", "/v2/auth/users/bob", `{"user":"bob","password":"word","roles":["tree","r"]}`},
		{"", "PUT", "/v2/auth/users/bob", `{"user":"bob","password":"word","roles":["tree","r"]}`},
		{"", "PUT", "/v2/auth/users/bob", `{"user":"bob","revoke":["r"]}`},
		{"", "PUT", "/v2/auth/roles/root", `{"role":"root"}`},
		{"", "DELETE", "/v2/auth/roles/root", ""},
		{"", "DELETE", "/v2/auth/roles/absent", ""},
		{"", "PUT", "/v2/auth/roles/r", `{"role":"other"}`},
		{"", "PUT", "/v2/auth/roles/r", "["},
		{"", "PUT", "/v2/auth/roles/r", `{"role":"r","grant":{"kv":{"read":["/x"]}}}`},
		{"", "PUT", "/v2/auth/roles/r", `{"role":"r"}`},
		{"", "PUT", "/v2/auth/roles/r", `{"role":"r"}`},
		{"", "PUT", "/v2/auth/roles/r", `{"role":"r","permissions":{"kv":{"read":["/y"],"write":null}},"grant":{"kv":{"read":["/x"],"write":[]}}}`},
		{"", "PUT", "/v2/auth/roles/r", `{"role":"r","grant":{"kv":{"read":["/z","/exact"],"write":["/exact"]}}}`},
		{"", "PUT", "/v2/auth/roles/r", `{"role":"r","grant":{"kv":{"read":["/z"],"write":null}}}`},
		{"", "PUT", "/v2/auth/roles/r", `{"role":"r","grant":{"kv":{"read":null,"write":["/exact"]}}}`},
		{"", "PUT", "/v2/auth/roles/r", `{"role":"r","revoke":{"kv":{"read":["/absent"],"write":null}}}`},
		{"", "PUT", "/v2/auth/roles/r", `{"role":"r","revoke":{"kv":{"read":["/z"],"write":null}}}`},
		{"", "GET", "/v2/auth/roles/r", ""},
		{"", "PUT", "/v2/auth/roles/files", `{"role":"files","permissions":{"kv":{"read":["/a*","/dir/"],"write":[]}}}`},
		{"", "PUT", "/v2/auth/roles/tree", `{"role":"tree","permissions":{"kv":{"read":["/foodir/*"],"write":["/foodir/*"]}}}`},
		{"", "GET", "/v2/auth/roles", ""},
		{"", "GET", "/v2/auth/users", ""},
		{"", "GET", "/v2/auth/users/alice", ""},
		{"", "PUT", "/v2/auth/users/ghost", `{"user":"ghost","password":"x","roles":["nowhere"]}`},
		{"", "GET", "/v2/auth/users/ghost", ""},
		{"", "GET", "/v2/auth/users", ""},
		{"", "DELETE", "/v2/auth/users/ghost", ""},
		{"", "DELETE", "/v2/auth/users/ghost", ""},
		// What is empty and what is null; lists as they are given and as changes leave them.
		{"", "PUT", "/v2/auth/users/empty", `{"user":"empty","password":"x","roles":[]}`},
		{"", "PUT", "/v2/auth/users/empty", `{"user":"empty"}`},
		{"", "GET", "/v2/auth/users/empty", ""},
		{"", "PUT", "/v2/auth/users/null", `{"user":"null","password":"x"}`},
		{"", "PUT", "/v2/auth/users/null", `{"user":"null"}`},
		{"", "PUT", "/v2/auth/users/null", `{"user":"null"}`},
		{"", "PUT", "/v2/auth/users/twice", `{"user":"twice","password":"x","roles":["tree","r","r"]}`},
		{"", "PUT", "/v2/auth/users/twice", `{"user":"twice"}`},
		{"", "PUT", "/v2/auth/users/twice", `{"user":"twice"}`},
		{"", "PUT", "/v2/auth/users/both", `{"user":"both","password":"x","roles":["r","r"]}`},
		{"", "PUT", "/v2/auth/users/both", `{"user":"both","revoke":["r"]}`},
		{"", "DELETE", "/v2/auth/users/both", ""},
		{"", "PUT", "/v2/auth/roles/half", `{"role":"half","permissions":{"kv":{"read":["/b","/a","/a"],"write":[]}}}`},
		{"", "GET", "/v2/auth/roles/half", ""},
		{"", "PUT", "/v2/auth/roles/half", `{"role":"half","revoke":{"kv":{"read":["/absent"]}}}`},
		{"", "PUT", "/v2/auth/roles/half", `{"role":"half","revoke":{"kv":{"read":["/absent"]}}}`},
		{"", "PUT", "/v2/auth/roles/half", `{"role":"half","revoke":{}}`},
		{"", "PUT", "/v2/auth/roles/half", `{"role":"half","grant":{"kv":{}},"permissions":{"kv":{"read":["/q"]}}}`},
		{"", "PUT", "/v2/auth/roles/other", `{"role":"other","permissions":{"kv":{"write":["/q"]}}}`},
		{"", "GET", "/v2/auth/roles/other", ""},
		{"", "PUT", "/v2/auth/roles/other", `{"role":"other","revoke":{"kv":{"read":["/absent"]}}}`},
		{"", "GET", "/v2/auth/roles", ""},
		// A change of a role is answered with the role as it is then, not with the change.
		{"", "PUT", "/v2/auth/roles/moving", `{"role":"moving","permissions":{"kv":{"read":["/b","/a","/b"],"write":["/c"]}}}`},
		{"", "PUT", "/v2/auth/roles/moving", `{"role":"moving","grant":{"kv":{"write":["/y","/x"]}}}`},
		{"", "GET", "/v2/auth/roles/moving", ""},
		{"", "PUT", "/v2/auth/roles/moving", `{"role":"moving","grant":{"kv":{"read":["/n"],"write":null}},"revoke":{"kv":{"read":["/a"],"write":["/c","/absent"]}}}`},
		{"", "GET", "/v2/auth/roles/moving", ""},
		{"", "PUT", "/v2/auth/roles/moving", `{"role":"moving","grant":{"kv":{"read":["/m"]}},"revoke":{"kv":{"read":["/m"]}}}`},
		{"", "PUT", "/v2/auth/roles/moving", `{"role":"moving","grant":{"kv":{"read":["/o","/o"]}}}`},
		{"", "PUT", "/v2/auth/roles/moving", `{"role":"moving","permissions":{"kv":{"read":[],"write":[]}},"grant":{"kv":{"read":["/p"]}}}`},
		{"", "PUT", "/v2/auth/roles/moving", `{"role":"moving","revoke":{"kv":{"read":["/b","/n","/o","/p"],"write":["/x","/y"]}},"grant":null,"more":1}`},
		{"", "GET", "/v2/auth/roles/moving", ""},
		{"", "PUT", "/v2/auth/roles/root", `{"role":"root","grant":{"kv":{"read":["/p"]}}}`},
		{"", "PUT", "/v2/auth/roles/guest", `{"role":"guest","grant":{"kv":{"read":["/p"]}}}`},
		{"", "PUT", "/v2/auth/roles/new", `{"role":"new","permissions":{"kv":{"read":["/b","/a"],"write":null}},"grant":{"kv":{"read":[],"write":[]}}}`},
		{"", "DELETE", "/v2/auth/roles/new", ""},

		{"", "GET", "/v2/auth/users/alice/", ""},
		{"", "HEAD", "/v2/auth/users/alice/", ""},
		{"", "GET", "/v2/auth/roles/r/", ""},
		{"", "DELETE", "/v2/auth/roles/absent/", ""},
		{"", "GET", "/v2/auth/roles/r/x/", ""},

		{"", "PUT", "/v2/auth/users/root", `{"user":"root","password":"secret"}`},
		{"", "PUT", "/v2/auth/users/root", `{"user":"root","grant":["r"]}`},
		{"", "PUT", "/v2/auth/users/root", `{"user":"root","revoke":["root"]}`},
		{"", "GET", "/v2/auth/users/root", ""},
		{"", "PUT", "/v2/auth/users/root", `{"user":"root","grant":["root"]}`},
		{"", "PUT", "/v2/auth/users/root", `{"user":"root","revoke":["r"]}`},
		{"", "GET", "/v2/auth/users/root", ""},
		{"", "DELETE", "/v2/auth/users/root", ""},
		{"", "PUT", "/v2/auth/enable", ""},
		{"", "PUT", "/v2/auth/users/root", `{"user":"root","password":"secret"}`},
		{"", "PUT", "/v2/keys/exact", "value=1"},
		{"", "PUT", "/v2/keys/foodir/x/y", "value=1"},
		{"", "PUT", "/v2/keys/ab/c", "value=1"},
		{"", "PUT", "/v2/auth/enable", ""},
		{"", "GET", "/v2/auth/enable", ""},

		{"", "PUT", "/v2/auth/enable", ""},
		{root, "PUT", "/v2/auth/enable", ""},
		{"", "GET", "/v2/auth/users", ""},
		{"root:wrong", "GET", "/v2/auth/users", ""},
		{alice, "GET", "/v2/auth/roles", ""},
		{root, "GET", "/v2/auth/roles", ""},
		{root, "GET", "/v2/auth/roles/guest", ""},
		{root, "DELETE", "/v2/auth/users/root", ""},

		// The guest may do everything at first.
		{"", "GET", "/v2/keys/exact", ""},
		{"", "PUT", "/v2/keys/guest", "value=1"},
		{"Basic !!!", "GET", "/v2/keys/exact", ""},
		{"Bearer x", "GET", "/v2/keys/exact", ""},
		{"nobody:x", "GET", "/v2/keys/exact", ""},
		{"alice:wrong", "GET", "/v2/keys/exact", ""},
		{root, "PUT", "/v2/auth/roles/guest", `{"role":"guest","revoke":{"kv":{"read":["/*"],"write":["/*"]}}}`},
		{"", "GET", "/v2/keys/exact", ""},
		{"", "PUT", "/v2/keys/exact", "value=2"},
		{root, "PUT", "/v2/auth/roles/guest", `{"role":"guest","grant":{"kv":{"read":["/foodir"],"write":null}}}`},
		{"", "GET", "/v2/keys/foodir", ""},
		{"", "GET", "/v2/keys/foodir?recursive=true", ""},

		// Patterns that end in an asterisk, and those that do not.
		{alice, "GET", "/v2/keys/exact", ""},
		{alice, "HEAD", "/v2/keys/exact", ""},
		{alice, "GET", "/v2/keys/exact/", ""},
		{alice, "GET", "/v2/keys/exact?recursive=true", ""},
		{alice, "PUT", "/v2/keys/exact", "value=2"},
		{alice, "GET", "/v2/keys/ab", ""},
		{alice, "GET", "/v2/keys/ab?recursive=true", ""},
		{alice, "PUT", "/v2/keys/ab/c", "value=1"},
		{alice, "GET", "/v2/keys/foodir/x/y", ""},
		{alice, "GET", "/v2/keys", ""},
		{alice, "GET", "/v2/keys/", ""},
		{bob, "GET", "/v2/keys/foodir", ""},
		{bob, "GET", "/v2/keys/foodir/", ""},
		{bob, "GET", "/v2/keys/foodir/?recursive=true", ""},
		{bob, "GET", "/v2/keys/foodir/x/y", ""},
		{bob, "PUT", "/v2/keys/foodir/new", "value=1"},
		{bob, "POST", "/v2/keys/foodir/", "value="},
		{bob, "DELETE", "/v2/keys/foodir/x?recursive=true", ""},
		{bob, "GET", "/v2/keys/exact", ""},
		{bob, "GET", "/v2/keys/exact?wait=true", ""},
		{bob, "PUT", "/v2/keys/exact?dir=nonsense", "value=1"},
		{root, "GET", "/v2/keys?recursive=true", ""},
		{root, "DELETE", "/v2/keys/exact", ""},

		{"", "POST", "/v2/members", "{}"},
		{alice, "DELETE", "/v2/members/1", ""},
		{root, "DELETE", "/v2/members/1", ""},
		{root, "DELETE", "/v2/auth/roles/guest", ""},
		{"", "GET", "/v2/keys/foodir", ""},
		{root, "PUT", "/v2/auth/users/alice", `{"user":"alice","password":"changed"}`},
		{alice, "GET", "/v2/keys/ab", ""},
		{"alice:changed", "GET", "/v2/keys/ab", ""},
		{"root:wrong", "DELETE", "/v2/auth/enable", ""},
		{alice, "DELETE", "/v2/auth/enable", ""},
		{root, "DELETE", "/v2/auth/enable", ""},
		{root, "DELETE", "/v2/auth/enable", ""},
		{"", "GET", "/v2/keys/?recursive=true", ""},
		{"", "DELETE", "/v2/auth/users/root", ""},
	} {
		p.bothAs(s)
	}
}

// TestV2LogLevelAgreesWithEtcd changes the level of the logs.
func TestV2LogLevelAgreesWithEtcd(t *testing.T) {
	p := newV2Pair(t)
	const path = "/config/local/log"
	for _, method := range []string{"GET", "HEAD", "POST", "DELETE", "OPTIONS", "PATCH"} {
		p.bothAs(authStep{"", method, path, ""})
	}
	for _, body := range []string{
		"", "{", "{}", "[]", `{"Level":"loud"}`, `{"Level":"D "}`, `{"Level":"DEBUG"}`, `{"level":"warning"}`, `{"Level":"T"}`, `{"Level":"0"}`,
		`{"Level":"NOTICE"}`, `{"Level":"critical"}`, `{"Level":"INFO"}`,
	} {
		p.bothAs(authStep{"", "PUT", path, body})
	}
	p.bothAs(authStep{"", "PUT", path + "/", `{"Level":"INFO"}`})
}
