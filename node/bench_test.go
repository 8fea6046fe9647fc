package node

import (
	"context"
	"encoding/binary"
	"sync/atomic"
	"testing"

	"github.com/cockroachdb/pebble/v2/vfs"

	"keelson/command"
)

// BenchmarkPut measures puts of 256 bytes by one and by many callers on the real disk.
func BenchmarkPut(b *testing.B) {
	for _, c := range []struct {
		name    string
		callers int
	}{{"callers=1", 1}, {"callers=1000", 1000}} {
		b.Run(c.name, func(b *testing.B) { benchmarkPut(b, c.callers) })
	}
}

func benchmarkPut(b *testing.B, callers int) {
	r := newRigOn(b, vfs.Default, b.TempDir(), 0, nil)
	r.propose(&command.Noop{})
	value := make([]byte, 256)
	var next atomic.Uint64
	b.ReportAllocs()
	b.SetParallelism(callers)
	b.ResetTimer()
	b.RunParallel(func(pb *testing.PB) {
		key := make([]byte, 8)
		for pb.Next() {
			binary.BigEndian.PutUint64(key, next.Add(1)%100_000)
			if _, err := r.node.Propose(context.Background(), &command.Put{Key: key, Value: value}); err != nil {
				b.Error(err)
			}
		}
	})
}
