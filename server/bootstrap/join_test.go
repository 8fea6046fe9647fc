package bootstrap

import (
	"context"
	"fmt"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"keelson/config"
)

// joining is a cluster of a (running, at a peer's URL), b (down) and this member, which was added.
type joining struct {
	a       *peer
	urls    [3]string
	members []Member
}

func newJoining(t *testing.T) *joining {
	j := &joining{a: &peer{cluster: "abc", version: "3.7.0"}}
	j.urls = [3]string{startPeer(t, j.a), deadURL(t), deadURL(t)}
	j.members = []Member{
		{ID: 11, Name: "a", PeerURLs: []string{j.urls[0]}, ClientURLs: []string{"http://a:1"}},
		{ID: 1<<63 + 12, Name: "b", PeerURLs: []string{j.urls[1]}, ClientURLs: []string{"http://b:1"}},
		{ID: 1<<63 + 13, PeerURLs: []string{j.urls[2]}},
	}
	return j
}

func (j *joining) options(t *testing.T, more ...string) Options {
	t.Helper()
	j.a.members = membersJSON(t, j.members...)
	o, _ := options(t, "c", append(append(memberArgs(j.urls[2], "a="+j.urls[0], "b="+j.urls[1], "c="+j.urls[2]),
		"--initial-cluster-state=existing"), more...)...)
	return o
}

// Ids are those of the cluster, also beyond 2^53; names in the settings do not matter.
func TestJoin(t *testing.T) {
	j := newJoining(t)
	b, err := Begin(context.Background(), j.options(t))
	if err != nil {
		t.Fatal(err)
	}
	if !b.Joins() || b.ClusterID != 0xabc || b.MemberID != 1<<63+13 {
		t.Errorf("got %+v", b)
	}
}

// Members are told apart by their addresses, not by how these are written or in which order.
func TestJoinResolves(t *testing.T) {
	j := newJoining(t)
	port := func(u string) string { return u[strings.LastIndex(u, ":")+1:] }
	j.members[1].PeerURLs = []string{"http://two:99", "http://one:" + port(j.urls[1])}
	j.members[2].PeerURLs = []string{"http://uno:" + port(j.urls[2])}
	o := j.options(t, "--initial-cluster=b=http://10.0.0.2:99,a="+j.urls[0]+",b="+j.urls[1]+",c="+j.urls[2])
	o.Resolver = dns{hosts: map[string]string{"one": "127.0.0.1", "uno": "127.0.0.1", "two": "10.0.0.2"}}
	b, err := Begin(context.Background(), o)
	if err != nil || b.MemberID != 1<<63+13 {
		t.Errorf("%+v, %v", b, err)
	}
}

func TestJoinRefusals(t *testing.T) {
	lost := func(o Options, id uint64) string {
		return fmt.Sprintf("member %x of cluster abc has run before, but there is no data of it in %s; restore the data directory, "+
			"or remove the member (member remove %x), add it again (member add) and start it with an empty data directory", id, o.Config.Member.DataDir, id)
	}
	for _, c := range []struct {
		name   string
		change func(j *joining)
		args   string
		want   func(j *joining, o Options) string
	}{
		{"nobody answers", func(j *joining) { j.a.cluster = "" }, "", func(*joining, Options) string {
			return "cannot fetch cluster info from peer urls: could not retrieve cluster information from the given URLs"
		}},
		{"a peer that knows nobody", func(j *joining) { j.members = nil }, "", func(*joining, Options) string {
			return "cannot fetch cluster info from peer urls: could not retrieve cluster information from the given URLs"
		}},
		{"was not added", func(j *joining) { j.members = j.members[:2] }, "", func(j *joining, _ Options) string {
			return fmt.Sprintf("error validating peerURLs {ClusterID:abc Members:["+
				"&{ID:b RaftAttributes:{PeerURLs:[%s] IsLearner:false} Attributes:{Name:a ClientURLs:[http://a:1]}} "+
				"&{ID:800000000000000c RaftAttributes:{PeerURLs:[%s] IsLearner:false} Attributes:{Name:b ClientURLs:[http://b:1]}}"+
				"] RemovedMemberIDs:[]}: member count is unequal", j.urls[0], j.urls[1])
		}},
		{"was added under another address", func(j *joining) { j.members[2].PeerURLs = []string{"http://127.0.0.1:1"} }, "", func(j *joining, _ Options) string {
			return fmt.Sprintf("error validating peerURLs %s: PeerURLs: no match found for existing member "+
				"(800000000000000d, [http://127.0.0.1:1]), last resolver error (<nil>)", Cluster{0xabc, j.members})
		}},
		{"learners", func(j *joining) { j.members[0].IsLearner, j.members[2].IsLearner = true, true }, "",
			func(*joining, Options) string { return "too many learner members in cluster" }},
		{"newer cluster", func(j *joining) { j.a.version = "3.8.0" }, "", func(*joining, Options) string { return "incompatible with current running cluster" }},
		{"next major version", func(j *joining) { j.a.version = "4.0.0" }, "", func(*joining, Options) string { return "incompatible with current running cluster" }},
		{"old cluster", func(j *joining) { j.a.version = "2.3.0" }, "", func(*joining, Options) string { return "incompatible with current running cluster" }},
		{"no cluster version", func(j *joining) { j.a.version = "not_decided" }, "", func(*joining, Options) string { return "incompatible with current running cluster" }},
		{"no version", func(j *joining) { j.a.version = "" }, "", func(*joining, Options) string { return "incompatible with current running cluster" }},
		{"has run before", func(j *joining) { j.members[2].Name = "c" }, "", func(j *joining, o Options) string { return lost(o, 1<<63+13) }},
		{"has run before as a learner", func(j *joining) { j.members[2].IsLearner, j.members[2].ClientURLs = true, []string{"http://c:1"} }, "",
			func(j *joining, o Options) string { return lost(o, 1<<63+13) }},
	} {
		t.Run(c.name, func(t *testing.T) {
			j := newJoining(t)
			c.change(j)
			o := j.options(t, strings.Fields(c.args)...)
			fails(t, o, c.want(j, o))
		})
	}
}

// The resolver's word stands in the refusal when an address could not be compared.
func TestJoinUnresolved(t *testing.T) {
	j := newJoining(t)
	j.members[2].PeerURLs = []string{"http://nowhere:1"}
	o := j.options(t)
	ctx, cancel := context.WithCancel(context.Background())
	cancel() // or the host would be asked for half a minute
	described, err := o.Config.Founding(context.Background(), o.Resolver, o.Config.Cluster.Initial, "")
	if err != nil {
		t.Fatal(err)
	}
	_, err = o.place(ctx, described, Cluster{0xabc, j.members})
	want := "PeerURLs: no match found for existing member (800000000000000d, [http://nowhere:1]), last resolver error (no such host nowhere)"
	if err == nil || err.Error() != want {
		t.Errorf("got %v\nwant %s", err, want)
	}
}

// A learner may join up to the limit, and an old cluster of our major version be joined.
func TestJoinAllowed(t *testing.T) {
	j := newJoining(t)
	j.members[2].IsLearner, j.a.version = true, "3.0.0"
	if _, err := Begin(context.Background(), j.options(t)); err != nil {
		t.Error(err)
	}
	j.members[0].IsLearner = true
	if _, err := Begin(context.Background(), j.options(t, "--max-learners=2")); err != nil {
		t.Error(err)
	}
}

// A peer that has not heard of this member yet does not keep it out, if another one has.
func TestJoinPastALaggingPeer(t *testing.T) {
	j := newJoining(t)
	b := &peer{cluster: "abc", version: "3.7.0"}
	j.urls[1] = startPeer(t, b)
	j.members[1].PeerURLs = []string{j.urls[1]}
	late := membersJSON(t, j.members[:2]...)
	for _, lagging := range []*peer{j.a, b} { // whichever URL comes first
		o := j.options(t)
		j.a.members, b.members = membersJSON(t, j.members...), membersJSON(t, j.members...)
		lagging.members = late
		if b, err := Begin(context.Background(), o); err != nil || b.MemberID != 1<<63+13 {
			t.Errorf("%+v, %v", b, err)
		}
	}
}

// What strangers answer is bounded and checked.
func TestClientAnswers(t *testing.T) {
	one := `[{"id":18446744073709551615,"peerURLs":["http://a:1"],"name":"n","clientURLs":[]}]`
	for _, c := range []struct {
		name string
		peer http.Handler
		want string // in the error; empty: none
	}{
		{"good", &peer{cluster: "ffffffffffffffff", members: one}, ""},
		{"no cluster id", &peer{members: one}, `cluster id ""`},
		{"bad cluster id", &peer{cluster: "xyz", members: one}, `cluster id "xyz"`},
		{"nobody", &peer{cluster: "1", members: "[]"}, "failed to get raft cluster member(s)"},
		{"no list", &peer{cluster: "1", members: "{}"}, "cannot unmarshal"},
		{"id too large", &peer{cluster: "1", members: `[{"id":18446744073709551616}]`}, "cannot unmarshal"},
		{"endless", http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
			w.Header().Set("X-Etcd-Cluster-Id", "1")
			fmt.Fprint(w, "[", strings.Repeat(" ", 2*answerBytesMax), "]")
		}), "unexpected end of JSON input"},
		{"refused", http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
			http.Error(w, "cluster ID mismatch", http.StatusPreconditionFailed)
		}), "412 Precondition Failed: cluster ID mismatch"},
	} {
		t.Run(c.name, func(t *testing.T) {
			cluster, err := NewClient(nil, nil).Cluster(context.Background(), startPeer(t, c.peer))
			switch {
			case c.want == "" && (err != nil || cluster.ID != 1<<64-1 || cluster.Members[0].ID != 1<<64-1):
				t.Errorf("%v, %v", cluster, err)
			case c.want != "" && (err == nil || !strings.Contains(err.Error(), c.want)):
				t.Errorf("got %v, want %s", err, c.want)
			}
		})
	}
}

func TestClientOverASocket(t *testing.T) {
	dir, err := os.MkdirTemp("", "") // short enough for a socket's name
	if err != nil {
		t.Fatal(err)
	}
	defer os.RemoveAll(dir)
	path := filepath.Join(dir, "peer")
	l, err := net.Listen("unix", path)
	if err != nil {
		t.Fatal(err)
	}
	s := &http.Server{Handler: &peer{version: "3.7.0"}}
	defer s.Close()
	go s.Serve(l)
	v, err := NewClient(nil, nil).Versions(context.Background(), "unix://"+path)
	if err != nil || v.Cluster != "3.7.0" || v.Server != "3.7.1" || config.APIVersion != v.Server {
		t.Errorf("%+v, %v", v, err)
	}
}
