package storage

import (
	"fmt"
	"math/rand/v2"
	"sync"
	"testing"

	"github.com/cockroachdb/pebble/v2/vfs"
)

// crashes takes images of what a crash behind each change of a directory could leave, with any of the changes that were
// not synced, each on its own.
type crashes struct {
	vfs.FS
	disk *vfs.MemFS

	mu     sync.Mutex // Pebble changes directories from several goroutines
	rng    *rand.Rand
	images []*vfs.MemFS
}

func (c *crashes) take() {
	c.mu.Lock()
	defer c.mu.Unlock()
	for _, percent := range []int{30, 70} {
		c.images = append(c.images, c.disk.CrashClone(vfs.CrashCloneCfg{UnsyncedDataPercent: percent, RNG: c.rng}))
	}
}

func (c *crashes) Create(name string, w vfs.DiskWriteCategory) (vfs.File, error) {
	f, err := c.FS.Create(name, w)
	c.take()
	return f, err
}

func (c *crashes) Remove(name string) error {
	err := c.FS.Remove(name)
	c.take()
	return err
}

// Whatever of a directory's changes a crash leaves, in whatever order: the database opens, and holds what was flushed. In
// particular no marker is there without the manifest that it names, and there is always a marker.
func TestCrashWithDirectoryEntriesInAnyOrder(t *testing.T) {
	seed := *seedFlag
	if seed == 0 {
		seed = rand.Uint64()
	}
	t.Logf("seed %d", seed)
	disk := vfs.NewCrashableMem()
	c := &crashes{FS: disk, disk: disk, rng: rand.New(rand.NewPCG(seed, 1))}
	write := func(n int) {
		db := openTest(t, c, Options{Manual: true})
		commit(t, db, func(b *Batch) { b.Set(Meta, []byte("n"), fmt.Append(nil, n)) })
		if err := db.Flush(); err != nil {
			t.Fatal(err)
		}
		closeTest(t, db)
	}
	write(0)
	c.images = nil
	for n := 1; n <= *roundsFlag; n++ {
		write(n)
		for i, image := range c.images {
			db, err := Open(Options{FS: image, Dir: "db", Manual: true})
			if err != nil {
				t.Fatalf("write %d, image %d: %v", n, i, err)
			}
			v, _, err := db.Get(Meta, []byte("n"))
			if got := string(v); err != nil || got != fmt.Sprint(n) && got != fmt.Sprint(n-1) {
				t.Fatalf("write %d, image %d: holds %q, %v", n, i, got, err)
			}
			closeTest(t, db)
		}
		c.images = nil
	}
}
