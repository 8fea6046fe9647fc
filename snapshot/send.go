package snapshot

import (
	"context"
	"encoding/binary"
	"fmt"
	"io"

	"github.com/cespare/xxhash/v2"
)

// Send sends the files of a checkpoint to a Receive at the other end of conn, which reads and writes alternately. It
// returns nil when the receiver has everything on its disk. Then conn can be used again; otherwise it is closed.
//
// Errors: ErrRefused, ErrGarbled, ErrStalled, the context's, and failures of disk and stream.
func Send(ctx context.Context, conn io.ReadWriteCloser, o SendOptions) error {
	g := newGuard(ctx, conn, o.Clock, o.Stall)
	s := &sender{
		ctx: ctx, o: o, guard: g, limit: newLimiter(o.Clock, o.BytesPerSecond),
		out: newFrameWriter(g), in: newFrameReader(g, reasonBytesMax),
	}
	if err := g.end(s.send()); err != nil {
		return fmt.Errorf("snapshot: send %s: %w", o.Dir, err)
	}
	return nil
}

type sender struct {
	ctx   context.Context
	o     SendOptions
	guard *guard
	limit *limiter
	out   *frameWriter
	in    *frameReader

	files       []file
	there       []have // by number of file
	done, total int64  // bytes
}

// have is what the receiver has of a file, perhaps.
type have struct {
	length int64
	hash   uint64
}

func (s *sender) send() (err error) {
	if len(s.o.Header) > headerBytesMax {
		return fmt.Errorf("%w: a header of %d bytes", ErrLimit, len(s.o.Header))
	}
	if s.files, s.total, err = listCheckpoint(s.o.FS, s.o.Dir); err != nil {
		return err
	}
	if err := writeOffer(s.out, Offer{Store: s.o.Store, Header: s.o.Header, Bytes: s.total}, s.files); err != nil {
		return err
	}
	if err := s.readHaves(); err != nil {
		return err
	}
	for i := range s.files {
		if err := s.sendFile(i); err != nil {
			return fmt.Errorf("file %s: %w", s.files[i].name, err)
		}
	}
	if err := s.out.frame(kindDone); err != nil {
		return err
	}
	if err := s.out.flush(); err != nil {
		return err
	}
	b, err := s.answer(kindReceived, 8)
	if err == nil && int64(binary.LittleEndian.Uint64(b)) != s.total {
		err = fmt.Errorf("%w: %d bytes received of %d", ErrGarbled, binary.LittleEndian.Uint64(b), s.total)
	}
	return err
}

// answer reads a frame of one kind, or a refusal.
func (s *sender) answer(want kind, size int) ([]byte, error) {
	k, b, err := s.in.next()
	switch {
	case err != nil:
		return nil, err
	case k == kindRefused:
		return nil, fmt.Errorf("%w: %q", ErrRefused, b)
	case k != want || len(b) != size:
		return nil, unexpected(k, b)
	}
	return b, nil
}

// readHaves reads what the receiver has from an earlier attempt.
func (s *sender) readHaves() error {
	s.there = make([]have, len(s.files))
	for next := int64(0); ; {
		k, b, err := s.in.next()
		switch {
		case err != nil:
			return err
		case k == kindRefused:
			return fmt.Errorf("%w: %q", ErrRefused, b)
		case k == kindReady:
			return nil
		case k != kindHave || len(b) != 20:
			return unexpected(k, b)
		}
		i := int64(binary.LittleEndian.Uint32(b))
		h := have{int64(binary.LittleEndian.Uint64(b[4:])), binary.LittleEndian.Uint64(b[12:])}
		if i < next || i >= int64(len(s.files)) || h.length <= 0 || h.length > s.files[i].size {
			return fmt.Errorf("%w: the receiver has %d bytes of file %d", ErrGarbled, h.length, i)
		}
		s.there[i], next = h, i+1
	}
}

func (s *sender) sendFile(i int) error {
	f, err := s.o.FS.Open(s.o.FS.PathJoin(s.o.Dir, s.files[i].name))
	if err != nil {
		return err
	}
	err = s.sendOpened(i, f)
	if cerr := f.Close(); err == nil {
		err = cerr
	}
	return err
}

func (s *sender) sendOpened(i int, f io.ReaderAt) error {
	sum, from, err := s.resume(i, f)
	if err != nil {
		return err
	}
	open := binary.LittleEndian.AppendUint32(make([]byte, 0, 12), uint32(i))
	open = binary.LittleEndian.AppendUint64(open, uint64(from))
	if err := s.out.frame(kindOpen, open); err != nil {
		return err
	}
	s.progress(from)
	for at := from; at < s.files[i].size; {
		n := min(s.files[i].size-at, s.limit.piece())
		if err := s.limit.take(s.ctx, int(n)); err != nil {
			return err
		}
		err := s.out.piece(int(n), func(b []byte) error {
			err := readAt(f, b, at)
			sum.Write(b)
			return err
		})
		if err != nil {
			return err
		}
		at += n
		s.progress(n)
	}
	return s.out.frame(kindClose, binary.LittleEndian.AppendUint64(nil, sum.Sum64()))
}

// resume finds out whether what the receiver has is the beginning of the file. It returns where to go on, and the hash
// of what is before that.
func (s *sender) resume(i int, f io.ReaderAt) (sum *xxhash.Digest, from int64, err error) {
	h := s.there[i]
	sum, err = hashPrefix(s.ctx, s.guard, f, h.length)
	if err != nil {
		return nil, 0, err
	}
	if h.length > 0 && sum.Sum64() != h.hash {
		return xxhash.New(), 0, nil
	}
	return sum, h.length, nil
}

func (s *sender) progress(n int64) {
	s.done += n
	s.o.progress(s.done, s.total)
}

// hashPrefix hashes the first bytes of a file.
func hashPrefix(ctx context.Context, g *guard, f io.ReaderAt, length int64) (*xxhash.Digest, error) {
	sum := xxhash.New()
	if length == 0 {
		return sum, nil
	}
	buf := make([]byte, min(length, pieceBytesMax))
	for at := int64(0); at < length; {
		if err := ctx.Err(); err != nil {
			return nil, err
		}
		b := buf[:min(length-at, pieceBytesMax)]
		if err := readAt(f, b, at); err != nil {
			return nil, err
		}
		sum.Write(b)
		at += int64(len(b))
		g.touch()
	}
	return sum, nil
}

// readAt reads as many bytes as b has room for: a file that ends before was changed.
func readAt(f io.ReaderAt, b []byte, at int64) error {
	_, err := io.ReadFull(io.NewSectionReader(f, at, int64(len(b))), b)
	return cutOff(err)
}
