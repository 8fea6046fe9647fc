package storage

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"hash/crc32"
	"os"
	"slices"
	"strings"
	"testing"

	"github.com/cockroachdb/pebble/v2"
	"github.com/cockroachdb/pebble/v2/vfs"
)

// withManifest makes a database whose manifest has several records, and returns the name of that and what is in it.
func withManifest(t *testing.T, dir string, flushes int) (fs *vfs.MemFS, name string, data []byte) {
	t.Helper()
	fs = vfs.NewMem()
	db := openTest(t, fs, Options{Dir: dir, Manual: true})
	for i := range flushes {
		commit(t, db, func(b *Batch) { b.Set('p', fmt.Appendf(nil, "key %d", i), bytes.Repeat([]byte("v"), 100)) })
		if err := db.Flush(); err != nil {
			t.Fatal(err)
		}
	}
	closeTest(t, db)
	at, err := pebble.Peek(dir, fs)
	if err != nil {
		t.Fatal(err)
	}
	if data, err = readManifest(fs, at.ManifestFilename); err != nil {
		t.Fatal(err)
	}
	return fs, at.ManifestFilename, data
}

// records are where the records of a manifest begin, and where it ends.
func records(t *testing.T, data []byte) (begin []int) {
	t.Helper()
	for at := 0; at < len(data); {
		kind, n := chunkAt(data, at)
		if kind != chunkFull {
			t.Fatalf("chunk of kind %d at %d", kind, at)
		}
		begin = append(begin, at)
		at += n
	}
	return append(begin, len(data))
}

func overwrite(t *testing.T, fs vfs.FS, name string, data []byte) {
	t.Helper()
	f, err := fs.Create(name, vfs.WriteCategoryUnspecified)
	if err != nil {
		t.Fatal(err)
	}
	_, err = f.Write(bytes.Clone(data))
	if err := errors.Join(err, f.Sync(), f.Close()); err != nil {
		t.Fatal(err)
	}
}

// A bit that turns anywhere in the manifest is found, and Pebble gets no chance to remove what it then has not heard of.
func TestFlippedManifest(t *testing.T) {
	fs, name, data := withManifest(t, "db", 6)
	before, err := fs.List("db")
	if err != nil {
		t.Fatal(err)
	}
	for at := range data {
		flipped := bytes.Clone(data)
		flipped[at] ^= 1 << (at % 8)
		overwrite(t, fs, name, flipped)
		db, err := Open(Options{FS: fs, Dir: "db", MustExist: true, Manual: true})
		if err == nil {
			closeTest(t, db)
		}
		after, _ := fs.List("db")
		slices.Sort(before)
		slices.Sort(after)
		if !errors.Is(err, ErrDamaged) || !strings.Contains(err.Error(), "MANIFEST") || !slices.Equal(before, after) {
			t.Fatalf("byte %d of %d flipped: %v; files %q, then %q", at, len(data), err, before, after)
		}
	}
	overwrite(t, fs, name, data)
	closeTest(t, openTest(t, fs, Options{Dir: "db", MustExist: true}))
}

// A last record that a crash has torn is none, and the database opens as it was before that.
func TestTornManifest(t *testing.T) {
	fs, name, data := withManifest(t, "db", 6)
	begin := records(t, data)
	last := begin[len(begin)-2]
	torn := [][]byte{data[:last]}
	for end := last; end < len(data); end++ {
		torn = append(torn, data[:end], append(bytes.Clone(data[:end]), make([]byte, sectorBytes)...))
	}
	if len(torn) < 50 {
		t.Fatalf("the last record has %d bytes", len(data)-last)
	}
	for i, b := range torn {
		if at, ok := soundManifest(b, 1); !ok {
			t.Fatalf("case %d, %d bytes of %d: the record at %d is no torn one", i, len(b), len(data), at)
		}
	}
	overwrite(t, fs, name, data[:last+10])
	db := openTest(t, fs, Options{Dir: "db", MustExist: true})
	it, err := db.Iter('p', nil, nil)
	if got := list(t, it, err); len(got) != 5 {
		t.Errorf("%q", got)
	}
	closeTest(t, db)
}

// What the marker names has its first records whole: one in the manifest that a database begins with, two in each later one, the
// second of which may be all that names a table. A crash tears none of these; what is behind them it may.
func TestTornAmongTheFirstRecords(t *testing.T) {
	fs, name, data := withManifest(t, "db", 1)
	if recordsAtFirst(name) != 1 {
		t.Fatalf("a database begins with %s", name)
	}
	begin := records(t, data)
	for end := begin[1]; end < len(data); end++ {
		if at, ok := soundManifest(data[:end], 1); !ok {
			t.Errorf("%d bytes of %d: the record at %d is no torn one", end, len(data), at)
		}
	}
	overwrite(t, fs, name, data[:begin[1]+10])
	db := openTest(t, fs, Options{Dir: "db", MustExist: true, Manual: true})
	it, err := db.Iter('p', nil, nil)
	if got := list(t, it, err); len(got) != 0 {
		t.Errorf("%q, of which no record tells", got)
	}
	commit(t, db, func(b *Batch) { b.Set('p', []byte("flushed"), []byte("v")) })
	if err := db.Flush(); err != nil { // begins a manifest
		t.Fatal(err)
	}
	closeTest(t, db)

	at, err := pebble.Peek("db", fs)
	if err != nil {
		t.Fatal(err)
	}
	name = at.ManifestFilename
	if data, err = readManifest(fs, name); err != nil {
		t.Fatal(err)
	}
	begin = records(t, data)
	if recordsAtFirst(name) != 2 || len(begin) < 3 {
		t.Fatalf("%s has its records at %d", name, begin)
	}
	before, err := fs.List("db")
	if err != nil {
		t.Fatal(err)
	}
	for end := begin[1]; end < begin[2]; end++ {
		for _, b := range [][]byte{data[:end], append(bytes.Clone(data[:end]), make([]byte, begin[2]-end)...)} {
			overwrite(t, fs, name, b)
			db, err := Open(Options{FS: fs, Dir: "db", MustExist: true, Manual: true})
			if err == nil {
				closeTest(t, db)
			}
			if after, _ := fs.List("db"); !errors.Is(err, ErrDamaged) || len(after) != len(before) {
				t.Fatalf("%d bytes of %d, then %d zeros: %v; files %q, then %q", end, begin[2], len(b)-end, err, before, after)
			}
		}
	}
	overwrite(t, fs, name, data)
	db = openTest(t, fs, Options{Dir: "db", MustExist: true})
	it, err = db.Iter('p', nil, nil)
	if got := list(t, it, err); len(got) != 1 {
		t.Errorf("%q", got)
	}
	closeTest(t, db)
}

// Records of more than one chunk, in more than one block: whatever part of them is lost with the sectors that it was in, the
// rest stands; whatever bit turns is found.
func TestManifestOfSeveralBlocks(t *testing.T) {
	var data []byte
	var begin []int
	for i := range 9 {
		begin = append(begin, len(data))
		data = appendRecord(data, bytes.Repeat([]byte{byte(i + 1), 0xfe}, 4000+1111*i))
	}
	if len(data) < 2*manifestBlockBytes {
		t.Fatal(len(data))
	}
	if at, ok := soundManifest(data, 1); !ok {
		t.Fatalf("the record at %d", at)
	}
	for at := 0; at < len(data); at += 131 {
		b := bytes.Clone(data)
		b[at] ^= 0x20
		if got, ok := soundManifest(b, 1); ok || got > at {
			t.Errorf("byte %d flipped: the record at %d, %t", at, got, ok)
		}
	}
	last := begin[len(begin)-1]
	for s := last / sectorBytes * sectorBytes; s < len(data); s += sectorBytes {
		b := bytes.Clone(data)
		clear(b[max(s, last):min(s+sectorBytes, len(b))])
		if at, ok := soundManifest(b, 1); !ok {
			t.Errorf("the sector at %d was lost: the record at %d", s, at)
		}
		if at, ok := soundManifest(data[:max(s, last)], 1); !ok {
			t.Errorf("the rest from %d on was lost: the record at %d", s, at)
		}
	}
	for i, from := range begin[:len(begin)-1] { // what was synced is never lost
		b := bytes.Clone(data)
		clear(b[from : from+sectorBytes])
		if at, ok := soundManifest(b, 1); ok || at != from {
			t.Errorf("record %d lost: the record at %d, %t", i, at, ok)
		}
	}
	for _, b := range [][]byte{nil, data[:5], data[:begin[1]-1], make([]byte, 100)} {
		if _, ok := soundManifest(b, 1); ok {
			t.Errorf("a manifest of %d bytes is sound", len(b))
		}
	}
}

// appendRecord writes a record the way Pebble does.
func appendRecord(data, payload []byte) []byte {
	for first := true; ; first = false {
		left := manifestBlockBytes - len(data)%manifestBlockBytes
		if left < manifestHeaderBytes {
			data = append(data, make([]byte, left)...)
			continue
		}
		n := min(left-manifestHeaderBytes, len(payload))
		last := n == len(payload)
		kind := byte(chunkMiddle)
		switch {
		case first && last:
			kind = chunkFull
		case first:
			kind = chunkFirst
		case last:
			kind = chunkLast
		}
		data = appendChunk(data, kind, payload[:n])
		if payload = payload[n:]; last {
			return data
		}
	}
}

func appendChunk(data []byte, kind byte, payload []byte) []byte {
	body := append([]byte{kind}, payload...)
	c := crc32.Checksum(body, castagnoli)
	data = binary.LittleEndian.AppendUint32(data, (c>>15|c<<17)+0xa282ead8)
	data = binary.LittleEndian.AppendUint16(data, uint16(len(payload)))
	return append(data, body...)
}

// The marker that names the manifest is damaged, missing, or an old one.
func TestDamagedMarker(t *testing.T) {
	for what, spoil := range map[string]func(fs vfs.FS, marker, manifest string) error{
		"missing": func(fs vfs.FS, marker, _ string) error { return fs.Remove(marker) },
		"of no manifest": func(fs vfs.FS, marker, _ string) error {
			return fs.Rename(marker, strings.Replace(marker, "MANIFEST-", "MANIFEST-9", 1))
		},
		"garbled":          func(fs vfs.FS, marker, _ string) error { return fs.Rename(marker, "db/marker.manifest.0x.MANIFEST") },
		"without manifest": func(fs vfs.FS, _, manifest string) error { return fs.Remove(manifest) },
		"of an empty one": func(fs vfs.FS, _, manifest string) error {
			return errors.Join(fs.Remove(manifest), touch(fs, manifest))
		},
		"of another format": func(fs vfs.FS, marker, _ string) error { return fs.Rename(marker, "db/marker.manifest.000001.CURRENT") },
	} {
		fs, manifest, _ := withManifest(t, "db", 2)
		names, err := fs.List("db")
		if err != nil {
			t.Fatal(err)
		}
		i := slices.IndexFunc(names, func(n string) bool { return strings.HasPrefix(n, "marker.manifest.") })
		if err := spoil(fs, "db/"+names[i], manifest); err != nil {
			t.Fatalf("%s: %v", what, err)
		}
		if db, err := Open(Options{FS: fs, Dir: "db", MustExist: true, Manual: true}); !errors.Is(err, ErrDamaged) {
			if err == nil {
				closeTest(t, db)
			}
			t.Errorf("%s: %v", what, err)
		}
	}
}

func touch(fs vfs.FS, name string) error {
	f, err := fs.Create(name, vfs.WriteCategoryUnspecified)
	if err != nil {
		return err
	}
	return f.Close()
}

// Where there is no database yet, there is nothing to look at.
func TestNoManifestYet(t *testing.T) {
	fs := vfs.NewMem()
	if err := checkManifest(fs, "none"); err != nil {
		t.Error(err)
	}
	if err := fs.MkdirAll("none", os.ModePerm); err != nil {
		t.Fatal(err)
	}
	if err := checkManifest(fs, "none"); err != nil {
		t.Error(err)
	}
}
