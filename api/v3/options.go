package v3

import (
	"context"
	"time"

	"keelson/env"
	"keelson/watch"
)

// Options are the parts and limits of Services. All parts are required unless said otherwise.
type Options struct {
	Member   Member
	Cluster  Cluster
	Promoter Promoter
	Lessor   Lessor
	Store    Store
	Identity Identity
	Images   Images
	// Sizes are the bytes of the store on disk and how many of them are in use. Invariant: inUse <= total.
	Sizes func() (total, inUse int64)
	// Shrink gives back the disk space of what has been deleted or replaced, as far as that is worth its price. Nothing waits
	// for it. Nil: there is nothing to give back.
	Shrink func(ctx context.Context) error
	Hub    *watch.Hub
	Clock  env.Clock
	Chance env.Chance

	// Capable reports whether the cluster's members are known to speak this API. Nil: they are.
	Capable func() bool
	// Corrupt reports whether this member's state is known to differ from that of the others: then it answers nothing about
	// pairs and leases. Nil: it never is.
	Corrupt func() bool
	// CaughtUp is closed when this member has applied again whatever it had answered from before it was started. Until then,
	// calls that tell of it wait: what they are told must not go back. Nil: it has.
	CaughtUp <-chan struct{}
	// Quota may be nil: there is always room.
	Quota Quota
	// Requests may be nil: nobody counts.
	Requests Requests

	// Observe is told what happens, for metrics. Its fields may be nil.
	Observe Observer

	// MaxRequestBytes bounds an encoded change. 0: 1.5 MiB.
	MaxRequestBytes int64
	// MaxTxnOps bounds the operations of a transaction, nested ones included. 0: 128.
	MaxTxnOps int
	// ReadBudgetBytes bounds the replies of all running reads together, with what is kept to be sorted for them, apart from each
	// one's first 4 KiB. 0: 512 MiB.
	ReadBudgetBytes int64
	// LeaseTTLMinSeconds is the least TTL a lease is granted. 0: 2.
	LeaseTTLMinSeconds int64
	// MaxLearners is how many learners the cluster may have; all members must be told the same. 0: 1.
	MaxLearners int
	// ElectionTimeout is the period in which the presence of a leader is looked at. 0: 1 s.
	ElectionTimeout time.Duration
	// QuotaBytes is reported by Status; it is not what Quota decides by. Nil: 2 GiB.
	QuotaBytes func() int64
}

// Observer is told what happens. The functions are called by whoever serves the call, and must not wait.
type Observer struct {
	// WatchSent is told how long it took to hand one response to a watch stream, and how many events were in it.
	WatchSent func(kind WatchResponse, events int, took time.Duration)
	// StreamFailed is told that a stream of the api ("watch", "lease-keepalive") broke for another reason than its client's
	// going, while something was received or else sent.
	StreamFailed func(api string, receiving bool)
	// CancelFailed is told why a downgrade was not called off; the client is not.
	CancelFailed func(err error)
}

// WatchResponse is what a watch stream was told.
type WatchResponse uint8

// The kinds of responses of a watch stream.
const (
	WatchEvents   WatchResponse = iota
	WatchControl                // a watcher was created or cancelled
	WatchProgress               // how far the stream is
)

const (
	maxRequestBytesDefault    = 3 << 19
	maxTxnOpsDefault          = 128
	readBudgetBytesDefault    = 512 << 20
	leaseTTLMinSecondsDefault = 2
	maxLearnersDefault        = 1
	electionTimeoutDefault    = time.Second
	quotaBytesDefault         = 2 << 30
)

// withDefaults fills in what was left at zero.
func (o Options) withDefaults() Options {
	setDefault(&o.MaxRequestBytes, maxRequestBytesDefault)
	setDefault(&o.MaxTxnOps, maxTxnOpsDefault)
	setDefault(&o.ReadBudgetBytes, readBudgetBytesDefault)
	setDefault(&o.LeaseTTLMinSeconds, leaseTTLMinSecondsDefault)
	setDefault(&o.MaxLearners, maxLearnersDefault)
	setDefault(&o.ElectionTimeout, electionTimeoutDefault)
	if o.QuotaBytes == nil {
		o.QuotaBytes = func() int64 { return quotaBytesDefault }
	}
	return o
}

func setDefault[T int | int64 | time.Duration](v *T, to T) {
	if *v == 0 {
		*v = to
	}
}
