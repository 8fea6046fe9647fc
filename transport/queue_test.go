package transport

import (
	"math/rand/v2"
	"testing"
	"time"

	"go.etcd.io/raft/v3/raftpb"
)

// sized is an item that counts as size bytes, numbered n.
func sized(n uint64, size int) item {
	return item{m: &raftpb.Message{Commit: new(n), Context: make([]byte, size-itemOverhead)}}
}

// TestQueue checks the bound and what is said about drops, and that nobody is woken by it.
func TestQueue(t *testing.T) {
	q := newQueue(1000)
	put := func(size int, wantDropped, wantNews bool) {
		t.Helper()
		if dropped, news := q.put(sized(0, size)); dropped != wantDropped || news != wantNews {
			t.Fatalf("dropped %v, news %v", dropped, news)
		}
	}
	put(5000, false, false) // a single one may be larger
	put(200, true, true)
	put(200, true, false) // the same burst
	if got := q.take(nil, 1); len(got) != 1 || q.size() != 0 {
		t.Fatalf("%d items, %d bytes left", len(got), q.size())
	}
	put(500, false, false)
	put(500, false, false)
	put(200, true, true) // another burst
	if got := q.take(nil, 1); len(got) != 1 || q.size() != 500 {
		t.Fatalf("%d items, %d bytes left", len(got), q.size())
	}
	put(200, false, false)
	put(500, true, false) // never empty since: still the same
	if n := q.reset(true); n != 2 || q.size() != 0 {
		t.Fatalf("%d dropped", n)
	}
	put(200, true, false) // down: it was said when it went down
	q.open()
	put(200, false, false)
	if n := q.reset(false); n != 1 {
		t.Fatalf("%d dropped", n)
	}
	put(200, false, false)
}

// TestQueueOrder takes while others are put, in every rhythm: nothing is lost or changes places.
func TestQueueOrder(t *testing.T) {
	eachSeed(t, 20, func(t *testing.T, r *rand.Rand) {
		q := newQueue(1 << 30)
		var put, taken uint64
		bytes := 0
		for range 2000 {
			if r.IntN(3) > 0 {
				size := itemOverhead + r.IntN(500)
				put++
				bytes += size
				q.put(sized(put, size))
				continue
			}
			for _, it := range q.take(nil, r.IntN(5000)) {
				taken++
				bytes -= it.bytes()
				if it.m.GetCommit() != taken {
					t.Fatalf("message %d after %d", it.m.GetCommit(), taken-1)
				}
			}
			if q.size() != bytes {
				t.Fatalf("%d bytes, not %d", q.size(), bytes)
			}
		}
		if rest := q.reset(false); uint64(rest) != put-taken {
			t.Fatalf("%d left of %d", rest, put-taken)
		}
	})
}

func TestBackoff(t *testing.T) {
	for failures := 1; failures < 100; failures++ {
		least, most := backoff(failures, ^uint64(0)), backoff(failures, 0)
		if least < backoffMin/2 || most > backoffMax || most < least || failures > 10 && most != backoffMax || failures == 1 && most != backoffMin {
			t.Errorf("%d failures: %v to %v", failures, least, most)
		}
	}
}

// TestNews says things again after a while, and forgets what nobody says any more.
func TestNews(t *testing.T) {
	n := newNews()
	if !n.isNews("a", 1) || n.isNews("a", 2) || !n.isNews("b", 2) || n.isNews("a", time.Minute) || !n.isNews("a", 1+time.Minute) {
		t.Error("wrong about news")
	}
	for i := range 1000 {
		n.isNews(time.Duration(i).String(), time.Hour)
	}
	if len(n.said) > newsMax || !n.isNews("c", 3*time.Hour) || len(n.said) != 1 {
		t.Errorf("%d things remembered", len(n.said))
	}
}

// TestReports passes on each thing once, however often it is reported before anybody listens.
func TestReports(t *testing.T) {
	m := newMember(t, 1)
	r := newReports()
	for range 3 {
		r.unreachable(5)
		r.unreachable(6)
		r.removed(5)
	}
	done, ended := make(chan struct{}), make(chan struct{})
	go func() { r.run(done, m); close(ended) }()
	m.wait("reports", func() bool { return m.removed > 0 })
	close(done)
	<-ended
	if lost := m.lost(); m.removals() != 1 || lost[5] != 1 || lost[6] != 1 {
		t.Errorf("%v, removed %d", lost, m.removals())
	}
}
