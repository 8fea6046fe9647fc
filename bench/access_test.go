package bench

import (
	"bytes"
	"context"
	"path/filepath"
	"strings"
	"testing"

	"keelson/internal/testkit"
)

// The load reaches a server that demands TLS and users, as a user, and nobody else's does.
func TestLoadWithTLSAndUsers(t *testing.T) {
	ca := testkit.NewAuthority(t)
	pair := ca.Issue("server", testkit.Subject{CommonName: "server", Hosts: []string{"127.0.0.1"}})
	p := testkit.NewProcess(t, "--cert-file="+pair.Cert, "--key-file="+pair.Key)
	p.ClientURL = "https://" + p.Endpoint
	p.Start()
	defer testkit.RemoveBinary()
	who, err := Options{CACert: ca.File}.enter(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	p.TLS = who.tls
	client := p.Client()
	for _, err := range []error{
		func() error { _, err := client.UserAdd(t.Context(), "root", "secret"); return err }(),
		func() error { _, err := client.UserGrantRole(t.Context(), "root", "root"); return err }(),
		func() error { _, err := client.AuthEnable(t.Context()); return err }(),
	} {
		if err != nil {
			t.Fatal(err)
		}
	}
	load := func(more ...string) (code int, said string) {
		var out bytes.Buffer
		code = command(append([]string{"put", "--endpoint=" + p.Endpoint, "--total=20"}, more...), &out, &out)
		return code, out.String()
	}
	for _, c := range []struct {
		flags []string
		code  int
		want  string
	}{
		{[]string{"--cacert=" + ca.File, "--user=root:secret"}, 0, "errors       0"},
		{[]string{"--cacert=" + ca.File}, 0, "errors       20"}, // refusals are counted
		{[]string{"--cacert=" + ca.File, "--user=root:wrong"}, 1, "log in as root: gRPC status 3: etcdserver: authentication failed"},
		{[]string{"--cacert=" + ca.File, "--user=root"}, 1, `user "root" is not name:password`},
		{[]string{"--cacert=" + filepath.Join(t.TempDir(), "none")}, 1, "no such file"},
		{[]string{"--cacert=" + pair.Key}, 1, "holds no certificate"},
	} {
		if code, said := load(c.flags...); code != c.code || !strings.Contains(said, c.want) {
			t.Errorf("%v: code %d, want %d and %q:\n%s", c.flags, code, c.code, c.want, said)
		}
	}
	ended, cancel := context.WithCancel(t.Context())
	cancel()
	if _, err := (Options{Endpoint: p.Endpoint, CACert: ca.File, User: "root:secret"}).enter(ended); err == nil {
		t.Error("logged in after the end")
	}
}
