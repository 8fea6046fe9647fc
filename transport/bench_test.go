package transport

import (
	"context"
	"io"
	"sync/atomic"
	"testing"

	"go.etcd.io/raft/v3/raftpb"
)

// counting is a handler that counts.
type counting struct {
	received atomic.Int64
	wake     chan struct{}
	until    atomic.Int64
}

func (c *counting) Receive(ms []*raftpb.Message) {
	if n := c.received.Add(int64(len(ms))); n >= c.until.Load() {
		select {
		case c.wake <- struct{}{}:
		default:
		}
	}
}
func (c *counting) ReceiveEntries(ms []*raftpb.Message)          { c.Receive(ms) }
func (c *counting) Unreachable(uint64)                           {}
func (c *counting) Removed(uint64)                               {}
func (c *counting) Bulk(context.Context, uint64, io.ReadWriter)  {}
func (c *counting) Fetch(context.Context, uint64, io.ReadWriter) {}

func (c *counting) wait(n int64) {
	c.until.Store(n)
	for c.received.Load() < n {
		<-c.wake
	}
}

// benchmarkAppends sends MsgApps with 10 entries of 300 bytes to a number of peers, at most window of them under way.
func benchmarkAppends(b *testing.B, peers, window int) {
	a := newMember(b, 1)
	var others []*member
	var handlers []*counting
	for i := range peers {
		h := &counting{wake: make(chan struct{}, 1)}
		others = append(others, newMember(b, uint64(i+2), func(o *Options) { o.Handler = h }))
		handlers = append(handlers, h)
	}
	join(b, append([]*member{a}, others...)...)
	entries := func(from uint64) (list []*raftpb.Entry) {
		for i := range uint64(10) {
			list = append(list, &raftpb.Entry{Term: new(uint64(3)), Index: new(from + i + 1), Data: make([]byte, 300)})
		}
		return list
	}
	lists := make([][]*raftpb.Entry, 1000)
	for i := range lists {
		lists[i] = entries(uint64(i))
	}
	b.SetBytes(int64(peers * 3000))
	b.ReportAllocs()
	b.ResetTimer()
	for n := range b.N {
		at := uint64(n % len(lists))
		for _, o := range others {
			a.send(&raftpb.Message{
				Type: raftpb.MsgApp.Enum(), To: new(o.id), From: new(a.id), Term: new(uint64(3)), LogTerm: new(uint64(3)), Index: new(at),
				Commit: new(at), Entries: lists[at],
			})
		}
		for _, h := range handlers {
			h.wait(int64(n - window + 1))
		}
	}
	for _, h := range handlers {
		h.wait(int64(b.N))
	}
}

func BenchmarkAppend1(b *testing.B)       { benchmarkAppends(b, 1, 256) }
func BenchmarkAppend2(b *testing.B)       { benchmarkAppends(b, 2, 256) }
func BenchmarkAppendLatency(b *testing.B) { benchmarkAppends(b, 1, 0) }

// BenchmarkSend is what the caller of Send pays for a message to each of two peers.
func BenchmarkSend(b *testing.B) {
	entries := []*raftpb.Entry{{Term: new(uint64(3)), Index: new(uint64(8)), Data: make([]byte, 300)}}
	var recent recentBlocks
	q := [2]*queue{newQueue(1 << 30), newQueue(1 << 30)}
	ms := [2]*raftpb.Message{}
	for i := range ms {
		ms[i] = shaped(raftpb.MsgApp)
		ms[i].Index, ms[i].Entries = new(uint64(7)), entries
	}
	var taken []item
	b.ReportAllocs()
	for range b.N {
		recent = recentBlocks{}
		for i, m := range ms {
			if err := unsendable(m, 1); err != nil {
				b.Fatal(err)
			}
			q[i].put(item{m, recent.of(m.Entries)})
			taken = q[i].take(taken[:0], 1)
		}
	}
}

// BenchmarkDecode reads a MsgApp with 10 entries of 300 bytes.
func BenchmarkDecode(b *testing.B) {
	m := shaped(raftpb.MsgApp)
	m.Index, m.Term, m.Commit = new(uint64(0)), new(uint64(3)), new(uint64(5))
	for i := range uint64(10) {
		m.Entries = append(m.Entries, &raftpb.Entry{Term: new(uint64(3)), Index: new(i + 1), Data: make([]byte, 300)})
	}
	blk := newBlock(m.Entries)
	blk.encode()
	var tail []byte
	for _, p := range blk.parts {
		tail = append(tail, p...)
	}
	head := appendHead(nil, m)
	b.ReportAllocs()
	for range b.N {
		if _, err := decodeMessage(head, tail); err != nil {
			b.Fatal(err)
		}
	}
}
