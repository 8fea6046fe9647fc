// Package testserver takes the place of the package of the same name in Kubernetes' tests: it gives each test a process of the program in
// KUBETESTS_ETCD instead of an etcd within the test's own process.
package testserver

import (
	"context"
	"net"
	"net/url"
	"os"
	"os/exec"
	"path/filepath"
	"syscall"
	"testing"
	"time"

	clientv3 "go.etcd.io/etcd/client/v3"
	"go.etcd.io/etcd/client/v3/kubernetes"
	"go.etcd.io/etcd/server/v3/embed"
	storagetesting "k8s.io/apiserver/pkg/storage/testing"
)

// startTime is how long a process may take until it answers, on a busy machine.
const startTime = time.Minute

// NewTestConfig says where a server is going to listen and to keep its data. Tests add certificates.
func NewTestConfig(t testing.TB) *embed.Config {
	t.Helper()
	c := embed.NewConfig()
	c.Dir = filepath.Join(t.TempDir(), "data")
	client, peer := freeURL(t), freeURL(t)
	c.ListenClientUrls, c.AdvertiseClientUrls = []url.URL{client}, []url.URL{client}
	c.ListenPeerUrls, c.AdvertisePeerUrls = []url.URL{peer}, []url.URL{peer}
	c.InitialCluster = c.InitialClusterFromName(c.Name)
	return c
}

// freeURL is of a port that was free a moment ago.
func freeURL(t testing.TB) url.URL {
	t.Helper()
	l, err := net.Listen("tcp", "localhost:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	_, port, err := net.SplitHostPort(l.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	return url.URL{Scheme: "http", Host: net.JoinHostPort("localhost", port)}
}

// RunEtcd starts a server until the test ends, and returns a client of it that tells its user's tests what it was asked.
func RunEtcd(t testing.TB, c *embed.Config) *kubernetes.Client {
	t.Helper()
	if c == nil {
		c = NewTestConfig(t)
	}
	run(t, flags(c))
	secure, err := c.ClientTLSInfo.ClientConfig()
	if err != nil {
		t.Fatal(err)
	}
	client, err := kubernetes.New(clientv3.Config{
		TLS: secure, Endpoints: []string{c.AdvertiseClientUrls[0].String()}, DialTimeout: startTime,
	})
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithTimeout(context.Background(), startTime)
	defer cancel()
	if _, err := client.KV.Get(ctx, "ready"); err != nil {
		t.Fatalf("the server does not answer: %v", err)
	}
	recorder := storagetesting.NewKubernetesRecorder(client.Kubernetes)
	client.KV = storagetesting.NewKVRecorder(client.KV, recorder)
	client.Kubernetes = recorder
	return client
}

func flags(c *embed.Config) []string {
	list := []string{
		"--name", c.Name, "--data-dir", c.Dir, "--initial-cluster", c.InitialCluster,
		"--listen-client-urls", c.ListenClientUrls[0].String(), "--advertise-client-urls", c.AdvertiseClientUrls[0].String(),
		"--listen-peer-urls", c.ListenPeerUrls[0].String(), "--initial-advertise-peer-urls", c.AdvertisePeerUrls[0].String(),
		"--log-level", "error",
		"--watch-progress-notify-interval", c.WatchProgressNotifyInterval.String(),
	}
	secure := c.ClientTLSInfo
	for _, file := range []struct{ flag, path string }{
		{"--cert-file", secure.CertFile}, {"--key-file", secure.KeyFile}, {"--trusted-ca-file", secure.TrustedCAFile},
	} {
		if file.path != "" {
			list = append(list, file.flag, file.path)
		}
	}
	if secure.ClientCertAuth {
		list = append(list, "--client-cert-auth")
	}
	return list
}

// run runs the program until the test ends.
func run(t testing.TB, args []string) {
	t.Helper()
	program := exec.Command(os.Getenv("KUBETESTS_ETCD"), args...)
	program.Stdout, program.Stderr = os.Stderr, os.Stderr
	if err := program.Start(); err != nil {
		t.Fatal(err)
	}
	ended := make(chan error, 1)
	go func() { ended <- program.Wait() }()
	t.Cleanup(func() {
		select {
		case err := <-ended:
			t.Errorf("the server has ended during the test: %v", err)
			return
		default:
		}
		if err := program.Process.Signal(syscall.SIGTERM); err != nil {
			t.Error(err)
		}
		select {
		case <-ended:
		case <-time.After(startTime):
			t.Error("the server does not end when it is told to")
			program.Process.Kill()
			<-ended
		}
	})
}
