package main

import (
	"bytes"
	"context"
	"net"
	"os"
	"os/exec"
	"testing"

	clientv3 "go.etcd.io/etcd/client/v3"

	"keelson/internal/testkit"
)

// TestPythonClients runs Debian's clients of the v3 API, by gRPC and by the gateway, through all that they can, with and without
// TLS and users.
func TestPythonClients(t *testing.T) {
	if out, err := exec.Command("/usr/bin/python3", "-c", "import etcd3, etcd3gw").CombinedOutput(); err != nil {
		t.Fatalf("python3-etcd3 or python3-etcd3gw is not installed: %v\n%s", err, out)
	}
	for _, variant := range []struct {
		name       string
		tls, users bool
	}{ // users over TLS alone: the library takes no other channel for what shows who it is
		{"open", false, false}, {"TLS", true, false}, {"TLS and users", true, true},
	} {
		t.Run(variant.name, func(t *testing.T) {
			p, ca, user, password := testkit.NewProcess(t, "--bcrypt-cost=4"), "", "", ""
			if variant.tls {
				who := newPeople(t)
				p = testkit.NewProcess(t, "--bcrypt-cost=4", "--cert-file="+who.server.Cert, "--key-file="+who.server.Key)
				p.TLS, ca = who.as(t, testkit.Pair{}), who.ca.File
			}
			p.Start()
			if variant.users {
				user, password = "root", "secret"
				enableRoot(t, p.Client(), user, password)
			}
			host, port, err := net.SplitHostPort(p.Endpoint)
			if err != nil {
				t.Fatal(err)
			}
			ctx, cancel := context.WithTimeout(context.Background(), patience)
			defer cancel()
			cmd := exec.CommandContext(ctx, "/usr/bin/python3", "testdata/python/surface.py", host, port, ca, user, password)
			cmd.Env = append(os.Environ(), "REQUESTS_CA_BUNDLE="+ca) // it goes before what the gateway's client is told
			var complaints bytes.Buffer                              // a thread that watches complains when its client is closed
			cmd.Stderr = &complaints
			out, err := cmd.Output()
			if err != nil || string(out) != "done\n" {
				t.Errorf("%v\n%s\n%s", err, out, complaints.Bytes())
			}
		})
	}
}

// enableRoot makes users count, of which there is one.
func enableRoot(t *testing.T, c *clientv3.Client, user, password string) {
	t.Helper()
	ctx := within(t)
	if _, err := c.UserAdd(ctx, user, password); err != nil {
		t.Fatal(err)
	}
	if _, err := c.UserGrantRole(ctx, user, "root"); err != nil {
		t.Fatal(err)
	}
	if _, err := c.AuthEnable(ctx); err != nil {
		t.Fatal(err)
	}
}
