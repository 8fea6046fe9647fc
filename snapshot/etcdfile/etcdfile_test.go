package etcdfile

import (
	"errors"
	"os"
	"path/filepath"
	"reflect"
	"strings"
	"testing"

	"go.etcd.io/etcd/api/v3/authpb"
	pb "go.etcd.io/etcd/api/v3/etcdserverpb"
	"go.etcd.io/etcd/api/v3/mvccpb"
	"google.golang.org/protobuf/proto"
)

// fixture was saved by etcd 3.7.1: pairs compacted at 4, a tombstone, leases, a user with a role.
const fixture = "testdata/etcd-3.7.1.snapshot"

// content is everything that a Reader gives.
type content struct {
	meta     Meta
	versions []Version
	leases   []Lease
	members  []Member
	alarms   []*pb.AlarmMember
	users    []*authpb.User
	roles    []*authpb.Role
	enabled  bool
	revision uint64
}

func read(t *testing.T, path string, skipSum bool) content {
	t.Helper()
	r, err := Open(path, skipSum)
	if err != nil {
		t.Fatal(err)
	}
	defer r.Close()
	if err := r.Check(); err != nil {
		t.Error(err)
	}
	var c content
	c.meta, err = r.Meta()
	enabled, revision, authErr := r.Auth()
	c.enabled, c.revision = enabled, revision
	err = errors.Join(err, authErr,
		r.Versions(func(v Version) error { c.versions = append(c.versions, v); return nil }),
		r.Leases(func(l Lease) error { c.leases = append(c.leases, l); return nil }),
		r.Members(func(m Member) error { c.members = append(c.members, m); return nil }),
		r.Alarms(func(a *pb.AlarmMember) error { c.alarms = append(c.alarms, a); return nil }),
		r.Users(func(u *authpb.User) error { c.users = append(c.users, u); return nil }),
		r.Roles(func(role *authpb.Role) error { c.roles = append(c.roles, role); return nil }))
	if err != nil {
		t.Fatal(err)
	}
	return c
}

func write(t *testing.T, path string, c content) {
	t.Helper()
	w, err := Create(path + ".tmp")
	if err != nil {
		t.Fatal(err)
	}
	must := func(err error) {
		t.Helper()
		if err != nil {
			t.Fatal(err)
		}
	}
	must(w.PutMeta(c.meta))
	for _, v := range c.versions {
		must(w.Append(v))
	}
	for _, l := range c.leases {
		must(w.PutLease(l))
	}
	for _, m := range c.members {
		must(w.PutMember(m))
	}
	for _, a := range c.alarms {
		must(w.PutAlarm(a))
	}
	for _, u := range c.users {
		must(w.PutUser(u))
	}
	for _, r := range c.roles {
		must(w.PutRole(r))
	}
	must(w.PutAuth(c.enabled, c.revision))
	image, err := w.Finish()
	must(err)
	must(image.Save(path))
	if image.Size()%512 != 0 {
		t.Errorf("size %d", image.Size())
	}
	must(image.Close())
}

func TestFileOfEtcd(t *testing.T) {
	c := read(t, fixture, false)
	want := Meta{Index: 18, Term: 2, Voters: []uint64{6662698563040693991}, Scheduled: 4, Finished: 4, ClusterVersion: "3.7.0", Level: "3.7.0"}
	if !reflect.DeepEqual(c.meta, want) {
		t.Errorf("meta %+v", c.meta)
	}
	if len(c.versions) != 5 || !c.versions[2].Tombstone || c.versions[2].Main != 5 || string(c.versions[2].KV.Key) != "b" {
		t.Errorf("versions %v", c.versions)
	}
	if len(c.leases) != 2 || c.leases[0].TTLSeconds != 600 || c.leases[1].ID != c.versions[3].KV.Lease {
		t.Errorf("leases %v", c.leases)
	}
	if len(c.members) != 1 || c.members[0].Name != "default" || c.members[0].ID != want.Voters[0] {
		t.Errorf("members %v", c.members)
	}
	if len(c.users) != 1 || string(c.users[0].Name) != "bob" || len(c.roles) != 1 || c.enabled || c.revision != 5 {
		t.Errorf("users %v, roles %v, %v, %d", c.users, c.roles, c.enabled, c.revision)
	}
	r, err := Open(fixture, false)
	if err != nil {
		t.Fatal(err)
	}
	defer r.Close()
	s, err := r.Status()
	if err != nil {
		t.Fatal(err)
	}
	if (s != Status{Hash: 7439505, Revision: 7, Keys: 3, Bytes: 20480, Level: "3.7.0"}) { // as etcdutl 3.7.1 says
		t.Errorf("status %+v", s)
	}
	versions := int64(0)
	if err := r.Versions(func(Version) error { versions++; return nil }); err != nil {
		t.Fatal(err)
	}
	if n, err := r.VersionCount(); n != versions || err != nil {
		t.Errorf("%d versions are counted, %v, and %d come", n, err, versions)
	}
}

// TestNothing: a reader of nothing finds nothing, whatever it is asked.
func TestNothing(t *testing.T) {
	r := Nothing()
	meta, err := r.Meta()
	if err != nil || meta.Index != 0 || meta.Level != "" {
		t.Errorf("meta %+v, %v", meta, err)
	}
	status, err := r.Status()
	if err != nil || status != (Status{Revision: 1}) {
		t.Errorf("status %+v, %v", status, err)
	}
	if n, err := r.VersionCount(); n != 0 || err != nil {
		t.Errorf("%d versions, %v", n, err)
	}
	some := errors.New("there is something")
	for name, err := range map[string]error{
		"versions": r.Versions(func(Version) error { return some }), "leases": r.Leases(func(Lease) error { return some }),
		"tree": r.Tree(func(_, _ []byte) error { return some }), "check": r.Check(), "close": r.Close(),
	} {
		if err != nil {
			t.Errorf("%s: %v", name, err)
		}
	}
}

func TestRoundTrip(t *testing.T) {
	c := content{
		meta:    Meta{Index: 9, Term: 3, Voters: []uint64{1, 1 << 63}, Learners: []uint64{7}, Scheduled: 3, Finished: 2, ClusterVersion: "3.7.0", Level: Level},
		leases:  []Lease{{ID: 1, TTLSeconds: 60, RemainingSeconds: 4}, {ID: -5, TTLSeconds: 9}},
		members: []Member{{ID: 1, PeerURLs: []string{"http://a:1"}, Name: "m"}, {ID: 7, PeerURLs: []string{"http://b:1", "http://c:1"}, IsLearner: true, ClientURLs: []string{"http://d:1"}}},
		alarms:  []*pb.AlarmMember{{MemberID: 0, Alarm: pb.AlarmType_CORRUPT}},
		users:   []*authpb.User{{Name: []byte("u"), Roles: []string{"r"}, Password: []byte("x")}},
		roles:   []*authpb.Role{{Name: []byte("r"), KeyPermission: []*authpb.Permission{{Key: []byte("k"), RangeEnd: []byte{0}}}}},
		enabled: true, revision: 12,
	}
	value := make([]byte, 100<<10) // several batches
	for i := range int64(100) {
		kv := &mvccpb.KeyValue{Key: []byte{'k', byte(i)}, Value: value, CreateRevision: 2 + i/2, ModRevision: 2 + i/2, Version: 1, Lease: -i}
		c.versions = append(c.versions, Version{Main: 2 + i/2, Sub: i % 2, KV: kv})
	}
	c.versions = append(c.versions, Version{Main: 60, Tombstone: true, KV: &mvccpb.KeyValue{Key: []byte("k")}})
	path := filepath.Join(t.TempDir(), "f")
	write(t, path, c)
	got := read(t, path, false)
	if len(got.versions) != len(c.versions) {
		t.Fatalf("%d versions", len(got.versions))
	}
	for i, v := range got.versions {
		w := c.versions[i]
		if v.Main != w.Main || v.Sub != w.Sub || v.Tombstone != w.Tombstone || !proto.Equal(v.KV, w.KV) {
			t.Fatalf("version %d: %v, want %v", i, v, w)
		}
	}
	for i, u := range got.users {
		if !proto.Equal(u, c.users[i]) || !proto.Equal(got.roles[i], c.roles[i]) || !proto.Equal(got.alarms[i], c.alarms[i]) {
			t.Errorf("%v %v %v", got.users, got.roles, got.alarms)
		}
	}
	got.versions, got.users, got.roles, got.alarms = nil, nil, nil, nil
	c.versions, c.users, c.roles, c.alarms = nil, nil, nil, nil
	if !reflect.DeepEqual(got, c) {
		t.Errorf("got %+v, want %+v", got, c)
	}
}

func TestVersionsInOrder(t *testing.T) {
	w, err := Create(filepath.Join(t.TempDir(), "f"))
	if err != nil {
		t.Fatal(err)
	}
	defer w.Abort()
	kv := &mvccpb.KeyValue{Key: []byte("k")}
	for _, c := range []struct {
		main, sub int64
		fits      bool
	}{{2, 0, true}, {2, 1, true}, {2, 1, false}, {3, 0, true}, {2, 5, false}} {
		if err := w.Append(Version{Main: c.main, Sub: c.sub, KV: kv}); (err == nil) != c.fits {
			t.Errorf("%d.%d: %v", c.main, c.sub, err)
		}
	}
}

func TestSums(t *testing.T) {
	good, err := os.ReadFile(fixture)
	if err != nil {
		t.Fatal(err)
	}
	flipped := append([]byte(nil), good...)
	flipped[5000] ^= 1
	for _, c := range []struct {
		name    string
		bytes   []byte
		skip    bool
		want    string // in the error; empty: none
		damaged bool
	}{
		{"good", good, false, "", false},
		{"without a sum", good[:len(good)-32], false, "snapshot missing hash but --skip-hash-check=false", false},
		{"a copied database", good[:len(good)-32], true, "", false},
		{"flipped", flipped, false, "expected sha256 [", false},
		{"cut", good[:8192+32], false, "expected sha256 [", false},
		{"nothing like it", []byte(strings.Repeat("x", 4096)), true, "damaged", true},
		{"empty", nil, true, "", true},
	} {
		path := filepath.Join(t.TempDir(), "f")
		if err := os.WriteFile(path, c.bytes, 0o600); err != nil {
			t.Fatal(err)
		}
		r, err := Open(path, c.skip)
		if err == nil {
			r.Close()
		}
		if c.damaged && !errors.Is(err, ErrDamaged) || !c.damaged && (err == nil) != (c.want == "") || err != nil && !strings.Contains(err.Error(), c.want) {
			t.Errorf("%s: %v", c.name, err)
		}
		after, err := os.ReadFile(path)
		if err != nil || string(after) != string(c.bytes) {
			t.Errorf("%s: the file was changed (%v)", c.name, err)
		}
	}
}

// What is in a file may be anything.
func FuzzRecords(f *testing.F) {
	f.Add(appendRevision(nil, 5, 1, true), []byte("\n\x01a"))
	f.Add(appendRevision(nil, 5, 0, false), []byte("\n\x01a\x10\x02\x18\x05 \x02"))
	f.Add([]byte{0, 0, 0, 0, 0, 0, 0, 1}, appendLease(nil, Lease{ID: 1, TTLSeconds: 2}))
	f.Add([]byte("1"), []byte(`{"id":1,"peerURLs":["x"]}`))
	f.Fuzz(func(t *testing.T, key, value []byte) {
		if v, err := decodeVersion(key, value); err == nil {
			if again := appendRevision(nil, v.Main, v.Sub, v.Tombstone); string(again) != string(key) {
				t.Errorf("%x became %x", key, again)
			}
		}
		if l, err := decodeLease(key, value); err == nil {
			if again, err := decodeLease(key, appendLease(nil, l)); err != nil || again != l {
				t.Errorf("%v became %v (%v)", l, again, err)
			}
		}
		if m, err := decodeMember(key, value); err == nil && string(memberKey(m.ID)) != string(key) {
			t.Errorf("member %x under %q", m.ID, key)
		}
		_, _ = decodeAlarm(key)
	})
}
