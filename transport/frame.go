package transport

import (
	"bufio"
	"encoding/binary"
	"fmt"
	"hash/crc32"
	"io"
)

// A frame is
//
//	0   4  length of the tail, little endian, at most what its stream allows
//	4   2  length of the head
//	6   1  type
//	7   1  zero
//	8   4  CRC32C of the tail, little endian
//	12  4  CRC32C of bytes 0 to 11 and of the head
//	16     head, then tail
//
// The tail has a checksum of its own so that it is computed once for all peers it goes to. The head's covers it, and the
// lengths, before anything of that size is allocated.
const frameHeaderBytes = 16

type frameType uint8

const (
	frameMessage frameType = 1 // head: a message; tail: its entries
	framePing    frameType = 2 // head: 8 bytes, of the side that dialed
	framePong    frameType = 3 // head: the ping's; 0: nobody asked, but bytes arrive

	pingHeadBytes = 8
)

// beginFrame reserves room for a frame's header behind b. The head follows; endFrame completes it.
func beginFrame(b []byte) []byte { return append(b, make([]byte, frameHeaderBytes)...) }

// endFrame fills in the header of the frame that begins at b[at] and whose head reaches to the end of b.
func endFrame(b []byte, at int, t frameType, tailBytes int, tailCRC uint32) {
	h := b[at:]
	binary.LittleEndian.PutUint32(h, uint32(tailBytes))
	binary.LittleEndian.PutUint16(h[4:], uint16(len(h)-frameHeaderBytes))
	h[6] = byte(t)
	binary.LittleEndian.PutUint32(h[8:], tailCRC)
	crc := crc32.Update(crc32.Checksum(h[:12], castagnoli), castagnoli, h[frameHeaderBytes:])
	binary.LittleEndian.PutUint32(h[12:], crc)
}

// appendPing encodes a ping or pong.
func appendPing(b []byte, t frameType, token uint64) []byte {
	at := len(b)
	b = binary.LittleEndian.AppendUint64(beginFrame(b), token)
	endFrame(b, at, t, 0, 0)
	return b
}

// frame is one as it was read. The head is valid until the next is read; the tail belongs to whoever wants it.
type frame struct {
	typ        frameType
	head, tail []byte
}

// frameReader reads frames of bounded size.
type frameReader struct {
	r            *bufio.Reader // its buffer holds a header with the longest head
	headBytesMax int
	tailBytesMax int
	held         int // bytes of the frame read last that are still in the buffer
	headCopy     []byte
}

// header checks the bounds in a header.
func (f *frameReader) header(h []byte) (head, tail int, err error) {
	head, tail = int(binary.LittleEndian.Uint16(h[4:])), int(binary.LittleEndian.Uint32(h))
	t := frameType(h[6])
	switch {
	case head > f.headBytesMax || tail > f.tailBytesMax:
		return 0, 0, fmt.Errorf("%w: %d and %d bytes, the limits are %d and %d", errMalformed, head, tail, f.headBytesMax, f.tailBytesMax)
	case t < frameMessage || t > framePong || h[7] != 0:
		return 0, 0, fmt.Errorf("%w: type %d, %d", errMalformed, t, h[7])
	case t != frameMessage && (head != pingHeadBytes || tail > 0):
		return 0, 0, fmt.Errorf("%w: %d and %d bytes in a frame of type %d", errMalformed, head, tail, t)
	}
	return head, tail, nil
}

// next reads a frame.
//
// Errors: errMalformed; io.EOF between frames, io.ErrUnexpectedEOF within one; what the connection says.
func (f *frameReader) next() (frame, error) {
	f.release()
	h, err := f.r.Peek(frameHeaderBytes)
	if err != nil {
		if err == io.EOF && len(h) > 0 {
			err = io.ErrUnexpectedEOF
		}
		return frame{}, err
	}
	head, tail, err := f.header(h)
	if err != nil {
		return frame{}, err
	}
	if h, err = f.r.Peek(frameHeaderBytes + head); err != nil {
		return frame{}, unexpected(err)
	}
	crc := crc32.Update(crc32.Checksum(h[:12], castagnoli), castagnoli, h[frameHeaderBytes:])
	if want := binary.LittleEndian.Uint32(h[12:]); crc != want {
		return frame{}, fmt.Errorf("%w: checksum of the head is %08x, not %08x", errMalformed, crc, want)
	}
	out := frame{typ: frameType(h[6]), head: h[frameHeaderBytes:]}
	tailCRC := binary.LittleEndian.Uint32(h[8:])
	if tail == 0 {
		if tailCRC != 0 {
			return frame{}, fmt.Errorf("%w: checksum %08x of no tail", errMalformed, tailCRC)
		}
		f.held = len(h)
		return out, nil
	}
	// Reading the tail moves the buffer under the head.
	f.headCopy = append(f.headCopy[:0], out.head...)
	out.head = f.headCopy
	f.held = len(h)
	f.release()
	if out.tail, err = readTail(f.r, tail); err != nil {
		return frame{}, unexpected(err)
	}
	if crc := crc32.Checksum(out.tail, castagnoli); crc != tailCRC {
		return frame{}, fmt.Errorf("%w: checksum of the tail is %08x, not %08x", errMalformed, crc, tailCRC)
	}
	return out, nil
}

// release gives up the part of the buffer that the last frame's head lies in.
func (f *frameReader) release() {
	f.r.Discard(f.held) // can't fail: the bytes were peeked
	f.held = 0
}

// ready reports whether a whole frame, or one that will be refused, lies in the buffer: next would not wait.
func (f *frameReader) ready() bool {
	f.release()
	if f.r.Buffered() < frameHeaderBytes {
		return false
	}
	h, _ := f.r.Peek(frameHeaderBytes)
	head, tail, err := f.header(h)
	return err != nil || f.r.Buffered() >= frameHeaderBytes+head+tail
}

func unexpected(err error) error {
	if err == io.EOF {
		return io.ErrUnexpectedEOF
	}
	return err
}

// tailStepBytes is how much memory a length alone may ask for. Beyond that, as much again as has arrived.
const tailStepBytes = 1 << 20

func readTail(r io.Reader, size int) ([]byte, error) {
	b := make([]byte, min(size, tailStepBytes))
	for at := 0; ; {
		n, err := io.ReadFull(r, b[at:])
		at += n
		if err != nil || at == size {
			return b, err
		}
		larger := make([]byte, min(size, 2*len(b)))
		copy(larger, b)
		b = larger
	}
}
