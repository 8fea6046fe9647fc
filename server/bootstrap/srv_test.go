package bootstrap

import (
	"context"
	"net"
	"strings"
	"testing"
)

func record(target string, port uint16) *net.SRV { return &net.SRV{Target: target, Port: port} }

func TestLookUpMembers(t *testing.T) {
	hosts := map[string]string{"a.example.com": "10.0.0.1", "a.example.com.": "10.0.0.1", "b.example.com": "10.0.0.2", "c.example.com": "10.0.0.3"}
	plain := []*net.SRV{record("b.example.com.", 2380), record("a.example.com.", 2380), record("c.example.com.", 2381)}
	for _, c := range []struct {
		name, args string
		services   map[string][]*net.SRV
		want       string // the initial cluster
		err        string
	}{
		{"by address", "--initial-advertise-peer-urls=http://10.0.0.1:2380", map[string][]*net.SRV{"_etcd-server._tcp.example.com": plain},
			"0=http://b.example.com:2380,self=http://a.example.com:2380,1=http://c.example.com:2381", ""},
		{"by name", "--initial-advertise-peer-urls=http://a.example.com:2380", map[string][]*net.SRV{"_etcd-server._tcp.example.com": plain},
			"0=http://b.example.com:2380,self=http://a.example.com:2380,1=http://c.example.com:2381", ""},
		{"merged, https first", "--initial-advertise-peer-urls=https://10.0.0.1:2380", map[string][]*net.SRV{
			"_etcd-server-ssl._tcp.example.com": {record("a.example.com.", 2380)}, "_etcd-server._tcp.example.com": plain[:1]},
			"self=https://a.example.com:2380,0=http://b.example.com:2380", ""},
		{"named service", "--discovery-srv-name=foo --initial-advertise-peer-urls=http://10.0.0.1:2380", map[string][]*net.SRV{
			"_etcd-server-foo._tcp.example.com": plain[1:2], "_etcd-server._tcp.example.com": plain},
			"self=http://a.example.com:2380", ""},
		{"two of our own", "--initial-advertise-peer-urls=http://10.0.0.1:2380,http://10.0.0.1:2390", map[string][]*net.SRV{
			"_etcd-server._tcp.example.com": {record("a.example.com.", 2380), record("a.example.com.", 2390)}},
			"self=http://a.example.com:2380,self=http://a.example.com:2390", ""},
		{"unknown hosts are left out", "--initial-advertise-peer-urls=http://10.0.0.1:2380", map[string][]*net.SRV{
			"_etcd-server._tcp.example.com": {record("nowhere.example.com.", 2380), record("a.example.com.", 2380)}},
			"self=http://a.example.com:2380", ""},
		{"we are not there", "--initial-advertise-peer-urls=http://10.0.0.1:2399", map[string][]*net.SRV{"_etcd-server._tcp.example.com": plain},
			"", `cannot find local etcd member "self" in SRV records`},
		{"other scheme", "--initial-advertise-peer-urls=https://10.0.0.1:2380", map[string][]*net.SRV{"_etcd-server._tcp.example.com": plain},
			"", `cannot find local etcd member "self" in SRV records`},
		{"nothing", "", nil, "", "error setting up initial cluster: error querying DNS SRV records for _etcd-server-ssl no such service\nerror querying DNS SRV records for _etcd-server no such service"},
		{"empty", "", map[string][]*net.SRV{"_etcd-server._tcp.example.com": {}}, "",
			"error setting up initial cluster: error querying DNS SRV records for _etcd-server-ssl no such service\nSRV records _etcd-server._tcp.example.com: there are none"},
		{"own address unknown", "--initial-advertise-peer-urls=http://nowhere:1", nil, "",
			"failed to resolve --initial-advertise-peer-urls http://nowhere:1: no such host nowhere"},
	} {
		t.Run(c.name, func(t *testing.T) {
			hosts["localhost"] = "127.0.0.1"
			o, _ := options(t, "self", append(strings.Fields(c.args), "--discovery-srv=example.com")...)
			o.Resolver = dns{hosts, c.services}
			got, err := o.lookUpMembers(context.Background())
			if got != c.want || (err == nil) != (c.err == "") || err != nil && err.Error() != c.err {
				t.Errorf("got %s, %v\nwant %s, %s", got, err, c.want, c.err)
			}
		})
	}
}

// Members that find each other in DNS found the cluster that its addresses make, or join the one that runs there.
func TestBeginBySRV(t *testing.T) {
	o, _ := options(t, "self", "--discovery-srv=example.com", "--initial-advertise-peer-urls=http://10.0.0.1:2380")
	o.Resolver = dns{
		map[string]string{"a.example.com": "10.0.0.1"},
		map[string][]*net.SRV{"_etcd-server._tcp.example.com": {record("a.example.com.", 2380)}},
	}
	b, err := Begin(context.Background(), o)
	if err != nil {
		t.Fatal(err)
	}
	if b.Joins() || len(b.Members) != 1 || b.Members[0].PeerURLs[0] != "http://a.example.com:2380" || b.Members[0].ID != b.MemberID {
		t.Errorf("got %+v", b)
	}
}

func TestJoinBySRV(t *testing.T) {
	j := newJoining(t)
	o := j.options(t)
	var records []*net.SRV
	for _, u := range j.urls {
		address, err := net.ResolveTCPAddr("tcp", strings.TrimPrefix(u, "http://"))
		if err != nil {
			t.Fatal(err)
		}
		records = append(records, record("127.0.0.1.", uint16(address.Port)))
	}
	o.Config.Discovery.SRV, o.Config.Cluster.Initial = "example.com", ""
	o.Resolver = dns{services: map[string][]*net.SRV{"_etcd-server._tcp.example.com": records}}
	b, err := Begin(context.Background(), o)
	if err != nil || b.MemberID != 1<<63+13 || !b.Joins() {
		t.Errorf("%+v, %v", b, err)
	}
}
