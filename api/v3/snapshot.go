package v3

import (
	"context"
	"crypto/sha256"
	"hash"
	"io"

	pb "go.etcd.io/etcd/api/v3/etcdserverpb"
	"go.etcd.io/etcd/api/v3/v3rpc/rpctypes"
	"google.golang.org/grpc"

	"keelson/internal/sched"
)

// Images makes files of the whole state.
type Images interface {
	// Image makes a file of everything as it is at one moment after the call, in etcd's format.
	//
	// Errors: failures, and that of ctx.
	Image(ctx context.Context) (Image, error)
}

// Image is one of those files. Close it.
type Image interface {
	// Size is how many bytes WriteTo writes, a multiple of 512.
	Size() int64
	io.WriterTo
	io.Closer
}

// blobBytes is how much of a snapshot one message carries.
const blobBytes = 32 << 10

// Snapshot sends the whole state, then its SHA-256.
func (m *maintenance) Snapshot(_ *pb.SnapshotRequest, stream grpc.ServerStreamingServer[pb.SnapshotResponse]) error {
	if m.s.o.Corrupt != nil && m.s.o.Corrupt() {
		return rpctypes.ErrGRPCCorrupt // nobody should restore that
	}
	image, err := m.s.o.Images.Image(stream.Context())
	if err != nil {
		return wireError(err)
	}
	b := &blobs{stream: stream, left: image.Size(), sum: sha256.New()}
	b.batch = sched.Begin()
	defer func() { b.batch.End() }()
	_, err = image.WriteTo(b)
	if err == nil {
		err = b.end()
	}
	if e := image.Close(); err == nil {
		err = e
	}
	return wireError(err)
}

// blobs cuts a file into messages.
type blobs struct {
	stream  grpc.ServerStreamingServer[pb.SnapshotResponse]
	left    int64 // not sent
	pending []byte
	sum     hash.Hash
	batch   sched.Batch // of what comes between two messages
}

// Write implements io.Writer.
func (b *blobs) Write(p []byte) (int, error) {
	for n := len(p); ; {
		room := blobBytes - len(b.pending)
		if len(p) < room {
			b.pending = append(b.pending, p...)
			return n, nil
		}
		b.pending = append(b.pending, p[:room]...)
		p = p[room:]
		if err := b.send(); err != nil {
			return n - len(p), err
		}
	}
}

// send sends what is pending.
func (b *blobs) send() error {
	b.sum.Write(b.pending)
	b.left -= int64(len(b.pending))
	r := &pb.SnapshotResponse{RemainingBytes: uint64(b.left), Blob: b.pending, Version: storageVersion}
	b.pending = nil // the message may be kept
	b.batch.End()
	err := b.stream.Send(r)
	b.batch = sched.Begin()
	return err
}

// end sends the rest and the sum.
func (b *blobs) end() error {
	if len(b.pending) > 0 {
		if err := b.send(); err != nil {
			return err
		}
	}
	b.batch.End()
	if b.left != 0 {
		return io.ErrUnexpectedEOF
	}
	return b.stream.Send(&pb.SnapshotResponse{Blob: b.sum.Sum(nil), Version: storageVersion})
}
