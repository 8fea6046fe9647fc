package server

import (
	"context"
	"errors"
	"testing"
	"time"

	"go.uber.org/zap"
)

// disk is a disk as a test wants it.
type disk struct {
	free, total uint64
	err         error
	looks       int
}

func (d *disk) usage() (free, total uint64, err error) { d.looks++; return d.free, d.total, d.err }

func TestRoom(t *testing.T) {
	const gib = 1 << 30
	d := &disk{free: 10 * gib, total: 100 * gib}
	var now time.Duration
	refused := 0
	r := &room{usage: d.usage, now: func() time.Duration { return now }, over: func(context.Context) { refused++ }}
	ctx := context.Background()
	for range 50 {
		if !r.Admit(ctx, 1<<20) {
			t.Fatal("refused on an empty disk")
		}
	}
	if d.looks != 1 {
		t.Errorf("%d looks for 50 requests at one time", d.looks)
	}
	d.free = gib - 1 // the reserve is a gigabyte of a disk of a hundred
	now += sizeLookInterval
	if r.Admit(ctx, 1) || refused != 1 {
		t.Error("admitted on a full disk")
	}
	d.free = gib
	if !r.Admit(ctx, 1) {
		t.Error("refused by what is not true any more")
	}
	if r.isBack() {
		t.Error("the alarm would come and go with each write")
	}
	d.free = gib + gib/4
	r.look()
	if !r.isBack() {
		t.Error("the alarm does not end")
	}
	d.err = errors.New("not told")
	d.free = 0
	now += sizeLookInterval
	if !r.Admit(ctx, 1) {
		t.Error("refused for an error")
	}
}

func TestReserve(t *testing.T) {
	for _, c := range []struct{ total, reserve uint64 }{
		{100 << 20, reserveMin}, {2 << 30, 2 << 30 / 20}, {1 << 40, reserveMax},
	} {
		d := &disk{free: c.total, total: c.total}
		r := &room{usage: d.usage}
		r.look()
		if got := r.reserve(); got != c.reserve {
			t.Errorf("disk of %d: %d", c.total, got)
		}
	}
}

// While the store is small, etcd's default is told; a large one is told what it can really grow to.
func TestQuotaShown(t *testing.T) {
	d := &disk{free: 50 << 30, total: 100 << 30}
	r := &room{usage: d.usage}
	if got := r.quotaBytes(20 << 30); got != 2<<30 {
		t.Errorf("before the first look: %d", got)
	}
	r.look()
	for _, c := range []struct{ size, want int64 }{
		{4096, 2 << 30}, {1<<30 - 1, 2 << 30}, {20 << 30, 69 << 30},
	} {
		if got := r.quotaBytes(c.size); got != c.want {
			t.Errorf("size %d: %d, want %d", c.size, got, c.want)
		}
	}
	d.free = 0
	r.look()
	if got := r.quotaBytes(20 << 30); got != 20<<30 {
		t.Errorf("on a full disk: %d", got)
	}
}

// TestAmpleRoom: as long as there is ample room, writes are answered by whoever has their outcome. A member without flags has.
func TestAmpleRoom(t *testing.T) {
	s, err := Start(context.Background(), load(t), zap.NewNop())
	if err != nil {
		t.Fatal(err)
	}
	defer s.Stop()
	if !s.services.MayDefer() {
		t.Errorf("not deferred with %d bytes free of %d", s.room.free.Load(), s.room.total.Load())
	}
	r := &room{}
	r.total.Store(1 << 40)
	r.free.Store(r.reserve())
	if r.Ample() {
		t.Error("just the reserve is called ample")
	}
	now, size := time.Duration(0), int64(0)
	q := &quota{limitBytes: 1 << 30, now: func() time.Duration { return now }, size: func() int64 { return size }}
	if !q.Ample() {
		t.Error("an empty store has no room")
	}
	q.since.Store(1<<30 - ampleBytes)
	if q.Ample() {
		t.Error("room where nearly all is taken")
	}
	if now = time.Hour; !q.Ample() {
		t.Error("what was taken before the last look counts")
	}
	if size, now = 1<<30, now+time.Hour; q.Ample() {
		t.Error("room in a store that has grown by what others have let in")
	}
}
