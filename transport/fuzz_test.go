package transport

import (
	"encoding/binary"
	"hash/crc32"
	"testing"

	"google.golang.org/protobuf/proto"
)

// FuzzFrames reads any bytes as a stream. What is accepted can be sent again and is the same.
func FuzzFrames(f *testing.F) {
	f.Add(encode(goldenMessages()...), true)
	f.Add(encode(goldenMessages()...), false)
	for _, m := range goldenMessages() {
		f.Add(encode(m), true)
	}
	f.Add(appendPing(appendPing(nil, framePing, 1), framePong, 2), false)
	f.Add([]byte{0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 1, 0, 0, 0, 0, 0, 0, 0, 0, 0}, true)
	f.Fuzz(func(t *testing.T, b []byte, repaired bool) {
		if repaired {
			b = repairChecksums(b)
		}
		got, err := decode(b)
		if err == nil {
			t.Fatal("a stream without an end")
		}
		for _, m := range got {
			again, err := decode(encode(m))
			if len(again) != 1 || !proto.Equal(m, again[0]) {
				t.Fatalf("%v: %v\n%v", err, m, again)
			}
		}
	})
}

// repairChecksums makes the frames sound as far as they can be followed, so that what is behind the checksums is reached.
func repairChecksums(b []byte) []byte {
	b = append([]byte(nil), b...)
	for at := 0; at+frameHeaderBytes <= len(b); {
		h := b[at:]
		tail, head := int(binary.LittleEndian.Uint32(h)), int(binary.LittleEndian.Uint16(h[4:]))
		if frameHeaderBytes+head+tail > len(h) {
			break
		}
		body := h[frameHeaderBytes:]
		binary.LittleEndian.PutUint32(h[8:], crc32.Checksum(body[head:head+tail], castagnoli))
		crc := crc32.Update(crc32.Checksum(h[:12], castagnoli), castagnoli, body[:head])
		binary.LittleEndian.PutUint32(h[12:], crc)
		at += frameHeaderBytes + head + tail
	}
	return b
}

// FuzzMessage decodes any head and tail.
func FuzzMessage(f *testing.F) {
	for _, m := range goldenMessages() {
		b := encode(m)
		head := frameHeaderBytes + int(binary.LittleEndian.Uint16(b[4:]))
		f.Add(b[frameHeaderBytes:head], b[head:])
	}
	f.Add(make([]byte, headFixedBytes), []byte{0xff, 0xff, 0x0f, 0})
	f.Fuzz(func(t *testing.T, head, tail []byte) {
		m, err := decodeMessage(head, tail)
		if err != nil {
			return
		}
		if err := checkShape(m); err != nil {
			t.Fatalf("%v: %v", err, m)
		}
		again, err := decode(encode(m))
		if len(again) != 1 || !proto.Equal(m, again[0]) {
			t.Fatalf("%v: %v\n%v", err, m, again)
		}
	})
}
