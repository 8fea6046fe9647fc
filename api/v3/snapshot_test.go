package v3

import (
	"context"
	"crypto/sha256"
	"errors"
	"io"
	"math/rand/v2"
	"sync/atomic"
	"testing"

	pb "go.etcd.io/etcd/api/v3/etcdserverpb"
	"go.etcd.io/etcd/api/v3/v3rpc/rpctypes"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
)

// bytesImage is an image that is written in pieces of some size, and fails behind the last of them if err is set.
type bytesImage struct {
	bytes  []byte
	piece  int
	short  int // bytes that are announced and not written
	err    error
	closed *atomic.Int64
}

func (i *bytesImage) Size() int64  { return int64(len(i.bytes) + i.short) }
func (i *bytesImage) Close() error { i.closed.Add(1); return nil }

func (i *bytesImage) WriteTo(w io.Writer) (total int64, err error) {
	for rest := i.bytes; len(rest) > 0; {
		n, err := w.Write(rest[:min(i.piece, len(rest))])
		total += int64(n)
		if err != nil {
			return total, err
		}
		rest = rest[n:]
	}
	return total, i.err
}

// imageMaker gives one image to everybody, or an error.
type imageMaker struct {
	image *bytesImage
	err   error
}

func (m *imageMaker) Image(ctx context.Context) (Image, error) {
	if m.err != nil {
		return nil, m.err
	}
	return m.image, ctx.Err()
}

func TestSnapshot(t *testing.T) {
	maker := &imageMaker{}
	s := serve(t, func(o *Options) { o.Images = maker })
	for _, size := range []int{512, 4096, blobBytes - 512, blobBytes, blobBytes + 512, 5 * blobBytes, 300 << 10} {
		for _, piece := range []int{512, 4096, blobBytes, 1 << 20} {
			closed := new(atomic.Int64)
			want := make([]byte, size)
			for i := range want {
				want[i] = byte(rand.Uint32())
			}
			maker.image = &bytesImage{bytes: want, piece: piece, closed: closed}
			stream, err := s.upkeep.Snapshot(ctx(t), &pb.SnapshotRequest{})
			if err != nil {
				t.Fatal(err)
			}
			var got []byte
			var last *pb.SnapshotResponse
			for {
				r, err := stream.Recv()
				if errors.Is(err, io.EOF) {
					break
				}
				if err != nil {
					t.Fatal(err)
				}
				if r.Version != "3.7.0" || r.Header != nil || len(r.Blob) > blobBytes {
					t.Fatalf("response %v", r)
				}
				if last != nil {
					got = append(got, last.Blob...)
					if last.RemainingBytes != uint64(size-len(got)) {
						t.Fatalf("%d bytes remain of %d after %d", last.RemainingBytes, size, len(got))
					}
				}
				last = r
			}
			if sum := sha256.Sum256(want); string(got) != string(want) || string(last.Blob) != string(sum[:]) || last.RemainingBytes != 0 {
				t.Errorf("%d bytes in pieces of %d: %d bytes, sum %x", size, piece, len(got), last.Blob)
			}
			if closed.Load() != 1 {
				t.Error("the image was not closed")
			}
		}
	}
}

// A snapshot that does not come to its end never looks like a short one.
func TestSnapshotFailures(t *testing.T) {
	maker := &imageMaker{}
	var corrupt atomic.Bool
	s := serve(t, func(o *Options) { o.Images, o.Corrupt = maker, corrupt.Load })
	closed := new(atomic.Int64)
	drain := func(c context.Context) error {
		stream, err := s.upkeep.Snapshot(c, &pb.SnapshotRequest{})
		for err == nil {
			_, err = stream.Recv()
		}
		return err
	}
	maker.image = &bytesImage{bytes: make([]byte, 100<<10), piece: 4096, err: errors.New("disk on fire"), closed: closed}
	wantError(t, "failure behind the data", drain(ctx(t)), status.Error(codes.Unknown, "disk on fire"))
	maker.image = &bytesImage{bytes: make([]byte, 100<<10), piece: 4096, short: 512, closed: closed}
	wantError(t, "short", drain(ctx(t)), status.Error(codes.Unknown, "unexpected EOF"))
	maker.err = errors.New("no space")
	wantError(t, "no image", drain(ctx(t)), status.Error(codes.Unknown, "no space"))
	maker.err = nil
	maker.image = &bytesImage{bytes: make([]byte, 64<<20), piece: 4096, closed: closed}
	c, cancel := context.WithCancel(ctx(t))
	stream, err := s.upkeep.Snapshot(c, &pb.SnapshotRequest{})
	if err != nil {
		t.Fatal(err)
	}
	if _, err := stream.Recv(); err != nil {
		t.Fatal(err)
	}
	cancel()
	for err == nil {
		_, err = stream.Recv()
	}
	if status.Code(err) != codes.Canceled {
		t.Errorf("canceled: %v", err)
	}
	corrupt.Store(true)
	wantError(t, "corrupt", drain(ctx(t)), rpctypes.ErrGRPCCorrupt)
	s.services.Close() // waits for handlers
	if closed.Load() != 3 {
		t.Errorf("%d images were closed", closed.Load())
	}
}
