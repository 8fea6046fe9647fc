package command

import (
	"encoding/binary"
	"errors"
	"fmt"
	"math"

	"google.golang.org/protobuf/encoding/protowire"
)

// ErrMalformed is in every error about bytes that are not what this package wrote. Within the log it means damage, or
// a writer newer than this reader: the member must not go on.
var ErrMalformed = errors.New("malformed command")

// fields reads a message field by field. Only numbers and length-prefixed bytes exist. A field read as what it is not, or
// one that nobody knows, is an error: it ends the reading, and is kept in err.
type fields struct {
	rest []byte
	what string // for errors: what the message is
	err  error

	// The field read last: a number or bytes, as isBytes says.
	n       protowire.Number
	isBytes bool
	number  uint64
	bytes   []byte
}

// next reads the next field. It is false after the last one and after an error.
func (f *fields) next() bool {
	b := f.rest
	if len(b) == 0 || f.err != nil {
		return false
	}
	tag, k := uvarint(b)
	if k <= 0 || tag>>3 > uint64(protowire.MaxValidNumber) || tag>>3 == 0 {
		f.fail("broken field number")
		return false
	}
	b = b[k:]
	f.n = protowire.Number(tag >> 3)
	number, k := uvarint(b)
	if k <= 0 {
		f.fail("field %d: broken number", f.n)
		return false
	}
	b = b[k:]
	switch protowire.Type(tag & 7) {
	case protowire.VarintType:
		f.isBytes, f.number, f.rest = false, number, b
		return true
	case protowire.BytesType:
		if number > uint64(len(b)) {
			f.fail("field %d is longer than its message", f.n)
			return false
		}
		f.isBytes, f.bytes, f.rest = true, b[:number:number], b[number:]
		return true
	}
	f.fail("field %d of wire type %d", f.n, tag&7)
	return false
}

// uvarint is binary.Uvarint, quick for small numbers.
func uvarint(b []byte) (v uint64, size int) {
	if len(b) > 0 && b[0] < 0x80 {
		return uint64(b[0]), 1
	}
	return binary.Uvarint(b)
}

// fail keeps the first error.
func (f *fields) fail(format string, args ...any) {
	if f.err == nil {
		f.err = fmt.Errorf("%w: %s: "+format, append([]any{ErrMalformed, f.what}, args...)...)
	}
}

// unknown is for a field that the message does not have.
func (f *fields) unknown() { f.fail("unknown field %d", f.n) }

// asBytes is the field's bytes. They alias the message.
func (f *fields) asBytes() []byte {
	if f.isBytes {
		return f.bytes
	}
	return f.notBytes()
}

func (f *fields) asString() string { return string(f.asBytes()) }

func (f *fields) asUint() uint64 {
	if f.isBytes {
		return f.notNumber()
	}
	return f.number
}

func (f *fields) asInt() int64 { return int64(f.asUint()) }

func (f *fields) asBool() bool { return f.asUint() != 0 }

// asInt32 is the number, or the nearest there is: an enum number out of range is as unknown as its neighbour.
func (f *fields) asInt32() int32 { return int32(min(max(f.asInt(), math.MinInt32), math.MaxInt32)) }

// asUint32 is the number, or the nearest there is.
func (f *fields) asUint32() uint32 { return uint32(min(f.asUint(), math.MaxUint32)) }

// Both stand apart so that the quick way is short enough to be inlined.

func (f *fields) notBytes() []byte {
	f.fail("field %d is a number", f.n)
	return nil
}

func (f *fields) notNumber() uint64 {
	f.fail("field %d is no number", f.n)
	return 0
}
