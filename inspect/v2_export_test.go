package inspect

import (
	"fmt"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"testing"

	"keelson/internal/testkit"
)

// indexesOfStore are those that an etcd moves when it starts.
var indexesOfStore = regexp.MustCompile(`(?m)^(\S+: \d+ [A-Za-z ]+?) \d+ |,"index":\d+`)

// TestV2Export hands the v2 tree back to a real etcd 3.4, from a snapshot and from the directory of a member that was killed:
// keys, indexes, times to live, events, users and roles are as they were, and pairs of the v3 API come along.
func TestV2Export(t *testing.T) {
	testkit.Need(t, "etcd")
	testkit.Need(t, "etcdctl")
	first := startV2(t, "--snapshot-count=15")
	fillV2(t, first.endpoint())
	first.kill()
	p := testkit.NewProcess(t)
	run(t, "import", "etcd-v2", "--backup-dir="+first.dir, "--to="+p.DataDir, "--name="+p.Name,
		"--initial-cluster="+p.Name+"=http://"+p.Peer, "--initial-advertise-peer-urls=http://"+p.Peer)
	p.Start()
	request(t, "PUT", "http://root:r@"+p.Endpoint+"/v2/keys/ours", "value=here&ttl=5000")
	run(t, "put", "pair", "v3", "--endpoints="+p.Endpoint)
	lease := strings.Fields(run(t, "lease", "grant", "7000", "--endpoints="+p.Endpoint))[1]
	run(t, "put", "leased", "v3", "--lease="+lease, "--endpoints="+p.Endpoint)
	want := indexesOfStore.ReplaceAllString(portraitV2(t, p.Endpoint), "$1 ")
	file := filepath.Join(t.TempDir(), "backup.db")
	run(t, "snapshot", "save", file, "--endpoints="+p.Endpoint)
	p.Kill()
	for _, source := range []string{"--snapshot=" + file, "--data-dir=" + p.DataDir} {
		client, peer := testkit.FreeAddress(t), testkit.FreeAddress(t)
		dir := filepath.Join(t.TempDir(), "made")
		cluster := []string{"--name=back", "--initial-cluster=back=http://" + peer, "--initial-advertise-peer-urls=http://" + peer}
		run(t, append([]string{"export", "etcd-v2", dir, source}, cluster...)...)
		back := startV2At(t, dir, client, peer, cluster...)
		if got := indexesOfStore.ReplaceAllString(portraitV2(t, back.endpoint()), "$1 "); got != want {
			t.Errorf("from %s: in etcd\n%s\nhere\n%s", source, got, want)
		}
		get := exec.Command("etcdctl", "--endpoints="+client, "get", "", "--prefix")
		get.Env = append(get.Environ(), "ETCDCTL_API=3")
		if out, err := get.CombinedOutput(); err != nil || string(out) != "leased\nv3\npair\nv3\n" {
			t.Errorf("from %s: the pairs are %q, %v", source, out, err)
		}
		request(t, "PUT", "http://root:r@"+client+"/v2/keys/theirs", "value=1")
		back.kill()
		again := startV2At(t, dir, client, peer, cluster...) // what it has written itself, it reads
		if text := portraitV2(t, again.endpoint()); !strings.Contains(text, `"/theirs"`) {
			t.Errorf("from %s: after another start\n%s", source, text)
		}
		again.kill()
	}
}

func TestV2ExportRefusals(t *testing.T) {
	dir := t.TempDir()
	for _, c := range []struct{ args, want string }{
		{"", "accepts 1 arg(s), received 0"},
		{dir + "/a", "say where to export from"},
		{dir + "/a --snapshot x --data-dir y", "one of them"},
		{dir + "/a --snapshot x --from-wal-dir y", "a snapshot has no raft log"},
		{dir + " --snapshot x", "exists; remove it"},
		{dir + "/a --snapshot " + dir + "/none", "give the file"},
		{dir + "/a --data-dir " + dir + "/none", "is no data directory of a member"},
		{dir + "/a --snapshot x --name other", "couldn't find local name"},
	} {
		said, err := exec.Command(testkit.Binary(t), append([]string{"export", "etcd-v2"}, strings.Fields(c.args)...)...).CombinedOutput()
		if err == nil || !strings.Contains(string(said), c.want) {
			t.Errorf("export etcd-v2 %s: want a refusal with %q, got %v\n%s", c.args, c.want, err, said)
		}
		if left, _ := filepath.Glob(dir + "/*"); len(left) > 0 {
			t.Fatal(fmt.Sprint(c.args, ": something is left: ", left))
		}
	}
}
