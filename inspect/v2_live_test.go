package inspect

import (
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"keelson/internal/cli"
	"keelson/internal/testkit"
	"keelson/snapshot/etcddir"
)

// TestV2Live takes over from a real etcd 3.4 that runs, and from one of ours that holds what came from it: keys, indexes and times
// to live, users and roles are as they were; who asked can log in, and others cannot.
func TestV2Live(t *testing.T) {
	testkit.Need(t, "etcd")
	e := startV2(t)
	fillV2(t, e.endpoint())
	request(t, "PUT", "http://root:r@"+e.endpoint()+"/v2/keys/_hidden/deep/_er", "value=h2")
	from := e.endpoint()
	want := visibleV2(t, from)
	for _, source := range []string{"etcd", "keelson"} {
		p := testkit.NewProcess(t)
		said := run(t, "import", "etcd-v2", "--endpoints="+from, "--user=root:r", "--hidden=/_hidden/deep/_er", "--to="+p.DataDir, "--name="+p.Name,
			"--initial-cluster="+p.Name+"=http://"+p.Peer, "--initial-advertise-peer-urls=http://"+p.Peer)
		if !strings.Contains(said, "given new ones: alice\n") {
			t.Errorf("from %s: nothing is said of the password that cannot be read:\n%s", source, said)
		}
		p.Start()
		if got := visibleV2(t, p.Endpoint); got != want {
			t.Errorf("from %s: here\n%s\nthere\n%s", source, got, want)
		}
		for _, password := range []string{"", "p"} {
			r, err := http.Get("http://alice:" + password + "@" + p.Endpoint + "/v2/keys/a/b1")
			if err != nil {
				t.Fatal(err)
			}
			r.Body.Close()
			if r.StatusCode != http.StatusUnauthorized {
				t.Errorf("from %s: alice, whose password nobody knows, with %q: %s", source, password, r.Status)
			}
		}
		from = p.Endpoint
	}
}

// visibleV2 is what root can see, but for events.
func visibleV2(t *testing.T, endpoint string) (text string) {
	t.Helper()
	for _, path := range []string{
		"/v2/keys/?recursive=true&sorted=true", "/v2/keys/_hidden?recursive=true&sorted=true", "/v2/keys/_hidden/deep/_er",
		"/v2/auth/enable", "/v2/auth/users", "/v2/auth/roles",
	} {
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
	return text
}

// TestV2LiveRefusals: whatever is wrong is said, with what to do next, and nothing is written.
func TestV2LiveRefusals(t *testing.T) {
	var answers atomic.Pointer[map[string]string]
	fake := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		body, ok := (*answers.Load())[r.URL.Path]
		if !ok {
			http.NotFound(w, r)
			return
		}
		w.Header().Set("X-Etcd-Index", "9")
		io.WriteString(w, body)
	}))
	defer fake.Close()
	root := func(nodes string) map[string]string {
		return map[string]string{"/v2/keys/": `{"action":"get","node":{"dir":true,"nodes":[` + nodes + `]}}`}
	}
	for _, c := range []struct {
		answers map[string]string
		args    string
		want    string
	}{
		{nil, "", "say where to import from"},
		{nil, "--endpoints=ftp://x", "no endpoint of a v2 API"},
		{nil, "--endpoints=http://root:secret@x:1", "give --user NAME:PASSWORD"},
		{nil, "--endpoints=x:1 --snapshot=f", "one of them"},
		{nil, "--snapshot=f --hidden=/_a", "--hidden and --without-users are for --endpoints"},
		{nil, "--endpoints=FAKE --hidden=/a/b", "no part of it begins with _"},
		{nil, "--endpoints=FAKE", "need --enable-v2"},
		{root(``), "--endpoints=FAKE", "holds nothing of the v2 API"},
		{root(`{"key":"/a","value":"1"}`), "--endpoints=FAKE --hidden=/_h", "404 Not Found"},
		{root(`{"key":"/a","value":"1"`), "--endpoints=FAKE", "try again, or another member"},
		{root(`{"key":"/a","dir":true,"nodes":[{"key":"/b/c","value":"1"}]}`), "--endpoints=FAKE", `"/b/c" within "/a"`},
		{root(`{"key":"/a","dir":true,"nodes":[{"value":"1"}]}`), "--endpoints=FAKE", "a root within"},
		{root(`{"key":"/a","value":"1"},{"key":"/a/b","value":"1"}`), "--endpoints=FAKE", "leads through a file"},
		{root(`{"key":"/a/b","value":"1"},{"key":"/a","value":"1"}`), "--endpoints=FAKE", "there is something in it"},
		{root(`{"key":"/a//b","value":"1"}`), "--endpoints=FAKE", "is no path"},
		{root(strings.Repeat(`{"dir":true,"nodes":[`, 5000)), "--endpoints=FAKE", "directories within each other"},
		{map[string]string{"/v2/keys/": `[]`}, "--endpoints=FAKE", "is due"},
		{map[string]string{"/v2/keys/": `{}`}, "--endpoints=FAKE", "without a node"},
		{map[string]string{"/v2/keys/": root("")["/v2/keys/"], "/v2/auth/enable": `{"enabled":true}`}, "--endpoints=FAKE", "--without-users"},
	} {
		answers.Store(&c.answers)
		to := filepath.Join(t.TempDir(), "to")
		args := append([]string{"import", "etcd-v2", "--to=" + to}, strings.Fields(strings.ReplaceAll(c.args, "FAKE", fake.URL))...)
		said, err := exec.Command(testkit.Binary(t), args...).CombinedOutput()
		if err == nil || !strings.Contains(string(said), c.want) {
			t.Errorf("%v with %.60v: want a refusal with %q, got %v\n%s", c.args, c.answers, c.want, err, said)
		}
		if entries, _ := filepath.Glob(to + "/*"); len(entries) > 0 {
			t.Errorf("%v: refused, but there is %v", c.args, entries)
		}
	}
}

// TestV2LiveSilence: who has begun to answer and then says nothing is not waited for.
func TestV2LiveSilence(t *testing.T) {
	over := make(chan struct{})
	fake := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("X-Etcd-Index", "9")
		io.WriteString(w, `{"action":"get",`)
		http.NewResponseController(w).Flush()
		<-over
	}))
	defer fake.Close()
	defer close(over)
	v, err := newV2Live(cli.Connection{Endpoints: []string{fake.URL}})
	if err != nil {
		t.Fatal(err)
	}
	v.silence = 10 * time.Millisecond
	if _, err := v.read(t.Context()); err == nil || !strings.Contains(err.Error(), "nothing has come for 10ms") {
		t.Errorf("got %v", err)
	}
}

// TestV2LiveLongPassword: of a long password, what etcd looks at is what counts here.
func TestV2LiveLongPassword(t *testing.T) {
	fake := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("X-Etcd-Index", "9")
		io.WriteString(w, map[string]string{
			"/v2/keys/": `{"action":"get","node":{"dir":true}}`, "/v2/auth/enable": `{"enabled":true}`,
			"/v2/auth/users": `{"users":[{"user":"root","roles":[{"role":"root"}]}]}`, "/v2/auth/roles": `{"roles":[]}`,
		}[r.URL.Path])
	}))
	defer fake.Close()
	v, err := newV2Live(cli.Connection{Endpoints: []string{fake.URL}})
	if err != nil {
		t.Fatal(err)
	}
	v.user, v.password = "root", strings.Repeat("p", 100)
	f, err := v.read(t.Context())
	if err != nil || len(f.locked) > 0 {
		t.Errorf("%v, locked %v", err, f.locked)
	}
}

// TestV2LiveMoments: what is read one by one is read again until nobody wrote meanwhile, and if somebody always does, that is known.
func TestV2LiveMoments(t *testing.T) {
	for _, c := range []struct {
		busy    int64 // so many requests come with another index each
		earlier uint64
		reads   int64
	}{{0, 0, 3}, {4, 0, 6}, {1000, 2, 15}} {
		var asked atomic.Int64
		fake := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			if !strings.HasPrefix(r.URL.Path, "/v2/keys/") {
				http.NotFound(w, r)
				return
			}
			w.Header().Set("X-Etcd-Index", fmt.Sprint(100+min(asked.Add(1), c.busy)))
			key := strings.TrimSuffix(strings.TrimPrefix(r.URL.Path, "/v2/keys"), "/")
			fmt.Fprintf(w, `{"node":{"key":%q,"value":"1","modifiedIndex":7}}`, key)
		}))
		live, err := newV2Live(cli.Connection{Endpoints: []string{fake.URL}})
		if err != nil {
			t.Fatal(err)
		}
		live.hidden = []string{"/_h"}
		found, err := live.read(t.Context())
		fake.Close()
		if err != nil {
			t.Fatal(err)
		}
		if reads := asked.Load() - 1; found.earlier != c.earlier || reads != c.reads { // one to choose the endpoint
			t.Errorf("%d busy requests: %d requests and %d changes between, want %d and %d", c.busy, reads, found.earlier, c.reads, c.earlier)
		}
	}
}

func TestHiddenWays(t *testing.T) {
	for _, c := range []struct{ paths, want string }{
		{"/_etcd/registry", "/_etcd"}, {"_a//b/_c/d", "/_a /_a/b/_c"}, {"/a/b", ""}, {"/", ""}, {"", ""}, {"/_a /_a/_b", "/_a /_a/_b"},
	} {
		if got := strings.Join(hiddenWays(strings.Split(c.paths, " ")), " "); got != c.want {
			t.Errorf("%q: %q, want %q", c.paths, got, c.want)
		}
	}
}

func FuzzV2Answer(f *testing.F) {
	f.Add(`{"action":"get","node":{"dir":true,"nodes":[{"key":"/a","dir":true,"expiration":"2030-01-01T00:00:00Z","ttl":9,"nodes":[{"key":"/a/b","value":"1","modifiedIndex":4,"createdIndex":4}],"modifiedIndex":4,"createdIndex":4}]}}`)
	f.Add(`{"node":{"key":"/a","value":"1"}}`)
	f.Fuzz(func(t *testing.T, text string) {
		var paths []string
		if readV2Answer(strings.NewReader(text), func(n etcddir.StoreNode) error {
			paths = append(paths, n.Path)
			return nil
		}) == nil && slices.Contains(paths, "") {
			t.Errorf("a node without a path in %q", text)
		}
	})
}
