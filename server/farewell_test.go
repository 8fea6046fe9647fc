package server

import (
	"testing"
	"testing/synctest"
	"time"
)

func TestFarewells(t *testing.T) {
	cases := []struct {
		name string
		by   []time.Duration // when the others say it, in their order; negative: never
		want time.Duration
	}{
		{"nobody is left", nil, time.Second},
		{"all at once", []time.Duration{0, 0}, time.Second},
		{"one is late", []time.Duration{0, 2 * time.Second}, 2 * time.Second},
		{"one never does", []time.Duration{0, -1}, 3 * time.Second},
	}
	for _, c := range cases {
		synctest.Test(t, func(t *testing.T) {
			f := newFarewells()
			var others []uint64
			for i, at := range c.by {
				id := uint64(i + 1)
				others = append(others, id)
				if at >= 0 {
					time.AfterFunc(at, func() { f.note(id); f.note(id) })
				}
			}
			start := time.Now()
			f.wait(others, time.Second, 3*time.Second)
			if got := time.Since(start); got != c.want {
				t.Errorf("%s: %v, want %v", c.name, got, c.want)
			}
		})
	}
}
