package dashboards

import (
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

// startTimeout is what a loaded machine is given.
const startTimeout = time.Minute

// startCluster runs members of the program in this repository and returns the addresses of their clients.
func startCluster(t *testing.T, members int) (endpoints []string) {
	t.Helper()
	dir := t.TempDir()
	program := filepath.Join(dir, "keelson")
	build := exec.Command("go", "build", "-o", program, "./cmd/keelson")
	build.Dir = "../.."
	if out, err := build.CombinedOutput(); err != nil {
		t.Fatalf("build: %v\n%s", err, out)
	}
	var initial, peers []string
	for i := range members {
		endpoints = append(endpoints, freeAddress(t))
		peers = append(peers, "http://"+freeAddress(t))
		initial = append(initial, fmt.Sprintf("m%d=%s", i, peers[i]))
	}
	for i, endpoint := range endpoints {
		log, err := os.Create(filepath.Join(dir, fmt.Sprintf("m%d.log", i)))
		if err != nil {
			t.Fatal(err)
		}
		cmd := exec.Command(program, "serve", "--metrics=extensive", fmt.Sprintf("--name=m%d", i), "--data-dir="+filepath.Join(dir, fmt.Sprint(i)),
			"--listen-client-urls=http://"+endpoint, "--advertise-client-urls=http://"+endpoint,
			"--listen-peer-urls="+peers[i], "--initial-advertise-peer-urls="+peers[i], "--initial-cluster="+strings.Join(initial, ","))
		cmd.Stdout, cmd.Stderr = log, log
		if err := cmd.Start(); err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() {
			cmd.Process.Kill()
			cmd.Wait()
			log.Close()
		})
	}
	for _, endpoint := range endpoints {
		awaitHealth(t, endpoint)
	}
	return endpoints
}

func freeAddress(t *testing.T) string {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	return l.Addr().String()
}

func awaitHealth(t *testing.T, endpoint string) {
	t.Helper()
	deadline := time.Now().Add(startTimeout)
	for {
		r, err := http.Get("http://" + endpoint + "/readyz")
		if err == nil {
			r.Body.Close()
			if r.StatusCode == http.StatusOK {
				return
			}
		}
		if time.Now().After(deadline) {
			t.Fatalf("%s does not get ready: %v", endpoint, err)
		}
		time.Sleep(50 * time.Millisecond)
	}
}

func get(t *testing.T, url string) []byte {
	t.Helper()
	r, err := http.Get(url)
	if err != nil {
		t.Fatal(err)
	}
	defer r.Body.Close()
	body, err := io.ReadAll(r.Body)
	if err != nil || r.StatusCode != http.StatusOK {
		t.Fatalf("%s: %s %v", url, r.Status, err)
	}
	return body
}

// call makes one call through the JSON gateway.
func call(t *testing.T, endpoint, path, body string) {
	t.Helper()
	r, err := http.Post("http://"+endpoint+path, "application/json", strings.NewReader(body))
	if err != nil {
		t.Fatal(err)
	}
	defer r.Body.Close()
	if text, _ := io.ReadAll(r.Body); r.StatusCode != http.StatusOK {
		t.Fatalf("%s: %s %s", path, r.Status, text)
	}
}
