package storage

import (
	"bytes"
	"context"
	"testing"

	"github.com/cockroachdb/pebble/v2/vfs"
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
	b := db.NewBatch()
	b.Set(Meta, []byte("kept"), []byte("1"))
	b.DeleteRange(Versions, nil, nil)
	if err := b.Commit(); err != nil {
		t.Fatal(err)
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
