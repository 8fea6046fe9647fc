package main

import (
	"context"
	"os"
	"os/exec"
	"path/filepath"
	"testing"
	"time"

	"keelson/internal/testkit"
)

// TestNodeClient runs etcd3, the client of Node's world, on @grpc/grpc-js, against both gRPC servers and over TLS.
func TestNodeClient(t *testing.T) {
	testkit.Need(t, "node")
	testkit.Need(t, "npm")
	dir := t.TempDir()
	for _, name := range []string{"package.json", "package-lock.json", "client.js"} {
		b, err := os.ReadFile(filepath.Join("testdata", "node", name))
		if err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(filepath.Join(dir, name), b, 0o600); err != nil {
			t.Fatal(err)
		}
	}
	execute(t, dir, "npm", "ci", "--ignore-scripts", "--no-audit", "--no-fund")

	who := newPeople(t)
	for _, server := range []string{"keelson", "grpc-go"} {
		t.Run(server, func(t *testing.T) {
			p := testkit.NewProcess(t, "--rpc-server="+server)
			p.Start()
			execute(t, dir, "node", "client.js", "http://"+p.Endpoint)
		})
	}
	t.Run("TLS", func(t *testing.T) {
		p := testkit.NewProcess(t, "--cert-file="+who.server.Cert, "--key-file="+who.server.Key)
		p.TLS = who.as(t, testkit.Pair{})
		p.Start()
		execute(t, dir, "node", "client.js", "https://"+p.Endpoint, who.ca.File)
	})
}

func execute(t *testing.T, dir, name string, args ...string) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), 3*time.Minute)
	defer cancel()
	cmd := exec.CommandContext(ctx, name, args...)
	cmd.Dir = dir
	if out, err := cmd.CombinedOutput(); err != nil {
		t.Fatalf("%s %v: %v\n%s", name, args, err, out)
	}
}
