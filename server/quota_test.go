package server

import (
	"context"
	"testing"
	"time"
)

// The size is looked up once in a while, not for each request, and before a request is refused.
func TestQuotaLooksSeldom(t *testing.T) {
	var now time.Duration
	ctx := context.Background()
	size, looks, refused := int64(100), 0, 0
	q := &quota{
		limitBytes: 1000,
		size:       func() int64 { looks++; return size },
		now:        func() time.Duration { return now },
		over:       func(context.Context) { refused++ },
	}
	for range 80 {
		if !q.Admit(ctx, 10) {
			t.Fatal("refused what fits")
		}
	}
	if looks != 1 {
		t.Errorf("%d looks for 80 requests at one time", looks)
	}
	size = 950 // most of what was admitted is there, but not all
	if !q.Admit(ctx, 10) || looks > 2 {
		t.Errorf("after %d looks", looks)
	}
	if q.Admit(ctx, 200) || refused != 1 {
		t.Errorf("admitted what does not fit, or told nobody: %d", refused)
	}
	size = 100 // deleted, and removed
	if !q.Admit(ctx, 200) {
		t.Error("refused by a size that is not true any more")
	}
	before := looks
	now += sizeLookInterval
	q.Admit(ctx, 1)
	if looks != before+1 {
		t.Errorf("%d looks after a while", looks-before)
	}
}

// What has grown is noticed with the next look, and what has shrunk before anybody is told otherwise.
func TestQuotaExceeded(t *testing.T) {
	size := int64(100)
	q := &quota{limitBytes: 1000, size: func() int64 { return size }, now: func() time.Duration { return 0 }, over: func(context.Context) {}}
	q.look()
	for _, c := range []struct {
		size int64
		look bool
		want bool
	}{{1000, false, false}, {1000, true, true}, {999, false, false}} {
		size = c.size
		if c.look {
			q.look()
		}
		if got := q.Exceeded(); got != c.want {
			t.Errorf("at %d: %t", c.size, got)
		}
	}
}
