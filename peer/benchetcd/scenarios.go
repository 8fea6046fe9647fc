package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"slices"
	"time"

	pb "go.etcd.io/etcd/api/v3/etcdserverpb"
)

// scenario is one comparison. run works on a fresh server and reports figures to the bed.
type scenario struct {
	name, about string
	huge        bool // only when asked for, and on Keelson alone
	run         func(ctx context.Context, b *bed) error
	members     int      // 0: one
	args        []string // further flags for every member
	access      access
}

// withV2 is the flag of scenarios of the v2 API. Their reference is etcd 3.4.
var withV2 = []string{"--enable-v2"}

func (sc scenario) isV2() bool { return slices.Equal(sc.args, withV2) }

// limit is how long a scenario may take on one server in one round.
func (sc scenario) limit(s settings) time.Duration {
	switch {
	case sc.huge:
		return 30 * time.Minute
	case s.quick:
		return 60 * time.Second
	}
	return 180*time.Second + time.Duration(s.behindMiB)*time.Second/10 // with large -behind, that takes most of it
}

func scenarios() []scenario {
	return []scenario{
		{"put", "puts of 256 bytes, 1000 in flight", false, putMany, 0, nil, open},
		{"put-one", "puts of 256 bytes, one client", false, putOne, 0, nil, open},
		{"get", "linearizable reads of one key, 1000 in flight", false, getMany, 0, nil, open},
		{"get-serializable", "reads of one key that ask no quorum, 1000 in flight", false, getLocal, 0, nil, open},
		{"put-tls", "put, with TLS", false, putMany, 0, nil, withTLS},
		{"get-tls", "get, with TLS", false, getMany, 0, nil, withTLS},
		{"put-auth", "put, with users and roles: each call shows a token", false, putMany, 0, nil, withUsers},
		{"get-auth", "get, with users and roles", false, getMany, 0, nil, withUsers},
		{"put-tls-auth", "put, with TLS, users and roles", false, putMany, 0, nil, withTLS | withUsers},
		{"get-tls-auth", "get, with TLS, users and roles", false, getMany, 0, nil, withTLS | withUsers},
		{"txn", "compare-and-put transactions, 1000 in flight", false, compareAndPut, 0, nil, open},
		{"count", "counts of a million keys", false, count, 0, nil, open},
		{"page", "pages of 500 of a million keys at a pinned revision, with the count of the rest", false, page, 0, nil, open},
		{"connections", "16,000 clients with one read or put each in flight", false, connections, 0, nil, open},
		{"overload", "puts while a client lists everything in a loop", false, overload, 0, nil, open},
		{"fairness", "a client beside another one with 10,000 requests in flight, and beside 32 lists", false, fairness, 0, nil, open},
		{"list", "one answer with every key, 256 bytes each", false, list, 0, nil, open},
		{"restart", "stop and start with many keys", false, restart, 0, nil, open},
		{"compact", "compaction of superseded revisions under puts", false, compact, 0, nil, open},
		{"watch-hot", "1000 watchers on one prefix, with previous pairs", false, watchHot, 0, nil, open},
		{"watch-idle", "10,000 watch streams with nothing to tell", false, watchIdle, 0, nil, open},
		{"lease", "grants and keep-alives of 200,000 leases", false, leases, 0, nil, open},
		{"lease-expiry", "5000 leases a second expire while one client puts", false, leaseExpiry, 0, nil, open},
		{"lease-keys", "puts on a lease that has 100,000 keys", false, leaseKeys, 0, nil, open},
		{"v2-put", "v2 API: puts of 64 bytes over 1000 connections", false, v2Puts(1000), 0, withV2, open},
		{"v2-put-64", "v2 API: the same over 64 connections", false, v2Puts(64), 0, withV2, open},
		{"v2-get", "v2 API: reads of 64 bytes over 1000 connections", false, v2Gets(1000), 0, withV2, open},
		{"v2-get-64", "v2 API: the same over 64 connections", false, v2Gets(64), 0, withV2, open},
		{"v2-polls", "v2 API: 18,000 long polls with nothing to tell, then a hundred events", false, v2Polls, 0, withV2, open},
		{"cluster-put", "three members: puts of 256 bytes, 1000 in flight, spread over all", false, putMany, 3, nil, open},
		{"cluster-put-leader", "three members: the same, all through the leader", false, putLeader, 3, nil, open},
		{"cluster-put-one", "three members: puts of 256 bytes, one client of the leader", false, putOneLeader, 3, nil, open},
		{"cluster-put-follower", "three members: puts of 256 bytes, one client of a follower", false, putOneFollower, 3, nil, open},
		{"cluster-get", "three members: linearizable reads, 1000 in flight, spread over all", false, getMany, 3, nil, open},
		{"cluster-kill", "three members: the leader is killed under load", false, killLeader, 3, nil, open},
		{"cluster-kill-fast", "the same with heartbeats of 20 ms and elections after 200 ms", false, killLeader, 3, []string{"--heartbeat-interval", "20", "--election-timeout", "200"}, open},
		{"cluster-stop", "three members: the leader is stopped in order under load", false, stopLeader, 3, nil, open},
		{"cluster-catch-up", "three members: one that is far behind (-behind) comes back under load", false, catchUp, 3, nil, open},
		{"huge", "ten million keys", true, huge, 0, nil, open},
	}
}

// throughput reports what every closed loop has.
func (b *bed) throughput(what string, l load) {
	b.report(what+" per second", "1/s", l.PerSec)
	if l.Measured {
		b.report("server CPU per "+what, "us", micros(l.CPUPerOp))
	}
	b.report(what+" p50", "ms", millis(l.P50))
	b.report(what+" p99", "ms", millis(l.P99))
}

func micros(d time.Duration) float64 { return float64(d) / float64(time.Microsecond) }
func millis(d time.Duration) float64 { return float64(d) / float64(time.Millisecond) }
func mebi(bytes int64) float64       { return float64(bytes) / (1 << 20) }

func putMany(ctx context.Context, b *bed) error {
	// A first second on the side, so that neither is measured while it warms up.
	if _, err := b.bench(ctx, "put --in-flight 1000 --duration 1s"); err != nil {
		return err
	}
	l, err := b.bench(ctx, "put --in-flight 1000 --duration "+b.seconds())
	if err == nil {
		b.throughput("put", l)
		b.report("load generator CPU per put", "us", micros(l.ClientCPU/time.Duration(max(l.Count, 1))))
	}
	return err
}

func putOne(ctx context.Context, b *bed) error {
	l, err := b.bench(ctx, "put --in-flight 1 --duration "+b.seconds())
	if err != nil {
		return err
	}
	b.throughput("put", l)
	sync, err := syncTime(b.settings.dir)
	if err == nil {
		b.report("sync of the disk, p50", "ms", millis(sync))
		b.report("put p50 beyond a sync of the disk", "ms", millis(l.P50-sync))
	}
	echo, e := echoTime(ctx, b.settings.dir, len(b.members), b.size(echoRounds, echoRounds/10))
	if e == nil {
		b.report("echo that is on disk, p50", "ms", millis(echo))
	}
	return errors.Join(err, e)
}

// syncTime is the median of what it takes to write 512 bytes into a file that is there and have them on disk, alone.
func syncTime(dir string) (time.Duration, error) {
	f, err := os.CreateTemp(dir, "benchetcd-sync-")
	if err != nil {
		return 0, err
	}
	defer os.Remove(f.Name())
	defer f.Close()
	const writes, bytes = 300, 512
	if _, err := f.Write(make([]byte, writes*bytes)); err != nil {
		return 0, err
	}
	if err := f.Sync(); err != nil {
		return 0, err
	}
	var took []time.Duration
	for i := range writes {
		begin := time.Now()
		if _, err := f.WriteAt(make([]byte, bytes), int64(i*bytes)); err != nil {
			return 0, err
		}
		if err := syncData(f); err != nil {
			return 0, err
		}
		took = append(took, time.Since(begin))
	}
	slices.Sort(took)
	return took[len(took)/2], nil
}

func getMany(ctx context.Context, b *bed) error {
	n := b.size(100_000, 10_000)
	if _, err := b.fill(ctx, n, n, 0); err != nil {
		return err
	}
	l, err := b.bench(ctx, fmt.Sprintf("get --in-flight 1000 --key-space %d --duration %s", n, b.seconds()))
	if err != nil {
		return err
	}
	b.throughput("get", l)
	return l.carries(1)
}

func getLocal(ctx context.Context, b *bed) error {
	n := b.size(100_000, 10_000)
	if _, err := b.fill(ctx, n, n, 0); err != nil {
		return err
	}
	l, err := b.bench(ctx, fmt.Sprintf("get --serializable --in-flight 1000 --key-space %d --duration %s", n, b.seconds()))
	if err != nil {
		return err
	}
	b.throughput("get", l)
	return l.carries(1)
}

func compareAndPut(ctx context.Context, b *bed) error {
	const space = 10_000
	if _, err := b.fill(ctx, space, space, 0); err != nil {
		return err
	}
	l, err := b.bench(ctx, fmt.Sprintf("txn --in-flight 1000 --key-space %d --duration %s", space, b.seconds()))
	if err == nil {
		b.throughput("txn", l)
	}
	return err
}

func count(ctx context.Context, b *bed) error {
	n := b.size(1_000_000, 100_000)
	if _, err := b.fill(ctx, n, n, 0); err != nil {
		return err
	}
	first, err := b.bench(ctx, "range --count-only --in-flight 1 --total 1")
	if err != nil {
		return err
	}
	b.report("first count", "ms", millis(first.P50))
	l, err := b.bench(ctx, "range --count-only --in-flight 1 --total 20")
	if err != nil {
		return err
	}
	b.report("count p50", "ms", millis(l.P50))
	b.report("server CPU per count", "ms", millis(l.CPUPerOp))
	return nil
}

func page(ctx context.Context, b *bed) error {
	n := b.size(1_000_000, 100_000)
	pinned, err := b.fill(ctx, n, n, 0)
	if err != nil {
		return err
	}
	// Meanwhile others write: the pages are of a revision that is not the newest any more.
	if _, err := b.bench(ctx, fmt.Sprintf("put --in-flight 100 --total %d --key-space %d", b.size(20_000, 2000), 2*n)); err != nil {
		return err
	}
	pages := fmt.Sprintf("range --pages --limit 500 --key-space %d --revision %d --in-flight 1 --total ", n, pinned)
	first, err := b.bench(ctx, pages+"1")
	if err != nil {
		return err
	}
	b.report("first page", "ms", millis(first.P50))
	l, err := b.bench(ctx, pages+"50")
	if err != nil {
		return err
	}
	b.report("page p50", "ms", millis(l.P50))
	b.report("server CPU per page", "ms", millis(l.CPUPerOp))
	return nil
}

// connections compares 16,000 clients, each with one request in flight on a connection of its own, with fewer of them.
func connections(ctx context.Context, b *bed) error {
	const space = 10_000
	if _, err := b.fill(ctx, space, space, 0); err != nil {
		return err
	}
	many := b.size(16_000, 4000)
	for _, what := range []string{"get", "put"} {
		best := 0.0
		for _, n := range []int{64, 256, 1000, 4000, 16_000} {
			if n > many {
				break
			}
			l, refused, err := b.overfill(ctx, fmt.Sprintf("%s --conns %d --in-flight %d --key-space %d --duration %s", what, n, n, space, b.seconds()))
			if err != nil {
				return err
			}
			best = max(best, l.PerSec)
			b.report(fmt.Sprintf("%s per second, %d clients", what, n), "1/s", l.PerSec)
			if n == many {
				b.report(fmt.Sprintf("%s refused, %d clients", what, n), "%", 100*refused)
				b.report(fmt.Sprintf("%s p99, %d clients", what, n), "ms", millis(l.P99))
				b.report(fmt.Sprintf("%s, %d clients against the best", what, n), "", l.PerSec/best)
			}
		}
	}
	return nil
}

func overload(ctx context.Context, b *bed) error {
	n := b.size(100_000, 20_000)
	if _, err := b.fill(ctx, n, n, 0); err != nil {
		return err
	}
	puts := "put --in-flight 50 --rate 2000 --key-space 10000 --prefix other/ --duration " + b.seconds()
	quiet, err := b.bench(ctx, puts)
	if err != nil {
		return err
	}
	busy, _, err := b.beside(ctx, "range --in-flight 1", puts)
	if err != nil {
		return err
	}
	// The lister's own work is as much as the server's, and is done on the same cores only here.
	elsewhere, _, err := b.beside(ctx, "range --in-flight 1", puts, "nice", "-n", "19")
	if err != nil {
		return err
	}
	b.report("put p50, quiet", "ms", millis(quiet.P50))
	b.report("put p50 beside a lister", "ms", millis(busy.P50))
	b.report("put p99, quiet", "ms", millis(quiet.P99))
	b.report("put p99 beside a lister", "ms", millis(busy.P99))
	b.report("put p99, beside a lister against quiet", "", float64(busy.P99)/float64(quiet.P99))
	b.report("put p99 beside a lister that gives way", "ms", millis(elsewhere.P99))
	b.report("put p99, beside a lister that gives way against quiet", "", float64(elsewhere.P99)/float64(quiet.P99))
	return nil
}

// beside measures a load while another one, without an end, goes on beside it, run by the command given in pieces, if any.
func (b *bed) beside(ctx context.Context, other, what string, by ...string) (l load, refused float64, err error) {
	aside := *b
	aside.settings.bench = slices.Concat(by, b.settings.bench)
	background, stop := context.WithCancel(ctx)
	ended := make(chan error, 1)
	go func() {
		_, _, err := aside.overfill(background, other+" --duration 60s")
		if background.Err() != nil {
			err = nil
		}
		ended <- err
	}()
	time.Sleep(500 * time.Millisecond)
	l, refused, err = b.overfill(ctx, what)
	stop()
	return l, refused, errors.Join(err, <-ended)
}

// fairness measures what one client sees of another one that asks as much as it can.
func fairness(ctx context.Context, b *bed) error {
	n := b.size(100_000, 20_000)
	if _, err := b.fill(ctx, n, n, 0); err != nil {
		return err
	}
	one := "put --in-flight 1 --key-space 1000 --prefix one/ --duration " + b.seconds()
	page := "range --in-flight 1 --limit 500 --duration " + b.seconds()
	for _, others := range []struct{ name, load, one, what string }{
		{"10,000 puts in flight", "put --in-flight 10000 --conns 1 --key-space 10000 --prefix many/", one, "put"},
		{"32 lists in flight", "range --in-flight 32 --conns 1", one, "put"},
		{"32 lists in flight", "range --in-flight 32 --conns 1", page, "page of 500"},
	} {
		quiet, err := b.bench(ctx, others.one)
		if err != nil {
			return err
		}
		busy, refused, err := b.beside(ctx, others.load, others.one)
		if err != nil {
			return err
		}
		b.report(fmt.Sprintf("%s refused beside %s", others.what, others.name), "%", 100*refused)
		for _, f := range []struct {
			name        string
			quiet, busy time.Duration
		}{{"p50", quiet.P50, busy.P50}, {"p99", quiet.P99, busy.P99}} {
			b.report(fmt.Sprintf("%s %s, quiet", others.what, f.name), "ms", millis(f.quiet))
			b.report(fmt.Sprintf("%s %s beside %s", others.what, f.name, others.name), "ms", millis(f.busy))
		}
	}
	return nil
}

func list(ctx context.Context, b *bed) error {
	n := b.size(100_000, 20_000)
	if _, err := b.fill(ctx, n, n, 0); err != nil {
		return err
	}
	l, err := b.bench(ctx, "range --in-flight 1 --total 10")
	if err != nil {
		return err
	}
	b.report(fmt.Sprintf("list of %d keys, p50", n), "ms", millis(l.P50))
	if l.Measured {
		b.report("server CPU per list", "ms", millis(l.CPUPerOp))
		b.report("peak memory growth", "MiB", mebi(l.RSSPeak-l.RSSBefore))
	}
	return l.carries(n)
}

func restart(ctx context.Context, b *bed) error {
	n := b.size(1_000_000, 100_000)
	begin := time.Now()
	if _, err := b.fill(ctx, n, n, 0); err != nil {
		return err
	}
	b.report(fmt.Sprintf("writing %d keys, 100 to a transaction", n), "s", time.Since(begin).Seconds())
	b.report("memory before", "MiB", b.rss())
	if err := b.server.Stop(); err != nil {
		return err
	}
	took, err := b.server.Start()
	if err != nil {
		return err
	}
	b.report("start to ready", "s", took.Seconds())
	l, err := b.bench(ctx, fmt.Sprintf("get --in-flight 1 --total 100 --key-space %d", n))
	if err != nil {
		return err
	}
	b.report("first 100 reads", "ms", millis(l.Elapsed))
	b.report("memory after", "MiB", b.rss())
	return l.carries(1)
}

func compact(ctx context.Context, b *bed) error {
	const space = 1000
	n := b.size(1_000_000, 100_000)
	// All writes of a key within one transaction are forbidden, so it is the key space that is gone through many times.
	revision, err := b.fill(ctx, n, space, 0)
	if err != nil {
		return err
	}
	const putting = "put --in-flight 100 --key-space 1000 --duration "
	quiet, err := b.bench(ctx, putting+b.seconds())
	if err != nil {
		return err
	}
	b.report("put p99 without compaction", "ms", millis(quiet.P99))

	compacted := make(chan error, 1)
	var took time.Duration
	go func() {
		time.Sleep(500 * time.Millisecond) // the load should be under way
		begin := time.Now()
		_, err := pb.NewKVClient(b.conn).Compact(ctx, &pb.CompactionRequest{Revision: revision, Physical: true})
		took = time.Since(begin)
		compacted <- err
	}()
	busy, err := b.bench(ctx, putting+b.seconds())
	if err = errors.Join(err, <-compacted); err != nil {
		return err
	}
	b.report("put p99 with compaction", "ms", millis(busy.P99))
	b.report("put p50, with compaction against without", "", float64(busy.P50)/float64(quiet.P50))
	b.report("put p99, with compaction against without", "", float64(busy.P99)/float64(quiet.P99))
	b.report("put p999 without compaction", "ms", millis(quiet.P999))
	b.report("put p999 with compaction", "ms", millis(busy.P999))
	b.report("puts per second without compaction", "1/s", quiet.PerSec)
	b.report("puts per second with compaction", "1/s", busy.PerSec)
	b.report(fmt.Sprintf("compaction of %d superseded versions", n-space), "s", took.Seconds())
	return nil
}

func watchHot(ctx context.Context, b *bed) error {
	if _, err := b.fill(ctx, 100, 100, 0); err != nil {
		return err
	}
	l, err := b.bench(ctx, fmt.Sprintf("watch --watchers 1000 --streams 100 --prev-kv --in-flight 10 --key-space 100 --total %d", b.size(2000, 300)))
	if err != nil {
		return err
	}
	b.report("events per second", "1/s", l.EventsPerS)
	if l.Measured {
		b.report("events per second of server CPU", "1/s", l.EventsPerCPUSec)
		b.report("server CPU per event", "us", micros(l.CPUPerEvent))
	}
	return nil
}

func watchIdle(ctx context.Context, b *bed) error {
	l, err := b.bench(ctx, fmt.Sprintf("watch-idle --streams %d --duration %s", b.size(10_000, 2000), b.seconds()))
	if err != nil {
		return err
	}
	b.report("streams opened per second", "1/s", l.PerSec)
	if l.Measured {
		b.report("memory per stream", "KiB", float64(l.RSSPerStream)/1024)
	}
	return nil
}

func leases(ctx context.Context, b *bed) error {
	n := b.size(200_000, 20_000)
	granted, err := b.bench(ctx, fmt.Sprintf("grant --in-flight 500 --lease-ttl 3600 --total %d", n))
	if err != nil {
		return err
	}
	b.throughput("grant", granted)
	if granted.Measured {
		b.report("memory per lease", "bytes", float64(granted.RSSAfter-granted.RSSBefore)/float64(n))
	}
	renewed, err := b.bench(ctx, fmt.Sprintf("keep-alive --in-flight 200 --leases %d --duration %s", n, b.seconds()))
	if err == nil {
		b.throughput("keep-alive", renewed)
	}
	return err
}

func leaseExpiry(ctx context.Context, b *bed) error {
	live := b.size(200_000, 20_000)
	if _, err := b.bench(ctx, fmt.Sprintf("grant --in-flight 500 --lease-ttl 3600 --total %d", live)); err != nil {
		return err
	}
	quiet, err := b.bench(ctx, "put --in-flight 1 --duration "+b.seconds())
	if err != nil {
		return err
	}
	// Leases of two seconds, granted at a steady rate, expire at that rate two seconds later.
	const rate, ttl = 5000, 2
	duration := b.size(15, 5)
	granted := make(chan error, 1)
	var grants load
	begin := time.Now()
	go func() {
		var err error
		grants, err = b.bench(ctx, fmt.Sprintf("grant --lease-first 50000000 --lease-ttl %d --rate %d --in-flight 2000 --duration %ds", ttl, rate, duration))
		granted <- err
	}()
	time.Sleep((ttl + 1) * time.Second)
	busy, err := b.bench(ctx, fmt.Sprintf("put --in-flight 1 --duration %ds", duration-ttl-1))
	if err = errors.Join(err, <-granted); err != nil {
		return err
	}
	elapsed := time.Since(begin)
	left, err := pb.NewLeaseClient(b.conn).LeaseLeases(ctx, &pb.LeaseLeasesRequest{})
	if err != nil {
		return err
	}
	expired := float64(int(grants.Count) + live - len(left.Leases))
	b.report("put p50 without expiries", "ms", millis(quiet.P50))
	b.report("put p50 with expiries", "ms", millis(busy.P50))
	b.report("put p99 without expiries", "ms", millis(quiet.P99))
	b.report("put p99 with expiries", "ms", millis(busy.P99))
	b.report("leases granted per second", "1/s", grants.PerSec)
	b.report("leases expired per second", "1/s", expired/(elapsed.Seconds()-ttl))
	b.report("overdue leases at the end", "", max(0, float64(len(left.Leases)-live)-rate*ttl))
	return nil
}

func leaseKeys(ctx context.Context, b *bed) error {
	n := b.size(100_000, 20_000)
	const lease = 77
	if _, err := pb.NewLeaseClient(b.conn).LeaseGrant(ctx, &pb.LeaseGrantRequest{ID: lease, TTL: 3600}); err != nil {
		return err
	}
	if _, err := b.fill(ctx, n, n, lease); err != nil {
		return err
	}
	l, err := b.bench(ctx, fmt.Sprintf("put --in-flight 100 --put-lease %d --key-space %d --duration %s", lease, n, b.seconds()))
	if err == nil {
		b.throughput("put", l)
	}
	return err
}

func huge(ctx context.Context, b *bed) error {
	n := b.size(10_000_000, 1_000_000)
	begin := time.Now()
	if _, err := b.fill(ctx, n, n, 0); err != nil {
		return err
	}
	b.report(fmt.Sprintf("writing %d keys, 100 to a transaction", n), "s", time.Since(begin).Seconds())
	b.report("memory", "MiB", b.rss())
	put, err := b.bench(ctx, fmt.Sprintf("put --in-flight 1000 --key-space %d --duration %s", n, b.seconds()))
	if err != nil {
		return err
	}
	b.throughput("put", put)
	get, err := b.bench(ctx, fmt.Sprintf("get --in-flight 1000 --key-space %d --duration %s", n, b.seconds()))
	if err != nil {
		return err
	}
	b.throughput("get", get)
	if err := get.carries(1); err != nil {
		return err
	}
	page, err := b.bench(ctx, "range --limit 1000 --in-flight 1 --total 50")
	if err != nil {
		return err
	}
	b.report("list of 1000 with a count of all, p50", "ms", millis(page.P50))
	if err := page.carries(1000); err != nil {
		return err
	}
	if err := b.server.Stop(); err != nil {
		return err
	}
	took, err := b.server.Start()
	if err != nil {
		return err
	}
	b.report("start to ready", "s", took.Seconds())
	b.report("memory after", "MiB", b.rss())
	return nil
}
