package v2

import (
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"strconv"
	"strings"
	"testing"
	"time"
)

// The requests of programs that were written for etcd's v2 API, in the order in which they make them.
//
// Source: v2 API specification, 15.

// answer is what clients decode.
type answer struct {
	status int
	header http.Header
	body   string

	Action    string    `json:"action"`
	Node      *wireNode `json:"node"`
	Prev      *wireNode `json:"prevNode"`
	ErrorCode int       `json:"errorCode"`
	Cause     string    `json:"cause"`
	Index     uint64    `json:"index"`
}

type wireNode struct {
	Key        string      `json:"key"`
	Value      string      `json:"value"`
	Dir        bool        `json:"dir"`
	Expiration *time.Time  `json:"expiration"`
	TTL        int64       `json:"ttl"`
	Nodes      []*wireNode `json:"nodes"`
	Modified   uint64      `json:"modifiedIndex"`
	Created    uint64      `json:"createdIndex"`
}

// call sends a request for keys that is answered with a code: 0 for success.
func (s *service) call(code int, method, path, form string) answer {
	s.t.Helper()
	resp := s.send(method, keysPrefix+path, form)
	defer resp.Body.Close()
	body, err := io.ReadAll(resp.Body)
	if err != nil {
		s.t.Fatal(err)
	}
	a := answer{status: resp.StatusCode, header: resp.Header, body: string(body)}
	if err := json.Unmarshal(body, &a); err != nil {
		s.t.Fatalf("%s %s: %q: %v", method, path, body, err)
	}
	if a.ErrorCode != code {
		s.t.Fatalf("%s %s %s: %s, want code %d", method, path, form, body, code)
	}
	return a
}

// want compares what an answer says of a node.
func (a answer) want(t testing.TB, action, key, value string) answer {
	t.Helper()
	if a.Action != action || a.Node == nil || a.Node.Key != key || a.Node.Value != value {
		t.Fatalf("%s, want %s of %s with %q", a.body, action, key, value)
	}
	return a
}

// event is the next event of a poll.
func (s *service) event(name string) answer {
	s.t.Helper()
	line := s.polls[name].line(s.t)
	a := answer{body: line}
	if err := json.Unmarshal([]byte(line), &a); err != nil {
		s.t.Fatalf("%q: %v", line, err)
	}
	return a
}

// index is X-Etcd-Index.
func (a answer) etcdIndex(t testing.TB) uint64 {
	t.Helper()
	n, err := strconv.ParseUint(a.header.Get("X-Etcd-Index"), 10, 64)
	if err != nil {
		t.Fatal(err)
	}
	return n
}

func fields(pairs ...string) string {
	v := url.Values{}
	for i := 0; i < len(pairs); i += 2 {
		v.Set(pairs[i], pairs[i+1])
	}
	return v.Encode()
}

// TestFleet: machines, jobs, units and the engine's lease (15.3).
func TestFleet(t *testing.T) {
	s := newService(t)
	const root = "/_coreos.com/fleet"
	machine := root + "/machines/m1/object"
	s.call(100, "PUT", machine+"?prevExist=true", fields("value", "{}", "ttl", "30"))
	s.call(0, "PUT", machine+"?prevExist=false", fields("value", "{}", "ttl", "30")).want(t, "create", machine, "{}")
	s.call(0, "PUT", machine+"?prevExist=true", fields("value", "{}", "ttl", "30")).want(t, "update", machine, "{}")
	s.call(0, "PUT", root+"/machines/m1/metadata/disk?", fields("value", "ssd"))
	if a := s.call(0, "GET", root+"/machines?quorum=false&recursive=true&sorted=true", ""); len(a.Node.Nodes) != 1 || len(a.Node.Nodes[0].Nodes) != 2 {
		t.Errorf("a list below a hidden directory: %s", a.body)
	}
	s.call(100, "GET", root+"/job?quorum=false&recursive=true&sorted=true", "")

	// The lease: acquired, renewed by index, taken over, released.
	lease := root + "/lease/engine-leader"
	a := s.call(0, "PUT", lease+"?prevExist=false", fields("value", `{"MachineID":"m1","Version":1}`, "ttl", "10"))
	if a.Node.TTL != 10 {
		t.Errorf("lease: %s", a.body)
	}
	s.call(105, "PUT", lease+"?prevExist=false", fields("value", "x", "ttl", "10"))
	a = s.call(0, "PUT", a.Node.Key+fmt.Sprintf("?prevIndex=%d", a.Node.Modified), fields("value", `{"MachineID":"m1","Version":1}`, "ttl", "10"))
	s.call(101, "PUT", lease+fmt.Sprintf("?prevIndex=%d", a.Node.Modified-1), fields("value", "x", "ttl", "10"))
	a = s.call(0, "PUT", lease+fmt.Sprintf("?prevIndex=%d", a.Node.Modified), fields("value", `{"MachineID":"m2","Version":1}`, "ttl", "17"))
	s.call(0, "DELETE", lease+fmt.Sprintf("?prevIndex=%d", a.Node.Modified), "").want(t, "compareAndDelete", lease, "")
	s.call(100, "PUT", root+"/engine/version?prevValue=0", fields("value", "1"))
	s.call(0, "PUT", root+"/engine/version?prevExist=false", fields("value", "1"))

	// A unit is submitted twice, scheduled, watched for, unscheduled, destroyed.
	s.call(0, "PUT", root+"/unit/abc?prevExist=false", fields("value", "[Unit]"))
	s.call(105, "PUT", root+"/unit/abc?prevExist=false", fields("value", "[Unit]"))
	job := root + "/job/hello.service"
	s.call(0, "PUT", job+"/object?", fields("value", "{}"))
	s.startPoll("jobs", keysPrefix+root+"/job?wait=true&waitIndex=0&recursive=true")
	s.call(0, "PUT", job+"/target?prevExist=false", fields("value", "m1"))
	if e := s.event("jobs"); e.Action != "create" || e.Node.Key != job+"/target" || e.Node.Value != "m1" {
		t.Errorf("watch: %s", e.body)
	}
	s.call(0, "PUT", job+"/target-state?", fields("value", "launched"))
	s.call(0, "PUT", job+"/job-state?", fields("value", "running", "ttl", "30"))
	s.call(0, "PUT", root+"/states/hello.service/m1?", fields("value", "{}", "ttl", "30"))
	if a := s.call(0, "GET", root+"/unit?quorum=true&recursive=true&sorted=false", ""); len(a.Node.Nodes) != 1 {
		t.Errorf("units: %s", a.body)
	}
	s.call(101, "DELETE", job+"/target?prevValue=m2", "")
	s.call(0, "DELETE", job+"/target?prevValue=m1", "").want(t, "compareAndDelete", job+"/target", "")
	s.call(100, "DELETE", job+"/target?prevValue=m1", "")
	s.call(0, "DELETE", job+"/job-state", "")
	s.call(0, "DELETE", root+"/states/hello.service?recursive=true", "")
	s.call(0, "DELETE", job+"?recursive=true", "")
	s.call(100, "DELETE", job+"?recursive=true", "")
}

// TestCloudFoundryStoreAdapter: its own suite's steps, through go-etcd (15.2, 15.4).
func TestCloudFoundryStoreAdapter(t *testing.T) {
	s := newService(t)
	// go-etcd's type of body, and its explicit flags.
	r, err := http.NewRequest("PUT", s.server.URL+"/v2/keys/menu/breakfast", strings.NewReader("value=waffles"))
	if err != nil {
		t.Fatal(err)
	}
	r.Header.Set("Content-Type", "application/x-www-form-urlencoded; param=value")
	if got := show(t, s.do(r)); !strings.HasPrefix(got, `201 4 {"action":"set"`) {
		t.Errorf("go-etcd's put: %s", got)
	}
	s.call(0, "GET", "/menu?quorum=true&recursive=false&sorted=false", "")
	s.call(102, "PUT", "/menu", fields("value", "x"))
	s.call(100, "DELETE", "/missing?recursive=true&dir=false", "")
	s.call(0, "DELETE", "/menu/breakfast?recursive=true&dir=false", "")
	if a := s.call(0, "GET", "/menu?quorum=true", ""); !a.Node.Dir || a.Node.Nodes != nil {
		t.Errorf("an emptied directory: %s", a.body)
	}
	// Leaves: files and empty directories, but nothing that has something in it.
	s.call(0, "PUT", "/d/f", fields("value", "1"))
	s.call(108, "DELETE", "/d?dir=true&recursive=false", "")
	s.call(0, "DELETE", "/d/f?dir=true&recursive=false", "")
	s.call(0, "DELETE", "/d?dir=true&recursive=false", "")
	// A directory's time to live.
	s.call(100, "PUT", "/ttl?dir=true&prevExist=true", fields("ttl", "5"))
	s.call(0, "PUT", "/ttl/x", fields("value", "1"))
	s.startPoll("dir", keysPrefix+"/ttl?wait=true&recursive=true")
	s.call(0, "PUT", "/ttl?dir=true&prevExist=true", fields("ttl", "5"))
	if e := s.event("dir"); e.Action != "update" || e.Node.TTL != 5 || !e.Node.Dir || e.Node.Key != "/ttl" {
		t.Errorf("a directory's time to live: %s", e.body)
	}
	s.startPoll("dir", keysPrefix+"/ttl?wait=true&recursive=true")
	s.clock.move(6 * time.Second)
	s.expire()
	if e := s.event("dir"); e.Action != "expire" || e.Prev == nil || !e.Prev.Dir {
		t.Errorf("an expired directory: %s", e.body)
	}
	// One second: readable right after the write, and gone in two.
	s.call(0, "PUT", "/short", fields("value", "1", "ttl", "1"))
	s.call(0, "GET", "/short", "")
	s.clock.move(2 * time.Second)
	s.expire()
	s.call(100, "GET", "/short", "")
	// A node is maintained: created, renewed by value, made again when it was lost, released.
	lock := "/locks/analyzer"
	s.call(0, "PUT", lock+"?prevExist=false", fields("value", "guid", "ttl", "2"))
	s.call(105, "PUT", lock+"?prevExist=false", fields("value", "guid", "ttl", "2"))
	s.call(0, "PUT", lock+"?prevValue=guid", fields("value", "guid", "ttl", "2"))
	s.call(101, "PUT", lock+"?prevValue=other", fields("value", "other", "ttl", "2"))
	s.clock.move(3 * time.Second)
	s.expire()
	s.call(100, "PUT", lock+"?prevValue=guid", fields("value", "guid", "ttl", "2"))
	s.call(0, "PUT", lock+"?prevExist=false", fields("value", "guid", "ttl", "2"))
	s.call(0, "DELETE", lock+"?prevValue=guid", "").want(t, "compareAndDelete", lock, "")
	// Every action is told, with what was there before.
	s.startPoll("all", keysPrefix+"/w?wait=true&recursive=true&stream=true")
	s.call(0, "PUT", "/w/k?prevExist=false", fields("value", "1"))
	s.call(0, "PUT", "/w/k", fields("value", "2", "ttl", "9"))
	s.call(0, "PUT", "/w/k?prevValue=2", fields("value", "3"))
	s.call(0, "DELETE", "/w/k?prevValue=3", "")
	s.call(0, "PUT", "/w/k", fields("value", "4"))
	s.call(0, "DELETE", "/w/k", "")
	for _, want := range []string{"create", "set 1", "compareAndSwap 2 9", "compareAndDelete 3", "set", "delete 4"} {
		e := s.event("all")
		got := e.Action
		if e.Prev != nil {
			got += " " + e.Prev.Value
			if e.Prev.TTL != 0 {
				got += fmt.Sprintf(" %d", e.Prev.TTL)
			}
		}
		if got != want {
			t.Errorf("event %q, want %q", got, want)
		}
	}
	// Whoever is 1003 events behind has lost the thread, and goes on from now.
	first := s.call(0, "PUT", "/far", fields("value", "x")).etcdIndex(t)
	for range 1003 {
		s.call(0, "PUT", "/far", fields("value", "x"))
	}
	s.call(401, "GET", fmt.Sprintf("/far?wait=true&recursive=true&waitIndex=%d", first), "")
	// The end of the server is noticed: the body ends.
	s.startPoll("end", keysPrefix+"/end?wait=true")
	s.hub.Close()
	if line := s.polls["end"].line(t); line != "" {
		t.Errorf("after the end: %q", line)
	}
}

// TestDiegoBBS: records swapped and deleted by index, directories pruned, retries recognised (15.4).
func TestDiegoBBS(t *testing.T) {
	s := newService(t)
	a := s.call(0, "PUT", "/v1/actual/guid/0/instance?prevExist=false", fields("value", "{1}"))
	s.call(105, "PUT", "/v1/actual/guid/0/instance?prevExist=false", fields("value", "{1}"))
	s.call(0, "GET", "/v1/actual/guid/0/instance?quorum=true", "").want(t, "get", "/v1/actual/guid/0/instance", "{1}")
	b := s.call(0, "PUT", fmt.Sprintf("/v1/actual/guid/0/instance?prevIndex=%d", a.Node.Modified), fields("value", "{2}"))
	s.call(101, "PUT", fmt.Sprintf("/v1/actual/guid/0/instance?prevIndex=%d", a.Node.Modified), fields("value", "{3}"))
	s.call(0, "PUT", "/v1/domain/cf", fields("value", "", "ttl", "120"))
	s.call(0, "PUT", "/v1/actual/guid/0/evacuating?prevExist=false", fields("value", "{e}", "ttl", "60"))
	s.call(0, "DELETE", fmt.Sprintf("/v1/actual/guid/0/instance?prevIndex=%d", b.Node.Modified), "")
	s.call(108, "DELETE", "/v1/actual/guid/0?dir=true", "")
	s.call(0, "DELETE", "/v1/actual/guid/0/evacuating", "")
	s.call(0, "DELETE", "/v1/actual/guid/0?dir=true", "")
	s.call(0, "DELETE", "/v1/actual/guid?dir=true", "")
	s.call(100, "GET", "/v1/actual/guid?recursive=true", "")
}

// TestRoutingAPI: a key with %2F in it is one component (15.4).
func TestRoutingAPI(t *testing.T) {
	s := newService(t)
	a := s.call(0, "PUT", "/routes/a.b.c%252Fpath,1.2.3.4:33?prevExist=false", fields("value", "{}", "ttl", "50"))
	if a.Node.Key != "/routes/a.b.c%2Fpath,1.2.3.4:33" || a.Node.Expiration == nil {
		t.Errorf("route: %s", a.body)
	}
	a = s.call(0, "GET", "/routes?quorum=false&recursive=true&sorted=false", "")
	if len(a.Node.Nodes) != 1 || a.Node.Nodes[0].Key != "/routes/a.b.c%2Fpath,1.2.3.4:33" {
		t.Errorf("routes: %s", a.body)
	}
}

// TestEtcdMetricsServer: numbers that have to parse (15.4).
func TestEtcdMetricsServer(t *testing.T) {
	s := newService(t)
	var store map[string]uint64
	if err := json.Unmarshal([]byte(s.get(t, "/v2/stats/store")), &store); err != nil || len(store) != 16 {
		t.Errorf("store: %v, %v", store, err)
	}
	var self struct{ State string }
	if err := json.Unmarshal([]byte(s.get(t, "/v2/stats/self")), &self); err != nil || self.State != "StateLeader" {
		t.Errorf("self: %+v, %v", self, err)
	}
	a := s.call(0, "GET", "/", "")
	for _, name := range []string{"X-Etcd-Index", "X-Raft-Index", "X-Raft-Term"} {
		if _, err := strconv.ParseUint(a.header.Get(name), 10, 64); err != nil {
			t.Errorf("%s: %v", name, err)
		}
	}
}

func (s *service) get(t testing.TB, path string) string {
	t.Helper()
	resp := s.send("GET", path, "")
	defer resp.Body.Close()
	body, err := io.ReadAll(resp.Body)
	if err != nil {
		t.Fatal(err)
	}
	return string(body)
}

// TestPatroni: election, keep-alive, configuration by version, the wait for the leader (15.5).
func TestPatroni(t *testing.T) {
	s := newService(t)
	const scope = "/service/batman"
	e := s.call(100, "GET", scope+"/?recursive=true", "")
	if e.status != 404 {
		t.Errorf("an empty cluster: %d", e.status)
	}
	// Bodies carry everything but what GET and DELETE have.
	s.call(0, "PUT", scope+"/initialize", fields("value", "6543210", "prevExist", "false"))
	s.call(105, "PUT", scope+"/initialize", fields("value", "1", "prevExist", "false"))
	s.call(0, "PUT", scope+"/leader", fields("value", "pg1", "ttl", "30", "prevExist", "false"))
	s.call(105, "PUT", scope+"/leader", fields("value", "pg2", "ttl", "30", "prevExist", "false"))
	alive := s.call(0, "PUT", scope+"/leader", fields("value", "pg1", "ttl", "30", "prevValue", "pg1")).want(t, "compareAndSwap", scope+"/leader", "pg1")
	s.call(101, "PUT", scope+"/leader", fields("value", "pg2", "ttl", "30", "prevValue", "pg2"))
	s.call(0, "PUT", scope+"/members/pg1", fields("value", `{"role":"master"}`, "ttl", "30"))
	s.call(0, "PUT", scope+"/config", fields("value", "{}", "prevIndex", "0")).want(t, "set", scope+"/config", "{}")
	config := s.call(0, "PUT", scope+"/config", fields("value", `{"ttl":30}`, "prevIndex", "0"))
	s.call(0, "PUT", scope+"/config", fields("value", "{}", "prevIndex", fmt.Sprint(config.Node.Modified)))
	s.call(101, "PUT", scope+"/config", fields("value", "{}", "prevIndex", fmt.Sprint(config.Node.Modified)))
	s.call(0, "PUT", scope+"/sync", fields("value", "{}", "prevIndex", "0"))
	s.call(0, "DELETE", scope+"/sync?prevIndex=0", "").want(t, "delete", scope+"/sync", "")
	s.call(0, "PUT", scope+"/optime/leader", fields("value", "1"))

	// The snapshot: a path with a slash at its end, keys to be cut by the directory's.
	a := s.call(0, "GET", scope+"/?recursive=true", "")
	if a.Node.Key != scope || len(a.Node.Nodes) != 5 || a.header.Get("X-Etcd-Cluster-Id") == "" {
		t.Errorf("snapshot: %s", a.body)
	}
	// The wait for the leader does not bring an older event of it, and wakes when it runs out.
	wait := max(a.etcdIndex(t), alive.Node.Modified+1)
	s.startPoll("leader", keysPrefix+scope+fmt.Sprintf("/leader?wait=true&waitIndex=%d", wait))
	if waiting := s.hub.Counts().Waiting; waiting != 1 {
		t.Fatalf("%d wait", waiting)
	}
	s.clock.move(31 * time.Second)
	s.expire()
	if e := s.event("leader"); e.Action != "expire" || e.Prev.Value != "pg1" {
		t.Errorf("leader: %s", e.body)
	}
	s.call(100, "PUT", scope+"/leader", fields("value", "pg1", "ttl", "30", "prevValue", "pg1"))
	s.call(0, "PUT", scope+"/leader", fields("value", "pg2", "ttl", "30", "prevExist", "false"))
	s.call(0, "DELETE", scope+"/leader?prevValue=pg2", "").want(t, "compareAndDelete", scope+"/leader", "")
}

// TestConfd: templates by polling and by watching (15.6).
func TestConfd(t *testing.T) {
	s := newService(t)
	s.call(100, "GET", "/app?quorum=false&recursive=true&sorted=true", "")
	s.call(0, "PUT", "/app/db/host", fields("value", "h"))
	s.call(0, "PUT", "/app/db/port", fields("value", "1"))
	a := s.call(0, "GET", "/app?quorum=true&recursive=true&sorted=true", "")
	if len(a.Node.Nodes) != 1 || len(a.Node.Nodes[0].Nodes) != 2 || a.Node.Nodes[0].Nodes[0].Key != "/app/db/host" {
		t.Errorf("values: %s", a.body)
	}
	s.startPoll("confd", keysPrefix+"/app?wait=true&waitIndex=0&recursive=true")
	s.call(0, "PUT", "/app/db/port", fields("value", "2"))
	e := s.event("confd")
	if !strings.HasPrefix(e.Node.Key, "/app/db") {
		t.Errorf("watch: %s", e.body)
	}
	s.call(0, "PUT", "/app/db/port", fields("value", "3"))
	if got := s.call(0, "GET", fmt.Sprintf("/app?wait=true&recursive=true&waitIndex=%d", e.Node.Modified+1), ""); got.Node.Value != "3" {
		t.Errorf("the next one: %s", got.body)
	}
}

// TestSkyDNS: lookups of files and directories, and the stub zones' watch with a slash at its end (15.7).
func TestSkyDNS(t *testing.T) {
	s := newService(t)
	s.call(100, "GET", "/skydns/config?quorum=false&recursive=false&sorted=false", "")
	s.call(0, "PUT", "/skydns/local/skydns/east/web/1", fields("value", `{"host":"10.0.0.1"}`, "ttl", "60"))
	s.call(0, "PUT", "/skydns/local/skydns/east/web/2", fields("value", `{"host":"10.0.0.2"}`))
	a := s.call(0, "GET", "/skydns/local/skydns/east?quorum=false&recursive=true&sorted=false", "")
	web := a.Node.Nodes[0]
	if !web.Dir || len(web.Nodes) != 2 || web.Nodes[0].TTL != 60 || web.Nodes[1].TTL != 0 {
		t.Errorf("directory: %s", a.body)
	}
	s.call(0, "GET", "/skydns/local/skydns/east/web/1?recursive=true", "").want(t, "get", "/skydns/local/skydns/east/web/1", `{"host":"10.0.0.1"}`)
	s.startPoll("stub", keysPrefix+"/skydns/local/skydns/dns/stub/?wait=true&waitIndex=0&recursive=true")
	s.call(0, "PUT", "/skydns/local/skydns/dns/stub/net/miek/ns1", fields("value", "{}"))
	if e := s.event("stub"); e.Node.Key != "/skydns/local/skydns/dns/stub/net/miek/ns1" {
		t.Errorf("stub: %s", e.body)
	}
}

// TestFlannel: leases of subnets, and the watch that begins at the index of an error (15.8).
func TestFlannel(t *testing.T) {
	s := newService(t)
	const prefix = "/coreos.com/network"
	s.call(0, "PUT", prefix+"/config", fields("value", `{"Network":"10.5.0.0/16"}`))
	s.call(0, "GET", prefix+"/config?quorum=true&recursive=false&sorted=false", "")
	missing := s.call(100, "GET", prefix+"/subnets?quorum=true&recursive=true&sorted=false", "")
	if missing.Index != missing.etcdIndex(t) || missing.Index == 0 {
		t.Errorf("cursor: %s", missing.body)
	}
	lease := prefix + "/subnets/10.5.34.0-24"
	a := s.call(0, "PUT", lease+"?prevExist=false", fields("value", `{"PublicIP":"1.2.3.4"}`, "ttl", "86400"))
	if a.Node.Expiration == nil || a.Node.TTL != 86400 {
		t.Errorf("lease: %s", a.body)
	}
	s.call(105, "PUT", lease+"?prevExist=false", fields("value", "{}", "ttl", "86400"))
	e := s.call(0, "GET", fmt.Sprintf(prefix+"/subnets?wait=true&waitIndex=%d&recursive=true", missing.Index+1), "")
	if e.Action != "create" || e.Node.Key != lease {
		t.Errorf("the first event: %s", e.body)
	}
	s.call(0, "PUT", lease, fields("value", `{"PublicIP":"1.2.3.4"}`, "ttl", "86400")).want(t, "set", lease, `{"PublicIP":"1.2.3.4"}`)
	s.call(0, "PUT", prefix+"/subnets/10.5.35.0-24", fields("value", "{}"))
	a = s.call(0, "GET", prefix+"/subnets?quorum=true&recursive=true&sorted=false", "")
	if len(a.Node.Nodes) != 2 || a.Node.Nodes[0].Expiration == nil || a.Node.Nodes[1].Expiration != nil {
		t.Errorf("leases and reservations: %s", a.body)
	}
	s.startPoll("gone", keysPrefix+fmt.Sprintf(prefix+"/subnets?wait=true&waitIndex=%d&recursive=true", a.etcdIndex(t)+1))
	s.clock.move(86401 * time.Second)
	s.expire()
	if e := s.event("gone"); e.Action != "expire" || e.Node.Key != lease || e.Prev.Value == "" {
		t.Errorf("gone: %s", e.body)
	}
}

// TestDiscovery: members of a cluster to be founded find each other below a token (14).
func TestDiscovery(t *testing.T) {
	s := newService(t)
	const token = "/_etcd/registry/6c007a14875d53d9bf0ef5a6fc0257c8"
	s.call(100, "GET", token+"/_config/size", "")
	s.call(0, "PUT", token+"/_config/size?prevExist=false", fields("value", "3"))
	s.call(105, "PUT", token+"/_config/size?prevExist=false", fields("value", "5"))
	ids := []string{"a1", "ffff", "b2"}
	for i, id := range ids {
		s.call(0, "GET", token+"/_config/size?quorum=false&recursive=false&sorted=false", "").want(t, "get", token+"/_config/size", "3")
		a := s.call(0, "GET", token+"?quorum=false&recursive=false&sorted=false", "")
		if len(a.Node.Nodes) != i {
			t.Errorf("before %s: %s", id, a.body)
		}
		a = s.call(0, "PUT", token+"/"+id+"?prevExist=false", fields("value", id+"=http://"+id+":2380"))
		s.call(105, "PUT", token+"/"+id+"?prevExist=false", fields("value", "x"))
		// What it has registered is told at once to whoever waits from that index on.
		s.call(0, "GET", fmt.Sprintf("%s/%s?wait=true&waitIndex=%d&recursive=false", token, id, a.Node.Created), "").
			want(t, "create", token+"/"+id, id+"=http://"+id+":2380")
	}
	a := s.call(0, "GET", token, "")
	created := map[string]uint64{}
	for _, n := range a.Node.Nodes {
		created[strings.TrimPrefix(n.Key, token+"/")] = n.Created
	}
	if len(created) != 3 || created["a1"] >= created["ffff"] || created["ffff"] >= created["b2"] {
		t.Errorf("order of creation: %v", created)
	}
	s.startPoll("rest", keysPrefix+fmt.Sprintf("%s?wait=true&recursive=true&waitIndex=%d", token, a.etcdIndex(t)+1))
	s.call(0, "PUT", token+"/_config/other", fields("value", "hidden"))
	s.call(0, "PUT", token+"/late?prevExist=false", fields("value", "late=http://late:2380"))
	if e := s.event("rest"); e.Node.Value != "late=http://late:2380" {
		t.Errorf("a late one: %s", e.body)
	}
	s.call(0, "DELETE", token+"?recursive=true", "")
}
