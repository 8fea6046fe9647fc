package state

import (
	"encoding/binary"
	"fmt"
	"testing"

	"github.com/cockroachdb/pebble/v2/vfs"

	"keelson/command"
	"keelson/storage"
)

// benchMember is a machine with ordinary settings, on a disk in memory.
func benchMember(b *testing.B) *member {
	x := &member{t: b, fs: vfs.NewMem()}
	db, err := storage.Open(storage.Options{FS: x.fs, Dir: "db"})
	if err != nil {
		b.Fatal(err)
	}
	x.db = db
	b.Cleanup(func() { db.Close() })
	if err := Bootstrap(db, testIdentity); err != nil {
		b.Fatal(err)
	}
	if x.m, err = Open(db, Options{}); err != nil {
		b.Fatal(err)
	}
	return x
}

// benchApply applies batches of 100 commands; one operation is one command.
func benchApply(b *testing.B, x *member, op func(i int) command.Op) {
	const size = 100
	b.ReportAllocs()
	i := 0
	for n := b.N; n > 0; n -= size {
		b.StopTimer()
		data := command.BeginBatch(nil, command.BatchID{})
		for range min(size, n) {
			c := command.Command{Op: op(i)}
			data = command.AppendTo(data, c.Append(nil))
			i++
		}
		at := x.m.Applied()
		b.StartTimer()
		x.apply(Entry{Index: at.Index + 1, Term: 1, Data: data})
	}
}

func benchKey(i int) []byte {
	return fmt.Appendf(nil, "/registry/pods/default/pod-%08d", i*7919%100_000)
}

func BenchmarkPut(b *testing.B) {
	value := make([]byte, 256)
	benchApply(b, benchMember(b), func(i int) command.Op {
		binary.LittleEndian.PutUint64(value, uint64(i))
		return &command.Put{Key: benchKey(i), Value: value}
	})
}

func BenchmarkPutWithLease(b *testing.B) { benchPutOnLease(b, 1) }

// A put costs the same however many keys its lease holds.
func BenchmarkPutWithLeaseOf100000Keys(b *testing.B) { benchPutOnLease(b, 100_000) }

func benchPutOnLease(b *testing.B, keys int) {
	x := benchMember(b)
	x.do(&command.LeaseGrant{ID: 1, TTLSeconds: 60}, &command.LeaseGrant{ID: 2, TTLSeconds: 60})
	for i := 0; i < keys; i += 1000 {
		var ops []command.Op
		for j := range min(1000, keys) {
			ops = append(ops, &command.Put{Key: benchKey(i + j), Lease: 1})
		}
		x.do(ops...)
	}
	value := make([]byte, 256)
	b.ResetTimer()
	benchApply(b, x, func(i int) command.Op {
		return &command.Put{Key: benchKey(i), Value: value, Lease: int64(1 + i%2)}
	})
}

func BenchmarkTxnCompareAndPut(b *testing.B) {
	value := make([]byte, 256)
	benchApply(b, benchMember(b), func(i int) command.Op {
		return &command.Txn{
			Compares: []command.Compare{{Key: benchKey(i), Target: targetMod, Result: resultGreater, Number: -1}},
			Success:  []command.Op{&command.Put{Key: benchKey(i), Value: value}},
			Failure:  []command.Op{&command.Range{Key: benchKey(i)}},
		}
	})
}

func BenchmarkGrantAndRevoke(b *testing.B) {
	benchApply(b, benchMember(b), func(i int) command.Op {
		if i%2 == 0 {
			return &command.LeaseGrant{ID: int64(i + 1), TTLSeconds: 60}
		}
		return &command.LeaseRevoke{ID: int64(i)}
	})
}

// What the hash adds to a put.
func BenchmarkFoldPut(b *testing.B) {
	x := benchMember(b)
	at := x.m.Applied()
	put := &command.Put{Key: benchKey(1), Value: make([]byte, 256)}
	var ops []command.Op
	for range 100 {
		ops = append(ops, put)
	}
	e := entryAfter(at, ops...)
	out := x.apply(e)
	r := &run{m: x.m}
	b.ReportAllocs()
	b.ResetTimer()
	for n := b.N; n > 0; n -= 100 {
		r.fold(&e, out.Batches[0].Results, out.Events, nil, nil, nil)
	}
}
