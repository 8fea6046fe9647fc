package ctl

import (
	"cmp"
	"context"
	"fmt"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"sync"
	"time"

	"github.com/spf13/cobra"
	"go.etcd.io/etcd/api/v3/mvccpb"
	clientv3 "go.etcd.io/etcd/client/v3"

	"keelson/internal/cli"
)

// topOptions are the flags of top.
type topOptions struct {
	interval time.Duration
	frames   int
	rows     int
	depth    int
	width    int // of a line; 0: no end
}

func (s *session) topCommand() *cobra.Command {
	o := &topOptions{}
	cmd := &cobra.Command{
		Use: "top [PREFIX]", Short: "Watch a cluster at work: writes by prefix, hot keys, watchers, slow requests, calls", GroupID: groupLook, Args: cobra.MaximumNArgs(1),
		Long: "Watch a cluster at work, a frame every --interval: writes by prefix and the keys written most (from a watch on all keys below PREFIX), and for the " +
			"members that --endpoints names their calls by method, watchers and slow requests (from their /metrics). q or Ctrl-C ends it.",
		RunE: func(cmd *cobra.Command, args []string) error { return s.top(o, prefixOf(args)) },
	}
	f := cmd.Flags()
	f.DurationVar(&o.interval, "interval", 2*time.Second, "time between two frames")
	f.IntVar(&o.frames, "frames", 0, "how many frames to show (0: until Ctrl-C)")
	f.IntVar(&o.rows, "rows", 8, "how many prefixes, keys and methods to show")
	f.IntVar(&o.depth, "depth", 2, "how many segments of a key make its prefix")
	return cmd
}

// tally counts what the watch brings between two frames.
type tally struct {
	puts, deletes, bytes int64
	prefixes, keys       map[string]int64
}

// tallyKeys bounds the memory of a frame.
const tallyKeys = 100_000

func newTally() *tally { return &tally{prefixes: map[string]int64{}, keys: map[string]int64{}} }

func (t *tally) add(e *clientv3.Event, depth int) {
	if e.Type == mvccpb.Event_DELETE {
		t.deletes++
	} else {
		t.puts++
	}
	t.bytes += int64(len(e.Kv.Key) + len(e.Kv.Value))
	name := string(e.Kv.Key)
	count(t.prefixes, firstSegments(name, depth))
	count(t.keys, name)
}

func count(m map[string]int64, name string) {
	if _, known := m[name]; known || len(m) < tallyKeys {
		m[name]++
	}
}

// firstSegments is the beginning of a key up to its depth-th segment.
func firstSegments(name string, depth int) string {
	at := 0
	for range depth {
		next := strings.IndexByte(name[min(at+1, len(name)):], '/')
		if next < 0 {
			return name
		}
		at += next + 1
	}
	return name[:at+1]
}

func (s *session) top(o *topOptions, prefix string) error {
	if o.interval <= 0 || o.rows <= 0 || o.depth <= 0 {
		return cli.Fail(cli.ExitBadArgs, "--interval, --rows and --depth must be above 0")
	}
	c, err := s.connectNow()
	if err != nil {
		return err
	}
	defer c.Close()
	ctx, cancel := interrupted()
	defer cancel()
	watch := c.Watch(clientv3.WithRequireLeader(ctx), key(prefix), until(prefixEnd(prefix)), clientv3.WithCreatedNotify())
	tick := time.NewTicker(o.interval)
	defer tick.Stop()
	counted := newTally()
	sc := openScreen(s.in, s.out)
	defer sc.Close()
	go func() { // until the command has ended
		select {
		case <-sc.quit:
			cancel() // also what waits for an endpoint
		case <-ctx.Done():
		}
	}()
	sc.draw(s.paint.Paint(cli.Bold, "keelson top") + fmt.Sprintf("  counting for %s; q ends it", o.interval))
	before, _ := s.memberMetrics(ctx, c)
	begun := time.Now()
	for frame := 0; o.frames == 0 || frame < o.frames; {
		select {
		case <-ctx.Done():
			return nil
		case r, ok := <-watch:
			if !ok || r.Err() != nil {
				if ctx.Err() != nil {
					return nil
				}
				return fmt.Errorf("the watch on %q has ended: %w", prefix, r.Err())
			}
			for _, e := range r.Events {
				counted.add(e, o.depth)
			}
		case <-tick.C:
			now, failed := s.memberMetrics(ctx, c)
			if ctx.Err() != nil {
				return nil
			}
			sc.draw(s.frame(o.fitting(sc), counted, before, now, failed, time.Since(begun)))
			counted, before, begun = newTally(), now, time.Now()
			frame++
		}
	}
	return nil
}

// fitting are the options with as many rows as fit on a screen: beside them a frame has 4 lines, and 2 for each of 3 lists.
func (o *topOptions) fitting(sc *screen) *topOptions {
	const frameLines, lists = 11, 3
	fitting := *o
	width, height := sc.size()
	fitting.width = width
	if height > 0 {
		fitting.rows = max(1, min(o.rows, (height-frameLines)/lists))
	}
	return &fitting
}

// metrics are samples by name and labels.
type metrics map[string]float64

// memberMetrics reads every endpoint's. Those that do not answer are left out; the error is that none does.
func (s *session) memberMetrics(ctx context.Context, c *clientv3.Client) (map[string]metrics, error) {
	endpoints := c.Endpoints()
	texts, errs := make([]string, len(endpoints)), make([]error, len(endpoints))
	var asking sync.WaitGroup
	for i, endpoint := range endpoints {
		asking.Go(func() { texts[i], errs[i] = s.fetch(ctx, endpoint, "/metrics") })
	}
	asking.Wait()
	all := map[string]metrics{}
	for i, endpoint := range endpoints {
		if errs[i] == nil {
			all[endpoint] = parseMetrics(texts[i])
		}
	}
	if len(all) == 0 {
		return all, errs[0]
	}
	return all, nil
}

func parseMetrics(text string) metrics {
	m := metrics{}
	for line := range strings.Lines(text) {
		name, value, ok := strings.Cut(strings.TrimSpace(line), "} ")
		if ok {
			name += "}"
		} else if name, value, ok = strings.Cut(strings.TrimSpace(line), " "); !ok || strings.HasPrefix(line, "#") {
			continue
		}
		if number, err := strconv.ParseFloat(value, 64); err == nil {
			m[name] = number
		}
	}
	return m
}

// total adds up a sample over all members.
func total(all map[string]metrics, name string) (sum float64) {
	for _, m := range all {
		sum += m[name]
	}
	return sum
}

// grown adds up how much a counter has grown at the members that were asked both times.
func grown(before, now map[string]metrics, name string) (sum int64) {
	for endpoint, m := range now {
		if old, ok := before[endpoint]; ok {
			sum += max(0, int64(m[name]-old[name])) // it begins anew with a member
		}
	}
	return sum
}

// callsBetween adds up the calls by method likewise.
func callsBetween(before, now map[string]metrics) map[string]int64 {
	calls := map[string]int64{}
	for endpoint, m := range now {
		old, ok := before[endpoint]
		if !ok {
			continue
		}
		then := old.calls()
		for method, n := range m.calls() {
			if n > then[method] {
				calls[method] += n - then[method]
			}
		}
	}
	return calls
}

var handled = regexp.MustCompile(`^grpc_server_handled_total\{.*grpc_method="([^"]*)"`)

// calls adds up the calls by method, whatever came of them.
func (m metrics) calls() map[string]int64 {
	calls := map[string]int64{}
	for name, value := range m {
		if match := handled.FindStringSubmatch(name); match != nil {
			calls[match[1]] += int64(value)
		}
	}
	return calls
}

func (s *session) frame(o *topOptions, t *tally, before, now map[string]metrics, failed error, took time.Duration) string {
	var b strings.Builder
	rate := func(n int64) string { return fmt.Sprintf("%.1f/s", float64(n)/took.Seconds()) }
	fmt.Fprintf(&b, "%s  puts %s  deletes %s  %s/s written\n", s.paint.Paint(cli.Bold, "keelson top"), rate(t.puts), rate(t.deletes),
		s.size(int64(float64(t.bytes)/took.Seconds())))
	if failed != nil {
		fmt.Fprintf(&b, "no metrics: %v; give an endpoint that serves HTTP, too\n", failed)
	} else {
		fmt.Fprintf(&b, "watchers %.0f (%.0f behind)  slow applies %s  slow reads %s\n",
			total(now, "etcd_debugging_mvcc_watcher_total"), total(now, "etcd_debugging_mvcc_slow_watcher_total"),
			rate(grown(before, now, "etcd_server_slow_apply_total")), rate(grown(before, now, "etcd_server_slow_read_indexes_total")))
	}
	calls := callsBetween(before, now)
	for _, section := range []struct {
		title  string
		counts map[string]int64
	}{{"CALLS", calls}, {"WRITES BY PREFIX", t.prefixes}, {"HOT KEYS", t.keys}} {
		rows := [][]string{{"RATE", section.title}}
		for _, name := range largest(section.counts, o.rows) {
			rows = append(rows, []string{rate(section.counts[name]), cut(shown(name), o.width-len("100000.0/s  "))})
		}
		b.WriteByte('\n')
		cli.Columns(&b, rows, s.boldTitles)
	}
	return b.String()
}

// cut shortens a name to what fits into a line; width 0 and below: everything does.
func cut(name string, width int) string {
	if runes := []rune(name); width > 0 && len(runes) > width {
		return string(runes[:width-1]) + "…"
	}
	return name
}

// largest are the names with the largest counts.
func largest(counts map[string]int64, n int) []string {
	names := slices.SortedFunc(mapKeys(counts), func(a, b string) int {
		return cmp.Or(cmp.Compare(counts[b], counts[a]), cmp.Compare(a, b))
	})
	return names[:min(n, len(names))]
}
