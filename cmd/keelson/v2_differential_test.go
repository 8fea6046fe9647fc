package main

import (
	"encoding/json"
	"flag"
	"fmt"
	"math/rand/v2"
	"reflect"
	"slices"
	"strings"
	"testing"
	"time"

	"keelson/internal/testkit"
)

var (
	v2SeedFlag = flag.Uint64("v2-seed", 0, "seed of the comparison with etcd's v2 API; 0: draw one")
	v2OpsFlag  = flag.Int("v2-ops", 1500, "requests in the comparison with etcd's v2 API")
)

// v2Pair is ours beside an etcd that still has the v2 API.
type v2Pair struct {
	t            *testing.T
	ours, theirs *v2Client
	r            *rand.Rand
	polls        [][2]*v2Poll
}

func newV2Pair(t *testing.T) *v2Pair {
	testkit.Need(t, "etcd")
	seed := *v2SeedFlag
	if seed == 0 {
		seed = rand.Uint64()
	}
	t.Logf("-v2-seed=%d", seed)
	ours, theirs := testkit.NewProcess(t), testkit.NewProcess(t, "--enable-v2")
	theirs.Program = "etcd"
	ours.Start()
	theirs.Start()
	p := &v2Pair{t: t, r: rand.New(rand.NewPCG(seed, 0)), ours: newV2Client(t, ours), theirs: newV2Client(t, theirs)}
	p.settle()
	return p
}

// settle waits until both have said of themselves what they say at a start, which moves their indexes to 3.
func (p *v2Pair) settle() {
	p.t.Helper()
	for deadline := time.Now().Add(time.Minute); time.Now().Before(deadline); time.Sleep(10 * time.Millisecond) {
		a, b := p.ours.keys("GET", "/", ""), p.theirs.keys("GET", "/", "")
		if a.index() == 3 && b.index() == 3 {
			return
		}
	}
	p.t.Fatal("the indexes at the start differ")
}

// comparable is a body as a value in which what may differ does not: moments are known to be there, the order of a
// listing does not count, and of times left only that they are about the same.
func comparable(body string) any {
	var v any
	if json.Unmarshal([]byte(body), &v) != nil {
		return body
	}
	return normalV2(v)
}

func normalV2(v any) any {
	switch v := v.(type) {
	case map[string]any:
		for k, field := range v {
			switch f := field.(type) {
			case string:
				if k == "expiration" {
					_, err := time.Parse(time.RFC3339Nano, f)
					v[k] = fmt.Sprintf("a moment, %v, %v", err, strings.HasSuffix(f, "Z"))
				}
			case float64:
				if k == "ttl" { // requests of both are not made at the same moment, nor within few seconds of each other
					v[k] = float64(int64(f+5000) / 10000 * 10000)
				}
			default:
				v[k] = normalV2(field)
			}
		}
	case []any:
		for i := range v {
			v[i] = normalV2(v[i])
		}
		slices.SortFunc(v, func(a, b any) int { return strings.Compare(v2KeyOf(a), v2KeyOf(b)) })
	}
	return v
}

func v2KeyOf(v any) string {
	m, _ := v.(map[string]any)
	key, _ := m["key"].(string)
	return key
}

// both sends the same request to both and compares status, headers and body.
func (p *v2Pair) both(method, path, form string) v2Reply {
	p.t.Helper()
	a, b := p.ours.do(method, path, form), p.theirs.do(method, path, form)
	what := fmt.Sprintf("%s %s %s", method, path, form)
	if a.status != b.status || !reflect.DeepEqual(comparable(a.body), comparable(b.body)) {
		p.t.Fatalf("%s:\nours   %d %s\ntheirs %d %s", what, a.status, a.body, b.status, b.body)
	}
	for _, name := range []string{"Content-Type", "X-Etcd-Index", "Allow"} {
		if x, y := a.header.Get(name), b.header.Get(name); x != y {
			p.t.Fatalf("%s: %s is %q, theirs is %q", what, name, x, y)
		}
	}
	for _, name := range []string{"X-Etcd-Cluster-Id", "X-Raft-Index", "X-Raft-Term", "Access-Control-Allow-Origin"} {
		if x, y := a.header.Get(name), b.header.Get(name); (x == "") != (y == "") {
			p.t.Fatalf("%s: %s is %q, theirs is %q", what, name, x, y)
		}
	}
	if strings.HasSuffix(a.body, "\n") != strings.HasSuffix(b.body, "\n") {
		p.t.Fatalf("%s: newline at the end: %q, theirs %q", what, a.body, b.body)
	}
	return a
}

// v2Names: none is the beginning of another, because of the past etcd tells those who wait at /ab of the removal of /a.
var v2Names = []string{"a", "b", "c", "_h", "10", "9", "%e6%97%a5", "x%20y", "p+q", "%252F"}

func (p *v2Pair) path() string {
	path := ""
	for range p.r.IntN(4) {
		path += "/" + v2Names[p.r.IntN(len(v2Names))]
	}
	if path == "" {
		path = "/"
	} else if p.r.IntN(10) == 0 {
		path += "/"
	}
	return path
}

func (p *v2Pair) one(list ...string) string { return list[p.r.IntN(len(list))] }

// parameters draws some of those given, mostly well-formed ones.
func (p *v2Pair) parameters(index uint64, of ...string) string {
	var list []string
	for _, name := range of {
		if p.r.IntN(3) > 0 {
			continue
		}
		list = append(list, name+"="+p.value(name, index))
	}
	p.r.Shuffle(len(list), func(i, j int) { list[i], list[j] = list[j], list[i] })
	return strings.Join(list, "&")
}

func (p *v2Pair) value(name string, index uint64) string {
	if p.r.IntN(40) == 0 {
		return p.one("", "x", "-1", "1.5", "%zz", "TRUE", "18446744073709551616")
	}
	switch name {
	case "value", "prevValue":
		return p.one("1", "2", "3", "", "long+value", "%3Chtml%3E%26", "%ff%fe")
	case "ttl":
		return p.one("100000", "200000", "", "10000000")
	case "prevIndex", "waitIndex":
		return fmt.Sprint(p.r.Uint64N(index + 2))
	}
	return p.one("true", "false", "1", "0", "t", "F")
}

// step sends one random request.
func (p *v2Pair) step(index uint64) uint64 {
	join := func(path, query string) string {
		if query == "" {
			return "/v2/keys" + path
		}
		return "/v2/keys" + path + "?" + query
	}
	var reply v2Reply
	switch k := p.r.IntN(20); {
	case k < 9:
		query := p.parameters(index, "prevExist", "prevIndex", "dir", "noValueOnSuccess")
		reply = p.both("PUT", join(p.path(), query), p.parameters(index, "value", "value", "ttl", "prevValue", "refresh"))
	case k < 10:
		path := p.path()
		e := p.ours.event(p.ours.keys("GET", path, "").body)
		if e.Node == nil {
			return index
		}
		reply = p.both("PUT", join(path, fmt.Sprintf("prevIndex=%d", e.Node.ModifiedIndex)), "value=swapped")
	case k < 12:
		reply = p.both("POST", join(p.path(), p.parameters(index, "dir", "refresh")), p.parameters(index, "value", "ttl", "prevExist"))
	case k < 15:
		reply = p.both("DELETE", join(p.path(), p.parameters(index, "dir", "recursive", "prevValue", "prevIndex")), "")
	case k < 18:
		reply = p.both("GET", join(p.path(), p.parameters(index, "recursive", "sorted", "quorum", "refresh")), "")
	case k < 19:
		reply = p.both("HEAD", join(p.path(), p.parameters(index, "recursive")), "")
	default:
		p.watch(index)
		return index
	}
	return max(index, reply.index())
}

// watch begins a long poll on both; what it brings is compared at the end.
func (p *v2Pair) watch(index uint64) {
	path := p.path() + "?wait=true"
	if p.r.IntN(2) == 0 {
		path += "&recursive=true"
	}
	switch p.r.IntN(4) {
	case 0: // the past, as it is told by those who know nothing of the directories that were removed meanwhile
		path += fmt.Sprintf("&waitIndex=%d", 1+p.r.Uint64N(index+1))
	case 1:
		path += fmt.Sprintf("&waitIndex=%d", index+1+p.r.Uint64N(20))
	}
	pair := [2]*v2Poll{p.ours.poll(path), p.theirs.poll(path)}
	for _, name := range []string{"Content-Type", "X-Etcd-Index"} {
		if a, b := pair[0].header.Get(name), pair[1].header.Get(name); a != b || pair[0].status != pair[1].status {
			p.t.Fatalf("poll %s: %d, %s %q, theirs %d, %q", path, pair[0].status, name, a, pair[1].status, b)
		}
	}
	p.polls = append(p.polls, pair)
}

// compareWatches compares what came of the polls. Whoever has nothing in the end must not have got anything there either.
func (p *v2Pair) compareWatches() {
	p.t.Helper()
	time.Sleep(300 * time.Millisecond)
	got := 0
	for _, pair := range p.polls {
		a, b := nextOfBoth(pair, 0)
		if !reflect.DeepEqual(comparable(a), comparable(b)) {
			p.t.Errorf("poll %s (began at %s):\nours   %stheirs %s", pair[0].path, pair[0].header.Get("X-Etcd-Index"), a, b)
		}
		if a != "" {
			got++
		}
		pair[0].cancel()
		pair[1].cancel()
	}
	p.t.Logf("%d polls, %d with an event", len(p.polls), got)
	p.polls = nil
}

// TestV2AgreesWithEtcd sends random requests to both: answers, headers, events and indexes are the same.
func TestV2AgreesWithEtcd(t *testing.T) {
	p := newV2Pair(t)
	index := uint64(3)
	for i := range *v2OpsFlag {
		index = p.step(index)
		if i%150 == 149 {
			p.both("GET", "/v2/keys/?recursive=true", "")
			p.compareWatches()
		}
	}
	for from := int64(index); from > max(0, int64(index)-1002); from -= 11 {
		p.comparePast(uint64(from), 100*time.Millisecond)
	}
	p.both("GET", "/v2/keys/?wait=true&recursive=true&waitIndex=1", "")
}

// comparePast asks both for the first event from an index on. There may be none, of what is refreshed or new: then neither
// has one after a while.
func (p *v2Pair) comparePast(from uint64, patience time.Duration) {
	p.t.Helper()
	path := fmt.Sprintf("/?wait=true&recursive=true&waitIndex=%d", from)
	a, b := p.ours.poll(path), p.theirs.poll(path)
	x, y := nextOfBoth([2]*v2Poll{a, b}, patience)
	if a.status != b.status || !reflect.DeepEqual(comparable(x), comparable(y)) {
		p.t.Fatalf("past from %d:\nours   %d %stheirs %d %s", from, a.status, x, b.status, y)
	}
	a.cancel()
	b.cancel()
}

// nextOfBoth is the next line of each poll; empty if none comes for so long. What one has the other is waited for.
func nextOfBoth(pair [2]*v2Poll, patience time.Duration) (a, b string) {
	const sure = time.Minute
	if a = pair[0].next(patience); a != "" {
		patience = sure
	}
	if b = pair[1].next(patience); a == "" && b != "" {
		a = pair[0].next(sure)
	}
	return a, b
}

// TestV2ExpiresLikeEtcd: what runs out does so in the same order, with the same indexes and events.
func TestV2ExpiresLikeEtcd(t *testing.T) {
	p := newV2Pair(t)
	for _, set := range [][2]string{
		{"/v2/keys/d?dir=true", "ttl=6"},
		{"/v2/keys/d/child", "value=1&ttl=12"},
		{"/v2/keys/f", "value=1&ttl=6"},
		{"/v2/keys/e/_hidden", "value=1&ttl=6"},
		{"/v2/keys/g", "value=1&ttl=9"},
		{"/v2/keys/kept", "value=1&ttl=6"},
		{"/v2/keys/kept?prevExist=true", "value=2"},
	} {
		p.both("PUT", set[0], set[1])
	}
	first := p.both("GET", "/v2/keys/", "").index() + 1
	for next := first; next < first+4; next++ {
		p.comparePast(next, time.Minute)
	}
	p.both("PUT", "/v2/keys/now", "value=1&ttl=0")
	p.comparePast(first+5, time.Minute)
	p.both("GET", "/v2/keys/?recursive=true", "")
	p.both("GET", "/v2/keys/d/child", "")
}
