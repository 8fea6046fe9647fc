package config

import (
	"context"
	"errors"
	"strings"
	"testing"
)

// hosts is a resolver that knows a few names.
type hosts map[string]string

func (h hosts) LookupHost(_ context.Context, host string) ([]string, error) {
	if address, ok := h[host]; ok {
		return []string{address}, nil
	}
	return nil, errors.New("no such host " + host)
}

// The ids that etcd logged when started with the same settings.
func TestIDs(t *testing.T) {
	cases := []struct {
		args            string
		member, cluster uint64
	}{
		{"", 0x8e9e05c52164694d, 0xcdf818194e3a8c32},
		{"--name m7 --initial-cluster-token tok --initial-cluster m7=http://127.0.0.1:42381,m7=http://127.0.0.1:42380 " +
			"--initial-advertise-peer-urls http://127.0.0.1:42380,http://127.0.0.1:42381", 0x6b076ac5594eac9d, 0x14f482f081399288},
	}
	for _, c := range cases {
		config, _ := mustLoad(t, machine(nil, ""), strings.Fields(c.args)...)
		f, err := config.Founding(context.Background(), hosts{}, config.Cluster.Initial, config.Cluster.InitialToken)
		if err != nil {
			t.Fatal(err)
		}
		if f.LocalID != c.member || f.ClusterID != c.cluster || len(f.Members) != 1 || f.Members[0].ID != f.LocalID {
			t.Errorf("%q: member %x, cluster %x; want %x, %x", c.args, f.LocalID, f.ClusterID, c.member, c.cluster)
		}
	}
}

func TestIDsOfThree(t *testing.T) {
	members, err := ParseInitialCluster("a=http://h:1,b=http://h:2,c=http://h:3,a=http://h:0")
	if err != nil {
		t.Fatal(err)
	}
	f := found(members, "b", "token")
	if len(f.Members) != 3 || f.Members[0].ID >= f.Members[1].ID || f.Members[1].ID >= f.Members[2].ID {
		t.Errorf("members %+v are not sorted by id", f.Members)
	}
	for _, m := range f.Members {
		if m.Name == "a" && strings.Join(m.PeerURLs, ",") != "http://h:0,http://h:1" {
			t.Errorf("addresses of a: %q", m.PeerURLs)
		}
		if m.Name == "b" && m.ID != f.LocalID {
			t.Errorf("local id %x, b's is %x", f.LocalID, m.ID)
		}
	}
	if again := found(members, "b", "other"); again.ClusterID == f.ClusterID || again.LocalID == f.LocalID {
		t.Error("the token does not take part in the ids")
	}
}

func TestFoundingRefusals(t *testing.T) {
	cases := []struct {
		name, args, want string
	}{
		{"name", "--name=x --initial-cluster=y=http://localhost:2380", `couldn't find local name "x" in the initial cluster configuration`},
		{"address missing in advertised", "--initial-cluster=default=http://127.0.0.1:1",
			`--initial-cluster has default=http://127.0.0.1:1 but missing from --initial-advertise-peer-urls=http://localhost:2380 (resolved urls: "http://localhost:2380" != "http://127.0.0.1:1")`},
		{"address missing in cluster", "--initial-cluster=default=http://localhost:2380 --initial-advertise-peer-urls=http://127.0.0.1:9,http://localhost:2380",
			`--initial-advertise-peer-urls has http://127.0.0.1:9 but missing from --initial-cluster=default=http://localhost:2380`},
		{"duplicate", "--initial-cluster=default=http://localhost:2380,b=http://localhost:2380",
			`initial cluster b=http://localhost:2380,default=http://localhost:2380 has duplicate url`},
		{"no url", "--initial-cluster=default", `URL scheme must be http, https, unix, or unixs: `},
		{"bad url", "--initial-cluster=default=foo", `URL scheme must be http, https, unix, or unixs: foo`},
	}
	for _, c := range cases {
		t.Run(c.name, func(t *testing.T) {
			config, _ := mustLoad(t, machine(nil, ""), strings.Fields(c.args)...)
			if f, err := config.Founding(context.Background(), hosts{}, config.Cluster.Initial, config.Cluster.InitialToken); err == nil || err.Error() != c.want {
				t.Errorf("%+v, %v; want %s", f, err, c.want)
			}
		})
	}
}

// Commas too many are nothing, as in etcd.
func TestInitialClusterCommas(t *testing.T) {
	got, err := ParseInitialCluster(",b=http://h:2,,a=http://h:1,b=http://h:0,")
	if text := initialClusterText(got); err != nil || text != "a=http://h:1,b=http://h:0,b=http://h:2" {
		t.Errorf("%s, %v", text, err)
	}
}

func TestFoundingResolves(t *testing.T) {
	config, _ := mustLoad(t, machine(nil, ""), "--initial-cluster=default=http://one:2380", "--initial-advertise-peer-urls=http://uno:2380")
	if _, err := config.Founding(context.Background(), hosts{"one": "10.0.0.1", "uno": "10.0.0.1"}, config.Cluster.Initial, "t"); err != nil {
		t.Errorf("two names of one address: %v", err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	cancel()
	_, err := config.Founding(ctx, hosts{"one": "10.0.0.1"}, config.Cluster.Initial, "t")
	if err == nil || err.Error() != "failed to resolve http://uno:2380 to match --initial-cluster=default=http://one:2380 (no such host uno)" {
		t.Errorf("an unknown name: %v", err)
	}
}

// Discovery leaves the initial cluster unset: whoever founds then needs one from elsewhere.
func TestFoundingOfNobody(t *testing.T) {
	config, _ := mustLoad(t, machine(nil, ""), "--discovery-srv=example.com")
	if config.Cluster.Initial != "" {
		t.Errorf("initial cluster %q", config.Cluster.Initial)
	}
	_, err := config.Founding(context.Background(), hosts{}, config.Cluster.Initial, "t")
	if err == nil || err.Error() != "initial cluster unset and no discovery endpoints found" {
		t.Errorf("got %v", err)
	}
}

func TestFoundingOfFive(t *testing.T) {
	const initial = "a=http://h:1,b=http://h:2,c=http://h:3,d=http://h:4,default=http://localhost:2380,a=http://h:0"
	config, _ := mustLoad(t, machine(nil, ""), "--initial-cluster="+initial)
	f, err := config.Founding(context.Background(), hosts{}, config.Cluster.Initial, "token")
	if err != nil {
		t.Fatal(err)
	}
	if len(f.Members) != 5 || f.Local().Name != "default" || f.Local().ID != f.LocalID {
		t.Errorf("members %+v, local %+v", f.Members, f.Local())
	}
	if got := strings.Join(f.PeerURLs(), ","); got != "http://h:0,http://h:1,http://h:2,http://h:3,http://h:4" {
		t.Errorf("peers %s", got)
	}
}

func TestSameAddresses(t *testing.T) {
	resolver := hosts{"one": "10.0.0.1", "uno": "10.0.0.1", "two": "10.0.0.2"}
	ended, cancel := context.WithCancel(context.Background())
	cancel()
	cases := []struct {
		name, a, b string
		want       bool
		failure    string
	}{
		{"literally", "http://nowhere:1,http://x:2", "http://x:2,http://nowhere:1", true, ""},
		{"resolved", "http://one:1,http://two:1", "http://10.0.0.2:1,http://uno:1", true, ""},
		{"other port", "http://one:1", "http://one:2", false, ""},
		{"other scheme", "http://one:1", "https://uno:1", false, ""},
		{"more", "http://one:1,http://two:1", "http://uno:1", false, ""},
		{"unknown", "http://nowhere:1", "http://one:1", false, "no such host nowhere"},
		{"unknown on the other side", "http://one:1", "http://nowhere:1", false, "no such host nowhere"},
		{"no url", "x", "http://one:1", false, "URL scheme must be http, https, unix, or unixs: x"},
	}
	for _, c := range cases {
		got, err := SameAddresses(ended, resolver, strings.Split(c.a, ","), strings.Split(c.b, ","))
		if got != c.want || (err == nil) != (c.failure == "") || err != nil && err.Error() != c.failure {
			t.Errorf("%s: %v, %v", c.name, got, err)
		}
	}
}
