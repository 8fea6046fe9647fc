package command

import "testing"

func benchPut() *Command {
	return &Command{
		Time: 1764000000123456789,
		Op:   &Put{Key: []byte("/registry/pods/default/some-pod-name-0001"), Value: make([]byte, 256), Lease: 7587862084212345678},
	}
}

func BenchmarkAppendPut(b *testing.B) {
	c := benchPut()
	var buf []byte
	b.ReportAllocs()
	for b.Loop() {
		buf = c.Append(buf[:0])
	}
}

func BenchmarkDecodePut(b *testing.B) {
	encoded := benchPut().Append(nil)
	b.ReportAllocs()
	for b.Loop() {
		if _, err := Decode(encoded); err != nil {
			b.Fatal(err)
		}
	}
}

func BenchmarkDecodeTxn(b *testing.B) {
	c := benchPut()
	put := c.Op
	key := put.(*Put).Key
	c.Op = &Txn{
		Compares: []Compare{{Key: key, Target: 2, Number: 123456}},
		Success:  []Op{put},
		Failure:  []Op{&Range{Key: key}},
	}
	encoded := c.Append(nil)
	b.ReportAllocs()
	for b.Loop() {
		if _, err := Decode(encoded); err != nil {
			b.Fatal(err)
		}
	}
}
