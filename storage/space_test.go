package storage

import (
	"bytes"
	"testing"

	"github.com/cockroachdb/pebble/v2/cockroachkvs"
)

// TestPhysicalKeys pins how keys look on disk.
func TestPhysicalKeys(t *testing.T) {
	for _, c := range []struct {
		got  []byte
		want string
	}{
		{Meta.Key(nil, []byte("name")), "mname\x00"},
		{Meta.Key([]byte("x"), nil), "xm\x00"},
		{Versions.versionKey(nil, []byte("k"), Version{Main: 0x0102}), "vk\x00\x00\x00\x00\x00\x00\x00\x01\x02\x09"},
		{Versions.versionKey(nil, []byte("k\x00"), Version{Main: 1, Sub: 0x0304}), "vk\x00\x00\x00\x00\x00\x00\x00\x00\x00\x01\x00\x00\x03\x04\x0d"},
	} {
		if string(c.got) != c.want {
			t.Errorf("%q, want %q", c.got, c.want)
		}
	}
}

// FuzzKeyOrder: physical keys of versions come back as they were, and are ordered by key, then from new to old,
// behind the unversioned key.
func FuzzKeyOrder(f *testing.F) {
	f.Add([]byte("a"), int64(1), uint32(0), []byte("a"), int64(1), uint32(1))
	f.Add([]byte("a"), int64(2), uint32(0), []byte("a\x00"), int64(1), uint32(0))
	f.Add([]byte(""), int64(9), uint32(9), []byte("\x00"), int64(1<<63-1), uint32(1<<32-1))
	f.Add([]byte("k\x0d"), int64(256), uint32(7), []byte("k\x09"), int64(255), uint32(7))
	f.Fuzz(func(t *testing.T, k1 []byte, main1 int64, sub1 uint32, k2 []byte, main2 int64, sub2 uint32) {
		if main1 <= 0 || main2 <= 0 {
			return
		}
		v1, v2 := Version{main1, sub1}, Version{main2, sub2}
		p1, p2 := Versions.versionKey(nil, k1, v1), Versions.versionKey(nil, k2, v2)
		for _, p := range [][]byte{p1, p2} {
			if err := cockroachkvs.Comparer.ValidateKey.Validate(p); err != nil {
				t.Fatalf("%x: %v", p, err)
			}
		}
		if k, v := splitKey(p1); !bytes.Equal(k, k1) || v != v1 {
			t.Fatalf("%q %v became %q %v", k1, v1, k, v)
		}
		want := bytes.Compare(k1, k2)
		if want == 0 && v1 != v2 {
			if want = 1; v2.Less(v1) {
				want = -1
			}
		}
		if got := cockroachkvs.Compare(p1, p2); got != want {
			t.Fatalf("%q %v against %q %v: %d, want %d", k1, v1, k2, v2, got, want)
		}
		if bytes.Equal(p1, p2) != (want == 0) {
			t.Fatalf("%x and %x", p1, p2)
		}
		u1, u2 := Versions.Key(nil, k1), Versions.Key(nil, k2)
		if got := cockroachkvs.Compare(u1, u2); got != bytes.Compare(k1, k2) {
			t.Fatalf("unversioned %q against %q: %d", k1, k2, got)
		}
		if cockroachkvs.Compare(u1, p1) >= 0 {
			t.Fatalf("unversioned %q is not in front of its version %v", k1, v1)
		}
		if k, v := splitKey(u1); !bytes.Equal(k, k1) || v != (Version{}) {
			t.Fatalf("unversioned %q became %q %v", k1, k, v)
		}
		lo, hi := bounds(Versions, nil, nil)
		if cockroachkvs.Compare(lo, p1) > 0 || cockroachkvs.Compare(p1, hi) >= 0 || cockroachkvs.Compare(lo, u1) > 0 {
			t.Fatalf("%q is outside its space", k1)
		}
	})
}

func TestVersionOrder(t *testing.T) {
	order := []Version{{1, 0}, {1, 1}, {1, 1<<32 - 1}, {2, 0}, {2, 1}, {1<<63 - 1, 0}, VersionMax}
	for i, v := range order {
		for j, w := range order {
			if v.Less(w) != (i < j) {
				t.Errorf("%v < %v: %v", v, w, v.Less(w))
			}
		}
	}
}

func TestVersionWithoutRevisionPanics(t *testing.T) {
	defer func() {
		if recover() == nil {
			t.Error("a version of revision 0 was taken")
		}
	}()
	Versions.versionKey(nil, []byte("k"), Version{})
}
