package state

import "testing"

// What it costs to open and close a view, alone and from many goroutines.
func BenchmarkView(b *testing.B) {
	x := benchMember(b)
	b.ReportAllocs()
	for b.Loop() {
		x.m.View().Close()
	}
}

func BenchmarkViewParallel(b *testing.B) {
	x := benchMember(b)
	b.ReportAllocs()
	b.RunParallel(func(pb *testing.PB) {
		for pb.Next() {
			x.m.View().Close()
		}
	})
}
