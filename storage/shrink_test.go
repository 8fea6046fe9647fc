package storage

import (
	"bytes"
	"context"
	"errors"
	"math/rand/v2"
	"sync"
	"testing"

	"github.com/cockroachdb/pebble/v2/vfs"
	"github.com/cockroachdb/pebble/v2/vfs/errorfs"
)

func TestShrink(t *testing.T) {
	db, err := Open(Options{FS: vfs.NewMem(), Dir: "db", MemtableBytes: 1 << 20, CacheBytes: 1 << 20})
	if err != nil {
		t.Fatal(err)
	}
	defer db.Close()
	value := bytes.Repeat([]byte("0123456789abcdef"), 256)
	for i := range 500 {
		b := db.NewBatch()
		value[0], value[1] = byte(i), byte(i>>8)
		b.SetVersion(Versions, []byte{byte(i), byte(i >> 8)}, Version{Main: int64(i + 1)}, value)
		if err := b.Commit(); err != nil {
			t.Fatal(err)
		}
	}
	if err := db.Flush(); err != nil {
		t.Fatal(err)
	}
	before := db.Sizes()
	if before.UnflushedBytes != 0 {
		t.Errorf("%d bytes left in memory by a flush", before.UnflushedBytes)
	}
	b := db.NewBatch()
	b.Set(Meta, []byte("kept"), []byte("1"))
	b.DeleteRange(Versions, nil, nil)
	if err := b.Commit(); err != nil {
		t.Fatal(err)
	}
	if got := db.Sizes().UnflushedBytes; got == 0 || got > 200 {
		t.Errorf("%d bytes in memory after a small batch", got)
	}
	if err := db.Shrink(context.Background()); err != nil {
		t.Fatal(err)
	}
	if after := db.Sizes(); after.LiveBytes > before.LiveBytes/2 {
		t.Errorf("%d bytes of tables before, %d after", before.LiveBytes, after.LiveBytes)
	}
	if v, ok, err := db.Get(Meta, []byte("kept")); err != nil || !ok || string(v) != "1" {
		t.Errorf("kept: %q %v %v", v, ok, err)
	}
}

// Known bug A4: a crash at any moment of a rewrite leaves everything that was flushed before it.
func TestCrashDuringShrink(t *testing.T) {
	mem := vfs.NewCrashableMem()
	var images []*vfs.MemFS
	var taking sync.Mutex
	shrinking := false
	fs := errorfs.Wrap(mem, errorfs.InjectorFunc(func(errorfs.Op) error {
		taking.Lock()
		defer taking.Unlock()
		if shrinking && len(images) < 200 {
			images = append(images, mem.CrashClone(vfs.CrashCloneCfg{
				UnsyncedDataPercent: len(images) % 3 * 50, RNG: rand.New(rand.NewPCG(1, uint64(len(images)))),
			}))
		}
		return nil
	}))
	o := Options{Dir: "db", MemtableBytes: 1 << 20, CacheBytes: 1 << 20}
	o.FS = fs
	db, err := Open(o)
	if err != nil {
		t.Fatal(err)
	}
	defer db.Close()
	const keys = 300
	for round := range 3 {
		for i := range keys {
			b := db.NewBatch()
			b.Set(Tree, []byte{byte(i), byte(i >> 8)}, bytes.Repeat([]byte{byte(round)}, 500))
			if err := b.Commit(); err != nil {
				t.Fatal(err)
			}
		}
		if err := db.Flush(); err != nil {
			t.Fatal(err)
		}
	}
	taking.Lock()
	shrinking = true
	taking.Unlock()
	if err := db.Shrink(context.Background()); err != nil {
		t.Fatal(err)
	}
	taking.Lock()
	shrinking = false
	taking.Unlock()
	if len(images) < 10 {
		t.Fatalf("only %d moments to crash at", len(images))
	}
	for n, image := range images {
		o.FS = image
		again, err := Open(o)
		if err != nil {
			t.Fatalf("image %d: %v", n, err)
		}
		for i := range keys {
			v, ok, err := again.Get(Tree, []byte{byte(i), byte(i >> 8)})
			if err != nil || !ok || !bytes.Equal(v, bytes.Repeat([]byte{2}, 500)) {
				t.Fatalf("image %d: key %d: %d bytes, %v, %v", n, i, len(v), ok, err)
			}
		}
		if err := again.Close(); err != nil {
			t.Fatal(err)
		}
	}
}

// Sizes of a store that is not compressed are those of what was written, however well it compresses.
func TestUncompressed(t *testing.T) {
	const values, bytes = 100, 10_000
	var disk [2]uint64
	for i, uncompressed := range []bool{false, true} {
		db, err := Open(Options{FS: vfs.NewMem(), Dir: "db", Uncompressed: uncompressed})
		if err != nil {
			t.Fatal(err)
		}
		b := db.NewBatch()
		for n := range values {
			b.Set(Meta, []byte{byte(n)}, make([]byte, bytes))
		}
		if err := errors.Join(b.Commit(), db.Flush()); err != nil {
			t.Fatal(err)
		}
		disk[i] = db.Sizes().LiveBytes
		if err := db.Close(); err != nil {
			t.Fatal(err)
		}
	}
	if disk[0] > values*bytes/4 || disk[1] < values*bytes {
		t.Errorf("%d bytes take %d compressed and %d uncompressed", values*bytes, disk[0], disk[1])
	}
}
