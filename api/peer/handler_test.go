package peer

import (
	"context"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"

	"keelson/command"
	"keelson/state"
	"keelson/state/mvcc"
)

// do sends a request and returns status and body of the reply.
func (f *fake) do(t *testing.T, method, path, body string, header ...string) (*http.Response, string) {
	t.Helper()
	req, err := http.NewRequestWithContext(t.Context(), method, f.server.URL+path, strings.NewReader(body))
	if err != nil {
		t.Fatal(err)
	}
	for i := 0; i < len(header); i += 2 {
		req.Header.Set(header[i], header[i+1])
	}
	reply, err := f.client.o.HTTP.Do(req)
	if err != nil {
		t.Fatal(err)
	}
	defer reply.Body.Close()
	b, err := io.ReadAll(reply.Body)
	if err != nil {
		t.Fatal(err)
	}
	return reply, string(b)
}

// TestHandlerReplies: operations 1.10, table; v3 API 9.8.
func TestHandlerReplies(t *testing.T) {
	f := newCluster(t, 1, long)[0]
	if _, err := f.apply(&command.MemberPublish{ID: 1, Name: "one", ClientURLs: []string{"http://c:2379"}}, state.Entry{}); err != nil {
		t.Fatal(err)
	}
	f.put(t, "a", "1")
	f.put(t, "a", "2")
	if _, err := f.apply(&command.Compact{Revision: 3}, state.Entry{}); err != nil {
		t.Fatal(err)
	}
	v := f.machine.View()
	list := v.Members().List()
	v.Close()
	membersBody := fmt.Sprintf(`[{"id":1,"peerURLs":["%s"],"name":"one","clientURLs":["http://c:2379"]},`+
		`{"id":2,"peerURLs":["%s"],"isLearner":true,"name":"m2"}]`, list[0].PeerURLs[0], list[1].PeerURLs[0])
	hash, err := f.machine.HashKV(3)
	if err != nil {
		t.Fatal(err)
	}
	hashBody := fmt.Sprintf(`{"header":{"cluster_id":%d,"member_id":1,"revision":3,"raft_term":2},"hash":%d,"compact_revision":3,"hash_revision":3}`,
		clusterID, hash.Hash)
	const wrong = "Method Not Allowed\n"
	for _, c := range []struct {
		method, path, body string
		status             int
		want               string
	}{
		{"GET", "/members", "", 200, membersBody},
		{"POST", "/members", "", 405, wrong},
		{"PUT", "/members", "", 405, wrong},
		{"GET", "/members/promote/1", "", 405, wrong},
		{"POST", "/members/promote/x", "", 404, "member x not found in cluster\n"},
		{"POST", "/members/promote/", "", 404, "member  not found in cluster\n"},
		{"POST", "/members/promote/77", "", 404, "etcdserver: member not found\n"},
		{"POST", "/members/promote/1", "", 412, "etcdserver: can only promote a learner member\n"},
		{"GET", "/version", "", 200, `{"etcdserver":"3.7.1","etcdcluster":"not_decided","storage":"unknown"}`},
		{"POST", "/version", "", 405, wrong},
		{"GET", "/downgrade/enabled", "", 200, "false"},
		{"POST", "/downgrade/enabled", "", 405, wrong},
		{"GET", "/members/hashkv", `{"revision":3}`, 200, hashBody},
		{"GET", "/members/hashkv", `{"revision":0}`, 200, hashBody},
		{"GET", "/members/hashkv", `{"revision":2}`, 400, "etcdserver: mvcc: required revision has been compacted\n"},
		{"GET", "/members/hashkv", `{"revision":4}`, 400, "etcdserver: mvcc: required revision is a future revision\n"},
		{"GET", "/members/hashkv", `revision`, 400, "error unmarshalling request\n"},
		{"GET", "/members/hashkv", "", 400, "error unmarshalling request\n"},
		{"GET", "/members/hashkv", strings.Repeat(" ", hashBodyBytesMax+1), 413, "error reading body\n"},
		{"POST", "/members/hashkv", `{"revision":3}`, 405, wrong},
		{"GET", "/leases", "", 405, wrong},
		{"GET", "/leases/internal", "", 405, wrong},
		{"POST", "/leases", "\x08", 400, "peer: lease renewals: unexpected EOF\n"},
		{"POST", "/leases", strings.Repeat("\x08\x01", leaseBodyBytesMax/2+1), 413, "error reading body\n"},
		{"POST", "/leases/internal", strings.Repeat("\x08\x01", leaseBodyBytesMax/2+1), 413, "error reading body\n"},
		{"GET", "/", "", 404, "404 page not found\n"},
		{"GET", "/members/1", "", 404, "404 page not found\n"},
		{"GET", "/v2/members", "", 404, "404 page not found\n"},
	} {
		reply, body := f.do(t, c.method, c.path, c.body)
		if reply.StatusCode != c.status || body != c.want {
			t.Errorf("%s %s %.20q: %d %q, want %d %q", c.method, c.path, c.body, reply.StatusCode, body, c.status, c.want)
		}
		if got := reply.Header.Get("X-Etcd-Cluster-ID"); got != "c1c1" {
			t.Errorf("%s %s: cluster id %q", c.method, c.path, got)
		}
		if c.status == 405 && reply.Header.Get("Allow") == "" {
			t.Errorf("%s %s: no Allow", c.method, c.path)
		}
	}
}

// TestPromoteReplyIsTheMemberList: operations 1.10.
func TestPromoteReplyIsTheMemberList(t *testing.T) {
	f := newCluster(t, 1, long)[0]
	reply, body := f.do(t, "POST", "/members/promote/2", "")
	list, err := parseMembers([]byte(body))
	if reply.StatusCode != 200 || err != nil || len(list) != 2 || list[1].ID != 2 || list[1].IsLearner {
		t.Errorf("%d %q: %v, %v", reply.StatusCode, body, list, err)
	}
	if got := reply.Header.Get("Content-Type"); got != "application/json" {
		t.Errorf("content type %q", got)
	}
}

// TestOtherCluster: operations 1.10. Whoever asks for another cluster is refused, whatever he asks, and it is logged.
func TestOtherCluster(t *testing.T) {
	f := newCluster(t, 1, long)[0]
	for _, path := range []string{"/members", "/leases", "/nowhere"} {
		reply, body := f.do(t, "GET", path, "", "X-Etcd-Cluster-ID", "abc")
		if reply.StatusCode != 412 || body != "cluster ID mismatch\n" {
			t.Errorf("%s: %d %q", path, reply.StatusCode, body)
		}
	}
	if n := f.logs.FilterMessage("request cluster ID mismatch").Len(); n != 3 {
		t.Errorf("%d log lines", n)
	}
	if reply, _ := f.do(t, "GET", "/members", "", "X-Etcd-Cluster-ID", "c1c1"); reply.StatusCode != 200 {
		t.Errorf("same cluster: %d", reply.StatusCode)
	}
}

// TestFollowersRefuseLeases: only the leader knows.
func TestFollowersRefuseLeases(t *testing.T) {
	f := newCluster(t, 2, long)[1]
	for _, path := range []string{"/leases", "/leases/internal"} {
		reply, body := f.do(t, "POST", path, "\x08\x05")
		if reply.StatusCode != 503 || body != "etcdserver: not leader\n" {
			t.Errorf("%s: %d %q", path, reply.StatusCode, body)
		}
	}
	if f.leases.calls != 0 {
		t.Error("it looked at its own leases")
	}
}

// TestSingleRenewalIsEtcds: one renewal has the bytes of the v3 API's own messages.
func TestSingleRenewalIsEtcds(t *testing.T) {
	f := newCluster(t, 1, long)[0]
	f.leases.grant(5, 60)
	if _, body := f.do(t, "POST", "/leases", "\x08\x05"); body != "\x10\x05\x18\x3c" {
		t.Errorf("%x", body)
	}
	if _, body := f.do(t, "POST", "/leases", "\x08\x06"); body != "\x10\x06\x18\x00" {
		t.Errorf("unknown: %x", body)
	}
}

// TestErrorsTravel: each error of the table arrives as what it was, and others as their text.
func TestErrorsTravel(t *testing.T) {
	seen := map[string]bool{}
	for _, w := range wireErrors {
		text, status := errorText(fmt.Errorf("wrapped: %w", w.err))
		if text != w.text || status != w.status || textError(text+"\n") != w.err {
			t.Errorf("%v goes out as %d %q and comes back as %v", w.err, status, text, textError(text))
		}
		if seen[text] {
			t.Errorf("%q stands for two errors", text)
		}
		seen[text] = true
	}
	text, status := errorText(io.ErrShortWrite)
	if err := textError(text); status != 500 || err.Error() != "short write" {
		t.Errorf("%d %v", status, err)
	}
}

// TestHashesAreComputedOneAtATime: a hash may take a scan of everything, and the port has no other bound on how many are
// asked for.
func TestHashesAreComputedOneAtATime(t *testing.T) {
	f := newCluster(t, 1, long)[0]
	started, release := make(chan struct{}, 2), make(chan struct{})
	h := NewHandler(HandlerOptions{Member: f, Cluster: f, Lessor: f.lessor, Store: blockingStore{started, release}})
	ask := func(ctx context.Context) (status int, body string) {
		w := httptest.NewRecorder()
		h.ServeHTTP(w, httptest.NewRequestWithContext(ctx, "GET", "/members/hashkv", strings.NewReader("{}")))
		return w.Code, w.Body.String()
	}
	first := make(chan int, 1)
	go func() {
		status, _ := ask(t.Context())
		first <- status
	}()
	<-started
	gone, hangUp := context.WithCancel(t.Context())
	hangUp()
	if status, body := ask(gone); status == 200 || body != "context canceled\n" {
		t.Errorf("one who did not wait for the first got %d %q", status, body)
	}
	close(release)
	if status := <-first; status != 200 {
		t.Errorf("the first got %d", status)
	}
	if status, _ := ask(t.Context()); status != 200 {
		t.Errorf("the next got %d", status)
	}
	if len(started) != 1 {
		t.Errorf("%d more were begun, want 1", len(started))
	}
}

type blockingStore struct{ started, release chan struct{} }

func (s blockingStore) Compacted() mvcc.Revision { return -1 }

func (s blockingStore) HashKV(mvcc.Revision) (h mvcc.Hash, err error) {
	s.started <- struct{}{}
	<-s.release
	return h, nil
}
