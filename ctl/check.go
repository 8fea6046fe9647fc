package ctl

import (
	"context"
	"fmt"
	"io"
	"math"
	"net/http"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"sync"
	"time"

	"github.com/spf13/cobra"
	clientv3 "go.etcd.io/etcd/client/v3"

	"keelson/internal/cli"
)

// checkOptions are the flags of both checks.
type checkOptions struct {
	load, prefix                string
	autoCompact, autoDefragment bool
}

func (s *session) checkCommand() *cobra.Command {
	return s.family("check", "commands for checking properties of the etcd cluster", groupUtility,
		s.checkPerfCommand(), s.checkDatascaleCommand())
}

func (o *checkOptions) register(cmd *cobra.Command, prefix, load string) {
	f := cmd.Flags()
	f.StringVar(&o.load, "load", "s", load)
	f.StringVar(&o.prefix, "prefix", prefix, "The prefix for writing the "+cmd.Annotations["check"]+"'s keys.")
	f.BoolVar(&o.autoCompact, "auto-compact", false, "Compact storage with last revision after test is finished.")
	f.BoolVar(&o.autoDefragment, "auto-defrag", false, "Defragment storage after test is finished.")
}

// perfLoad is a load that a cluster should bear: writes a second from so many clients.
type perfLoad struct{ rate, clients int }

var perfLoads = map[string]perfLoad{
	"s": {150, 50}, "small": {150, 50}, "m": {1000, 200}, "medium": {1000, 200},
	"l": {8000, 500}, "large": {8000, 500}, "xl": {15000, 1000}, "xLarge": {15000, 1000},
}

const (
	perfSeconds    = 60
	perfKeyBytes   = 256
	perfValueBytes = 1024
	// What passes: nine tenths of the rate, no request slower than this, times that do not scatter more than that.
	perfShareMin     = 0.9
	perfSlowestMax   = 500 * time.Millisecond
	perfDeviationMax = 100 * time.Millisecond
)

func (s *session) checkPerfCommand() *cobra.Command {
	o := &checkOptions{}
	cmd := &cobra.Command{
		Use: "perf [options]", Short: "Check the performance of the etcd cluster", Annotations: map[string]string{"check": "performance check"},
		RunE: func(cmd *cobra.Command, args []string) error {
			load, ok := perfLoads[o.load]
			if !ok {
				return cli.Fail(cli.ExitBadFeature, "unknown load option %v", o.load)
			}
			return s.checkPerf(o, load)
		},
	}
	o.register(cmd, "/etcdctl-check-perf/", "The performance check's workload model. Accepted workloads: s(small), m(medium), l(large), xl(xLarge). "+
		"Different workload models use different configurations in terms of number of clients and expected throughput.")
	return cmd
}

func (s *session) checkPerf(o *checkOptions, load perfLoad) error {
	clients, err := s.connectMany(load.clients)
	if err != nil {
		return err
	}
	defer closeAll(clients)
	if err := s.requireEmpty(clients[0], o.prefix, fmt.Sprintf("prefix %q has keys. Delete with 'etcdctl del --prefix %s' first", o.prefix, o.prefix)); err != nil {
		return err
	}
	ctx, cancel := interrupted()
	defer cancel()
	progress := cli.NewProgress(s.err, "writing", perfSeconds, func(n int64) string { return fmt.Sprintf("%d s", n) })
	results := drive(ctx, clients, load.rate, load.rate*perfSeconds, perfSeconds*time.Second, progress, func(ctx context.Context, c *clientv3.Client, n int) error {
		_, err := c.Put(ctx, o.prefix+padded(strconv.Itoa(n), perfKeyBytes), strings.Repeat("v", perfValueBytes))
		return err
	})
	progress.Finish()
	if err := s.cleanUp(clients[0], o); err != nil {
		return err
	}
	if !results.judge(s.out, load.rate) {
		fmt.Fprintln(s.out, "FAIL")
		return cli.Silent(cli.ExitError)
	}
	fmt.Fprintln(s.out, "PASS")
	return nil
}

func padded(text string, bytes int) string {
	return strings.Repeat("0", max(0, bytes-len(text))) + text
}

// judge prints the verdicts and returns whether all are good.
func (r *driven) judge(w io.Writer, rate int) bool {
	ok := true
	verdict := func(good bool, pass, fail string) {
		if good {
			fmt.Fprintln(w, "PASS: "+pass)
			return
		}
		fmt.Fprintln(w, fail)
		ok = false
	}
	if len(r.failures) > 0 {
		verdict(false, "", "FAIL: too many errors")
		for _, text := range slices.Sorted(mapKeys(r.failures)) {
			fmt.Fprintf(w, "FAIL: ERROR(%v) -> %d\n", text, r.failures[text])
		}
	}
	throughput := int(math.Round(float64(len(r.times)) / r.took.Seconds()))
	verdict(float64(throughput) > float64(rate)*perfShareMin, fmt.Sprintf("Throughput is %d writes/s", throughput),
		fmt.Sprintf("FAIL: Throughput too low: %d writes/s", throughput))
	slowest, deviation := r.spread()
	verdict(slowest <= perfSlowestMax, fmt.Sprintf("Slowest request took %fs", slowest.Seconds()), fmt.Sprintf("Slowest request took too long: %fs", slowest.Seconds()))
	verdict(deviation <= perfDeviationMax, fmt.Sprintf("Stddev is %fs", deviation.Seconds()), fmt.Sprintf("Stddev too high: %fs", deviation.Seconds()))
	return ok
}

// datascaleLoad is how much is stored: pairs of a kilobyte, from so many clients.
type datascaleLoad struct{ pairs, clients int }

var datascaleLoads = map[string]datascaleLoad{
	"s": {10_000, 50}, "small": {10_000, 50}, "m": {100_000, 200}, "medium": {100_000, 200},
	"l": {1_000_000, 500}, "large": {1_000_000, 500}, "xl": {3_000_000, 1000}, "xLarge": {3_000_000, 1000},
}

func (s *session) checkDatascaleCommand() *cobra.Command {
	o := &checkOptions{}
	cmd := &cobra.Command{
		Use: "datascale [options]", Short: "Check the memory usage of holding data for different workloads on a given server endpoint.",
		Long:        "If no endpoint is provided, localhost will be used. If multiple endpoints are provided, first endpoint will be used.",
		Annotations: map[string]string{"check": "datascale check"},
		RunE: func(cmd *cobra.Command, args []string) error {
			load, ok := datascaleLoads[o.load]
			if !ok {
				return cli.Fail(cli.ExitBadFeature, "unknown load option %v", o.load)
			}
			return s.checkDatascale(o, load)
		},
	}
	o.register(cmd, "/etcdctl-check-datascale/", "The datascale check's workload model. Accepted workloads: s(small), m(medium), l(large), xl(xLarge)")
	return cmd
}

func (s *session) checkDatascale(o *checkOptions, load datascaleLoad) error {
	spec, err := s.configure()
	if err != nil {
		return err
	}
	spec.Endpoints = spec.Endpoints[:1]
	var clients []*clientv3.Client
	defer func() { closeAll(clients) }()
	for range load.clients {
		c, err := s.dial(spec, nil)
		if err != nil {
			return err
		}
		clients = append(clients, c)
	}
	if err := s.requireEmpty(clients[0], o.prefix, fmt.Sprintf("prefix %q has keys. Delete with etcdctl del --prefix %s first", o.prefix, o.prefix)); err != nil {
		return err
	}
	ctx, cancel := interrupted()
	defer cancel()
	before, err := s.residentBytes(ctx, clients[0].Endpoints()[0])
	if err != nil {
		return err
	}
	fmt.Fprintf(s.out, "Start data scale check for work load [%d key-value pairs, %d bytes per key-value, %d concurrent clients].\n",
		load.pairs, perfValueBytes, load.clients)
	progress := cli.NewProgress(s.err, "writing", int64(load.pairs), func(n int64) string { return fmt.Sprintf("%d pairs", n) })
	results := drive(ctx, clients, 0, load.pairs, 0, progress, func(ctx context.Context, c *clientv3.Client, n int) error {
		_, err := c.Put(ctx, o.prefix+strconv.Itoa(n), strings.Repeat("v", perfValueBytes))
		return err
	})
	progress.Finish()
	after, err := s.residentBytes(ctx, clients[0].Endpoints()[0])
	if err != nil {
		return err
	}
	if err := s.cleanUp(clients[0], o); err != nil {
		return err
	}
	megabytes := fmt.Sprintf("%.2f", float64(after-before)/(1024*1024))
	if len(results.failures) > 0 {
		fmt.Fprintln(s.out, "FAIL: too many errors")
		for _, text := range slices.Sorted(mapKeys(results.failures)) {
			fmt.Fprintf(s.out, "FAIL: ERROR(%v) -> %d\n", text, results.failures[text])
		}
		return cli.Silent(cli.ExitError)
	}
	fmt.Fprintf(s.out, "PASS: Approximate system memory used : %s MB.\n", megabytes)
	return nil
}

func (s *session) connectMany(n int) (clients []*clientv3.Client, err error) {
	spec, err := s.configure()
	if err != nil {
		return nil, err
	}
	for range n {
		c, err := s.dial(spec, nil)
		if err != nil {
			closeAll(clients)
			return nil, err
		}
		clients = append(clients, c)
	}
	return clients, nil
}

func closeAll(clients []*clientv3.Client) {
	for _, c := range clients {
		c.Close()
	}
}

// requireEmpty refuses to write where somebody keeps something.
func (s *session) requireEmpty(c *clientv3.Client, prefix, refusal string) error {
	ctx, cancel := s.short()
	defer cancel()
	r, err := c.Get(ctx, prefix, clientv3.WithPrefix(), clientv3.WithLimit(1), clientv3.WithKeysOnly())
	if err != nil {
		return err
	}
	if len(r.Kvs) > 0 {
		return cli.Fail(cli.ExitInvalidInput, "%s", refusal)
	}
	return nil
}

// cleanUp removes what a check has written, and what else it was asked to.
func (s *session) cleanUp(c *clientv3.Client, o *checkOptions) error {
	ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
	defer cancel()
	r, err := c.Delete(ctx, o.prefix, clientv3.WithPrefix())
	if err != nil {
		return err
	}
	if o.autoCompact {
		rev := r.Header.Revision
		fmt.Fprintln(s.out, "Compacting with revision", rev)
		if _, err := c.Compact(ctx, rev, clientv3.WithCompactPhysical()); err != nil {
			return err
		}
		fmt.Fprintln(s.out, "Compacted with revision", rev)
	}
	if o.autoDefragment {
		for _, endpoint := range c.Endpoints() {
			fmt.Fprintf(s.out, "Defragmenting %q\n", endpoint)
			if _, err := c.Defragment(ctx, endpoint); err != nil {
				return err
			}
			fmt.Fprintf(s.out, "Defragmented %q\n", endpoint)
		}
	}
	return nil
}

var residentMetric = regexp.MustCompile(`(?m)^process_resident_memory_bytes (\S+)$`)

// residentBytes asks a member for the memory it uses.
func (s *session) residentBytes(ctx context.Context, endpoint string) (int64, error) {
	text, err := s.fetch(ctx, endpoint, "/metrics")
	if err != nil {
		return 0, err
	}
	match := residentMetric.FindStringSubmatch(text)
	if match == nil {
		return 0, fmt.Errorf("%s/metrics does not say process_resident_memory_bytes", endpoint)
	}
	bytes, err := strconv.ParseFloat(match[1], 64)
	return int64(bytes), err
}

// metricsBytesMax is more than any member says.
const metricsBytesMax = 16 << 20

// fetch gets a page over HTTP from a member, under the rules of the connection.
func (s *session) fetch(ctx context.Context, endpoint, path string) (string, error) {
	spec, err := s.secure()
	if err != nil {
		return "", err
	}
	config, err := clientv3.NewClientConfig(&clientv3.ConfigSpec{Secure: spec}, nil)
	if err != nil {
		return "", err
	}
	if !strings.Contains(endpoint, "://") {
		scheme := "http://"
		if config.TLS != nil {
			scheme = "https://"
		}
		endpoint = scheme + endpoint
	}
	request, err := http.NewRequestWithContext(ctx, http.MethodGet, endpoint+path, nil)
	if err != nil {
		return "", err
	}
	transport := &http.Transport{TLSClientConfig: config.TLS, DisableKeepAlives: true}
	r, err := (&http.Client{Transport: transport, Timeout: s.flags.commandTimeout}).Do(request)
	if err != nil {
		return "", err
	}
	defer r.Body.Close()
	body, err := io.ReadAll(io.LimitReader(r.Body, metricsBytesMax))
	if err != nil {
		return "", err
	}
	if r.StatusCode != http.StatusOK {
		return "", fmt.Errorf("%s%s: %s", endpoint, path, r.Status)
	}
	return string(body), nil
}

// driven is what a load came to.
type driven struct {
	mu       sync.Mutex
	times    []time.Duration
	failures map[string]int
	took     time.Duration
}

// spread is the longest time and the standard deviation.
func (r *driven) spread() (slowest, deviation time.Duration) {
	if len(r.times) == 0 {
		return 0, 0
	}
	var sum float64
	for _, t := range r.times {
		slowest = max(slowest, t)
		sum += t.Seconds()
	}
	mean, squares := sum/float64(len(r.times)), 0.0
	for _, t := range r.times {
		squares += (t.Seconds() - mean) * (t.Seconds() - mean)
	}
	return slowest, time.Duration(math.Sqrt(squares/float64(len(r.times))) * float64(time.Second))
}

// drive makes count calls from all clients at once, rate of them a second (0: as fast as it goes), for limit at most (0: until
// all are made). The progress goes up by seconds if there is a limit, otherwise by calls.
func drive(ctx context.Context, clients []*clientv3.Client, rate, count int, limit time.Duration, progress *cli.Progress,
	call func(ctx context.Context, c *clientv3.Client, n int) error) *driven {
	r := &driven{failures: map[string]int{}}
	begun := time.Now()
	if limit > 0 {
		var cancel context.CancelFunc
		ctx, cancel = context.WithDeadline(ctx, begun.Add(limit))
		defer cancel()
	}
	numbers := make(chan int, rate)
	var working sync.WaitGroup
	for _, c := range clients {
		working.Go(func() {
			for n := range numbers {
				from := time.Now()
				err := call(context.Background(), c, n)
				r.add(time.Since(from), err)
				if limit == 0 {
					progress.Add(1)
				}
			}
		})
	}
	pace(ctx, numbers, rate, count, limit, progress)
	close(numbers)
	working.Wait()
	r.took = time.Since(begun)
	return r
}

// paceEvery is how often numbers are given out, so that a rate is even.
const paceEvery = 10 * time.Millisecond

// pace gives out the numbers.
func pace(ctx context.Context, numbers chan<- int, rate, count int, limit time.Duration, progress *cli.Progress) {
	begun, seconds := time.Now(), int64(0)
	for n := 0; n < count || limit > 0; {
		due := count
		if rate > 0 {
			due = min(count, int(time.Since(begun).Seconds()*float64(rate))+1)
		}
		for ; n < due; n++ {
			select {
			case numbers <- n:
			case <-ctx.Done():
				return
			}
		}
		if rate > 0 {
			select {
			case <-time.After(paceEvery):
			case <-ctx.Done():
				return
			}
		}
		if now := int64(time.Since(begun).Seconds()); limit > 0 && now > seconds {
			progress.Add(now - seconds)
			seconds = now
		}
	}
}

func (r *driven) add(t time.Duration, err error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if err != nil {
		r.failures[err.Error()]++
		return
	}
	r.times = append(r.times, t)
}
