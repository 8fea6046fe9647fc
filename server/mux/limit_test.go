package mux

import (
	"testing"
)

// What is above the limit is closed at once, over all muxes; what goes makes room, whoever closes it.
func TestLimit(t *testing.T) {
	refused := make(chan int64, 10)
	limit := NewLimit(2, func(most int64) { refused <- most })
	first, second := New(listen(t), Options{Limit: limit}), New(listen(t), Options{Limit: limit})
	serve(t, first)
	serve(t, second)
	dial(t, first, "GET")
	kept, err := first.HTTP().Accept()
	if err != nil {
		t.Fatal(err)
	}
	client := dial(t, second, preface)
	other, err := second.GRPC().Accept()
	if err != nil {
		t.Fatal(err)
	}
	for _, m := range []*Mux{first, second} {
		if err := isClosed(dial(t, m, "")); err != nil {
			t.Error(err)
		}
		if most := <-refused; most != 2 {
			t.Errorf("refused at %d", most)
		}
	}
	kept.Close()
	kept.Close() // counts once
	dial(t, second, "GET")
	again, err := second.HTTP().Accept()
	if err != nil {
		t.Fatal(err)
	}
	if err := isClosed(dial(t, first, "")); err != nil {
		t.Error(err)
	}
	again.Close()
	other.Close()
	client.Close()
	if open := limit.open.Load(); open != 0 {
		t.Errorf("%d are still counted", open)
	}
}
