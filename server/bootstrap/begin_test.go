package bootstrap

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"reflect"
	"strings"
	"testing"
	"time"

	"keelson/state/members"
)

// All first members come to the same cluster, whatever their number.
func TestFound(t *testing.T) {
	for _, n := range []int{1, 3, 5} {
		var pairs, urls []string
		for i := range n {
			urls = append(urls, deadURL(t))
			pairs = append(pairs, fmt.Sprintf("m%d=%s", i, urls[i]))
		}
		var first Beginning
		for i := range n {
			o, _ := options(t, fmt.Sprintf("m%d", i), append(memberArgs(urls[i], pairs...), "--initial-cluster-token=tok")...)
			b, err := Begin(context.Background(), o)
			if err != nil {
				t.Fatal(err)
			}
			if want := members.ID([]string{urls[i]}, "tok", 0); b.MemberID != want || b.Joins() || len(b.Members) != n {
				t.Errorf("m%d: %+v, want id %x of %d", i, b, want, n)
			}
			if i == 0 {
				first = b
			}
			if b.ClusterID != first.ClusterID || !reflect.DeepEqual(b.Members, first.Members) {
				t.Errorf("m%d comes to %+v, m0 to %+v", i, b, first)
			}
		}
	}
}

// A member whose data is gone does not begin again under its id as long as anybody knows that it has run (known bug D11).
func TestFoundIsRefusedToOneThatHasRun(t *testing.T) {
	own := deadURL(t)
	id := members.ID([]string{own}, "etcd-cluster", 0)
	for _, c := range []struct {
		name    string
		self    Member
		refused bool
	}{
		{"published", Member{ID: id, Name: "a"}, true},
		{"published without a name", Member{ID: id, ClientURLs: []string{"http://c:1"}}, true},
		{"listed, never started", Member{ID: id}, false},
		{"not listed", Member{ID: 7, Name: "x"}, false},
	} {
		t.Run(c.name, func(t *testing.T) {
			running := startPeer(t, &peer{cluster: "77", members: membersJSON(t, c.self)})
			o, _ := options(t, "a", memberArgs(own, "a="+own, "b="+deadURL(t), "c="+running)...)
			begun := time.Now()
			b, err := Begin(context.Background(), o)
			for tries := 1; c.refused && err == nil && time.Since(begun) >= probeTimeout && tries < 5; tries++ { // the one that knows may have answered too late
				begun = time.Now()
				b, err = Begin(context.Background(), o)
			}
			if c.refused {
				failed(t, b, err, fmt.Sprintf("member %x has already been bootstrapped", id))
			} else if err != nil {
				t.Error(err)
			}
		})
	}
}

// Peers that answer nonsense, or not at all, do not keep a new member from beginning.
func TestFoundAmongSilence(t *testing.T) {
	release := make(chan struct{})
	silent := startPeer(t, http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) {
		select {
		case <-r.Context().Done():
		case <-release:
		}
	}))
	defer close(release)
	own := deadURL(t)
	nonsense := startPeer(t, &peer{cluster: "x", members: "[{]"})
	o, _ := options(t, "a", memberArgs(own, "a="+own, "b="+silent, "c="+nonsense)...)
	if _, err := Begin(context.Background(), o); err != nil {
		t.Error(err)
	}
}

func TestBeginRefusals(t *testing.T) {
	for _, c := range []struct{ name, args, want string }{
		{"name", "--initial-cluster=y=http://localhost:2380", `couldn't find local name "x" in the initial cluster configuration`},
		{"name, joining", "--initial-cluster=y=http://localhost:2380 --initial-cluster-state=existing", `couldn't find local name "x" in the initial cluster configuration`},
		{"no address", "--initial-cluster=x=y", `error setting up initial cluster: URL scheme must be http, https, unix, or unixs: y`},
		{"duplicate", "--initial-cluster=x=http://localhost:2380,b=http://localhost:2380",
			`initial cluster b=http://localhost:2380,x=http://localhost:2380 has duplicate url`},
		{"not advertised", "--initial-cluster=x=http://127.0.0.1:1",
			`--initial-cluster has x=http://127.0.0.1:1 but missing from --initial-advertise-peer-urls=http://localhost:2380 (resolved urls: "http://localhost:2380" != "http://127.0.0.1:1")`},
		{"not in the cluster", "--initial-cluster=x=http://localhost:2380 --initial-advertise-peer-urls=http://127.0.0.1:9,http://localhost:2380",
			`--initial-advertise-peer-urls has http://127.0.0.1:9 but missing from --initial-cluster=x=http://localhost:2380`},
		{"discovery and existing", "--discovery-token=t --discovery-endpoints=http://127.0.0.1:1 --initial-cluster-state=existing",
			`discovery URL should not be set when joining existing initial cluster`},
		{"alone and existing", "--initial-cluster=x=http://localhost:2380 --initial-cluster-state=existing",
			`cannot fetch cluster info from peer urls: could not retrieve cluster information from the given URLs`},
	} {
		t.Run(c.name, func(t *testing.T) {
			o, _ := options(t, "x", strings.Fields(c.args)...)
			fails(t, o, c.want)
		})
	}
	o, _ := options(t, "x", "--initial-cluster=x=http://localhost:2380")
	o.Config.Cluster.Initial = "" // as discovery leaves it
	fails(t, o, "initial cluster unset and no discovery endpoints found")
}

// A start that is called off says so, and not what it was busy with.
func TestBeginCalledOff(t *testing.T) {
	ctx, cancel := context.WithCancel(context.Background())
	cancel()
	own := deadURL(t)
	o, _ := options(t, "a", append(memberArgs(own, "a="+own, "b="+deadURL(t)), "--initial-cluster-state=existing")...)
	if b, err := Begin(ctx, o); !errors.Is(err, context.Canceled) {
		t.Errorf("%+v, %v", b, err)
	}
}
