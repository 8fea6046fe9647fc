package transport

import (
	"context"
	"crypto/tls"
	"fmt"
	"io"
	"net"
	"time"

	"go.etcd.io/raft/v3/raftpb"
	"go.uber.org/zap"

	"keelson/env"
)

// Peer is another member and where it listens: http:// or https:// and host:port, or unix: or unixs: and a file.
type Peer struct {
	ID   uint64
	URLs []string
}

// Handler is the member. Its methods, unless they say so, must not wait for anything long, and not for the transport.
type Handler interface {
	// Receive is given messages of the control stream in their order. The slice is only valid during the call; the messages and
	// all in them belong to the receiver.
	Receive(messages []*raftpb.Message)
	// ReceiveEntries is given those of the stream of messages, in the same way. It may wait for a disk: only what comes on that stream
	// waits with it.
	ReceiveEntries(messages []*raftpb.Message)
	// Unreachable says that something sent to a peer may be lost: once for a lost connection, for an attempt to connect
	// that failed after one that did not, and for a run of messages that found the queue full.
	Unreachable(id uint64)
	// Bulk serves one bulk stream. It may take its time; the connection is closed when it returns, and when ctx ends.
	// Reads and writes fail when nothing moves for Options.BulkTimeout.
	Bulk(ctx context.Context, from uint64, conn io.ReadWriter)
	// Fetch is Bulk for a stream on which the other side wants to be sent this member's state.
	Fetch(ctx context.Context, from uint64, conn io.ReadWriter)
	// Removed says that a peer refused a stream because this member was removed from the cluster. It may be said more
	// than once, and by a peer that knows what this member does not know yet.
	Removed(by uint64)
}

// Options make a Transport.
type Options struct {
	ClusterID, MemberID uint64
	Handler             Handler

	// Clock, Chance and Dial are the doors. Nil: the system's.
	Clock  env.Clock
	Chance env.Chance
	Dial   func(ctx context.Context, network, address string) (net.Conn, error)
	// TLS is for peers with https or unixs addresses. Nil: those can't be reached.
	TLS *tls.Config

	// IsRemoved reports that a member was removed from the cluster: its streams are refused. Nil: nobody was.
	IsRemoved func(id uint64) bool
	// RoundTrip, if set, is told how long the answer to a ping took, about once a second for each peer.
	RoundTrip func(id uint64, d time.Duration)

	// ReadTimeout ends a stream that nothing was heard from; it also bounds a handshake. 0: 5 s.
	ReadTimeout time.Duration
	// WriteTimeout ends a stream that takes no byte. 0: 5 s.
	WriteTimeout time.Duration
	// BulkTimeout does both for bulk streams. 0: 60 s.
	BulkTimeout time.Duration

	// MessagesBytesMax bounds what is queued for a peer on the stream of entries; a single message may exceed it. 0: 32 MiB.
	MessagesBytesMax int
	// ControlBytesMax bounds the other queue. 0: 1 MiB.
	ControlBytesMax int

	// Version is our software's, for other members' logs.
	Version string
	// Logger: nil: nothing is logged.
	Logger *zap.Logger
}

const (
	keepAlive       = time.Second // between pings, or less with a short ReadTimeout
	connectTimeout  = 2 * time.Second
	backoffMin      = 50 * time.Millisecond
	backoffMax      = time.Second
	answerBytesMax  = 16 << 10 // of the answer to a handshake
	strangersMax    = 32       // accepted streams of members that are not in the list of peers
	gatherBytesMax  = 1 << 20  // that a writer takes from its queue at once
	receiveMax      = 64       // messages in one call of Receive
	ownPartTailMin  = 512      // a shorter tail is copied behind its head
	scratchBytesMax = 256 << 10
)

func (o Options) withDefaults() Options {
	o.ReadTimeout = orElse(o.ReadTimeout, 5*time.Second)
	o.WriteTimeout = orElse(o.WriteTimeout, 5*time.Second)
	o.BulkTimeout = orElse(o.BulkTimeout, time.Minute)
	o.MessagesBytesMax = orElse(o.MessagesBytesMax, 32<<20)
	o.ControlBytesMax = orElse(o.ControlBytesMax, 1<<20)
	if o.Clock == nil {
		o.Clock = env.SystemClock()
	}
	if o.Chance == nil {
		o.Chance = env.SystemChance()
	}
	if o.Dial == nil {
		o.Dial = env.SystemNetwork().Dial
	}
	if o.IsRemoved == nil {
		o.IsRemoved = func(uint64) bool { return false }
	}
	if o.RoundTrip == nil {
		o.RoundTrip = func(uint64, time.Duration) {}
	}
	if o.Logger == nil {
		o.Logger = zap.NewNop()
	}
	return o
}

func orElse[T comparable](v, otherwise T) T {
	var zero T
	if v == zero {
		return otherwise
	}
	return v
}

func (o Options) check() {
	if o.ClusterID == 0 || o.MemberID == 0 || o.Handler == nil {
		panic(fmt.Sprintf("transport: cluster %x, member %x, handler %v", o.ClusterID, o.MemberID, o.Handler))
	}
}

func (o Options) keepAlive() time.Duration { return min(keepAlive, o.ReadTimeout/4) }
