package snapshot

import (
	"context"
	"encoding/binary"
	"encoding/hex"
	"fmt"
	"io"
	"slices"

	"github.com/cespare/xxhash/v2"
	"github.com/cockroachdb/pebble/v2/vfs"
)

// Receive receives what a Send at the other end of conn sends, into a directory of its own below o.Dir, and returns when
// everything is on the disk, as the sender has it. Then conn can be used again; otherwise it is closed, and what has come
// stays for the next attempt.
//
// Errors: ErrVersion, ErrGarbled, ErrLimit, ErrStalled, the context's, that of Accept, and failures of disk and stream.
func Receive(ctx context.Context, conn io.ReadWriteCloser, o ReceiveOptions) (Received, error) {
	g := newGuard(ctx, conn, o.Clock, o.Stall)
	r := &receiver{ctx: ctx, o: o, guard: g, out: newFrameWriter(g), in: newFrameReader(g, pieceBytesMax)}
	if err := g.end(r.receive()); err != nil {
		return Received{}, fmt.Errorf("snapshot: receive: %w", err)
	}
	return Received{Offer: r.offer, Dir: r.dir, Resumed: r.resumed}, nil
}

type receiver struct {
	ctx   context.Context
	o     ReceiveOptions
	guard *guard
	out   *frameWriter
	in    *frameReader

	offer   Offer
	dir     string
	files   []file
	there   []prefix // by number of file
	done    int64    // bytes
	resumed int64
}

// prefix is the beginning of a file, from an earlier attempt.
type prefix struct {
	length int64
	sum    *xxhash.Digest // nil if there is nothing
}

func (r *receiver) receive() error {
	if err := r.readOffer(); err != nil {
		return err
	}
	if err := r.prepare(); err != nil {
		return r.refuse(err)
	}
	if err := r.out.frame(kindReady); err != nil {
		return err
	}
	if err := r.out.flush(); err != nil {
		return err
	}
	for i := range r.files {
		if err := r.receiveFile(i); err != nil {
			return fmt.Errorf("file %s: %w", r.path(i), err)
		}
	}
	if _, err := r.in.expect(kindDone, 0); err != nil {
		return err
	}
	if err := syncDir(r.o.FS, r.dir); err != nil {
		return r.refuse(err)
	}
	if err := r.out.frame(kindReceived, binary.LittleEndian.AppendUint64(nil, uint64(r.offer.Bytes))); err != nil {
		return err
	}
	return r.out.flush()
}

func (r *receiver) readOffer() error {
	offers := offerReader{frames: r.in, filesMax: r.o.filesMax(), bytesMax: r.o.BytesMax}
	if err := offers.read(); err != nil {
		return err
	}
	r.offer, r.files = offers.offer, offers.files
	if r.o.Accept != nil {
		if err := r.o.Accept(r.offer); err != nil {
			return r.refuse(err)
		}
	}
	return nil
}

// refuse tells the sender why there will be no snapshot. It is for moments at which the sender listens.
func (r *receiver) refuse(reason error) error {
	text := reason.Error()
	if r.out.frame(kindRefused, []byte(text[:min(len(text), reasonBytesMax)])) == nil {
		r.out.flush() // if that fails too, the reason counts
	}
	return reason
}

// prepare makes the directory of the attempt, and names what is in it to the sender.
func (r *receiver) prepare() error {
	fs := r.o.FS
	name := hex.EncodeToString(r.offer.Store[:])
	r.dir = fs.PathJoin(r.o.Dir, name)
	if err := keepOnly(fs, r.o.Dir, name); err != nil {
		return err
	}
	if err := fs.MkdirAll(r.dir, 0o700); err != nil {
		return err
	}
	if err := syncDir(fs, r.o.Dir); err != nil {
		return err
	}
	names := make([]string, len(r.files))
	for i, f := range r.files {
		names[i] = f.name
	}
	if err := keepOnly(fs, r.dir, names...); err != nil {
		return err
	}
	r.there = make([]prefix, len(r.files))
	found, err := fs.List(r.dir)
	if err != nil {
		return err
	}
	slices.Sort(found)
	for _, name := range found {
		i, _ := slices.BinarySearch(names, name)
		if err := r.lookAt(i); err != nil {
			return err
		}
	}
	return nil
}

// lookAt names what is there of a file to the sender.
func (r *receiver) lookAt(i int) error {
	f, err := r.o.FS.Open(r.path(i))
	if err != nil {
		return err
	}
	err = r.measure(i, f)
	if cerr := f.Close(); err == nil {
		err = cerr
	}
	if err != nil || r.there[i].sum == nil {
		return err
	}
	h := binary.LittleEndian.AppendUint32(make([]byte, 0, 20), uint32(i))
	h = binary.LittleEndian.AppendUint64(h, uint64(r.there[i].length))
	h = binary.LittleEndian.AppendUint64(h, r.there[i].sum.Sum64())
	if err := r.out.frame(kindHave, h); err != nil {
		return err
	}
	return r.out.flush() // the sender sees that something is going on
}

func (r *receiver) measure(i int, f vfs.File) error {
	info, err := f.Stat()
	if err != nil {
		return err
	}
	size := info.Size()
	if size == 0 || size > r.files[i].size {
		return nil // it begins anew
	}
	sum, err := hashPrefix(r.ctx, r.guard, f, size)
	r.there[i] = prefix{size, sum}
	return err
}

func (r *receiver) receiveFile(i int) error {
	b, err := r.in.expect(kindOpen, 12)
	if err != nil {
		return err
	}
	number, from := binary.LittleEndian.Uint32(b), int64(binary.LittleEndian.Uint64(b[4:]))
	if number != uint32(i) || from != 0 && from != r.there[i].length {
		return fmt.Errorf("%w: file %d from %d, when file %d is due", ErrGarbled, number, from, i)
	}
	sum := r.there[i].sum
	if from == 0 {
		sum = xxhash.New()
		if err := removeIfThere(r.o.FS, r.path(i)); err != nil {
			return err
		}
	}
	r.resumed += from
	r.progress(from)
	f, err := r.o.FS.OpenReadWrite(r.path(i), vfs.WriteCategoryUnspecified)
	if err != nil {
		return err
	}
	same, err := r.fill(i, f, from, sum)
	useless := false
	switch {
	case err != nil:
	case !same: // what is there would be offered to the sender once more, in vain
		useless, err = true, fmt.Errorf("%w: what was written has another hash than what was read", ErrGarbled)
	default: // after a failure the system may take for written what is not, and the next attempt's sync would find nothing to do
		err = r.sync(f)
		useless = err != nil
	}
	if cerr := f.Close(); err == nil {
		err = cerr
	}
	if useless {
		if e := r.o.FS.Remove(r.path(i)); e != nil {
			err = fmt.Errorf("%w; then: %w", err, e)
		}
	}
	return err
}

// sync makes a file durable.
func (r *receiver) sync(f vfs.File) error {
	start := r.o.Clock.Monotonic()
	err := f.Sync()
	if err == nil && r.o.Synced != nil {
		r.o.Synced(r.o.Clock.Monotonic() - start)
	}
	return err
}

// fill writes what comes behind what is there, and reports whether the whole is what the sender has.
func (r *receiver) fill(i int, f io.WriterAt, from int64, sum *xxhash.Digest) (same bool, err error) {
	for at := from; ; {
		if err := r.ctx.Err(); err != nil {
			return false, err
		}
		k, b, err := r.in.next()
		switch {
		case err != nil:
			return false, err
		case k == kindClose && len(b) == 8 && at == r.files[i].size:
			return binary.LittleEndian.Uint64(b) == sum.Sum64(), nil
		case k != kindPiece || len(b) == 0 || int64(len(b)) > r.files[i].size-at:
			return false, unexpected(k, b)
		}
		sum.Write(b)
		if _, err := f.WriteAt(b, at); err != nil {
			return false, err
		}
		at += int64(len(b))
		r.progress(int64(len(b)))
	}
}

func (r *receiver) path(i int) string { return r.o.FS.PathJoin(r.dir, r.files[i].name) }

func (r *receiver) progress(n int64) {
	r.done += n
	r.o.progress(r.done, r.offer.Bytes)
}
