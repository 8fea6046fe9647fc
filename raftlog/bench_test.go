package raftlog

import (
	"math/rand/v2"
	"testing"

	"github.com/cockroachdb/pebble/v2/vfs"
	"go.etcd.io/raft/v3/raftpb"
)

func benchEntries(first uint64, n, size int) []*raftpb.Entry {
	rng := rand.New(rand.NewPCG(1, 2))
	var out []*raftpb.Entry
	for i := range n {
		b := make([]byte, size)
		for j := range b {
			b[j] = byte(rng.Uint32())
		}
		out = append(out, entry(first+uint64(i), 1, b))
	}
	return out
}

// noSync leaves the cost of the device out, to show our own.
type noSync struct{ vfs.FS }

type noSyncFile struct{ vfs.File }

func (f noSyncFile) SyncData() error { return nil }

func (fs noSync) OpenReadWrite(name string, c vfs.DiskWriteCategory, _ ...vfs.OpenOption) (vfs.File, error) {
	f, err := fs.FS.OpenReadWrite(name, c)
	return noSyncFile{f}, err
}

// BenchmarkAppend appends 100 entries of 300 bytes at once, and one at a time.
func BenchmarkAppend(b *testing.B) {
	for _, c := range []struct {
		name string
		fs   vfs.FS
		n    int
	}{
		{"entries=100/sync", vfs.Default, 100},
		{"entries=100/nosync", noSync{vfs.Default}, 100},
		{"entries=1/sync", vfs.Default, 1},
		{"entries=1/nosync", noSync{vfs.Default}, 1},
	} {
		b.Run(c.name, func(b *testing.B) {
			l := mustCreate(b, Options{FS: c.fs, Dir: b.TempDir() + "/log"}, Position{})
			all := benchEntries(0, 60000, 300) // more than the tail keeps, so that they can be used again
			next, state := uint64(1), stateOf(1, 1, 0)
			b.ReportAllocs()
			for b.Loop() {
				at := int(next-1) % len(all)
				entries := all[at : at+c.n]
				for _, e := range entries {
					*e.Index = next
					next++
				}
				*state.Commit = next - 1
				mustAppend(b, l, Batch{Entries: entries, HardState: state})
				if l.end > l.o.SegmentBytes*3/4 {
					b.StopTimer()
					mustNil(b, l.Prepare())
					mustNil(b, l.Truncate(next-1))
					b.StartTimer()
				}
			}
			mustNil(b, l.Close())
		})
	}
}

// BenchmarkEntries reads 100 entries of 300 bytes, from memory and from the files.
func BenchmarkEntries(b *testing.B) {
	for name, tailBytes := range map[string]int64{"tail": 64 << 20, "disk": 1} {
		b.Run(name, func(b *testing.B) {
			l := mustCreate(b, Options{FS: noSync{vfs.Default}, Dir: b.TempDir() + "/log", TailBytes: tailBytes}, Position{})
			const total = 20000
			for i := uint64(1); i <= total; i += 100 {
				mustAppend(b, l, Batch{Entries: benchEntries(i, 100, 300)})
			}
			b.ReportAllocs()
			next := uint64(1)
			for b.Loop() {
				if next+200 > total {
					next = 1
				}
				entries, err := l.Entries(next, next+100, ^uint64(0))
				if err != nil || len(entries) != 100 {
					b.Fatalf("%d entries, %v", len(entries), err)
				}
				next += 100
			}
			mustNil(b, l.Close())
		})
	}
}

// BenchmarkOpen opens a log of 50 MB.
func BenchmarkOpen(b *testing.B) {
	o := Options{FS: noSync{vfs.Default}, Dir: b.TempDir() + "/log"}
	l := mustCreate(b, o, Position{})
	const total = 160000
	for i := uint64(1); i <= total; i += 100 {
		mustAppend(b, l, Batch{Entries: benchEntries(i, 100, 300)})
	}
	size, _ := l.Size()
	mustNil(b, l.Close())
	b.SetBytes(size)
	for b.Loop() {
		l, _ := mustOpen(b, o, Position{})
		mustNil(b, l.Close())
	}
}
