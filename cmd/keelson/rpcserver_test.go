package main

import (
	"context"
	"fmt"
	"strings"
	"testing"
	"time"

	"go.etcd.io/etcd/api/v3/v3rpc/rpctypes"
	clientv3 "go.etcd.io/etcd/client/v3"

	"keelson/internal/testkit"
)

// TestRPCServers asks both gRPC servers the same, in clear text and over TLS: calls, streams, refusals, and what is no call
// on the same port.
func TestRPCServers(t *testing.T) {
	who := newPeople(t)
	for _, server := range []string{"keelson", "grpc-go"} {
		for _, secure := range []bool{false, true} {
			t.Run(fmt.Sprintf("%s/%v", server, secure), func(t *testing.T) {
				p := testkit.NewProcess(t, "--rpc-server="+server)
				base := "http://" + p.Endpoint
				if secure {
					p.ExtraArgs = append(p.ExtraArgs, "--cert-file="+who.server.Cert, "--key-file="+who.server.Key)
					p.TLS = who.as(t, testkit.Pair{})
					base = "https://" + p.Endpoint
				}
				p.Start()
				c := p.Client()
				talk(t, c)
				for path, want := range map[string]int{"/health": 200, "/metrics": 200, "/version": 200, "/nowhere": 404} {
					for _, h2 := range []bool{false, true} {
						status, version, err := get(base+path, p.TLS, h2)
						if err != nil || status != want || (version == "HTTP/2.0") != (h2 && secure) {
							t.Errorf("%s: %d %s, %v", path, status, version, err)
						}
					}
				}
				ctx, cancel := context.WithTimeout(context.Background(), 20*time.Second)
				defer cancel()
				events := c.Watch(ctx, "w")
				if p.Stop(); !strings.Contains(p.Log(), "closed etcd server") {
					t.Error("it did not end in order")
				}
				cancel()
				for range events {
				}
			})
		}
	}
}

// Both servers print the headers of calls when GODEBUG asks Go's for it.
func TestRPCServersPrintHeaders(t *testing.T) {
	t.Setenv("GODEBUG", "http2debug=2")
	for _, server := range []string{"keelson", "grpc-go"} {
		t.Run(server, func(t *testing.T) {
			p := testkit.NewProcess(t, "--rpc-server="+server)
			p.Start()
			if _, err := p.Client().Put(testContext(t), "k", "v"); err != nil {
				t.Fatal(err)
			}
			awaitLog(t, p, fmt.Sprintf("http2: decoded hpack field header field %q = %q", ":authority", p.Endpoint))
		})
	}
}

// talk makes calls of every shape.
func talk(t *testing.T, c *clientv3.Client) {
	t.Helper()
	ctx := testContext(t)
	events := c.Watch(ctx, "k", clientv3.WithPrefix())
	large := strings.Repeat("x", 1<<20)
	for i, value := range []string{"", "v", large} {
		key := fmt.Sprint("k", i)
		if _, err := c.Put(ctx, key, value); err != nil {
			t.Fatal(err)
		}
		r, err := c.Get(ctx, key)
		if err != nil || len(r.Kvs) != 1 || string(r.Kvs[0].Value) != value {
			t.Fatalf("%s: %d pairs, %v", key, len(r.Kvs), err)
		}
		if e := (<-events).Events; len(e) != 1 || string(e[0].Kv.Value) != value {
			t.Fatalf("%d events for %s", len(e), key)
		}
	}
	if _, err := c.Put(ctx, "k", strings.Repeat("x", 3<<20)); err == nil || !strings.Contains(err.Error(), "larger than max") {
		t.Errorf("a message larger than allowed: %v", err)
	}
	if _, err := c.Put(ctx, "k", strings.Repeat("x", 1<<20+600<<10)); err != rpctypes.ErrRequestTooLarge {
		t.Errorf("a request larger than allowed: %v", err)
	}
	lease, err := c.Grant(ctx, 100)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := c.KeepAliveOnce(ctx, lease.ID); err != nil {
		t.Error(err)
	}
	short, cancel := context.WithTimeout(ctx, 50*time.Millisecond)
	defer cancel()
	for range c.Watch(short, "other") { // ends with its context
	}
}
