package replica_test

import (
	"testing"

	"go.etcd.io/raft/v3"
	"go.etcd.io/raft/v3/raftpb"

	"keelson/replica"
)

// BenchmarkPut is one proposal of 256 bytes through a lone voter, from Propose to ApplyDone.
func BenchmarkPut(b *testing.B) { benchmarkPut(b, 256) }

// BenchmarkPutBatch is one proposal of 32 KiB (a batch of a hundred puts) through a lone voter.
func BenchmarkPutBatch(b *testing.B) { benchmarkPut(b, 32<<10) }

func benchmarkPut(b *testing.B, size int) {
	log := raft.NewMemoryStorage()
	conf := &raftpb.ConfState{Voters: []uint64{1}}
	must(b, log.ApplySnapshot(&raftpb.Snapshot{Metadata: &raftpb.SnapshotMetadata{
		ConfState: conf, Index: new(uint64(1)), Term: new(uint64(1)),
	}}))
	r, err := replica.New(replica.Options{ID: 1, Log: log, ConfState: conf, Applied: 1})
	must(b, err)
	done := make([]replica.Event, 0, 8)
	last := uint64(1)
	settle := func(events ...replica.Event) {
		for ; len(events) > 0; events = done {
			effects := r.Step(events...)
			done = done[:0]
			for _, e := range effects {
				switch e := e.(type) {
				case *replica.Append:
					must(b, log.Append(e.Entries))
					done = append(done, replica.AppendDone{Append: e})
				case *replica.Apply:
					last = e.Entries[len(e.Entries)-1].GetIndex()
					done = append(done, replica.ApplyDone{Apply: e})
				}
			}
		}
	}
	settle(replica.Tick{})
	data := make([]byte, size)
	b.ReportAllocs()
	for n := 0; b.Loop(); n++ {
		settle(replica.Propose{ID: uint64(n), Data: data})
		if n%1000 == 999 {
			must(b, log.Compact(last))
		}
	}
}

// BenchmarkRead is one linearizable read of a lone voter.
func BenchmarkRead(b *testing.B) {
	c := newCluster(b, 1, 0, nil)
	m := c.members[0]
	m.start()
	c.settle()
	b.ReportAllocs()
	ticket := m.ticket
	for b.Loop() {
		ticket++
		if len(m.r.Step(replica.ReadIndex{Ticket: ticket})) != 1 {
			b.Fatal("no answer")
		}
	}
}
