package main

import (
	"context"
	"fmt"
	"strings"
	"testing"
	"time"

	clientv3 "go.etcd.io/etcd/client/v3"

	"keelson/internal/testkit"
)

// awaitLog waits until a member has written one of the texts since its last start, and returns the first that it finds.
func awaitLog(t *testing.T, p *testkit.Process, texts ...string) string {
	t.Helper()
	deadline := time.Now().Add(time.Minute)
	for {
		log := p.Log()
		for _, text := range texts {
			if strings.Contains(log, text) {
				return text
			}
		}
		if time.Now().After(deadline) {
			t.Fatalf("%s logged none of %q", p.Name, texts)
		}
		time.Sleep(time.Millisecond)
	}
}

// A member that needs a snapshot is killed while it receives one, when it has it, and when it has switched to it, each at
// once and a moment later; then it comes to what the others have. A kill may come too late for its aim: then the next
// round begins with what that has left.
func TestClusterKilledDuringInstall(t *testing.T) {
	c := started(t, 3, "--snapshot-catchup-entries=1", "--quota-backend-bytes=0")
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	defer cancel()
	leader := c.Leader()
	behind := c.Others(leader)[0]
	client := leader.Client()
	first, err := client.Put(ctx, "first", "")
	if err != nil {
		t.Fatal(err)
	}
	behind.Kill()
	const pairs = 110 // the log is cut in files of 64 MiB
	writeLarge(t, client, "k/", pairs)
	const caughtUp = "ready to serve client requests"
	hit := map[string]int{}
	for _, aim := range []string{"receiving database snapshot", "received database snapshot", "applied snapshot"} {
		for _, later := range []time.Duration{0, 5 * time.Millisecond} {
			if err := behind.Begin(); err != nil {
				t.Fatal(err)
			}
			hit[awaitLog(t, behind, aim, caughtUp)]++
			time.Sleep(later)
			behind.Kill()
		}
	}
	if hit["receiving database snapshot"] == 0 {
		t.Error("no snapshot was sent: the test has tested nothing")
	}
	t.Logf("killed after: %v", hit)
	behind.Start()
	c.Agree()
	events := behind.Client().Watch(ctx, "k/", clientv3.WithPrefix(), clientv3.WithRev(first.Header.Revision))
	for seen := 0; seen < pairs; {
		r, ok := <-events
		if !ok || r.Err() != nil {
			t.Fatalf("the watch ended after %d events: %v", seen, r.Err())
		}
		for _, ev := range r.Events {
			if want := fmt.Sprintf("k/%03d", seen); string(ev.Kv.Key) != want {
				t.Fatalf("event of %s, want %s", ev.Kv.Key, want)
			}
			seen++
		}
	}
}
