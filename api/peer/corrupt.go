package peer

import (
	"context"
	"errors"
	"fmt"
	"math"
	"strconv"
	"time"

	"go.uber.org/zap"

	"keelson/env"
	"keelson/state/mvcc"
)

// CheckerOptions are the parts of a Checker. All are required unless their comment says otherwise.
type CheckerOptions struct {
	Member Member
	Store  Store
	// Hashes asks all other members for their hash at a revision: Client.Hashes.
	Hashes func(ctx context.Context, rev mvcc.Revision) []MemberHash
	// Raise raises the CORRUPT alarm for a member; 0: it is not known for which.
	Raise func(ctx context.Context, member uint64) error
	Clock env.Clock
	Log   *zap.Logger

	// Every is how often the newest revision is compared. 0: never.
	Every time.Duration
	// CompactionEvery is how often it is looked whether there was a compaction whose hash is not compared yet. 0: never.
	CompactionEvery time.Duration
	// Timeout bounds the wait for the other members. 0: 30 s.
	Timeout time.Duration
}

const checkTimeoutDefault = 30 * time.Second

// Checker compares what the members hold. Initial is called before a member serves; Run does on the leader what is to be
// done from time to time, and the rest is for tests. One goroutine at a time may use it.
type Checker struct {
	o CheckerOptions
	// floor is the newest compaction floor that was compared with all members. 0: none.
	floor mvcc.Revision
}

// NewChecker makes a Checker.
func NewChecker(o CheckerOptions) *Checker {
	if o.Timeout == 0 {
		o.Timeout = checkTimeoutDefault
	}
	return &Checker{o: o}
}

// ErrInconsistent is in the error of Initial: another member has something else at the same revision.
var ErrInconsistent = errors.New("found data inconsistency with peers")

// Initial compares what this member has with every other member's hash at the same revision, before it serves anybody.
// That a member can't be asked, is behind or has compacted that revision away is logged, and no reason not to start.
//
// Errors: ErrInconsistent, failures to read.
func (c *Checker) Initial(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, c.o.Timeout)
	defer cancel()
	local := c.o.Member.Status().MemberID
	log := c.o.Log.With(hexID("local-member-id", local))
	own, err := c.o.Store.HashKV(0)
	if err != nil {
		return fmt.Errorf("peer: initial corruption check: %w", err)
	}
	// Nothing is beyond the horizon: this member may well be behind.
	v := judge(local, own, c.o.Hashes(ctx, own.Revision), horizon{math.MaxInt64, math.MaxInt64})
	for _, u := range v.Unchecked {
		log.Warn("initial corruption check: a member was not checked", hexID("remote-peer-id", u.Member), zap.Error(u.Why))
	}
	if len(v.Corrupt) > 0 {
		log.Error(ErrInconsistent.Error(), zap.Int64("local-member-revision", own.Revision),
			zap.Uint32("local-member-hash", own.Hash), hexIDs("corrupt-member-ids", v.Corrupt))
		return fmt.Errorf("%x %w", local, ErrInconsistent)
	}
	log.Info("initial corruption checking passed; no corruption", zap.Int("members-checked", len(v.Checked)))
	return nil
}

// Run checks from time to time, while this member leads, until ctx ends.
func (c *Checker) Run(ctx context.Context) {
	newest, compaction := c.ticker(c.o.Every), c.ticker(c.o.CompactionEvery)
	defer newest.Stop()
	defer compaction.Stop()
	for {
		var check func(context.Context) (Verdict, error)
		select {
		case <-newest.C():
			check = c.Check
		case <-compaction.C():
			check = c.CheckCompaction
		case <-ctx.Done():
			return
		}
		if !c.o.Member.Status().Leading {
			continue
		}
		if _, err := check(ctx); err != nil && ctx.Err() == nil {
			c.o.Log.Warn("failed to check hash KV", zap.Error(err))
		}
	}
}

// ticker ticks every d; never if that is 0.
func (c *Checker) ticker(d time.Duration) env.Ticker {
	if d > 0 {
		return c.o.Clock.NewTicker(d)
	}
	return neverTicker{}
}

type neverTicker struct{}

func (neverTicker) C() <-chan time.Time { return nil }
func (neverTicker) Stop()               {}

// Check compares the newest revision of this member, who leads, with what the others have there, and raises the alarm
// for those who differ from a quorum.
func (c *Checker) Check(ctx context.Context) (Verdict, error) {
	ctx, cancel := context.WithTimeout(ctx, c.o.Timeout)
	defer cancel()
	own, err := c.o.Store.HashKV(0)
	if err != nil {
		return Verdict{}, fmt.Errorf("peer: corruption check: %w", err)
	}
	peers := c.o.Hashes(ctx, own.Revision)
	// What the others had when they answered was committed, so it is here once all is that is committed now.
	view, err := c.o.Member.Read(ctx)
	if err != nil {
		return Verdict{}, fmt.Errorf("peer: corruption check: %w", err)
	}
	h := horizon{view.Revision(), c.o.Store.Compacted()}
	view.Close()
	v := judge(c.o.Member.Status().MemberID, own, peers, h)
	return v, c.report(ctx, v, own.Revision)
}

// CheckCompaction compares the hashes at the newest compaction floor, which cover all that was live there. It compares
// nothing if that was done already; a floor that not all members could be asked about is compared again the next time.
func (c *Checker) CheckCompaction(ctx context.Context) (Verdict, error) {
	floor := c.o.Store.Compacted()
	if floor <= 0 || floor == c.floor {
		return Verdict{}, nil
	}
	ctx, cancel := context.WithTimeout(ctx, c.o.Timeout)
	defer cancel()
	own, err := c.o.Store.HashKV(floor)
	if errors.Is(err, mvcc.ErrCompacted) {
		return Verdict{}, nil // the floor has moved meanwhile
	}
	if err != nil {
		return Verdict{}, fmt.Errorf("peer: compaction hash check: %w", err)
	}
	v := judge(c.o.Member.Status().MemberID, own, c.o.Hashes(ctx, floor), horizon{math.MaxInt64, math.MaxInt64})
	if err := c.report(ctx, v, floor); err != nil {
		return v, err
	}
	if len(v.Unchecked) == 0 {
		c.floor = floor
	}
	c.o.Log.Info("finished compaction hash check", zap.Int("number-of-hashes-checked", 1),
		zap.Int64("compact-revision", floor), zap.Int("members-checked", len(v.Checked)))
	return v, nil
}

// report logs a verdict and raises the alarms that follow from it.
func (c *Checker) report(ctx context.Context, v Verdict, rev mvcc.Revision) error {
	for _, u := range v.Unchecked {
		c.o.Log.Warn("corruption check: a member was not checked",
			hexID("remote-peer-id", u.Member), zap.Int64("revision", rev), zap.Error(u.Why))
	}
	var errs error
	for _, id := range v.Corrupt {
		c.o.Log.Error("found hash mismatch", hexID("corrupt-member-id", id), zap.Int64("revision", rev))
		if err := c.o.Raise(ctx, id); err != nil {
			errs = errors.Join(errs, fmt.Errorf("peer: raise alarm for member %x: %w", id, err))
		}
	}
	return errs
}

func hexID(key string, id uint64) zap.Field { return zap.String(key, strconv.FormatUint(id, 16)) }

func hexIDs(key string, ids []uint64) zap.Field {
	texts := make([]string, len(ids))
	for i, id := range ids {
		texts[i] = strconv.FormatUint(id, 16)
	}
	return zap.Strings(key, texts)
}
