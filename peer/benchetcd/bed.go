package main

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"time"

	pb "go.etcd.io/etcd/api/v3/etcdserverpb"
	"google.golang.org/grpc"

	"keelson/peer/process"
)

// bed is one fresh server and what a scenario does to it.
type bed struct {
	settings settings
	server   *process.Server   // the first member
	members  []*process.Server // all
	through  []*process.Server // those that the load goes to
	conn     *grpc.ClientConn
	figures  []figure
	entry    *entry
}

// quotaBytes keeps both servers from running out of room.
const quotaBytes = 64 << 30

// once runs a scenario on a fresh server and returns what it measured so far even if it failed.
func once(ctx context.Context, s settings, scenario scenario, kind process.Kind) (_ []figure, err error) {
	dir, err := os.MkdirTemp(s.dir, "benchetcd-data-")
	if err != nil {
		return nil, err
	}
	defer os.RemoveAll(dir)
	binary, args := s.etcd, []string{"--quota-backend-bytes", strconv.Itoa(quotaBytes)}
	if kind == process.Keelson {
		binary, args = s.keelson, append(args, s.args...)
	}
	args = append(args, scenario.args...)
	entry, err := newEntry(scenario.access, dir)
	if err != nil {
		return nil, err
	}
	args = append(args, entry.serverArgs...)
	members, err := newMembers(kind, binary, dir, scenario.members, args)
	if err != nil {
		return nil, err
	}
	b := &bed{settings: s, server: members[0], members: members, through: members, entry: entry}
	defer func() { err = errors.Join(err, b.close()) }()
	if err := start(members); err != nil {
		return nil, err
	}
	if b.conn, err = grpc.NewClient("passthrough:///"+b.server.Addr(), entry.credentials(), grpc.WithPerRPCCredentials(entry),
		grpc.WithDefaultCallOptions(grpc.MaxCallRecvMsgSize(1<<30))); err != nil {
		return nil, err
	}
	ctx, cancel := context.WithTimeout(ctx, scenario.limit(s))
	defer cancel()
	if err := entry.makeUsers(ctx, b.conn); err != nil {
		return nil, err
	}
	err = scenario.run(ctx, b)
	return b.figures, err
}

func newMembers(kind process.Kind, binary, dir string, members int, args []string) ([]*process.Server, error) {
	if members > 1 {
		return process.NewCluster(kind, binary, dir, members, args...)
	}
	s, err := process.New(kind, binary, filepath.Join(dir, "data"), args...)
	return []*process.Server{s}, err
}

// start starts members at the same time: they wait for each other.
func start(members []*process.Server) error {
	errs := make([]error, len(members))
	var all sync.WaitGroup
	for i, m := range members {
		all.Go(func() { _, errs[i] = m.Start() })
	}
	all.Wait()
	return errors.Join(errs...)
}

// close ends the server. How it ends says nothing about its speed, so it is killed.
func (b *bed) close() error {
	if b.conn != nil {
		b.conn.Close()
	}
	var errs []error
	for _, m := range b.members {
		alive, last := m.Alive()
		errs = append(errs, m.Kill())
		if !alive && last != "" {
			errs = append(errs, fmt.Errorf("the server ended by itself: %s", last))
		}
	}
	return errors.Join(errs...)
}

func (b *bed) report(name, unit string, value float64) {
	b.figures = append(b.figures, figure{name, unit, value})
}

// size returns the full figure, or the quick one.
func (b *bed) size(full, quick int) int {
	if b.settings.quick {
		return quick
	}
	return full
}

// seconds is how long a measured load runs.
func (b *bed) seconds() string { return fmt.Sprintf("%ds", b.size(8, 2)) }

// load is what `keelson bench --json` prints; durations in nanoseconds.
type load struct {
	Count                                      uint64
	Elapsed, P50, P90, P99, P999               time.Duration
	PerSec                                     float64
	ReplyBytes                                 uint64
	Errors                                     map[string]uint64
	Behind                                     uint64
	Events                                     uint64
	EventsPerS                                 float64
	Measured                                   bool
	ServerCPU, CPUPerOp, CPUPerEvent           time.Duration
	EventsPerCPUSec                            float64
	RSSBefore, RSSAfter, RSSPeak, RSSPerStream int64
	ClientCPU                                  time.Duration
}

// run runs the load generator against the server.
func (b *bed) run(ctx context.Context, arguments string, more ...string) (load, error) {
	args := append(append([]string{}, b.settings.bench[1:]...), strings.Fields(arguments)...)
	args = append(args, more...)
	var endpoints []string
	for _, m := range b.through {
		endpoints = append(endpoints, m.Addr())
	}
	args = append(args, "--json", "--endpoint", strings.Join(endpoints, ","))
	args = append(args, b.entry.benchArgs...)
	if len(b.members) == 1 {
		args = append(args, "--server-pid", strconv.Itoa(b.server.PID()))
	}
	before := b.cpu()
	command := exec.CommandContext(ctx, b.settings.bench[0], args...)
	var out, complaint bytes.Buffer
	command.Stdout, command.Stderr = &out, &complaint
	command.WaitDelay = 5 * time.Second
	if err := command.Run(); err != nil {
		return load{}, fmt.Errorf("bench %s: %w: %s", arguments, err, complaint.String())
	}
	var l load
	if err := json.Unmarshal(out.Bytes(), &l); err != nil {
		return load{}, fmt.Errorf("bench %s: %w: %q", arguments, err, out.String())
	}
	if len(b.members) > 1 {
		l.Measured, l.ServerCPU = true, b.cpu()-before
		l.CPUPerOp = l.ServerCPU / time.Duration(max(l.Count, 1))
	}
	return l, nil
}

// bench is run for a load of which every request has to succeed.
func (b *bed) bench(ctx context.Context, arguments string, more ...string) (load, error) {
	l, err := b.run(ctx, arguments, more...)
	if err != nil {
		return l, err
	}
	for text, n := range l.Errors {
		return l, fmt.Errorf("bench %s: %d of %d requests failed: %s", arguments, n, l.Count, text)
	}
	return l, nil
}

// overfill is run for a load of which the server may refuse what is too much for it. What is refused does not count as done.
func (b *bed) overfill(ctx context.Context, arguments string) (l load, refused float64, err error) {
	if l, err = b.run(ctx, arguments); err != nil {
		return l, 0, err
	}
	for text, n := range l.Errors {
		if !strings.Contains(text, "too many requests") {
			return l, 0, fmt.Errorf("bench %s: %d of %d requests failed: %s", arguments, n, l.Count, text)
		}
		refused += float64(n) / float64(max(l.Count, 1))
	}
	l.PerSec *= 1 - refused
	return l, refused, nil
}

// carries checks that replies hold the given number of whole pairs: a load that reads what was not written measures
// nothing.
func (l load) carries(pairs int) error {
	if want := l.Count * uint64(pairs) * valueBytes; l.ReplyBytes < want {
		return fmt.Errorf("%d bytes in %d replies, want %d or more", l.ReplyBytes, l.Count, want)
	}
	return nil
}

const (
	fillBatch    = 100 // puts in one transaction
	fillInFlight = 16
	valueBytes   = 256
)

// fill writes keys 0..n-1 in the form `keelson bench` gives them, many to a transaction, and returns the last revision.
// Writing n keys out of a smaller space leaves superseded revisions behind.
func (b *bed) fill(ctx context.Context, n, space int, leaseID int64) (revision int64, err error) {
	value := bytes.Repeat([]byte("0123456789abcdef"), valueBytes/16)
	kv := pb.NewKVClient(b.conn)
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	batches := make(chan int)
	var mu sync.Mutex
	var workers sync.WaitGroup
	for range fillInFlight {
		workers.Go(func() {
			for first := range batches {
				txn := &pb.TxnRequest{}
				for i := first; i < min(first+fillBatch, n); i++ {
					put := &pb.PutRequest{Key: fmt.Appendf(nil, "bench/%018d", i%space), Value: value, Lease: leaseID}
					txn.Success = append(txn.Success, &pb.RequestOp{Request: &pb.RequestOp_RequestPut{RequestPut: put}})
				}
				reply, failed := kv.Txn(ctx, txn)
				mu.Lock()
				if failed != nil && err == nil {
					err = fmt.Errorf("fill: %w", failed)
					cancel()
				}
				revision = max(revision, reply.GetHeader().GetRevision())
				mu.Unlock()
			}
		})
	}
	for first := 0; first < n && ctx.Err() == nil; first += fillBatch {
		batches <- first
	}
	close(batches)
	workers.Wait()
	if err == nil {
		err = ctx.Err()
	}
	return revision, err
}

// rss returns the server's resident memory in MiB, 0 where it cannot be read.
func (b *bed) rss() float64 {
	status, err := os.ReadFile(fmt.Sprintf("/proc/%d/status", b.server.PID()))
	if err != nil {
		return 0
	}
	for line := range strings.Lines(string(status)) {
		if rest, ok := strings.CutPrefix(line, "VmRSS:"); ok {
			if fields := strings.Fields(rest); len(fields) > 0 {
				kib, _ := strconv.ParseFloat(fields[0], 64)
				return kib / 1024
			}
		}
	}
	return 0
}
