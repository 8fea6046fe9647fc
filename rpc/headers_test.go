package rpc

import (
	"bytes"
	"fmt"
	"math/rand/v2"
	"reflect"
	"slices"
	"strings"
	"testing"
	"time"

	"golang.org/x/net/http2/hpack"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
)

// What is remembered of header blocks makes no difference: two decoders, one of which forgets everything, read the same
// from random blocks of encoders that use and change their tables in every way.
func TestRememberedBlocks(t *testing.T) {
	rng := rand.New(rand.NewPCG(1, 2))
	for range 200 {
		var wire bytes.Buffer
		encoder := hpack.NewEncoder(&wire)
		remembers := newHeaderBlocks(4000, func(string) *method { return nil }, nil)
		forgets := newHeaderBlocks(4000, func(string) *method { return nil }, nil)
		for range 60 {
			wire.Reset()
			switch rng.IntN(20) {
			case 0:
				encoder.SetMaxDynamicTableSize(uint32(rng.IntN(4097)))
			case 1:
				encoder.SetMaxDynamicTableSize(4096)
			}
			fields := callFields("/a/" + fmt.Sprint(rng.IntN(3)))
			for range rng.IntN(4) {
				fields = append(fields, fmt.Sprint("x-", rng.IntN(4)), strings.Repeat("v", rng.IntN(20)))
			}
			if rng.IntN(3) == 0 {
				fields = append(fields, "grpc-timeout", fmt.Sprint(rng.IntN(10), "S"))
			}
			for i := 0; i < len(fields); i += 2 {
				encoder.WriteField(hpack.HeaderField{Name: fields[i], Value: fields[i+1], Sensitive: rng.IntN(9) == 0})
			}
			forgets.blocks, forgets.requests = nil, nil
			a, at, err := remembers.request(wire.Bytes())
			if err != nil {
				t.Fatal(err)
			}
			b, bt, err := forgets.request(wire.Bytes())
			if err != nil {
				t.Fatal(err)
			}
			if at != bt || !reflect.DeepEqual(a.metadata, b.metadata) || !slices.EqualFunc(a.fields, b.fields, func(x, y hpack.HeaderField) bool {
				return x.Name == y.Name && x.Value == y.Value
			}) {
				t.Fatalf("%v\nis not\n%v", a, b)
			}
		}
	}
}

// A call like the one before costs no allocation, whether its block is the same or only its timeout differs.
func TestRememberedBlocksCostNothing(t *testing.T) {
	var wire bytes.Buffer
	encoder := hpack.NewEncoder(&wire)
	h := newHeaderBlocks(4000, func(string) *method { return nil }, nil)
	encode := func(more ...string) []byte {
		wire.Reset()
		fields := callFields("/a/b", append(more, "x", "y")...)
		for i := 0; i < len(fields); i += 2 {
			encoder.WriteField(hpack.HeaderField{Name: fields[i], Value: fields[i+1]})
		}
		return bytes.Clone(wire.Bytes())
	}
	for range 2 {
		if _, _, err := h.request(encode()); err != nil {
			t.Fatal(err)
		}
	}
	block := encode()
	if n := testing.AllocsPerRun(100, func() { h.request(block) }); n > 0 {
		t.Errorf("%v allocations", n)
	}
	first, _, _ := h.request(encode("grpc-timeout", "1S"))
	for i := range 20 {
		r, to, err := h.request(encode("grpc-timeout", fmt.Sprint(i+2, "S")))
		if err != nil || r != first || to.duration != time.Duration(i+2)*time.Second {
			t.Fatalf("%v, %v, %v", r, to, err)
		}
	}
}

// FuzzLeavesTable holds the short look at a block against the decoder.
func FuzzLeavesTable(f *testing.F) {
	for _, seed := range []string{"", "\x82", "\x40\x01a\x01b", "\x00\x01a\x01b", "\x10\x01a\x01b", "\x20", "\x3f\xe1\x1f", "\x0f\x10\x03abc", "\xff\x80\x01"} {
		f.Add([]byte(seed))
	}
	f.Fuzz(func(t *testing.T, block []byte) {
		d := hpack.NewDecoder(4096, nil)
		// An entry that any added one, and any change of size to less, moves or removes.
		d.DecodeFull([]byte("\x40\x06marker\x01m"))
		if !leavesTable(block) {
			return
		}
		if _, err := d.DecodeFull(block); err != nil {
			return
		}
		if fields, err := d.DecodeFull([]byte{0x80 | dynamicFirst}); err != nil || fields[0].Name != "marker" {
			t.Errorf("%x changes the table: %v, %v", block, fields, err)
		}
	})
}

// Response blocks mean what they should to a decoder, in any order of calls.
func TestResponseBlocks(t *testing.T) {
	rng := rand.New(rand.NewPCG(3, 4))
	for range 100 {
		var e responseBlocks
		d := hpack.NewDecoder(4096, nil)
		for range 50 {
			var block []byte
			var want string
			switch rng.IntN(6) {
			case 0:
				block, want = e.header(nil, contentTypeGRPC), ":status=200 content-type=application/grpc "
			case 1:
				block, want = e.header(nil, contentTypeGRPC+"+proto"), ":status=200 content-type=application/grpc+proto "
			case 2, 3:
				block, want = e.ok(nil), "grpc-status=0 "
			case 4:
				long := strings.Repeat("x", rng.IntN(300))
				block, want = e.list(nil, statusFields(nil, status.New(codes.NotFound, long), nil)), "grpc-status=5 grpc-message="+long+" "
			default:
				if rng.IntN(10) == 0 {
					e.limitTable(uint32(rng.IntN(4096)))
				}
				continue
			}
			fields, err := d.DecodeFull(block)
			if err != nil {
				t.Fatal(err)
			}
			got := ""
			for _, f := range fields {
				got += f.Name + "=" + f.Value + " "
			}
			if got != want {
				t.Fatalf("%x is %q, want %q", block, got, want)
			}
		}
	}
}
