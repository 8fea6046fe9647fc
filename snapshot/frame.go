package snapshot

import (
	"encoding/binary"
	"fmt"
	"hash/crc32"
	"io"
)

// A stream begins, in the sender's direction only, with
//
//	"KSNP" | version(1) = 1
//
// What follows, in both directions, are frames:
//
//	kind(1) | length(4) | CRC-32C(4) | payload(length)      all little endian
//
// The checksum is that of number(8) | kind | length | payload, where the number, which is not sent, counts the frames of
// its direction from 0: a frame that is lost, repeated or out of place is found out.
var prologue = []byte{'K', 'S', 'N', 'P', streamVersion}

const (
	streamVersion   = 1
	frameHeaderSize = 9
)

// kind tells frames apart.
type kind byte

// From the sender.
const (
	kindBegin   kind = 1 // store(16) | header length(4) | number of files(4) | bytes of all files(8)
	kindHeader  kind = 2 // the next piece of the header
	kindFile    kind = 3 // size(8) | name: the next file, in order of names
	kindOffered kind = 4 // nothing: the offer is complete
	kindOpen    kind = 5 // number of the file(4) | from(8): what follows belongs there
	kindPiece   kind = 6 // the next bytes of the file
	kindClose   kind = 7 // xxhash64(8) of the whole file
	kindDone    kind = 8 // nothing: that were all files
)

// From the receiver.
const (
	kindHave     kind = 16 // number of the file(4) | length(8) | xxhash64(8) of so many bytes: what is there
	kindReady    kind = 17 // nothing: all that is there has been named
	kindRefused  kind = 18 // the reason, as text
	kindReceived kind = 19 // bytes of all files(8): all is on the disk
)

const reasonBytesMax = 1 << 10

// payloadMax bounds the payload of a kind, -1 for kinds that there are not.
func payloadMax(k kind) int {
	switch k {
	case kindBegin:
		return 32
	case kindHeader, kindPiece:
		return pieceBytesMax
	case kindFile:
		return 8 + 100
	case kindOpen:
		return 12
	case kindClose, kindReceived:
		return 8
	case kindHave:
		return 20
	case kindRefused:
		return reasonBytesMax
	case kindOffered, kindDone, kindReady:
		return 0
	}
	return -1
}

var castagnoli = crc32.MakeTable(crc32.Castagnoli)

// frameSum is the checksum of a frame whose header (but for the checksum) is head[:5].
func frameSum(number uint64, head, payload []byte) uint32 {
	var n [8]byte
	binary.LittleEndian.PutUint64(n[:], number)
	sum := crc32.Update(crc32.Checksum(n[:], castagnoli), castagnoli, head[:5])
	return crc32.Update(sum, castagnoli, payload)
}

// frameWriter writes frames. Small ones are gathered until flush.
type frameWriter struct {
	w      io.Writer
	number uint64
	buf    []byte
}

// gatherBytesMax is how much is gathered before it is written.
const gatherBytesMax = 32 << 10

func newFrameWriter(w io.Writer) *frameWriter {
	return &frameWriter{w: w, buf: make([]byte, 0, gatherBytesMax+frameHeaderSize+pieceBytesMax)}
}

// raw writes bytes that are no frame.
func (f *frameWriter) raw(b []byte) { f.buf = append(f.buf, b...) }

// frame adds a frame whose payload is given in pieces.
func (f *frameWriter) frame(k kind, payload ...[]byte) error {
	at := len(f.buf)
	f.buf = append(f.buf, make([]byte, frameHeaderSize)...)
	for _, p := range payload {
		f.buf = append(f.buf, p...)
	}
	f.seal(k, at)
	if len(f.buf) >= gatherBytesMax {
		return f.flush()
	}
	return nil
}

// piece writes a frame with n bytes that fill provides.
func (f *frameWriter) piece(n int, fill func([]byte) error) error {
	at := len(f.buf)
	f.buf = f.buf[:at+frameHeaderSize+n]
	if err := fill(f.buf[at+frameHeaderSize:]); err != nil {
		return err
	}
	f.seal(kindPiece, at)
	return f.flush()
}

// seal fills in the header of the frame that begins at an offset of the buffer and reaches to its end.
func (f *frameWriter) seal(k kind, at int) {
	head, payload := f.buf[at:at+frameHeaderSize], f.buf[at+frameHeaderSize:]
	if len(payload) > payloadMax(k) {
		panic(fmt.Sprintf("snapshot: a frame of kind %d with %d bytes", k, len(payload)))
	}
	head[0] = byte(k)
	binary.LittleEndian.PutUint32(head[1:], uint32(len(payload)))
	binary.LittleEndian.PutUint32(head[5:], frameSum(f.number, head, payload))
	f.number++
}

func (f *frameWriter) flush() error {
	_, err := f.w.Write(f.buf)
	f.buf = f.buf[:0]
	return err
}

// frameReader reads frames.
type frameReader struct {
	r      io.Reader
	number uint64
	head   [frameHeaderSize]byte
	buf    []byte // for payloads
}

func newFrameReader(r io.Reader, payloadBytesMax int) *frameReader {
	return &frameReader{r: r, buf: make([]byte, payloadBytesMax)}
}

// next reads a frame. The payload is valid until the next one. Errors: ErrGarbled, and those of the stream.
func (f *frameReader) next() (kind, []byte, error) {
	if _, err := io.ReadFull(f.r, f.head[:]); err != nil {
		return 0, nil, cutOff(err)
	}
	k, n := kind(f.head[0]), binary.LittleEndian.Uint32(f.head[1:])
	if bound := min(payloadMax(k), len(f.buf)); int64(n) > int64(bound) {
		return 0, nil, fmt.Errorf("%w: frame %d is of kind %d and %d bytes", ErrGarbled, f.number, k, n)
	}
	payload := f.buf[:n]
	if _, err := io.ReadFull(f.r, payload); err != nil {
		return 0, nil, cutOff(err)
	}
	if sum := binary.LittleEndian.Uint32(f.head[5:]); sum != frameSum(f.number, f.head[:], payload) {
		return 0, nil, fmt.Errorf("%w: frame %d of kind %d does not have its checksum", ErrGarbled, f.number, k)
	}
	f.number++
	return k, payload, nil
}

// expect reads a frame that has to be of one kind and, unless size is negative, of one size.
func (f *frameReader) expect(want kind, size int) ([]byte, error) {
	k, payload, err := f.next()
	if err != nil {
		return nil, err
	}
	if k != want || size >= 0 && len(payload) != size {
		return nil, unexpected(k, payload)
	}
	return payload, nil
}

func unexpected(k kind, payload []byte) error {
	return fmt.Errorf("%w: a frame of kind %d with %d bytes out of place", ErrGarbled, k, len(payload))
}

// cutOff says that a stream may not end here.
func cutOff(err error) error {
	if err == io.EOF {
		return io.ErrUnexpectedEOF
	}
	return err
}
