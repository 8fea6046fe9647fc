package inspect

import (
	"fmt"
	"io"
	"net/http"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"keelson/internal/testkit"
)

// TestV2 takes over from a real etcd 3.4 that was killed, from its directory and from a backup that its etcdctl made: keys, indexes,
// times to live, events, users and roles are as they were.
func TestV2(t *testing.T) {
	testkit.Need(t, "etcd")
	testkit.Need(t, "etcdctl")
	for name, count := range map[string]int{"all in the log": 100000, "with snapshots": 15} {
		t.Run(name, func(t *testing.T) {
			e := startV2(t, fmt.Sprint("--snapshot-count=", count))
			fillV2(t, e.endpoint())
			want := portraitV2(t, e.endpoint())
			backup := filepath.Join(t.TempDir(), "backup")
			cmd := exec.Command("etcdctl", "backup", "--data-dir", e.dir, "--backup-dir", backup)
			cmd.Env = append(cmd.Environ(), "ETCDCTL_API=2")
			if out, err := cmd.CombinedOutput(); err != nil {
				t.Fatalf("%v\n%s", err, out)
			}
			request(t, "PUT", "http://root:r@"+e.endpoint()+"/v2/keys/after-the-backup", "value=1")
			wantAfter := portraitV2(t, e.endpoint())
			e.kill()
			sources := []struct{ args, want string }{{"etcd --data-dir " + e.dir, wantAfter}}
			if count < 100 {
				// A backup leaves out what is said of members in the log: without a snapshot, indexes are lower by that.
				sources = append(sources, struct{ args, want string }{"etcd-v2 --backup-dir " + backup, want})
			}
			for _, c := range sources {
				p := testkit.NewProcess(t)
				said := run(t, append(append([]string{"import"}, strings.Fields(c.args)...), "--to="+p.DataDir, "--name="+p.Name,
					"--initial-cluster="+p.Name+"=http://"+p.Peer, "--initial-advertise-peer-urls=http://"+p.Peer)...)
				p.Start()
				if got := portraitV2(t, p.Endpoint); got != c.want {
					t.Errorf("%s: here\n%s\nin etcd\n%s\n%s", c.args, got, c.want, said)
				}
				if c.want != want { // one source is enough for this
					p.Kill()
					continue
				}
				// And on to another of ours, by a snapshot.
				file := filepath.Join(t.TempDir(), "v2.db")
				run(t, "snapshot", "save", file, "--endpoints", p.Endpoint)
				again := testkit.NewProcess(t)
				run(t, "import", "etcd-v2", "--snapshot", file, "--to", again.DataDir, "--name="+again.Name,
					"--initial-cluster="+again.Name+"=http://"+again.Peer, "--initial-advertise-peer-urls=http://"+again.Peer)
				again.Start()
				if got := portraitV2(t, again.Endpoint); got != c.want {
					t.Errorf("%s, and on: here\n%s\nin etcd\n%s", c.args, got, c.want)
				}
				p.Kill()
				again.Kill()
			}
		})
	}
}

// startV2 starts Debian's etcd with the v2 API.
func startV2(t *testing.T, more ...string) *etcd {
	t.Helper()
	client, peer := testkit.FreeAddress(t), testkit.FreeAddress(t)
	return startV2At(t, filepath.Join(t.TempDir(), "v2"), client, peer,
		append([]string{"--name=m1", "--initial-advertise-peer-urls=http://" + peer, "--initial-cluster=m1=http://" + peer}, more...)...)
}

// startV2At starts it on a directory, which may be there.
func startV2At(t *testing.T, dir, client, peer string, more ...string) *etcd {
	t.Helper()
	e := &etcd{t: t, client: client, peer: peer, dir: dir}
	e.cmd = exec.Command("etcd", append([]string{"--data-dir", e.dir, "--enable-v2", "--log-level=error",
		"--listen-client-urls=http://" + e.client, "--advertise-client-urls=http://" + e.client, "--listen-peer-urls=http://" + e.peer}, more...)...)
	if err := e.cmd.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if e.cmd != nil {
			e.kill()
		}
	})
	for range 600 {
		if r, err := http.Get("http://" + e.client + "/health"); err == nil {
			body, _ := io.ReadAll(r.Body)
			r.Body.Close()
			if strings.Contains(string(body), `"true"`) {
				return e
			}
		}
		time.Sleep(100 * time.Millisecond)
	}
	t.Fatal("etcd 3.4 is not ready")
	return nil
}

func (e *etcd) endpoint() string { return e.client }

// fillV2 does a little of everything that the v2 API has.
func fillV2(t *testing.T, endpoint string) {
	t.Helper()
	keys := "http://" + endpoint + "/v2/keys"
	for i := range 12 {
		request(t, "PUT", fmt.Sprintf("%s/a/b%d", keys, i%5), fmt.Sprint("value=", i))
	}
	request(t, "PUT", keys+"/t?ttl=3600", "value=runs+out")
	request(t, "PUT", keys+"/dir?dir=true&ttl=7200", "")
	request(t, "PUT", keys+"/empty?dir=true", "")
	request(t, "PUT", keys+"/blank", "value=")
	request(t, "PUT", keys+"/short?ttl=1", "value=gone")
	request(t, "POST", keys+"/queue", "value=first")
	request(t, "POST", keys+"/queue", "value=second&ttl=5000")
	request(t, "PUT", keys+"/_hidden/x", "value=h")
	request(t, "PUT", keys+"/a/b1?prevValue=11", "value=swapped")
	request(t, "PUT", keys+"/a/b2?prevExist=true", "value=updated")
	request(t, "PUT", keys+"/a/b9?prevExist=false", "value=created")
	request(t, "PUT", keys+"/t?prevExist=true&refresh=true&ttl=4000", "")
	request(t, "DELETE", keys+"/a/b3", "")
	request(t, "DELETE", keys+"/a/b4?prevValue=9", "")
	request(t, "PUT", keys+"/gone/deep/down", "value=1")
	request(t, "DELETE", keys+"/gone?recursive=true", "")
	request(t, "PUT", keys+"/%F0%9F%8C%8A/x%20y", "value=wave")
	auth := "http://" + endpoint + "/v2/auth"
	request(t, "PUT", auth+"/users/root", `{"user":"root","password":"r"}`)
	request(t, "PUT", auth+"/roles/reader", `{"role":"reader","permissions":{"kv":{"read":["/a/*"],"write":["/w"]}}}`)
	request(t, "PUT", auth+"/users/alice", `{"user":"alice","password":"p","roles":["reader"]}`)
	request(t, "PUT", auth+"/enable", "")
	request(t, "DELETE", "http://root:r@"+endpoint+"/v2/auth/roles/guest", "")
	request(t, "PUT", "http://root:r@"+endpoint+"/v2/keys/last", "value=1")
	for range 100 { // until the short one has run out
		r, err := http.Get("http://root:r@" + endpoint + "/v2/keys/short")
		if err != nil {
			t.Fatal(err)
		}
		r.Body.Close()
		if r.StatusCode == http.StatusNotFound {
			return
		}
		time.Sleep(100 * time.Millisecond)
	}
	t.Fatal("a key with a TTL of 1 s does not run out")
}

// portraitV2 is what clients of the v2 API can see.
func portraitV2(t *testing.T, endpoint string) string {
	t.Helper()
	text := ""
	get := func(path string) {
		r, err := http.Get("http://root:r@" + endpoint + path)
		if err != nil {
			t.Fatal(err)
		}
		body, err := io.ReadAll(r.Body)
		r.Body.Close()
		if err != nil {
			t.Fatal(err)
		}
		text += fmt.Sprintf("%s: %s %s %s\n", path, r.Status, r.Header.Get("X-Etcd-Index"), withoutTTL(string(body)))
	}
	get("/v2/keys/?recursive=true&sorted=true")
	get("/v2/keys/_hidden?recursive=true")
	get("/v2/auth/enable")
	get("/v2/auth/users")
	get("/v2/auth/roles")
	for i := 4; i < 36; i++ {
		get(fmt.Sprintf("/v2/keys/?wait=true&recursive=true&waitIndex=%d", i))
	}
	r, err := http.Get("http://alice:p@" + endpoint + "/v2/keys/a/b1")
	if err != nil {
		t.Fatal(err)
	}
	r.Body.Close()
	return text + r.Status
}
