package state

import (
	"testing"

	"keelson/command"
)

// A transaction that only reads gives up when its answer could not be sent.
func TestReadingTxnIsBounded(t *testing.T) {
	x := newMember(t)
	x.do(&command.Put{Key: []byte("a"), Value: make([]byte, 99)})
	all := &command.Range{Key: []byte{0}, End: []byte{0}}
	v := x.m.View()
	defer v.Close()
	for heldMax, cut := range map[int]bool{200: false, 199: true, 50: true} {
		reading := &txn{from: v.View, heldMax: heldMax}
		if _, err := reading.run(&command.Txn{Success: []command.Op{all, all}}); err != nil || reading.cut != cut {
			t.Errorf("with room for %d: cut %v, want %v, %v", heldMax, reading.cut, cut, err)
		}
	}
}
