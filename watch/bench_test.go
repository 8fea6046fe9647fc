package watch

import (
	"fmt"
	"runtime"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"keelson/state/mvcc"
)

// sink is a client of many streams that only counts, and tells when it has got as many responses as it is to await.
type sink struct {
	responses, awaited atomic.Int64
	reached            chan struct{}
}

func (s *sink) Send(r *Response) error {
	if s.responses.Add(1) == s.awaited.Load() {
		s.reached <- struct{}{}
	}
	return nil
}

// expect announces n more responses, to be awaited with a receive from s.reached.
func (s *sink) expect(n int) { s.awaited.Add(int64(n)) }

// cpu is the processor time the process has used.
func cpu() time.Duration {
	var u syscall.Rusage
	if err := syscall.Getrusage(syscall.RUSAGE_SELF, &u); err != nil {
		panic(err)
	}
	return time.Duration(u.Utime.Nano() + u.Stime.Nano())
}

// publisher publishes one put after the other.
type publisher struct {
	hub   *Hub
	store *benchStore
}

// benchStore is a history that nobody has to read.
type benchStore struct{ rev atomic.Int64 }

func (s *benchStore) Revision() mvcc.Revision  { return s.rev.Load() }
func (s *benchStore) Compacted() mvcc.Revision { return -1 }
func (s *benchStore) Changes(from, to mvcc.Revision, lower, upper []byte, maxBytes int, f func(*mvcc.Event) error) (mvcc.Revision, error) {
	panic(fmt.Sprintf("history read from %d to %d", from, to))
}

var benchValue = make([]byte, 256)

func newPublisher(b *testing.B) *publisher {
	s := &benchStore{}
	s.rev.Store(1)
	hub := NewHub(s, Options{})
	b.Cleanup(hub.Close)
	return &publisher{hub: hub, store: s}
}

func (p *publisher) put(key []byte) {
	rev := p.store.rev.Add(1)
	kv := mvcc.KeyValue{Key: key, Value: benchValue, CreateRevision: rev, ModRevision: rev, Version: 1}
	p.hub.Publish([]mvcc.Event{{Kind: mvcc.Put, KV: kv}}, rev)
}

// watchAll opens n streams with one watcher each.
func (p *publisher) watchAll(n int, request func(i int) Request) *sink {
	s := &sink{reached: make(chan struct{}, 1)}
	s.expect(n)
	for i := range n {
		p.hub.NewStream(s).Create(request(i))
	}
	if n > 0 {
		<-s.reached
	}
	return s
}

// One event that concerns one watcher of 10,001: what the index costs, and the way to the sender.
func BenchmarkPublishAmongOthers(b *testing.B) {
	for _, kind := range []string{"keys", "prefixes"} {
		b.Run(kind, func(b *testing.B) {
			p := newPublisher(b)
			p.watchAll(10_000, func(i int) Request {
				q := Request{Key: []byte(fmt.Sprintf("other/%05d", i))}
				if kind == "prefixes" {
					q.End = []byte(fmt.Sprintf("other/%05d~", i))
				}
				return q
			})
			s := p.watchAll(1, func(int) Request { return Request{Key: []byte("other/04999x")} })
			key := []byte("other/04999x")
			b.ReportAllocs()
			start := cpu()
			for b.Loop() {
				s.expect(1)
				p.put(key)
				<-s.reached
			}
			b.ReportMetric(float64(cpu()-start)/float64(b.N), "cpu-ns/op")
		})
	}
}

// What publishing costs the one who applies when nobody watches the key.
func BenchmarkPublishUnwatched(b *testing.B) {
	for _, watchers := range []int{0, 10_000} {
		b.Run(fmt.Sprint(watchers), func(b *testing.B) {
			p := newPublisher(b)
			p.watchAll(watchers, func(i int) Request {
				return Request{Key: []byte(fmt.Sprintf("other/%05d", i)), End: []byte(fmt.Sprintf("other/%05d~", i))}
			})
			key := []byte("key")
			b.ReportAllocs()
			start := cpu()
			for b.Loop() {
				p.put(key)
			}
			b.ReportMetric(float64(cpu()-start)/float64(b.N), "cpu-ns/op")
		})
	}
}

// One event to 1,000 watchers of a prefix, each on a stream of its own; encoded once.
func BenchmarkFanOut(b *testing.B) {
	const watchers = 1000
	p := newPublisher(b)
	s := p.watchAll(watchers, func(int) Request { return Request{Key: []byte("a"), End: []byte("b")} })
	key := []byte("ab")
	b.ReportAllocs()
	start := cpu()
	for b.Loop() {
		s.expect(watchers)
		p.put(key)
		<-s.reached
	}
	b.ReportMetric(float64(cpu()-start)/float64(b.N)/watchers, "cpu-ns/delivery")
}

// What an idle stream with one watcher occupies, with distinct ranges and with one range for all.
func BenchmarkIdleMemory(b *testing.B) {
	const streams = 100_000
	for _, kind := range []string{"distinct", "shared"} {
		b.Run(kind, func(b *testing.B) {
			for b.Loop() {
				p := newPublisher(b)
				before, goroutines := heapBytes(), runtime.NumGoroutine()
				p.watchAll(streams, func(i int) Request {
					if kind == "shared" {
						i = 0
					}
					return Request{Key: []byte(fmt.Sprintf("range/%06d", i)), End: []byte(fmt.Sprintf("range/%06d~", i))}
				})
				b.ReportMetric(float64(heapBytes()-before)/streams, "B/stream")
				b.ReportMetric(float64(runtime.NumGoroutine()-goroutines), "goroutines")
				p.hub.Close()
			}
		})
	}
}

func heapBytes() uint64 {
	runtime.GC()
	var m runtime.MemStats
	runtime.ReadMemStats(&m)
	return m.HeapAlloc
}
