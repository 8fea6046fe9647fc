package v2

import (
	"encoding/json"
	"errors"
	"net/http"
	"strings"
	"testing"

	"keelson/node"
	"keelson/state"
	"keelson/state/members"
)

// sendJSON sends a body of a type.
func (s *service) sendJSON(method, path, typ, body string) *http.Response {
	s.t.Helper()
	r, err := http.NewRequest(method, s.server.URL+path, strings.NewReader(body))
	if err != nil {
		s.t.Fatal(err)
	}
	if typ != "" {
		r.Header.Set("Content-Type", typ)
	}
	return s.do(r)
}

func TestMembers(t *testing.T) {
	s := newService(t)
	const typ = "application/json"
	for _, c := range []struct {
		method, path, typ, body string
		refusal                 error
		want                    string
	}{
		{"GET", "/v2/members", "", "", nil, `200 - {"members":[{"id":"b","name":"infra1","peerURLs":["http://127.0.0.1:2380"],"clientURLs":["http://127.0.0.1:2379"]}]}`},
		{"GET", "/v2/members/", "", "", nil, `200 - {"members":[{"id":"b","name":"infra1","peerURLs":["http://127.0.0.1:2380"],"clientURLs":["http://127.0.0.1:2379"]}]}`},
		{"GET", "/v2/members/leader", "", "", nil, `200 - {"id":"b","name":"infra1","peerURLs":["http://127.0.0.1:2380"],"clientURLs":["http://127.0.0.1:2379"]}`},
		{"GET", "/v2/members/100", "", "", nil, `404 - {"message":"Not found"}`},
		{"GET", "/v2/members/foobar", "", "", nil, `404 - {"message":"Not found"}`},
		{"HEAD", "/v2/members", "", "", nil, `405 - `},
		{"POST", "/v2/members", "text/plain", "{}", nil, `415 - {"message":"Bad Content-Type text/plain, accept application/json"}`},
		{"POST", "/v2/members", typ, "bad", nil, `400 - {"message":"invalid character 'b' looking for beginning of value"}`},
		{"POST", "/v2/members", typ, `{"peerURLs":[]}`, nil, `400 - {"message":"no valid URLs given"}`},
		{"POST", "/v2/members", typ, `{"peerURLs":["http://h"]}`, nil, `400 - {"message":"URL address does not have the form \"host:port\": http://h"}`},
		{"POST", "/v2/members", typ, `{"peerURLs":["http://h:1/path"]}`, nil, `400 - {"message":"URL must not contain a path: http://h:1/path"}`},
		{"POST", "/v2/members", typ, `{"peerURLs":["ftp://h:1"]}`, nil, `400 - {"message":"URL scheme must be http, https, unix, or unixs: ftp://h:1"}`},
		{"POST", "/v2/members", "APPLICATION/json; charset=utf-8", `{"peerURLs":["http://h:1"]}`, members.ErrExists, `409 - {"message":"membership: ID exists"}`},
		{"POST", "/v2/members", typ, `{"peerURLs":["http://h:1"]}`, members.ErrPeerURLExists, `409 - {"message":"membership: peerURL exists"}`},
		{"POST", "/v2/members", typ, `{"peerURLs":["http://h:1"]}`, node.ErrUnhealthy, `500 - {"message":"Internal Server Error"}`},
		{"PUT", "/v2/members/", typ, `{"peerURLs":["http://h:1"]}`, nil, `405 - Method Not Allowed`},
		{"PUT", "/v2/members/xyz", typ, `{"peerURLs":["http://h:1"]}`, nil, `404 - {"message":"No such member: xyz"}`},
		{"PUT", "/v2/members/c", typ, `{"peerURLs":["http://h:1"]}`, nil, `404 - {"message":"No such member: c"}`},
		{"PUT", "/v2/members/0B", typ, `{"peerURLs":["http://h:1"]}`, nil, `204 - `},
		{"GET", "/v2/members", "", "", nil, `200 - {"members":[{"id":"b","name":"infra1","peerURLs":["http://h:1"],"clientURLs":["http://127.0.0.1:2379"]}]}`},
		{"DELETE", "/v2/members/", "", "", nil, `405 - Method Not Allowed`},
		{"DELETE", "/v2/members/BEEF", "", "", members.ErrNotFound, `404 - {"message":"No such member: beef"}`},
		{"DELETE", "/v2/members/beef", "", "", nil, `204 - `},
	} {
		s.change = c.refusal
		resp := s.sendJSON(c.method, c.path, c.typ, c.body)
		hasID := resp.Header.Get("X-Etcd-Cluster-Id") != ""
		if got := strings.TrimSuffix(show(t, resp), "\n"); got != c.want {
			t.Errorf("%s %s %s: %s, want %s", c.method, c.path, c.body, got, c.want)
		}
		if hasID != (c.method != "HEAD") {
			t.Errorf("%s %s: cluster id %v", c.method, c.path, hasID)
		}
	}
	s.change = nil
	resp := s.sendJSON("POST", "/v2/members", typ, `{"peerURLs":["http://b:1","http://a:1"]}`)
	var m memberJSON
	if err := json.NewDecoder(resp.Body).Decode(&m); err != nil || resp.StatusCode != 201 || m.ID == "" || m.ClientURLs == nil || m.PeerURLs[0] != "http://a:1" {
		t.Errorf("added: %d %+v, %v", resp.StatusCode, m, err)
	}
	resp.Body.Close()
}

func TestMachinesAndPaths(t *testing.T) {
	s := newService(t)
	for path, want := range map[string]string{
		"/v2/machines":    "200 - http://127.0.0.1:2379",
		"/v2/machines/":   "404 - 404 page not found",
		"/v2":             "404 - 404 page not found",
		"/v2/":            "404 - 404 page not found",
		"/v2/keysx":       "404 - 404 page not found",
		"/v2/stats/self/": "404 - 404 page not found",
		"/v2/leader":      "404 - 404 page not found",
		"/v2/auth":        "404 - 404 page not found",
	} {
		if got := strings.TrimSuffix(s.ask("GET", path, ""), "\n"); got != want {
			t.Errorf("%s: %s, want %s", path, got, want)
		}
	}
	for path, methods := range map[string]string{
		"/v2/keys/a": "HEAD,GET,PUT,POST,DELETE", "/v2/members": "GET,POST,DELETE,PUT", "/v2/machines": "GET,HEAD",
		"/v2/stats/self": "GET", "/v2/stats/leader": "GET", "/v2/stats/store": "GET", "/v2/auth/users": "GET", "/v2/auth/roles": "GET",
		"/v2/auth/users/x": "GET,PUT,DELETE", "/v2/auth/roles/x": "GET,PUT,DELETE", "/v2/auth/enable": "GET,PUT,DELETE",
	} {
		resp := s.send("PATCH", path, "")
		if got := show(t, resp); got != "405 - Method Not Allowed\n" || resp.Header.Get("Allow") != methods ||
			resp.Header.Get("Content-Type") != "text/plain; charset=utf-8" {
			t.Errorf("%s: %s %v", path, got, resp.Header)
		}
	}
}

func TestStats(t *testing.T) {
	s := newService(t)
	s.traffic = []PeerTraffic{{ID: 0xc, SentMessages: 5, ReceivedMessages: 3, SendFailures: 1}}
	s.handler.o.Stats.NoteRoundTrip(0xc, 2e6)
	s.handler.o.Stats.NoteRoundTrip(0xc, 4e6)
	if got, want := s.get(t, "/v2/stats/leader"),
		`{"leader":"b","followers":{"c":{"latency":{"current":4,"average":3,"standardDeviation":1,"minimum":2,"maximum":4},"counts":{"fail":1,"success":5}}}}`; got != want {
		t.Errorf("leader: %s", got)
	}
	s.clock.move(100e9)
	if got, want := s.get(t, "/v2/stats/self"), `{"name":"infra1","id":"b","state":"StateLeader","startTime":"2026-01-01T00:00:00Z",`+
		`"leaderInfo":{"leader":"b","uptime":"1m40s","startTime":"2026-01-01T00:00:00Z"},"recvAppendRequestCnt":3,"recvPkgRate":0.03,"sendAppendRequestCnt":5,"sendPkgRate":0.05}`; got != want {
		t.Errorf("self: %s", got)
	}
	s.ask("PUT", "/v2/keys/a", "value=1&ttl=1")
	s.ask("PUT", "/v2/keys/a/b", "value=1")
	s.ask("PUT", "/v2/keys/a?prevExist=true", "value=1&ttl=1")
	s.ask("PUT", "/v2/keys/a?prevExist=false", "value=1")
	s.ask("POST", "/v2/keys/q", "value=1")
	s.ask("PUT", "/v2/keys/a?prevValue=1", "value=2&ttl=1")
	s.ask("PUT", "/v2/keys/a?prevValue=1", "value=2")
	s.ask("DELETE", "/v2/keys/q", "")
	s.ask("DELETE", "/v2/keys/q?recursive=true", "")
	s.ask("DELETE", "/v2/keys/a?prevValue=1", "")
	s.ask("GET", "/v2/keys/a", "")
	s.ask("GET", "/v2/keys/b", "")
	s.clock.move(2e9)
	s.expire()
	s.startPoll("x", "/v2/keys/x?wait=true")
	if got, want := s.get(t, "/v2/stats/store"), `{"getsSuccess":1,"getsFail":1,"setsSuccess":1,"setsFail":1,"deleteSuccess":1,"deleteFail":1,`+
		`"updateSuccess":1,"updateFail":0,"createSuccess":1,"createFail":1,"compareAndSwapSuccess":1,"compareAndSwapFail":1,`+
		`"compareAndDeleteSuccess":0,"compareAndDeleteFail":1,"expireCount":1,"watchers":1}`; got != want {
		t.Errorf("store: %s", got)
	}
}

// What the cluster can't do is 300, with texts that clients look for; a member whose state is wrong answers nothing.
func TestFailures(t *testing.T) {
	corrupt := false
	s := newService(t, func(o *Options) { o.Corrupt = func() bool { return corrupt } })
	for err, cause := range map[error]string{
		node.ErrTimeout:               "etcdserver: request timed out",
		node.ErrTimeoutLeaderFail:     "etcdserver: request timed out, possibly due to previous leader failure",
		node.ErrTimeoutConnectionLost: "etcdserver: request timed out, possibly due to connection lost",
		node.ErrStopped:               "etcdserver: server stopped",
		node.ErrNoLeader:              "etcdserver: no leader",
		state.ErrNoSpace:              "etcdserver: mvcc: database space exceeded",
		errors.New("something else"):  "something else",
	} {
		s.fail = err
		want := `500 0 {"errorCode":300,"message":"Raft Internal Error","cause":"` + cause + `","index":0}` + "\n"
		for _, got := range []string{s.ask("PUT", "/v2/keys/a", "value=1"), s.ask("GET", "/v2/keys/a?quorum=true", "")} {
			if got != want {
				t.Errorf("%v: %s", err, got)
			}
		}
	}
	corrupt = true
	if got := s.ask("GET", "/v2/keys/a", ""); !strings.HasPrefix(got, `500 0 {"errorCode":300,`) {
		t.Errorf("corrupt: %s", got)
	}
}

// A form of more than ten megabytes is refused, and nothing of it is kept; one a little smaller is not.
func TestLargeForm(t *testing.T) {
	s := newService(t)
	if got := s.ask("PUT", "/v2/keys/a", "value="+strings.Repeat("x", 10<<20)); got !=
		`400 0 {"errorCode":210,"message":"Invalid POST form","cause":"http: POST too large","index":0}`+"\n" {
		t.Errorf("%.200s", got)
	}
	if got := s.ask("GET", "/v2/keys/a", ""); !strings.HasPrefix(got, "404 3 ") {
		t.Errorf("%.200s", got)
	}
	if got := s.ask("PUT", "/v2/keys/a", "value="+strings.Repeat("x", 10<<20-7)); !strings.HasPrefix(got, "201 4 ") {
		t.Errorf("%.200s", got)
	}
}

// A listing that does not fit into one piece is sent in pieces, and is the same JSON; HEAD knows its length.
func TestLargeListing(t *testing.T) {
	s := newService(t)
	const files = 3000
	for i := range files {
		if _, err := s.Propose(t.Context(), putOp("/big/"+strings.Repeat("d", i%7+1)+"/"+strings.Repeat("k", i%50)+hex(uint64(i)))); err != nil {
			t.Fatal(err)
		}
	}
	a := s.call(0, "GET", "/big?recursive=true", "")
	count := 0
	for _, dir := range a.Node.Nodes {
		count += len(dir.Nodes)
	}
	if count != files || len(a.body) < 2*pieceBytes || a.header.Get("Content-Length") != "" {
		t.Errorf("%d files in %d bytes, length %q", count, len(a.body), a.header.Get("Content-Length"))
	}
	resp := s.send("HEAD", "/v2/keys/big?recursive=true", "")
	resp.Body.Close()
	if resp.ContentLength != int64(len(a.body)) {
		t.Errorf("HEAD: %d, want %d", resp.ContentLength, len(a.body))
	}
}
