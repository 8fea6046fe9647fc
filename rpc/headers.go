package rpc

import (
	"bytes"
	"errors"
	"slices"
	"time"

	"golang.org/x/net/http2"
	"golang.org/x/net/http2/hpack"
)

const (
	// tableBytes is the size of the dynamic table that clients may use: the protocol's default.
	tableBytes = 4 << 10
	// fragmentsMax bounds the frames of one header block, of which any number may be empty.
	fragmentsMax = 64
	// Remembered for each connection: header blocks by their bytes, and requests by their fields.
	knownBlocks   = 8
	knownRequests = 8
	// knownBlockMax is the largest block that is remembered.
	knownBlockMax = 256
)

// headerBlocks decodes the header blocks of a connection. Its only user is the goroutine that reads.
//
// The calls of one client differ in little. A block that neither uses the dynamic table in a new way nor changes it
// means the same as the last time it came, for as long as the table stays as it is; so a call often costs one comparison.
// Where blocks differ, because each brings its own timeout, the fields mostly are those of a call before.
type headerBlocks struct {
	bytesMax int // of the fields of one block, as RFC 9113, 6.5.2, counts them
	find     func(path string) *method
	observe  func(f hpack.HeaderField) // may be nil

	decoder  *hpack.Decoder
	fields   []hpack.HeaderField // of the block being decoded
	size     int
	tooLarge bool

	blocks   []knownBlock // valid for the table as it is
	requests []*request
	nextOld  int // of blocks and requests: replaced next
}

type knownBlock struct {
	block   []byte
	request *request
	timeout timeout
}

// timeout is what a call says of its time.
type timeout struct {
	set      bool
	duration time.Duration
}

func newHeaderBlocks(bytesMax int, find func(string) *method, observe func(hpack.HeaderField)) *headerBlocks {
	h := &headerBlocks{bytesMax: bytesMax, find: find, observe: observe}
	h.decoder = hpack.NewDecoder(tableBytes, h.emit)
	h.decoder.SetMaxStringLength(bytesMax)
	return h
}

func (h *headerBlocks) emit(f hpack.HeaderField) {
	if h.observe != nil {
		h.observe(f)
	}
	h.size += int(f.Size())
	if h.size > h.bytesMax {
		h.tooLarge = true
		h.decoder.SetEmitEnabled(false)
		return
	}
	h.fields = append(h.fields, f)
}

// request decodes the block that opens a stream. The error is one of the connection: the table is lost.
func (h *headerBlocks) request(block []byte) (*request, timeout, error) {
	fixed := leavesTable(block)
	if fixed {
		for i := range h.blocks {
			if bytes.Equal(h.blocks[i].block, block) {
				return h.blocks[i].request, h.blocks[i].timeout, nil
			}
		}
	} else {
		h.blocks = h.blocks[:0]
	}
	if err := h.decode(block); err != nil {
		return nil, timeout{}, err
	}
	if h.tooLarge {
		return tooLargeRequest, timeout{}, nil
	}
	r, t := h.recall()
	if fixed && len(block) <= knownBlockMax {
		h.remember(knownBlock{slices.Clone(block), r, t})
	}
	return r, t, nil
}

// trailers decodes the block that ends a request, whose fields nobody asks for. It reports whether they are in order.
func (h *headerBlocks) trailers(block []byte) (ok bool, err error) {
	h.blocks = h.blocks[:0]
	if err := h.decode(block); err != nil {
		return false, err
	}
	for _, f := range h.fields {
		if f.IsPseudo() || malformedField(f) != "" {
			return false, nil
		}
	}
	return true, nil
}

// skip decodes a block for what it does to the table.
func (h *headerBlocks) skip(block []byte) error {
	h.blocks = h.blocks[:0]
	return h.decode(block)
}

func (h *headerBlocks) decode(block []byte) error {
	clear(h.fields)
	h.fields, h.size, h.tooLarge = h.fields[:0], 0, false
	h.decoder.SetEmitEnabled(true)
	_, err := h.decoder.Write(block)
	if err == nil {
		err = h.decoder.Close()
	}
	switch {
	case err == nil:
		return nil
	case errors.Is(err, hpack.ErrStringLength):
		return violation(http2.ErrCodeEnhanceYourCalm, "a header field of more than %d bytes", h.bytesMax)
	}
	return violation(http2.ErrCodeCompression, "%v", err)
}

// recall finds or makes the request that has the fields just decoded, apart from its timeout.
func (h *headerBlocks) recall() (*request, timeout) {
	var t timeout
	var malformed error
	fields := h.fields
	for i, f := range fields {
		if f.Name == "grpc-timeout" {
			t.set = true
			if t.duration, malformed = parseTimeout(f.Value); malformed != nil {
				return malformedTimeout(h.find, fields, malformed), timeout{}
			}
			fields = slices.Delete(fields, i, i+1)
			break
		}
	}
	for _, r := range h.requests {
		if slices.Equal(r.fields, fields) {
			return r, t
		}
	}
	r := newRequest(h.find, slices.Clone(fields))
	if len(h.requests) < knownRequests {
		h.requests = append(h.requests, r)
	} else {
		h.nextOld = (h.nextOld + 1) % knownRequests
		h.requests[h.nextOld] = r
	}
	return r, t
}

func (h *headerBlocks) remember(b knownBlock) {
	if len(h.blocks) < knownBlocks {
		h.blocks = append(h.blocks, b)
		return
	}
	h.nextOld = (h.nextOld + 1) % knownBlocks
	h.blocks[h.nextOld] = b
}

// leavesTable reports whether a header block neither adds to the dynamic table nor changes its size. RFC 7541, 6. Of a
// block that is cut off it reports false.
func leavesTable(block []byte) bool {
	for len(block) > 0 {
		b := block[0]
		var ok bool
		switch {
		case b&0x80 != 0: // indexed
			if _, block, ok = varint(block, 7); !ok {
				return false
			}
		case b&0xc0 == 0x40, b&0xe0 == 0x20: // added; size update
			return false
		default: // literal, not added
			var index int
			if index, block, ok = varint(block, 4); !ok {
				return false
			}
			if index == 0 {
				if block, ok = skipString(block); !ok {
					return false
				}
			}
			if block, ok = skipString(block); !ok {
				return false
			}
		}
	}
	return true
}

func skipString(b []byte) (rest []byte, ok bool) {
	n, rest, ok := varint(b, 7)
	if !ok || n > len(rest) {
		return nil, false
	}
	return rest[n:], true
}

// varint reads an integer with a prefix of the given number of bits. RFC 7541, 5.1.
func varint(b []byte, prefixBits uint) (n int, rest []byte, ok bool) {
	if len(b) == 0 {
		return 0, nil, false
	}
	full := 1<<prefixBits - 1
	n = int(b[0]) & full
	if n < full {
		return n, b[1:], true
	}
	for i := 1; i < len(b) && i <= 4; i++ {
		n += int(b[i]&0x7f) << (7 * (i - 1))
		if b[i]&0x80 == 0 {
			return n, b[i+1:], true
		}
	}
	return 0, nil, false
}
