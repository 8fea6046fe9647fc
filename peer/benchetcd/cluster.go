package main

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"os"
	"strconv"
	"sync"
	"time"

	pb "go.etcd.io/etcd/api/v3/etcdserverpb"
	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials/insecure"

	"keelson/peer/process"
)

// cpu is the processor time that all members have taken since they began, 0 where it cannot be read.
func (b *bed) cpu() (total time.Duration) {
	for _, m := range b.members {
		stat, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", m.PID()))
		if err != nil {
			continue
		}
		fields := bytes.Fields(stat[bytes.LastIndexByte(stat, ')')+1:])
		if len(fields) < 13 {
			continue
		}
		for _, field := range fields[11:13] { // utime and stime, in hundredths of a second
			ticks, _ := strconv.ParseInt(string(field), 10, 64)
			total += time.Duration(ticks) * time.Second / 100
		}
	}
	return total
}

// roles tells who leads.
func (b *bed) roles(ctx context.Context) (leader *process.Server, followers []*process.Server, err error) {
	for _, m := range b.members {
		s, failed := status(ctx, m)
		switch {
		case failed != nil:
			return nil, nil, failed
		case s.Leader == s.Header.MemberId:
			leader = m
		default:
			followers = append(followers, m)
		}
	}
	if leader == nil {
		return nil, nil, errors.New("nobody leads")
	}
	return leader, followers, nil
}

func status(ctx context.Context, m *process.Server) (*pb.StatusResponse, error) {
	conn, err := connect(m)
	if err != nil {
		return nil, err
	}
	defer conn.Close()
	return pb.NewMaintenanceClient(conn).Status(ctx, &pb.StatusRequest{})
}

func connect(m *process.Server) (*grpc.ClientConn, error) {
	return grpc.NewClient("passthrough:///"+m.Addr(), grpc.WithTransportCredentials(insecure.NewCredentials()))
}

func putLeader(ctx context.Context, b *bed) error {
	leader, _, err := b.roles(ctx)
	if err != nil {
		return err
	}
	b.through = []*process.Server{leader}
	return putMany(ctx, b)
}

func putOneLeader(ctx context.Context, b *bed) error {
	leader, _, err := b.roles(ctx)
	if err != nil {
		return err
	}
	b.through = []*process.Server{leader}
	return putOne(ctx, b)
}

func putOneFollower(ctx context.Context, b *bed) error {
	_, followers, err := b.roles(ctx)
	if err != nil {
		return err
	}
	b.through = followers[:1]
	return putOne(ctx, b)
}

// writing is a steady stream of writes that goes on through errors, and what came of them. It is open: a write that gets no
// answer holds up no other, so that the time without any is the cluster's and not that of writers who wait.
type writing struct {
	mu         sync.Mutex
	last       time.Time     // a write was acknowledged
	gap        time.Duration // the longest time without any
	wait       time.Duration // the longest that one took, or was waited for in vain
	failed     int
	unanswered int // when the writing ended
}

const (
	writeEvery = 5 * time.Millisecond // through each member
	writesMax  = 4000                 // pending, through each member; more than can come together in the time
)

// write writes through members until ctx ends.
func write(ctx context.Context, members []*process.Server) (*writing, *sync.WaitGroup, error) {
	w, all := &writing{last: time.Now()}, &sync.WaitGroup{}
	for i, m := range members {
		conn, err := connect(m)
		if err != nil {
			return w, all, err
		}
		all.Go(func() {
			defer conn.Close()
			w.through(ctx, conn, i)
		})
	}
	return w, all, nil
}

// through writes through one member, and returns when nothing is pending.
func (w *writing) through(ctx context.Context, conn *grpc.ClientConn, place int) {
	value, pending := bytes.Repeat([]byte("v"), valueBytes), make(chan struct{}, writesMax)
	var all sync.WaitGroup
	defer all.Wait()
	beat := time.NewTicker(writeEvery)
	defer beat.Stop()
	for n := 0; ; n++ {
		select {
		case <-ctx.Done():
			return
		case <-beat.C:
			pending <- struct{}{}
		}
		all.Go(func() {
			began := time.Now()
			_, err := pb.NewKVClient(conn).Put(ctx, &pb.PutRequest{Key: fmt.Appendf(nil, "%d/%d", place, n), Value: value})
			w.note(began, err, ctx.Err() != nil)
			<-pending
		})
	}
}

func (w *writing) note(began time.Time, err error, over bool) {
	now := time.Now()
	w.mu.Lock()
	defer w.mu.Unlock()
	w.wait = max(w.wait, now.Sub(began))
	switch {
	case err == nil:
		w.gap = max(w.gap, now.Sub(w.last))
		w.last = now
	case over:
		if now.Sub(began) > time.Second { // not of those that were under way just now
			w.unanswered++
		}
	default:
		w.failed++
	}
}

// again forgets what was seen so far.
func (w *writing) again() {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.gap, w.wait, w.failed = 0, 0, 0
}

// goesOn checks that there is a figure for when writes went on.
//
// Errors: the last write was acknowledged long ago.
func (w *writing) goesOn() error {
	w.mu.Lock()
	defer w.mu.Unlock()
	if silent := time.Since(w.last); silent > time.Second {
		return fmt.Errorf("no write was acknowledged in the last %v", silent)
	}
	return nil
}

// loseLeader ends the leader's process while the others are written to.
func (b *bed) loseLeader(ctx context.Context, end func(*process.Server) error) error {
	leader, followers, err := b.roles(ctx)
	if err != nil {
		return err
	}
	ctx, cancel := context.WithCancel(ctx)
	w, all, err := write(ctx, followers)
	stop := func() { cancel(); all.Wait() }
	defer stop()
	if err != nil {
		return err
	}
	time.Sleep(2 * time.Second)
	w.again()
	if err := end(leader); err != nil {
		return err
	}
	time.Sleep(5 * time.Second)
	if err := w.goesOn(); err != nil {
		return err
	}
	stop()
	b.report("longest time without a write", "ms", millis(w.gap))
	b.report("longest write", "ms", millis(w.wait))
	b.report("writes that failed", "", float64(w.failed))
	b.report("writes without an answer at the end", "", float64(w.unanswered))
	return nil
}

func killLeader(ctx context.Context, b *bed) error {
	return b.loseLeader(ctx, (*process.Server).Kill)
}

func stopLeader(ctx context.Context, b *bed) error {
	return b.loseLeader(ctx, (*process.Server).Stop)
}

// catchUp measures what it costs the others to bring back a member that was away for long.
func catchUp(ctx context.Context, b *bed) error {
	leader, followers, err := b.roles(ctx)
	if err != nil {
		return err
	}
	away := followers[0]
	if err := away.Kill(); err != nil {
		return err
	}
	b.through = []*process.Server{leader, followers[1]}
	if err := fillLarge(ctx, leader, b.settings.behindMiB<<20); err != nil {
		return err
	}
	const puts = "put --in-flight 100 --rate 4000 --duration 8s"
	before, err := b.bench(ctx, puts)
	if err != nil {
		return err
	}
	began := time.Now()
	if _, err := away.Start(); err != nil {
		return err
	}
	var took time.Duration
	var late error
	var waiting sync.WaitGroup
	waiting.Go(func() { took, late = awaitCaughtUp(ctx, leader, away, began) })
	during, err := b.bench(ctx, puts)
	waiting.Wait()
	if err = errors.Join(err, late); err != nil {
		return err
	}
	b.report("put p50 while it is away", "ms", millis(before.P50))
	b.report("put p50 while it catches up", "ms", millis(during.P50))
	b.report("put p99 while it is away", "ms", millis(before.P99))
	b.report("put p99 while it catches up", "ms", millis(during.P99))
	b.report("caught up after", "s", took.Seconds())
	return nil
}

// fillLarge writes so many bytes in values of 64 KiB.
func fillLarge(ctx context.Context, m *process.Server, total int) error {
	conn, err := connect(m)
	if err != nil {
		return err
	}
	defer conn.Close()
	value := bytes.Repeat([]byte("0123456789abcdef"), 4<<10)
	var all sync.WaitGroup
	errs := make([]error, fillInFlight)
	for w := range fillInFlight {
		all.Go(func() {
			for i := w; i < total/len(value) && errs[w] == nil; i += fillInFlight {
				_, errs[w] = pb.NewKVClient(conn).Put(ctx, &pb.PutRequest{Key: fmt.Appendf(nil, "large/%08d", i), Value: value})
			}
		})
	}
	all.Wait()
	return errors.Join(errs...)
}

// awaitCaughtUp is how long after a moment a member has applied nearly all that the leader has.
//
// Errors: ctx ended first.
func awaitCaughtUp(ctx context.Context, leader, m *process.Server, began time.Time) (time.Duration, error) {
	for {
		if l, err := status(ctx, leader); err == nil {
			if s, err := status(ctx, m); err == nil && s.RaftAppliedIndex+1000 > l.RaftAppliedIndex {
				return time.Since(began), nil
			}
		}
		select {
		case <-ctx.Done():
			return 0, fmt.Errorf("has not caught up: %w", ctx.Err())
		case <-time.After(20 * time.Millisecond):
		}
	}
}
