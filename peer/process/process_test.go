package process

import (
	"context"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	pb "go.etcd.io/etcd/api/v3/etcdserverpb"
	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials/insecure"
)

// TestServerKeepsItsDataAndAddress starts, stops, kills and starts again.
func TestServerKeepsItsDataAndAddress(t *testing.T) {
	dir := t.TempDir()
	binary := os.Getenv("ETCD_PEER")
	if binary == "" {
		var err error
		if binary, err = BuildEtcd(dir); err != nil {
			t.Fatal(err)
		}
	}
	server, err := New(Etcd, binary, filepath.Join(dir, "data"))
	if err != nil {
		t.Fatal(err)
	}
	defer server.Kill()
	if alive, _ := server.Alive(); alive || server.PID() != 0 {
		t.Fatal("alive before it was started")
	}
	for round, end := range []func() error{server.Stop, server.Kill, server.Stop} {
		if took, err := server.Start(); err != nil || took <= 0 {
			t.Fatalf("round %d: start took %v, error %v", round, took, err)
		}
		if alive, _ := server.Alive(); !alive || server.PID() == 0 {
			t.Fatalf("round %d: not alive", round)
		}
		conn, err := grpc.NewClient("passthrough:///"+server.Addr(), grpc.WithTransportCredentials(insecure.NewCredentials()))
		if err != nil {
			t.Fatal(err)
		}
		ctx, cancel := context.WithTimeout(t.Context(), 20*time.Second)
		reply, err := pb.NewKVClient(conn).Put(ctx, &pb.PutRequest{Key: []byte("k")}, grpc.WaitForReady(true))
		cancel()
		conn.Close()
		if err != nil || reply.Header.Revision != int64(round+2) {
			t.Fatalf("round %d: %v, error %v", round, reply, err)
		}
		if err := end(); err != nil {
			t.Fatalf("round %d: %v", round, err)
		}
	}
	if err := server.Stop(); err != nil {
		t.Errorf("stop of what does not run: %v", err)
	}
}

// TestFailuresAreReported starts what is not there, and what ends by itself with a complaint.
func TestFailuresAreReported(t *testing.T) {
	dir := t.TempDir()
	script := filepath.Join(dir, "complain")
	if err := os.WriteFile(script, []byte("#!/bin/sh\necho no such luck >&2\nexit 3\n"), 0o700); err != nil {
		t.Fatal(err)
	}
	for _, c := range []struct{ binary, want string }{
		{filepath.Join(dir, "nothing"), "no such file"},
		{script, "no such luck"},
	} {
		server, err := New(Keelson, c.binary, dir)
		if err != nil {
			t.Fatal(err)
		}
		if _, err := server.Start(); err == nil || !strings.Contains(err.Error(), c.want) {
			t.Errorf("%s: error %v", c.binary, err)
		}
		if alive, _ := server.Alive(); alive {
			t.Errorf("%s: alive", c.binary)
		}
	}
}
