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

// writing is writers that go on through errors, and what they have seen.
type writing struct {
	mu     sync.Mutex
	last   time.Time     // a write was acknowledged
	gap    time.Duration // the longest time without any
	wait   time.Duration // the longest that one took
	errors int
	first  error
}

// write puts through members until ctx ends, 8 writers each.
func write(ctx context.Context, members []*process.Server) (*writing, *sync.WaitGroup, error) {
	w, all := &writing{last: time.Now()}, &sync.WaitGroup{}
	value := bytes.Repeat([]byte("v"), valueBytes)
	for i, m := range members {
		conn, err := connect(m)
		if err != nil {
			return nil, nil, err
		}
		context.AfterFunc(ctx, func() { conn.Close() })
		for k := range 8 {
			all.Go(func() {
				for n := 0; ctx.Err() == nil; n++ {
					began := time.Now()
					_, err := pb.NewKVClient(conn).Put(ctx, &pb.PutRequest{Key: fmt.Appendf(nil, "%d/%d/%d", i, k, n), Value: value})
					if ctx.Err() == nil {
						w.note(began, err)
					}
				}
			})
		}
	}
	return w, all, nil
}

func (w *writing) note(began time.Time, err error) {
	w.mu.Lock()
	defer w.mu.Unlock()
	now := time.Now()
	w.wait = max(w.wait, now.Sub(began))
	if err != nil {
		w.errors++
		w.first = err
		time.Sleep(5 * time.Millisecond)
		return
	}
	w.gap = max(w.gap, now.Sub(w.last))
	w.last = now
}

// loseLeader ends the leader's process while the others are written to.
func (b *bed) loseLeader(ctx context.Context, end func(*process.Server) error) error {
	leader, followers, err := b.roles(ctx)
	if err != nil {
		return err
	}
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	w, all, err := write(ctx, followers)
	if err != nil {
		return err
	}
	time.Sleep(2 * time.Second)
	w.mu.Lock()
	w.gap, w.wait = 0, 0
	w.mu.Unlock()
	if err := end(leader); err != nil {
		return err
	}
	time.Sleep(5 * time.Second)
	cancel()
	all.Wait()
	w.mu.Lock()
	defer w.mu.Unlock()
	b.report("longest time without a write", "ms", millis(w.gap))
	b.report("longest write", "ms", millis(w.wait))
	b.report("writes that failed", "", float64(w.errors))
	return nil
}

func killLeader(ctx context.Context, b *bed) error {
	return b.loseLeader(ctx, (*process.Server).Kill)
}

func stopLeader(ctx context.Context, b *bed) error {
	return b.loseLeader(ctx, (*process.Server).Stop)
}

// behindBytes is how far behind a member falls.
const behindBytes = 2 << 30

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
	if err := fillLarge(ctx, leader, b.size(behindBytes, behindBytes/16)); err != nil {
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
	caughtUp := make(chan time.Duration, 1)
	go func() { caughtUp <- awaitCaughtUp(ctx, leader, away, began) }()
	during, err := b.bench(ctx, puts)
	if err != nil {
		return err
	}
	b.report("put p99 while it is away", "ms", millis(before.P99))
	b.report("put p99 while it catches up", "ms", millis(during.P99))
	b.report("caught up after", "s", (<-caughtUp).Seconds())
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
func awaitCaughtUp(ctx context.Context, leader, m *process.Server, began time.Time) time.Duration {
	for ctx.Err() == nil {
		l, err := status(ctx, leader)
		if err == nil {
			if s, err := status(ctx, m); err == nil && s.RaftAppliedIndex+1000 > l.RaftAppliedIndex {
				break
			}
		}
		time.Sleep(20 * time.Millisecond)
	}
	return time.Since(began)
}
