package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"net/http"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"sync"
	"testing"
	"time"

	"go.etcd.io/etcd/api/v3/v3rpc/rpctypes"
	clientv3 "go.etcd.io/etcd/client/v3"
	"go.uber.org/zap"

	"keelson/internal/testkit"
)

// TestEtcdctlAuth walks a member through what people type about users and roles.
func TestEtcdctlAuth(t *testing.T) {
	testkit.Need(t, "etcdctl")
	p := testkit.NewProcess(t, "--bcrypt-cost=4")
	p.Start()
	const asRoot, asAnn = "--user root:r00t ", "--user ann:secret "
	for _, step := range []struct{ args, stdin, want string }{
		{args: "auth enable", want: `etcdserver: root user does not exist`},
		{args: "user add root:r00t", want: `User root created`},
		{args: "user add root:again", want: `etcdserver: user name already exists`},
		{args: "user add ann --new-user-password first", want: `User ann created`},
		{args: "user add ben --no-password", want: `User ben created`},
		{args: "user add cid --interactive=false", stdin: "piped\n", want: `User cid created`},
		{args: "user passwd ann --interactive=false", stdin: "secret\n", want: `Password updated`},
		{args: "role add team", want: `Role team created`},
		{args: "role add team", want: `etcdserver: role name already exists`},
		{args: "role grant-permission team readwrite a c", want: `Role team updated`},
		{args: "role grant-permission team read --prefix logs/", want: `Role team updated`},
		{args: "role grant-permission team write z --from-key", want: `Role team updated`},
		{args: "role grant-permission nowhere read a", want: `etcdserver: role name not found`},
		{args: "role grant-permission team read c a", want: `etcdserver: invalid auth management`},
		{args: "user grant-role ann team", want: `Role team is granted to user ann`},
		{args: "user grant-role ann nowhere", want: `etcdserver: role name not found`},
		{args: "auth enable", want: `Authentication Enabled`},

		{args: "put a 1", want: `etcdserver: user name is empty`},
		{args: "get a", want: `etcdserver: user name is empty`},
		{args: "--user root:wrong get a", want: `etcdserver: authentication failed, invalid user ID or password`},
		{args: "--user nobody:x get a", want: `etcdserver: authentication failed, invalid user ID or password`},
		{args: asRoot + "put q 1", want: `OK`},
		{args: asAnn + "put a 1", want: `OK`},
		{args: asAnn + "put bb 2 --prev-kv", want: `OK`},
		{args: asAnn + "get a", want: `a\n1`},
		{args: asAnn + "get a c", want: `a\n1\nbb\n2`},
		{args: asAnn + "get a d", want: `etcdserver: permission denied`},
		{args: asAnn + "get --prefix logs/", want: ``},
		{args: asAnn + "put logs/x 1", want: `etcdserver: permission denied`},
		{args: asAnn + "put zz 1", want: `OK`},
		{args: asAnn + "put zz 2 --prev-kv", want: `etcdserver: permission denied`},
		{args: asAnn + "get zz", want: `etcdserver: permission denied`},
		{args: asAnn + "del z --from-key", want: `1`},
		{args: asAnn + "del y --from-key", want: `etcdserver: permission denied`},
		{args: asAnn + "txn", stdin: "value(\"q\") = \"1\"\n\nput a 2\n\n\n", want: `etcdserver: permission denied`},
		{args: asAnn + "txn", stdin: "value(\"a\") = \"1\"\n\nput a 2\n\nget bb\n\n", want: `SUCCESS\n\nOK`},
		{args: asAnn + "user list", want: `etcdserver: permission denied`},
		{args: asAnn + "user get ann", want: `User: ann\nRoles: team`},
		{args: asAnn + "user get root", want: `etcdserver: permission denied`},
		{args: asAnn + "role get team", want: `Role team\nKV Read:\n\t\[a, c\)\n\t\[logs/, logs0\) \(prefix logs/\)\nKV Write:\n\t\[a, c\)\n\t\[z, <open ended>`},
		{args: asAnn + "compaction 2", want: `etcdserver: permission denied`},
		{args: asAnn + "defrag", want: `(?s).*etcdserver: permission denied.*`},
		{args: asAnn + "member list", want: `[0-9a-f]+, started, m1, .*`},
		{args: asAnn + "endpoint status", want: `.*, 3\.7\.1, .*`},
		{args: asAnn + "endpoint health", want: `(?s).*is healthy.*`},

		{args: asRoot + "user list", want: `ann\nben\ncid\nroot`},
		{args: asRoot + "role list", want: `root\nteam`},
		{args: asRoot + "user get ann --detail", want: `User: ann\n\nRole team\nKV Read:\n(?s).*`},
		{args: asRoot + "role revoke-permission team a c", want: `Permission of range \[a, c\) is revoked from role team`},
		{args: asRoot + "role revoke-permission team a", want: `etcdserver: permission is not granted to the role`},
		{args: asAnn + "get a", want: `etcdserver: permission denied`},
		{args: asRoot + "user revoke-role ann team", want: `Role team is revoked from user ann`},
		{args: asRoot + "user revoke-role ann team", want: `etcdserver: role is not granted to the user`},
		{args: asRoot + "role delete team", want: `Role team deleted`},
		{args: asRoot + "role get team", want: `etcdserver: role name not found`},
		{args: asRoot + "user delete ann", want: `User ann deleted`},
		{args: asAnn + "get a", want: `etcdserver: authentication failed, invalid user ID or password`},
		{args: asRoot + "user delete root", want: `etcdserver: invalid auth management`},
		{args: asRoot + "user revoke-role root root", want: `etcdserver: invalid auth management`},
		{args: "--user ben:x get a", want: `(?:rpc error: code = Unknown desc = )?auth: authentication failed, password was given for no password user`},
		{args: asRoot + "auth disable", want: `Authentication Disabled`},
		{args: "get q", want: `q\n1`},
		{args: asRoot + "get q", want: `q\n1`}, // whoever logs in where nobody has to is told so, and goes on
	} {
		out, _ := tryEtcdctl(t, p, step.stdin, strings.Fields(step.args)...)
		var lines []string
		for line := range strings.Lines(out) {
			if !strings.HasPrefix(line, `{"level":"warn"`) {
				lines = append(lines, strings.TrimPrefix(line, "Error: "))
			}
		}
		got := strings.TrimSpace(strings.Join(lines, ""))
		if !regexp.MustCompile(`^(?:` + step.want + `)$`).MatchString(got) {
			t.Errorf("etcdctl %s: got %q, want %q", step.args, got, step.want)
		}
	}
}

// as is a client with a name and a password, of some members.
func as(t *testing.T, name string, members ...*testkit.Process) *clientv3.Client {
	t.Helper()
	var endpoints []string
	for _, p := range members {
		endpoints = append(endpoints, p.Endpoint)
	}
	c, err := clientv3.New(clientv3.Config{Endpoints: endpoints, Username: name, Password: name, Logger: zap.NewNop(), DialTimeout: 20 * time.Second})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { c.Close() })
	return c
}

// withUsers makes users root and ann, whose passwords are their names; ann may read and write below "a/".
func withUsers(t *testing.T, ctx context.Context, c *clientv3.Client) {
	t.Helper()
	do := func(_ any, err error) {
		t.Helper()
		if err != nil {
			t.Fatal(err)
		}
	}
	for _, name := range []string{"root", "ann"} {
		r, err := c.UserAdd(ctx, name, name)
		do(r, err)
	}
	r1, err := c.RoleAdd(ctx, "team")
	do(r1, err)
	r2, err := c.RoleGrantPermission(ctx, "team", "a/", clientv3.GetPrefixRangeEnd("a/"), clientv3.PermissionType(clientv3.PermReadWrite))
	do(r2, err)
	r3, err := c.UserGrantRole(ctx, "ann", "team")
	do(r3, err)
	r4, err := c.UserGrantRole(ctx, "root", "root")
	do(r4, err)
	r5, err := c.AuthEnable(ctx)
	do(r5, err)
}

// leaderOf is testkit's Leader where only users are told who leads.
func leaderOf(t *testing.T, ctx context.Context, c *testkit.Cluster, root *clientv3.Client) *testkit.Process {
	t.Helper()
	for {
		for _, p := range c.Members {
			if s, err := root.Status(ctx, p.Endpoint); err == nil && s.Leader != 0 && s.Leader == s.Header.MemberId {
				return p
			}
		}
		if ctx.Err() != nil {
			t.Fatal("nobody leads")
		}
		time.Sleep(10 * time.Millisecond)
	}
}

// A token is good on every member at once; what a change of rights takes away is gone on every member at once; members that
// were down, or need the whole state, come to what the others know (known bugs A2, A6, A7; traps 122, 131, 132).
func TestClusterAuth(t *testing.T) {
	c := steady(t, "--bcrypt-cost=4", "--snapshot-catchup-entries=1", "--quota-backend-bytes=0")
	ctx := testContext(t)
	withUsers(t, ctx, c.Client())
	root := as(t, "root", c.Members...)
	var anns []*clientv3.Client
	for _, p := range c.Members {
		anns = append(anns, as(t, "ann", p))
	}
	revisions := func(what string) {
		t.Helper()
		var first uint64
		for i, a := range anns {
			r, err := a.AuthStatus(ctx)
			if err != nil || !r.Enabled || first != 0 && r.AuthRevision != first {
				t.Fatalf("%s, member %d: %+v, %v; the first said %d", what, i+1, r, err, first)
			}
			first = r.AuthRevision
		}
	}
	everywhere := func(what string, want error) {
		t.Helper()
		for i, a := range anns {
			if _, err := a.Put(ctx, "a/k", what); !errors.Is(err, want) {
				t.Errorf("%s, put through member %d: %v, want %v", what, i+1, err, want)
			}
			if _, err := a.Get(ctx, "a/k"); !errors.Is(err, want) {
				t.Errorf("%s, get through member %d: %v, want %v", what, i+1, err, want)
			}
		}
		revisions(what)
	}
	everywhere("at first", nil)
	watched := anns[1].Watch(ctx, "a/", clientv3.WithPrefix())
	for round := range 10 {
		if _, err := root.UserRevokeRole(ctx, "ann", "team"); err != nil {
			t.Fatal(err)
		}
		everywhere(fmt.Sprint("revoked ", round), rpctypes.ErrPermissionDenied)
		if round == 0 {
			for r := range watched { // the client closes it without a word
				if r.Err() != nil {
					t.Errorf("the watch ended with %v", r.Err())
				}
			}
			if ctx.Err() != nil {
				t.Fatal("the watch goes on without the right to it")
			}
		}
		if _, err := root.UserGrantRole(ctx, "ann", "team"); err != nil {
			t.Fatal(err)
		}
		everywhere(fmt.Sprint("granted ", round), nil)
	}

	behind := c.Others(leaderOf(t, ctx, c, root))[0]
	others := c.Others(behind)
	behind.Kill()
	root = as(t, "root", others...)
	if _, err := root.UserRevokeRole(ctx, "ann", "team"); err != nil {
		t.Fatal(err)
	}
	behind.Start()
	everywhere("revoked while a member was down", rpctypes.ErrPermissionDenied)

	behind.Kill()
	if _, err := root.UserGrantRole(ctx, "ann", "team"); err != nil {
		t.Fatal(err)
	}
	writeLarge(t, root, "k/", 110) // the log is cut in files of 64 MiB: the member needs a snapshot
	behind.Start()
	awaitLog(t, behind, "applied snapshot")
	everywhere("granted while a member was to get a snapshot", nil)
	if _, err := root.RoleDelete(ctx, "team"); err != nil {
		t.Fatal(err)
	}
	everywhere("role deleted", rpctypes.ErrPermissionDenied)

	for _, p := range c.Members {
		p.Stop()
	}
	c.Start()
	everywhere("all restarted", rpctypes.ErrPermissionDenied)
	if _, err := as(t, "root", c.Members...).Put(ctx, "a/k", "root"); err != nil {
		t.Error(err)
	}
}

// Clients of one user log in everywhere while rights come and go and members restart; nobody is refused who may, and the
// client's own ways of renewing its token do (traps 128, 130).
func TestClusterAuthRenewal(t *testing.T) {
	for _, c := range []struct{ name, token string }{
		{"simple", "--auth-token-ttl=1"}, {"jwt", "--auth-token=jwt,sign-method=HS256,ttl=1s,priv-key="},
	} {
		t.Run(c.name, func(t *testing.T) {
			arg := c.token
			if c.name == "jwt" {
				file := filepath.Join(t.TempDir(), "secret")
				if err := os.WriteFile(file, []byte("a secret of many letters"), 0o600); err != nil {
					t.Fatal(err)
				}
				arg += file
			}
			cluster := steady(t, "--bcrypt-cost=4", arg)
			ctx := testContext(t)
			withUsers(t, ctx, cluster.Client())
			root, ann := as(t, "root", cluster.Members...), as(t, "ann", cluster.Members...)
			until := time.Now().Add(4 * time.Second) // some lives of a token
			var all sync.WaitGroup
			all.Go(func() {
				for i := 0; time.Now().Before(until); i++ {
					name := fmt.Sprint("r", i)
					if _, err := root.RoleAdd(ctx, name); err != nil {
						t.Errorf("role add: %v", err)
						return
					}
					if i == 10 {
						cluster.Others(leaderOf(t, ctx, cluster, root))[0].Stop()
					}
				}
			})
			for i := range 4 {
				all.Go(func() {
					for n := 0; time.Now().Before(until); n++ {
						if _, err := ann.Put(ctx, fmt.Sprint("a/", i), fmt.Sprint(n)); err != nil && !errors.Is(err, rpctypes.ErrAuthOldRevision) {
							t.Errorf("put %d: %v", n, err)
							return
						}
						if _, err := ann.Get(ctx, fmt.Sprint("a/", i)); err != nil && !errors.Is(err, rpctypes.ErrAuthOldRevision) {
							t.Errorf("get %d: %v", n, err)
							return
						}
					}
				})
			}
			all.Wait()
			time.Sleep(1100 * time.Millisecond) // the token expires
			if _, err := ann.Put(ctx, "a/last", ""); err != nil {
				t.Errorf("after a pause: %v", err)
			}
			if _, err := root.AuthDisable(ctx); err != nil {
				t.Fatal(err)
			}
			if _, err := ann.Put(ctx, "elsewhere", ""); err != nil {
				t.Errorf("while disabled: %v", err)
			}
			if _, err := root.AuthEnable(ctx); err != nil {
				t.Fatal(err)
			}
			if _, err := ann.Put(ctx, "a/last", ""); err != nil {
				t.Errorf("enabled again: %v", err)
			}
			if _, err := ann.Put(ctx, "elsewhere", ""); !errors.Is(err, rpctypes.ErrPermissionDenied) {
				t.Errorf("enabled again, elsewhere: %v", err)
			}
		})
	}
}

// Leases run out though nobody asks in anybody's name (trap 94), and a promotion travels to the leader with the name of the
// one who asked for it.
func TestClusterAuthOwnWork(t *testing.T) {
	c := started(t, 3, "--bcrypt-cost=4")
	ctx := testContext(t)
	withUsers(t, ctx, c.Client())
	ann := as(t, "ann", c.Members...)
	grant, err := ann.Grant(ctx, 5)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := ann.Put(ctx, "a/leased", "", clientv3.WithLease(grant.ID)); err != nil {
		t.Fatal(err)
	}
	for {
		r, err := ann.Get(ctx, "a/leased")
		if err != nil {
			t.Fatal(err)
		}
		if len(r.Kvs) == 0 {
			break
		}
		time.Sleep(50 * time.Millisecond)
	}
	follower := c.Others(leaderOf(t, ctx, c, as(t, "root", c.Members...)))[0]
	if _, err := as(t, "ann", follower).MemberPromote(ctx, 1); !errors.Is(err, rpctypes.ErrPermissionDenied) {
		t.Errorf("promotion by somebody: %v", err)
	}
	if _, err := as(t, "root", follower).MemberPromote(ctx, 1); !errors.Is(err, rpctypes.ErrMemberNotFound) {
		t.Errorf("promotion by root, through a follower: %v", err)
	}
}

// Known bug S8: no password is to be found in what a member logs, nor in what it stores; no token that works either.
func TestNoPasswordsOnDisk(t *testing.T) {
	testkit.Need(t, "curl")
	p := testkit.NewProcess(t, "--bcrypt-cost=4", "--log-level=debug", "--warning-unary-request-duration=1ns")
	p.Start()
	const secret = "correct-horse-battery-staple"
	post := func(path, data string, headers ...string) string {
		args := []string{"-d", data}
		for _, h := range headers {
			args = append(args, "-H", h)
		}
		body, code := curl(t, p, path, args...)
		if code != "200" {
			t.Fatalf("%s: %s %s", path, code, body)
		}
		return body
	}
	post("/v3/auth/user/add", `{"name":"root","password":"`+secret+`"}`)
	post("/v3/auth/user/changepw", `{"name":"root","password":"`+secret+`"}`)
	post("/v3/auth/user/grant", `{"user":"root","role":"root"}`)
	post("/v3/auth/enable", `{}`)
	body := post("/v3/auth/authenticate", `{"name":"root","password":"`+secret+`"}`)
	token := regexp.MustCompile(`"token":\s*"([^"]+)"`).FindStringSubmatch(body)
	if token == nil {
		t.Fatal(body)
	}
	post("/v3/kv/put", `{"key":"aw=="}`, "Authorization: "+token[1])
	post("/v3/kv/put", `{"key":"aw=="}`, "Authorization: Bearer "+token[1])
	for _, c := range []struct{ header, code, want string }{
		{"X: y", "400", `"message":\s*"etcdserver: user name is empty"`},
		{"Authorization: wrong", "401", `"message":\s*"etcdserver: invalid auth token"`},
	} {
		if body, code := curl(t, p, "/v3/kv/put", "-d", `{"key":"aw=="}`, "-H", c.header); code != c.code || !regexp.MustCompile(c.want).MatchString(body) {
			t.Errorf("%s: %s %s", c.header, code, body)
		}
	}
	p.Stop()
	letters, _, _ := strings.Cut(token[1], ".")
	found := func(what, text string) {
		for _, s := range []string{secret, letters} {
			if strings.Contains(text, s) {
				t.Errorf("%s holds %q", what, s)
			}
		}
	}
	found("the log", p.Log())
	err := filepath.WalkDir(p.DataDir, func(path string, d fs.DirEntry, err error) error {
		if err != nil || d.IsDir() {
			return err
		}
		b, err := os.ReadFile(path)
		found(path, string(b))
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
}

// Section 7.5: the name in a certificate stands for a user, also for one without a password; not through the gateway.
func TestNamesFromCertificates(t *testing.T) {
	ca := testkit.NewAuthority(t)
	server := ca.Issue("server", testkit.Subject{CommonName: "server", Hosts: []string{"127.0.0.1", "localhost"}})
	who := people{ca: ca, server: server}
	p := testkit.NewProcess(t, "--bcrypt-cost=4", "--client-cert-auth", "--trusted-ca-file="+ca.File, "--cert-file="+server.Cert, "--key-file="+server.Key)
	pair := func(name string) testkit.Pair { return ca.Issue("of"+name, testkit.Subject{CommonName: name}) }
	rootPair, annPair, zoePair, emptyPair := pair("root"), pair("ann"), pair("zoe"), pair("")
	p.TLS = who.as(t, rootPair)
	p.Start()
	ctx := testContext(t)
	client := func(pair testkit.Pair, name string) *clientv3.Client {
		c, err := clientv3.New(clientv3.Config{
			Endpoints: []string{p.Endpoint}, TLS: who.as(t, pair), Username: name, Password: name, Logger: zap.NewNop(), DialTimeout: 20 * time.Second,
		})
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { c.Close() })
		return c
	}
	withUsers(t, ctx, client(rootPair, ""))
	root := client(rootPair, "")
	if _, err := root.UserAddWithOptions(ctx, "zoe", "", &clientv3.UserAddOptions{NoPassword: true}); err != nil {
		t.Fatal(err)
	}
	if _, err := root.UserGrantRole(ctx, "zoe", "team"); err != nil {
		t.Fatal(err)
	}
	for _, c := range []struct {
		what   string
		client *clientv3.Client
		want   error // of a put below a/
		admin  error
	}{
		{"root", root, nil, nil},
		{"ann", client(annPair, ""), nil, rpctypes.ErrPermissionDenied},
		{"without a password", client(zoePair, ""), nil, rpctypes.ErrPermissionDenied},
		{"a token wins", client(annPair, "root"), nil, nil},
		{"of nobody", client(pair("nobody"), ""), rpctypes.ErrPermissionDenied, rpctypes.ErrUserNotFound},
		{"without a name", client(emptyPair, ""), rpctypes.ErrPermissionDenied, rpctypes.ErrUserEmpty},
	} {
		if _, err := c.client.Put(ctx, "a/k", ""); !errors.Is(err, c.want) {
			t.Errorf("%s: put: %v, want %v", c.what, err, c.want)
		}
		if _, err := c.client.UserList(ctx); !errors.Is(err, c.admin) {
			t.Errorf("%s: user list: %v, want %v", c.what, err, c.admin)
		}
	}
	for _, c := range []struct {
		pair   testkit.Pair
		status int
	}{{rootPair, 400}, {emptyPair, 400}} { // without a name in the certificate it is nobody
		transport := &http.Transport{TLSClientConfig: who.as(t, c.pair)}
		r, err := (&http.Client{Transport: transport}).Post("https://"+p.Endpoint+"/v3/kv/put", "", strings.NewReader(`{"key":"aw=="}`))
		if err != nil {
			t.Fatal(err)
		}
		body, err := io.ReadAll(r.Body)
		r.Body.Close()
		transport.CloseIdleConnections()
		want := "CommonName of client sending a request against gateway will be ignored and not used as expected"
		if c.pair == emptyPair {
			want = "etcdserver: user name is empty"
		}
		if err != nil || r.StatusCode != c.status || !strings.Contains(string(body), want) {
			t.Errorf("through the gateway: %d %s, %v", r.StatusCode, body, err)
		}
	}
}

// A promotion by somebody who has nothing but a certificate goes through a follower, too: that one vouches for the name.
func TestPromotionByCertificate(t *testing.T) {
	ca := testkit.NewAuthority(t)
	server := ca.Issue("server", testkit.Subject{CommonName: "server", Hosts: []string{"127.0.0.1", "localhost"}})
	who := people{ca: ca, server: server}
	c := testkit.NewCluster(t, 3, append([]string{"--bcrypt-cost=4", "--client-cert-auth", "--trusted-ca-file=" + ca.File,
		"--cert-file=" + server.Cert, "--key-file=" + server.Key}, testkit.SteadyArgs...)...)
	root, ann := ca.Issue("ofroot", testkit.Subject{CommonName: "root"}), ca.Issue("ofann", testkit.Subject{CommonName: "ann"})
	for _, p := range c.Members {
		p.TLS = who.as(t, root)
	}
	c.Start()
	ctx := testContext(t)
	withUsers(t, ctx, c.Client())
	for _, p := range c.Members { // whoever leads
		// A member that does not know yet that users have to say who they are passes nobody's name on, as etcd's do not.
		known := p.Client()
		eventually(t, "not enabled here yet", func() error {
			s, err := known.AuthStatus(ctx)
			if err == nil && !s.Enabled {
				err = errors.New("not enabled here yet")
			}
			return err
		})
		for _, asked := range []struct {
			pair testkit.Pair
			want error
		}{{ann, rpctypes.ErrPermissionDenied}, {root, rpctypes.ErrMemberNotFound}} {
			client, err := clientv3.New(clientv3.Config{Endpoints: []string{p.Endpoint}, TLS: who.as(t, asked.pair), Logger: zap.NewNop()})
			if err != nil {
				t.Fatal(err)
			}
			t.Cleanup(func() { client.Close() })
			if _, err := client.MemberPromote(ctx, 1); !errors.Is(err, asked.want) {
				t.Errorf("through %s: %v, want %v", p.Name, err, asked.want)
			}
		}
	}
}
