package etcddir

import (
	"bytes"
	"errors"
	"io"
	"os"
	"path/filepath"
	"strings"
	"testing"

	pb "go.etcd.io/etcd/api/v3/etcdserverpb"
	"go.etcd.io/raft/v3/raftpb"
	"google.golang.org/protobuf/proto"
)

const (
	// fixture was left by an etcd 3.7.1 that was killed; see words for what it had been asked.
	fixture    = "testdata/etcd-3.7.1"
	fixtureWAL = "0000000000000000-0000000000000000.wal"
)

// words says in short what entries ask for.
func words(entries []*raftpb.Entry) string {
	var list []string
	for _, e := range entries {
		r := new(pb.InternalRaftRequest)
		switch err := proto.Unmarshal(e.GetData(), r); {
		case e.GetType() != raftpb.EntryType_EntryNormal:
			list = append(list, "conf")
		case err != nil:
			list = append(list, err.Error())
		case r.Put != nil:
			list = append(list, string(r.Put.Key))
		case r.DeleteRange != nil:
			list = append(list, "-"+string(r.DeleteRange.Key))
		case r.Txn != nil:
			list = append(list, "txn")
		case r.LeaseGrant != nil:
			list = append(list, "lease")
		default:
			list = append(list, ".")
		}
	}
	return strings.Join(list, " ")
}

func TestFixture(t *testing.T) {
	d, err := Open(fixture, "")
	if err != nil {
		t.Fatal(err)
	}
	s, err := d.Snapshot()
	if err != nil || s.Index != 14 || s.Term != 2 || !strings.Contains(string(s.Store), `"CurrentIndex"`) {
		t.Errorf("snapshot at %v, %v: %.60s", s.Place, err, s.Store)
	}
	log, err := d.Log(0, 0)
	if err != nil {
		t.Fatal(err)
	}
	const want = "conf . . . k1 k2 k3 k4 k5 k6 k7 k8 k9 -k1 lease txn"
	if got := words(log.Entries); got != want || log.Torn || log.MemberID == 0 || log.ClusterID == 0 {
		t.Errorf("%q, torn %v, of %x in %x; want %q", got, log.Torn, log.MemberID, log.ClusterID, want)
	}
	all := uint64(len(log.Entries))
	for after := range all + 3 {
		part, err := d.Log(after, 0)
		if err != nil || len(part.Entries) != int(max(all, after)-after) || part.Last(after) != max(all, after) {
			t.Errorf("behind %d: %d entries up to %d, %v", after, len(part.Entries), part.Last(after), err)
		}
	}
}

// TestCutAnywhere ends the log at every byte: what is left of it is read, and nothing else.
func TestCutAnywhere(t *testing.T) {
	whole, err := os.ReadFile(filepath.Join(fixture, "member", "wal", fixtureWAL))
	if err != nil {
		t.Fatal(err)
	}
	full, _ := readBytes(t, whole)
	want := words(full.Entries)
	before := 0
	for size := 0; size <= len(whole); size++ {
		log, err := readBytes(t, whole[:size])
		if err != nil {
			t.Fatalf("the first %d bytes: %v", size, err)
		}
		if n := len(log.Entries); !strings.HasPrefix(want, words(log.Entries)) || n < before || n > before+1 {
			t.Fatalf("the first %d bytes: %q after %d entries", size, words(log.Entries), before)
		}
		before = len(log.Entries)
	}
	if before != len(full.Entries) {
		t.Errorf("%d entries in all", before)
	}
}

// TestEveryBitCounts turns bits over: nothing is read that was not written.
func TestEveryBitCounts(t *testing.T) {
	whole, err := os.ReadFile(filepath.Join(fixture, "member", "wal", fixtureWAL))
	if err != nil {
		t.Fatal(err)
	}
	full, _ := readBytes(t, whole)
	found := 0
	for at := range len(whole) - 64 {
		for bit := range 8 {
			damaged := bytes.Clone(whole)
			damaged[at] ^= 1 << bit
			log, err := readBytes(t, damaged)
			switch {
			case errors.Is(err, ErrDamaged):
				found++
			case err != nil:
				t.Fatalf("byte %d: %v", at, err)
			case len(log.Entries) < len(full.Entries) && strings.HasPrefix(words(full.Entries), words(log.Entries)): // looks like its end
			case words(log.Entries) != words(full.Entries):
				t.Fatalf("byte %d, bit %d: %q", at, bit, words(log.Entries))
			}
		}
	}
	if found < 8*len(whole)/2 {
		t.Errorf("of %d bits, %d were missed", 8*len(whole), found)
	}
}

// readBytes reads one file of a log.
func readBytes(t testing.TB, b []byte) (*Log, error) {
	t.Helper()
	l := &Log{}
	r := newRecords(bytes.NewReader(b), int64(len(b)))
	for {
		rec, err := r.next()
		if err != nil {
			if l.Torn = errors.Is(err, errTorn); l.Torn || errors.Is(err, io.EOF) {
				err = l.follows(0)
			}
			return l, err
		}
		if err := l.take(rec, 0); err != nil {
			return l, r.damaged("%v", err)
		}
	}
}

// TestTornSector zeroes the sectors of a write that had not all reached the disk.
func TestTornSector(t *testing.T) {
	body := bytes.Repeat([]byte{1}, 3*sectorBytes)
	for name, c := range map[string]struct {
		from, to int
		torn     bool
	}{
		"nothing":                {0, 0, false},
		"the middle of a sector": {100, 400, false},
		"a whole sector":         {sectorBytes - 8, 2*sectorBytes - 8, true},
		"the end":                {3*sectorBytes - 8, 3 * sectorBytes, true},
	} {
		b := bytes.Clone(body)
		clear(b[c.from:c.to])
		if got := isTorn(b, frameBytes); got != c.torn {
			t.Errorf("%s: %v", name, got)
		}
	}
}

// TestReplacedEntries checks that an entry takes the place of all from its index on.
func TestReplacedEntries(t *testing.T) {
	l := &Log{}
	for _, e := range [][2]uint64{{3, 1}, {4, 1}, {5, 1}, {4, 2}, {5, 2}, {2, 3}, {3, 3}} {
		if err := l.takeEntry(&raftpb.Entry{Index: &e[0], Term: &e[1]}, 2); err != nil {
			t.Fatal(err)
		}
	}
	if len(l.Entries) != 1 || l.Entries[0].GetTerm() != 3 {
		t.Errorf("%v", l.Entries)
	}
	if err := l.takeEntry(&raftpb.Entry{Index: new(uint64(9)), Term: new(uint64(3))}, 2); err == nil {
		t.Error("a gap went unnoticed")
	}
}

// TestRefused lists what is not taken for a directory.
func TestRefused(t *testing.T) {
	if _, err := Open(t.TempDir(), ""); err == nil || !strings.Contains(err.Error(), "member/snap") {
		t.Errorf("an empty directory: %v", err)
	}
	withoutLog := t.TempDir()
	if err := os.MkdirAll(filepath.Join(withoutLog, "member", "snap"), 0o700); err != nil {
		t.Fatal(err)
	}
	if _, err := Open(withoutLog, ""); err == nil || !strings.Contains(err.Error(), "--wal-dir") {
		t.Errorf("a directory without a log: %v", err)
	}
	empty := t.TempDir()
	d, err := Open(withoutLog, empty)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := d.Log(0, 0); !errors.Is(err, ErrDamaged) {
		t.Errorf("an empty log: %v", err)
	}
	for _, name := range []string{"0000000000000000-0000000000000000.wal", "0000000000000002-0000000000000007.wal"} {
		if err := os.WriteFile(filepath.Join(empty, name), nil, 0o600); err != nil {
			t.Fatal(err)
		}
	}
	if _, err := d.Log(0, 0); !errors.Is(err, ErrDamaged) || !strings.Contains(err.Error(), "between") {
		t.Errorf("a log with a file missing: %v", err)
	}
}

// FuzzLog reads anything as a log.
func FuzzLog(f *testing.F) {
	whole, err := os.ReadFile(filepath.Join(fixture, "member", "wal", fixtureWAL))
	if err != nil {
		f.Fatal(err)
	}
	f.Add(whole)
	f.Fuzz(func(t *testing.T, b []byte) {
		log, err := readBytes(t, b)
		if err != nil {
			return
		}
		for _, e := range log.Entries {
			DecodeTreeRequest(e.GetData())
		}
	})
}
