package tree

import (
	"bytes"
	"encoding/hex"
	"os"
	"reflect"
	"strings"
	"testing"

	"keelson/command"
)

func goldenNodes() []Node {
	return []Node{
		{Path: "/a", Value: []byte("value"), Created: 4, Modified: 300},
		{Path: "/b", Value: []byte{}, Created: 1 << 63, Modified: 1<<64 - 1, Deadline: epoch + 1},
		{Path: "/c", Dir: true, Created: 7, Modified: 7},
		{Path: "/d", Dir: true, Created: 7, Modified: 9, Deadline: epoch},
	}
}

func goldenEvents() []*Event {
	n := goldenNodes()
	return []*Event{
		{Action: ActionSet, Time: epoch, Node: n[0], Prev: &Node{Path: "/a", Value: []byte("old"), Created: 2, Modified: 3}},
		{Action: ActionCreate, Time: epoch, Node: n[1]},
		{Action: ActionUpdate, Time: epoch, Refresh: true, Node: n[3], Prev: &n[3]},
		{Action: ActionExpire, Time: epoch + 5, Node: n[2], Prev: &n[2]},
	}
}

// golden holds the records of the current version; later code must still read them.
func TestGoldenRecords(t *testing.T) {
	var records [][]byte
	for _, n := range goldenNodes() {
		records = append(records, appendNode(nil, &n))
	}
	for _, e := range goldenEvents() {
		records = append(records, appendEvent(nil, e))
	}
	records = append(records, appendPosition(nil, Position{Index: 300, Floor: 2}))
	var b strings.Builder
	for _, r := range records {
		b.WriteString(hex.EncodeToString(r) + "\n")
	}
	const path = "testdata/records.v1.hex"
	if *rewriteFlag {
		if err := os.WriteFile(path, []byte(b.String()), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	golden, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	if string(golden) != b.String() {
		t.Errorf("the format has changed:\n%s", b.String())
	}
	for i, want := range goldenNodes() {
		if got, err := decodeNode(want.Path, records[i]); err != nil || !reflect.DeepEqual(got, want) {
			t.Errorf("got %+v, %v, want %+v", got, err, want)
		}
	}
	for i, want := range goldenEvents() {
		got, err := decodeEvent(want.Index(), records[len(goldenNodes())+i])
		if err != nil || printEvent(got) != printEvent(want) || got.Time != want.Time {
			t.Errorf("got %+v, %v, want %+v", got, err, want)
		}
	}
	if p, err := decodePosition(records[len(records)-1]); err != nil || p != (Position{Index: 300, Floor: 2}) {
		t.Errorf("position %+v, %v", p, err)
	}
}

func TestGoldenAccess(t *testing.T) {
	u := &User{Name: "alice", Hash: []byte("$2a$10$"), Roles: []string{"r", ""}}
	r := &Role{Name: "r", Read: []string{"/a*"}}
	a := Access{Enabled: true, Revision: 300}
	empty := &User{Name: "bob", Hash: []byte("$2a$10$"), Roles: []string{}}
	half := &Role{Name: "half", Read: []string{}, Write: []string{"/b"}}
	none := &Role{Name: "none", Write: []string{}}
	records := [][]byte{
		appendUser(nil, u), appendRole(nil, r), appendAccess(nil, a), appendUser(nil, empty), appendRole(nil, half), appendRole(nil, none),
	}
	var b strings.Builder
	for _, r := range records {
		b.WriteString(hex.EncodeToString(r) + "\n")
	}
	const path = "testdata/access.v1.hex"
	if *rewriteFlag {
		if err := os.WriteFile(path, []byte(b.String()), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	golden, err := os.ReadFile(path)
	if err != nil || string(golden) != b.String() {
		t.Errorf("the format has changed, %v:\n%s", err, b.String())
	}
	if got, err := decodeUser("alice", records[0]); err != nil || !reflect.DeepEqual(got, u) {
		t.Errorf("%+v, %v", got, err)
	}
	if got, err := decodeRole("r", records[1]); err != nil || !reflect.DeepEqual(got, r) {
		t.Errorf("%+v, %v", got, err)
	}
	if got, err := decodeAccess(records[2]); err != nil || got != a {
		t.Errorf("%+v, %v", got, err)
	}
	if got, err := decodeUser("bob", records[3]); err != nil || !reflect.DeepEqual(got, empty) {
		t.Errorf("%+v, %v", got, err)
	}
	for i, want := range []*Role{half, none} {
		if got, err := decodeRole(want.Name, records[4+i]); err != nil || !reflect.DeepEqual(got, want) {
			t.Errorf("%+v, %v", got, err)
		}
	}
	if got, err := decodeUser(RootUser, records[3]); err != nil || !reflect.DeepEqual(got.Roles, []string{RootRole}) {
		t.Errorf("the root user without a role: %+v, %v", got, err)
	}
}

func FuzzDecodeAccess(f *testing.F) {
	f.Add(appendUser(nil, &User{Hash: []byte("h"), Roles: []string{"a"}}))
	f.Add(appendRole(nil, &Role{Read: []string{"/a"}, Write: []string{"/b"}}))
	f.Add(appendRole(nil, &Role{Read: []string{}, Write: []string{"/b"}}))
	f.Add(appendAccess(nil, Access{Enabled: true, Revision: 1}))
	f.Fuzz(func(t *testing.T, b []byte) {
		if u, err := decodeUser("x", b); err == nil {
			if again, err := decodeUser("x", appendUser(nil, u)); err != nil || !reflect.DeepEqual(again, u) {
				t.Errorf("%+v became %+v, %v", u, again, err)
			}
		}
		if r, err := decodeRole("x", b); err == nil {
			if again, err := decodeRole("x", appendRole(nil, r)); err != nil || !reflect.DeepEqual(again, r) {
				t.Errorf("%+v became %+v, %v", r, again, err)
			}
		}
		if a, err := decodeAccess(b); err == nil && !bytes.Equal(appendAccess(nil, a), b) {
			t.Errorf("%x became %+v", b, a)
		}
	})
}

func TestPathsInKeys(t *testing.T) {
	for _, path := range []string{"/a", "/a/b", "/\x00", "/\x01", "/\x00\x01/\x01\x00", "/\x02", "/ü/日", "/\xff/\xfe"} {
		if got := decodePath(appendPath(nil, path)); got != path {
			t.Errorf("%q became %q", path, got)
		}
	}
	if len(appendPath(nil, Root)) != 0 {
		t.Errorf("the root has a key")
	}
}

func TestCheckPath(t *testing.T) {
	for path, ok := range map[string]bool{
		"/": true, "/a": true, "/a/b": true, "/.a": true, "/a./...": true, "/ ": true, "/a\x00": true,
		"": false, "a": false, "//": false, "/a/": false, "/a//b": false, "/.": false, "/a/..": false, "/../a": false,
		strings.Repeat("/a", DepthMax): true, strings.Repeat("/a", DepthMax+1): false,
		"/" + strings.Repeat("a", PathBytesMax-1): true, "/" + strings.Repeat("a", PathBytesMax): false,
	} {
		if got := CheckPath(path); (got == "") != ok {
			t.Errorf("%.40q: %q", path, got)
		}
	}
}

// What the window holds is what the newest thousand indexes say, whatever became of the nodes.
func TestWindow(t *testing.T) {
	f := newForest(t)
	for range HistorySize + 200 {
		f.apply(&command.TreePut{Path: "/k", Value: []byte("v")})
	}
	v := f.view()
	defer v.Close()
	p := v.Position()
	if p.Index != 3+HistorySize+200 || p.Oldest() != p.Index-999 {
		t.Fatalf("%+v, oldest %d", p, p.Oldest())
	}
	count := uint64(0)
	refusal, err := v.Events(p.Oldest(), func(e *Event) bool {
		if e.Index() != p.Oldest()+count {
			t.Fatalf("event %d at %d", e.Index(), count)
		}
		count++
		return true
	})
	if refusal != nil || err != nil || count != HistorySize {
		t.Errorf("%v, %v, %d events", refusal, err, count)
	}
	refusal, _ = v.Events(p.Oldest()-1, func(*Event) bool { return true })
	if refusal == nil || refusal.Code != CodeOutdated || refusal.Cause != "the requested history has been cleared [204/203]" || refusal.Index != 1203 {
		t.Errorf("%+v", refusal)
	}
	if refusal, err := v.Events(p.Index+1, func(*Event) bool { t.Error("an event of the future"); return false }); refusal != nil || err != nil {
		t.Error(refusal, err)
	}
}

// A young tree accepts every index, and one that came from elsewhere those it has.
func TestOldest(t *testing.T) {
	for _, c := range []struct {
		p    Position
		want uint64
	}{
		{Position{}, 1}, {Position{Index: 999}, 1}, {Position{Index: 1000}, 1}, {Position{Index: 1001}, 2},
		{Position{Index: 500, Floor: 400}, 400}, {Position{Index: 5000, Floor: 400}, 4001},
	} {
		if got := c.p.Oldest(); got != c.want {
			t.Errorf("%+v: %d, want %d", c.p, got, c.want)
		}
	}
}

// A large directory goes in one go; deadlines below it mean nothing any more, also not for nodes made there later.
func TestLargeDirectory(t *testing.T) {
	f := newForest(t)
	const size = 3 * clearMax
	var ops []command.Op
	for i := range size {
		ops = append(ops, &command.TreePut{Path: join("/big/d", padded(uint64(i))), Deadline: f.now + second})
	}
	ops = append(ops, &command.TreePut{Path: "/bigger", Value: []byte("stays")})
	f.apply(ops...)
	index := f.p.Position.Index
	e, refusal, events := f.apply(&command.TreeDelete{Path: "/big", Recursive: true})
	if refusal != nil || len(events) != 1 || e.Index() != index+1 || !e.Node.Dir {
		t.Fatalf("%v, %d events", refusal, len(events))
	}
	again := join("/big/d", padded(size-1))
	f.apply(&command.TreePut{Path: again, Value: []byte("new"), Deadline: f.now + 5*second})
	if got, want := f.list(Root, true), 5; strings.Count(got, "\n") != want+2 {
		t.Errorf("left:\n%s", got)
	}
	f.now += 2 * second
	index = f.p.Position.Index
	for range 4 {
		f.apply(&command.TreeExpire{Stamp: f.now, Limit: 1000})
	}
	if f.p.Position.Index != index {
		t.Errorf("expired what is gone: index %d, was %d", f.p.Position.Index, index)
	}
	if deadline, ok, err := f.table.earliestOf(f.db); err != nil || !ok || deadline != epoch+5*second {
		t.Errorf("due %d %v %v", deadline, ok, err)
	}
	f.now += 4 * second
	if _, _, events := f.apply(&command.TreeExpire{Stamp: f.now, Limit: 1000}); len(events) != 1 || events[0].Node.Path != again {
		t.Errorf("%d events", len(events))
	}
}

// The bound of deadlines rises with what is done, and falls when an earlier deadline comes.
func TestDueFollows(t *testing.T) {
	f := newForest(t)
	due := func(want int64) {
		t.Helper()
		got, ok, err := f.table.earliestOf(f.db)
		if err != nil || ok != (want != 0) || ok && got != want {
			t.Errorf("due %d %v %v, want %d", got, ok, err, want)
		}
	}
	put := func(path string, deadline int64) { f.apply(&command.TreePut{Path: path, Deadline: deadline}) }
	due(0)
	put("/a", epoch+9*second)
	due(epoch + 9*second)
	put("/b", epoch+3*second)
	due(epoch + 3*second)
	put("/b", epoch+20*second)
	due(epoch + 9*second)
	put("/c", epoch+second)
	put("/c", 0)
	due(epoch + 9*second)
	f.apply(&command.TreeDelete{Path: "/a"}, &command.TreeDelete{Path: "/b"})
	due(0)
	put("/z", epoch)
	due(epoch)
}

func TestTTLIsRoundedUp(t *testing.T) {
	for _, c := range []struct{ deadline, now, want int64 }{
		{0, epoch, 0}, {epoch + 5*second, epoch, 5}, {epoch + 5*second, epoch + 1, 5}, {epoch + 5*second, epoch + second, 4},
		{epoch + 1, epoch, 1}, {epoch, epoch, 0}, {epoch, epoch + second/2, 0}, {epoch, epoch + second, -1}, {epoch, epoch + 2*second - 1, -1},
	} {
		n := Node{Deadline: c.deadline}
		if got := n.TTLSeconds(c.now); got != c.want {
			t.Errorf("%+v: %d", c, got)
		}
	}
}

func FuzzDecodeNode(f *testing.F) {
	for _, n := range goldenNodes() {
		f.Add(appendNode(nil, &n))
	}
	f.Fuzz(func(t *testing.T, b []byte) {
		n, err := decodeNode("/x", b)
		if err != nil {
			return
		}
		again, err := decodeNode("/x", appendNode(nil, &n))
		if err != nil || printNode(&again, 0) != printNode(&n, 0) {
			t.Fatalf("%x became %+v, then %+v, %v", b, n, again, err)
		}
	})
}

func FuzzDecodeEvent(f *testing.F) {
	for _, e := range goldenEvents() {
		f.Add(e.Index(), appendEvent(nil, e))
	}
	f.Fuzz(func(t *testing.T, index uint64, b []byte) {
		e, err := decodeEvent(index, b)
		if err != nil {
			return
		}
		encoded := appendEvent(nil, e)
		again, err := decodeEvent(index, encoded)
		if err != nil || !bytes.Equal(appendEvent(nil, again), encoded) {
			t.Fatalf("%x became %+v, then %+v, %v", b, e, again, err)
		}
	})
}
