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
