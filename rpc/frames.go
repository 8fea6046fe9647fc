package rpc

import (
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"net"
	"sync"

	"golang.org/x/net/http2"
)

// A frame on the wire, RFC 9113, 4.1:
//
//	length   3 bytes, of the payload
//	type     1 byte
//	flags    1 byte
//	stream   4 bytes, the highest bit reserved
//	payload
const (
	frameHeaderBytes = 9
	// frameBytesMax is the largest payload that is accepted: what the protocol allows where nothing else was announced.
	frameBytesMax = 16 << 10
)

// frame is one frame as it lies in the read buffer. payload is valid until the next read.
type frame struct {
	kind    http2.FrameType
	flags   http2.Flags
	stream  uint32
	payload []byte
}

// connError is a violation that ends the connection.
type connError struct {
	code   http2.ErrCode
	reason string
}

func (e *connError) Error() string { return fmt.Sprintf("rpc: %s: %s", e.code, e.reason) }

func violation(code http2.ErrCode, format string, args ...any) error {
	return &connError{code, fmt.Sprintf(format, args...)}
}

// streamError is a violation that ends one stream.
type streamError struct {
	stream uint32
	code   http2.ErrCode
	reason string
}

// asStreamError returns the violation that an error is; nil: it is none of a stream.
func asStreamError(err error) *streamError {
	if err == nil {
		return nil
	}
	var e *streamError
	errors.As(err, &e)
	return e
}

func (e *streamError) Error() string {
	return fmt.Sprintf("rpc: stream %d: %s: %s", e.stream, e.code, e.reason)
}

// Sizes of the read buffer. It begins small, because most connections idle, and grows while reads fill it.
const (
	inputBytesMin = 4 << 10
	inputBytesMax = 64 << 10
)

// input is the read side of a connection: frames are parsed where they were read, none is copied. Its only user is the
// goroutine that reads.
type input struct {
	from       io.Reader
	late       lateReader // from, if it can
	buf        []byte     // nil: there is nothing in it
	start, end int        // buf[start:end] was read and not consumed; start <= end
	crowded    bool

	lend func() []byte // kept, so that a read allocates nothing
	back func()
}

// lateReader is a connection that is read into memory which it asks for when there is something to read, and may give back.
//
// Errors: errors.ErrUnsupported, every time, if it can't after all.
type lateReader interface {
	ReadLate(lend func() []byte, back func()) (n int, err error)
}

// smallInputs are buffers that no connection needs, because it has nothing to read.
var smallInputs = sync.Pool{New: func() any { return new([inputBytesMin]byte) }}

// init is called once. The input stays where it is.
func (in *input) init(from net.Conn) {
	in.from = from
	in.late, _ = from.(lateReader)
	in.lend = func() []byte {
		in.buf = smallInputs.Get().(*[inputBytesMin]byte)[:]
		return in.buf
	}
	in.back = func() {
		if len(in.buf) == inputBytesMin {
			smallInputs.Put((*[inputBytesMin]byte)(in.buf))
		}
		in.buf = nil
	}
}

func (in *input) buffered() []byte { return in.buf[in.start:in.end] }

// hasFrame reports whether the next frame can be had without reading.
func (in *input) hasFrame() bool {
	b := in.buffered()
	return len(b) >= frameHeaderBytes && len(b) >= frameHeaderBytes+payloadBytes(b)
}

// payloadBytes is what a frame header says about its payload.
func payloadBytes(header []byte) int {
	return int(header[0])<<16 | int(header[1])<<8 | int(header[2])
}

// read makes one read. There is always room: nothing that is waited for is larger than the buffer can grow to.
func (in *input) read() error {
	in.makeRoom()
	n, err := in.readSome()
	in.end += n
	in.crowded = in.end == len(in.buf)
	if n > 0 {
		return nil
	}
	if err == nil {
		return io.ErrNoProgress
	}
	return err
}

// readSome reads behind what is there. With nothing there, a small buffer is given back until something comes.
func (in *input) readSome() (int, error) {
	if in.late != nil && in.end == 0 && len(in.buf) <= inputBytesMin {
		in.back()
		n, err := in.late.ReadLate(in.lend, in.back)
		if !errors.Is(err, errors.ErrUnsupported) {
			return n, err
		}
		in.late = nil
	}
	if in.buf == nil {
		in.lend()
	}
	return in.from.Read(in.buf[in.end:])
}

func (in *input) makeRoom() {
	if in.start == in.end {
		in.start, in.end = 0, 0
	}
	if in.buf == nil {
		return
	}
	if in.crowded && len(in.buf) < inputBytesMax || in.end-in.start == len(in.buf) {
		larger := make([]byte, 2*len(in.buf))
		in.end = copy(larger, in.buffered())
		in.buf, in.start = larger, 0
	} else if in.start > 0 {
		in.end = copy(in.buf, in.buffered())
		in.start = 0
	}
}

// take consumes n buffered bytes, or fewer if there are fewer.
func (in *input) take(n int) []byte {
	n = min(n, in.end-in.start)
	b := in.buf[in.start : in.start+n]
	in.start += n
	return b
}

// full reads until n bytes are buffered. io.EOF comes only where nothing is.
func (in *input) full(n int) error {
	for in.end-in.start < n {
		if err := in.read(); err != nil {
			if err == io.EOF && in.end > in.start {
				return io.ErrUnexpectedEOF
			}
			return err
		}
	}
	return nil
}

// tooLong is the error of a frame that says that it is larger than it may be.
func (in *input) tooLong() error {
	if b := in.buffered(); len(b) >= frameHeaderBytes && payloadBytes(b) > frameBytesMax {
		return violation(http2.ErrCodeFrameSize, "a frame of %d bytes", payloadBytes(b))
	}
	return nil
}

// next consumes the next frame, which it waits for.
func (in *input) next() (frame, error) {
	if err := in.full(frameHeaderBytes); err != nil {
		return frame{}, err
	}
	if err := in.tooLong(); err != nil {
		return frame{}, err
	}
	n := payloadBytes(in.buffered())
	if err := in.full(frameHeaderBytes + n); err != nil {
		return frame{}, err
	}
	b := in.take(frameHeaderBytes + n)
	return frame{
		kind: http2.FrameType(b[3]), flags: http2.Flags(b[4]),
		stream:  binary.BigEndian.Uint32(b[5:]) &^ (1 << 31),
		payload: b[frameHeaderBytes:],
	}, nil
}

// unpadded is the payload of a DATA or HEADERS frame without its padding.
func (f *frame) unpadded() ([]byte, error) {
	if !f.flags.Has(http2.FlagDataPadded) {
		return f.payload, nil
	}
	if len(f.payload) == 0 || int(f.payload[0]) >= len(f.payload) {
		return nil, violation(http2.ErrCodeProtocol, "padding longer than its frame")
	}
	return f.payload[1 : len(f.payload)-int(f.payload[0])], nil
}

// headerFragment is the part of a header block that a HEADERS frame holds.
func (f *frame) headerFragment() ([]byte, error) {
	b, err := f.unpadded()
	if err != nil || !f.flags.Has(http2.FlagHeadersPriority) {
		return b, err
	}
	if len(b) < 5 {
		return nil, violation(http2.ErrCodeFrameSize, "a HEADERS frame too short for its priority")
	}
	if binary.BigEndian.Uint32(b)&^(1<<31) == f.stream {
		return b[5:], &streamError{f.stream, http2.ErrCodeProtocol, "a stream that depends on itself"}
	}
	return b[5:], nil
}

func appendFrameHeader(b []byte, n int, kind http2.FrameType, flags http2.Flags, stream uint32) []byte {
	return append(b, byte(n>>16), byte(n>>8), byte(n), byte(kind), byte(flags),
		byte(stream>>24), byte(stream>>16), byte(stream>>8), byte(stream))
}

func appendReset(b []byte, stream uint32, code http2.ErrCode) []byte {
	b = appendFrameHeader(b, 4, http2.FrameRSTStream, 0, stream)
	return binary.BigEndian.AppendUint32(b, uint32(code))
}

func appendWindowUpdate(b []byte, stream uint32, increment int) []byte {
	b = appendFrameHeader(b, 4, http2.FrameWindowUpdate, 0, stream)
	return binary.BigEndian.AppendUint32(b, uint32(increment))
}

func appendPing(b []byte, flags http2.Flags, data []byte) []byte {
	return append(appendFrameHeader(b, 8, http2.FramePing, flags, 0), data...)
}

func appendGoAway(b []byte, last uint32, code http2.ErrCode, debug string) []byte {
	b = appendFrameHeader(b, 8+len(debug), http2.FrameGoAway, 0, 0)
	b = binary.BigEndian.AppendUint32(b, last)
	b = binary.BigEndian.AppendUint32(b, uint32(code))
	return append(b, debug...)
}

func appendSettings(b []byte, settings []http2.Setting) []byte {
	b = appendFrameHeader(b, 6*len(settings), http2.FrameSettings, 0, 0)
	for _, s := range settings {
		b = binary.BigEndian.AppendUint16(b, uint16(s.ID))
		b = binary.BigEndian.AppendUint32(b, s.Val)
	}
	return b
}

func appendSettingsAck(b []byte) []byte {
	return appendFrameHeader(b, 0, http2.FrameSettings, http2.FlagSettingsAck, 0)
}

// appendHeaderFrames writes one header block, in several frames if it is larger than one may be.
func appendHeaderFrames(b []byte, stream uint32, block []byte, endStream bool, frameMax int) []byte {
	flags := http2.Flags(0)
	if endStream {
		flags |= http2.FlagHeadersEndStream
	}
	kind := http2.FrameHeaders
	for {
		n := min(len(block), frameMax)
		if n == len(block) {
			flags |= http2.FlagHeadersEndHeaders
		}
		b = appendFrameHeader(b, n, kind, flags, stream)
		b = append(b, block[:n]...)
		if block = block[n:]; len(block) == 0 {
			return b
		}
		kind, flags = http2.FrameContinuation, 0
	}
}
