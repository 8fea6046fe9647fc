package server

import (
	"context"
	"sync/atomic"
	"time"

	"go.uber.org/zap"
	"go.uber.org/zap/zapcore"
	"google.golang.org/grpc"
	"google.golang.org/grpc/peer"

	"keelson/api/ops"
	"keelson/rpc"
	"keelson/server/mux"
)

// callCounts are totals over all gRPC calls.
type callCounts struct {
	traffic         mux.Traffic
	ranges, renewed atomic.Uint64
}

// requestKinds names the calls that are timed by kind, by full method.
var requestKinds = map[string]string{
	"/etcdserverpb.KV/Put":            "Put",
	"/etcdserverpb.KV/Range":          "Range",
	"/etcdserverpb.KV/Txn":            "Txn",
	"/etcdserverpb.KV/DeleteRange":    "DeleteRange",
	"/etcdserverpb.KV/Compact":        "Compaction",
	"/etcdserverpb.Lease/LeaseGrant":  "LeaseGrant",
	"/etcdserverpb.Lease/LeaseRevoke": "LeaseRevoke",
}

// timedCalls times unary calls, and reports those that take too long.
type timedCalls struct {
	metrics *ops.Metrics
	counts  *callCounts
	logger  *zap.Logger
	slow    time.Duration
}

// intercept is a gRPC interceptor.
func (t *timedCalls) intercept(ctx context.Context, req any, info *grpc.UnaryServerInfo, next grpc.UnaryHandler) (any, error) {
	start := time.Now()
	reply, err := next(ctx, req)
	if later, ok := reply.(*rpc.Deferred); ok && err == nil {
		// Whoever has the answer must not wait for a log to be written.
		later.Then(func(err error) { t.answered(ctx, info.FullMethod, start, err, later.Go) })
	} else {
		t.answered(ctx, info.FullMethod, start, err, func(report func()) { report() })
	}
	return reply, err
}

// answered is called when the answer is there, which may be after the handler has returned.
func (t *timedCalls) answered(ctx context.Context, method string, start time.Time, err error, run func(report func())) {
	took := time.Since(start)
	if kind, ok := requestKinds[method]; ok {
		t.metrics.Request(kind, err == nil).Observe(took.Seconds())
		if kind == "Range" {
			t.counts.ranges.Add(1)
			t.metrics.Range(err == nil).Observe(took.Seconds())
		}
	}
	level := zapcore.DebugLevel
	if took >= t.slow {
		level = zapcore.WarnLevel
	}
	if line := t.logger.Check(level, "request stats"); line != nil {
		run(func() { t.report(ctx, line, method, start, took, err) })
	}
}

// report says how long a call took. It names no content: keys and values are the client's business.
func (t *timedCalls) report(
	ctx context.Context, line *zapcore.CheckedEntry, method string, start time.Time, took time.Duration, err error,
) {
	remote := ""
	if p, ok := peer.FromContext(ctx); ok {
		remote = p.Addr.String()
	}
	line.Write(zap.Time("start time", start), zap.Duration("time spent", took),
		zap.String("remote", remote), zap.String("response type", method), zap.Error(err))
}
