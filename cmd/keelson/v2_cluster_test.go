package main

import (
	"encoding/json"
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"keelson/internal/testkit"
)

// TestV2Cluster: any member takes writes and answers for the same past; what was acknowledged survives the end of the leader
// and of everybody, and what runs out does so under whoever leads.
func TestV2Cluster(t *testing.T) {
	c := steady(t)
	var clients []*v2Client
	for _, p := range c.Members {
		clients = append(clients, newV2Client(t, p))
	}
	last := uint64(0)
	for i := range 30 {
		e := clients[i%3].must("PUT", fmt.Sprintf("/n/%d", i), fmt.Sprintf("value=%d", i), 0)
		if e.Node.ModifiedIndex <= last {
			t.Fatalf("write %d has index %d after %d", i, e.Node.ModifiedIndex, last)
		}
		last = e.Node.ModifiedIndex
		if got := clients[(i+1)%3].must("GET", fmt.Sprintf("/n/%d?quorum=true", i), "", 0); got.Node.value() != fmt.Sprint(i) {
			t.Errorf("read of %d: %+v", i, got.Node)
		}
	}
	// The same answer everywhere, from the present and from the past.
	clients[0].must("PUT", "/gone", "value=1&ttl=1", 0)
	awaitV2(t, clients, "/gone", 100)
	sameV2(t, clients, "/?recursive=true&quorum=true")
	sameV2(t, clients, fmt.Sprintf("/n?recursive=true&wait=true&waitIndex=%d", last-10))
	sameV2(t, clients, fmt.Sprintf("/gone?wait=true&waitIndex=%d", last+2))

	// A poll on a member that stays wakes for what is written after the leader has gone; a TTL counts on.
	clients[0].must("PUT", "/short", "value=1&ttl=2", 0)
	leader := c.Leader()
	var rest []*v2Client
	for i, p := range c.Members {
		if p != leader {
			rest = append(rest, clients[i])
		}
	}
	poll := rest[0].poll("/after?wait=true")
	leader.Kill()
	c.Leader(c.Others(leader)...)
	rest[1].must("PUT", "/after", "value=2", 0)
	if line := poll.next(time.Minute); !strings.Contains(line, `"value":"2"`) {
		t.Errorf("poll: %q", line)
	}
	awaitV2(t, rest, "/short", 100)

	// Everybody is killed; everybody comes back with all of it.
	for _, p := range c.Others(leader) {
		p.Kill()
	}
	c.Start()
	sameV2(t, clients, "/?recursive=true&quorum=true")
	for i := range 30 {
		if got := clients[i%3].must("GET", fmt.Sprintf("/n/%d?quorum=true", i), "", 0); got.Node.value() != fmt.Sprint(i) {
			t.Errorf("read of %d: %+v", i, got.Node)
		}
	}
	sameV2(t, clients, fmt.Sprintf("/n?recursive=true&wait=true&waitIndex=%d", last-10))
	c.Agree()
	removeV2(t, c, clients)
}

// removeV2 removes a member that does not lead, through another; removed twice it is gone for good.
func removeV2(t *testing.T, c *testkit.Cluster, clients []*v2Client) {
	t.Helper()
	var list struct {
		Members []struct{ ID, Name string }
	}
	leader := c.Leader()
	asked := clients[slices.Index(c.Members, leader)]
	if err := json.Unmarshal([]byte(asked.do("GET", "/v2/members", "").body), &list); err != nil || len(list.Members) != 3 {
		t.Fatalf("members: %+v, %v", list, err)
	}
	i := slices.IndexFunc(list.Members, func(m struct{ ID, Name string }) bool { return m.Name != leader.Name })
	path := "/v2/members/" + list.Members[i].ID
	refused := false
	for deadline := time.Now().Add(60 * time.Second); ; time.Sleep(200 * time.Millisecond) {
		status := asked.do("DELETE", path, "").status
		if status == 204 || refused && status == 410 { // it may have been removed although nobody was told
			break
		}
		refused = true
		if status != 500 || time.Now().After(deadline) { // for a while the members have not known each other long enough
			t.Fatalf("remove: %d", status)
		}
	}
	if again := asked.do("DELETE", path, ""); again.status != 410 || again.body != `{"message":"Member permanently removed: `+list.Members[i].ID+`"}` {
		t.Errorf("removed again: %d %s", again.status, again.body)
	}
	if err := json.Unmarshal([]byte(asked.do("GET", "/v2/members", "").body), &list); err != nil || len(list.Members) != 2 {
		t.Errorf("members after the removal: %+v, %v", list, err)
	}
}

// TestV2Switch: it is on unless it is switched off, and on every address for clients, such as the old port.
func TestV2Switch(t *testing.T) {
	p := testkit.NewProcess(t, "--enable-v2=false")
	p.Start()
	if got := newV2Client(t, p).keys("GET", "/", ""); got.status != 404 {
		t.Errorf("switched off: %d %s", got.status, got.body)
	}
	old := testkit.FreeAddress(t)
	q := testkit.NewProcess(t)
	q.ClientURL = "http://" + q.Endpoint + ",http://" + old
	q.Start()
	if !q.Says("etcdserver: published") {
		t.Error("harnesses of v2 clients wait for words that are not in the log")
	}
	c := newV2Client(t, q)
	c.must("PUT", "/a", "value=1", 0)
	c.base = "http://" + old
	if e := c.must("GET", "/a", "", 0); e.Node.value() != "1" {
		t.Errorf("on the other address: %+v", e.Node)
	}
}

// awaitV2 waits until a key is answered with an error code by everybody.
func awaitV2(t *testing.T, clients []*v2Client, path string, code int) {
	t.Helper()
	for _, c := range clients {
		for deadline := time.Now().Add(30 * time.Second); ; time.Sleep(20 * time.Millisecond) {
			if c.event(c.keys("GET", path, "").body).ErrorCode == code {
				break
			}
			if time.Now().After(deadline) {
				t.Fatalf("%s: no error %d", path, code)
			}
		}
	}
}

// sameV2 compares the members' answers to a request.
func sameV2(t *testing.T, clients []*v2Client, path string) {
	t.Helper()
	first := clients[0].keys("GET", path, "")
	for _, c := range clients[1:] {
		if got := c.keys("GET", path, ""); got.status != first.status || got.body != first.body {
			t.Errorf("%s:\n%d %s\nand\n%d %s", path, first.status, first.body, got.status, got.body)
		}
	}
}
