package main

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"maps"
	"net/http"
	"os"
	"slices"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	dto "github.com/prometheus/client_model/go"
	"github.com/prometheus/common/expfmt"
	"github.com/prometheus/common/model"
	pb "go.etcd.io/etcd/api/v3/etcdserverpb"
	"go.etcd.io/etcd/api/v3/v3rpc/rpctypes"
	clientv3 "go.etcd.io/etcd/client/v3"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/credentials/insecure"
	"google.golang.org/grpc/status"

	"keelson/internal/testkit"
)

// metricRow is one line of testdata/metrics.txt.
type metricRow struct{ name, kind, labels, fate string }

func metricRows(t *testing.T) (rows []metricRow) {
	t.Helper()
	f, err := os.Open("testdata/metrics.txt")
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	for lines := bufio.NewScanner(f); lines.Scan(); {
		if strings.HasPrefix(lines.Text(), "#") {
			continue
		}
		w := strings.Fields(lines.Text())
		if len(w) != 4 {
			t.Fatalf("row %q", lines.Text())
		}
		rows = append(rows, metricRow{w[0], w[1], w[2], w[3]})
	}
	return rows
}

// kindOf writes type and buckets of a family as the rows do.
func kindOf(f *dto.MetricFamily) string {
	kind := strings.ToLower(f.GetType().String())
	if f.GetType() != dto.MetricType_HISTOGRAM {
		return kind
	}
	bounds := slices.DeleteFunc(slices.Clone(f.Metric[0].Histogram.Bucket), func(b *dto.Bucket) bool { return b.GetUpperBound() > 1e300 })
	first, n := bounds[0].GetUpperBound(), len(bounds)
	if n > 1 && bounds[1].GetUpperBound() != 2*first && f.GetName() != "grpc_server_handling_seconds" {
		return fmt.Sprintf("%s(uneven)", kind)
	}
	start := strconv.FormatFloat(first, 'g', -1, 64)
	if f.GetName() == "grpc_server_handling_seconds" {
		start = "default"
	}
	return fmt.Sprintf("%s(%s,%d)", kind, start, n)
}

func labelsOf(m *dto.Metric) string {
	var names []string
	for _, l := range m.Label {
		names = append(names, l.GetName())
	}
	slices.Sort(names)
	if len(names) == 0 {
		return "-"
	}
	return strings.Join(names, ",")
}

// seriesOf names a series.
func seriesOf(name string, m *dto.Metric) string {
	var pairs []string
	for _, l := range m.Label {
		pairs = append(pairs, l.GetName()+"="+l.GetValue())
	}
	return name + "{" + strings.Join(pairs, ",") + "}"
}

// valueOf is what a series counts.
func valueOf(m *dto.Metric) float64 {
	switch {
	case m.Counter != nil:
		return m.Counter.GetValue()
	case m.Gauge != nil:
		return m.Gauge.GetValue()
	case m.Histogram != nil:
		return float64(m.Histogram.GetSampleCount())
	case m.Summary != nil:
		return float64(m.Summary.GetSampleCount())
	}
	return m.Untyped.GetValue()
}

// seen is what scrapes of one member have shown.
type seen struct {
	families map[string]*dto.MetricFamily // the last that had a series
	low      map[string]float64           // per series: the lowest and the highest value
	high     map[string]float64
	failed   error // the last look, if it did
}

// isUp reports whether some series of a metric was above 0.
func (s *seen) isUp(name string) bool {
	for id, high := range s.high {
		if n, _, _ := strings.Cut(id, "{"); n == name && high > 0 {
			return true
		}
	}
	return false
}

// looker scrapes members all the time, until it is stopped.
type looker struct {
	t       *testing.T
	mu      sync.Mutex
	members map[string]*seen
	done    chan struct{}
	once    sync.Once
	ended   sync.WaitGroup
}

func look(t *testing.T, members ...*testkit.Process) *looker {
	l := &looker{t: t, members: map[string]*seen{}, done: make(chan struct{})}
	for _, p := range members {
		l.add(p)
	}
	t.Cleanup(l.stop)
	return l
}

func (l *looker) add(p *testkit.Process) {
	s := &seen{families: map[string]*dto.MetricFamily{}, low: map[string]float64{}, high: map[string]float64{}}
	l.mu.Lock()
	l.members[p.Name] = s
	l.mu.Unlock()
	l.ended.Go(func() {
		client := http.Client{Timeout: 10 * time.Second}
		for {
			l.scrape(&client, p, s)
			select {
			case <-l.done:
				return
			case <-time.After(200 * time.Millisecond):
			}
		}
	})
}

// scrape looks once. A member that does not answer is down, or paused.
func (l *looker) scrape(client *http.Client, p *testkit.Process, s *seen) {
	families, err := scrape(client, p)
	l.mu.Lock()
	defer l.mu.Unlock()
	s.failed = err
	if err != nil {
		return
	}
	maps.Copy(s.families, families)
	for name, f := range families {
		for _, m := range f.Metric {
			id, v := seriesOf(name, m), valueOf(m)
			if _, ok := s.low[id]; !ok {
				s.low[id], s.high[id] = v, v
			}
			s.low[id], s.high[id] = min(s.low[id], v), max(s.high[id], v)
		}
	}
}

func scrape(client *http.Client, p *testkit.Process) (map[string]*dto.MetricFamily, error) {
	r, err := client.Get("http://" + p.Endpoint + "/metrics")
	if err != nil {
		return nil, err
	}
	defer r.Body.Close()
	parser := expfmt.NewTextParser(model.LegacyValidation)
	return parser.TextToMetricFamilies(r.Body)
}

func (l *looker) stop() {
	l.once.Do(func() { close(l.done) })
	l.ended.Wait()
}

// check holds a row against what was seen, on all members.
func (l *looker) check(row metricRow) (complaints []string) {
	l.mu.Lock()
	defer l.mu.Unlock()
	found, moved, nonzero := false, false, false
	for _, s := range l.members {
		f := s.families[row.name]
		if f == nil {
			continue
		}
		found = true
		if kind := kindOf(f); kind != row.kind {
			complaints = append(complaints, fmt.Sprintf("is a %s, want %s", kind, row.kind))
		}
		if labels := labelsOf(f.Metric[0]); labels != row.labels && row.kind != "summary" {
			complaints = append(complaints, fmt.Sprintf("has labels %s, want %s", labels, row.labels))
		}
		for id, low := range s.low {
			if name, _, _ := strings.Cut(id, "{"); name != row.name {
				continue
			}
			// A series with labels may have appeared with its cause; and what only counts begins at 0, before the first look.
			moved = moved || s.high[id] > low || (row.labels != "-" || row.kind != "gauge") && s.high[id] > 0
			nonzero = nonzero || s.high[id] != 0 || low != 0
		}
	}
	switch {
	case !found:
		complaints = append(complaints, "is missing")
	case row.fate == "moves" && !moved:
		complaints = append(complaints, "never moved")
	case row.fate == "still" && nonzero:
		complaints = append(complaints, "moved")
	}
	return complaints
}

// TestEveryMetricAndLogLine lets happen to a cluster whatever metrics count, and holds the scrapes against the list of those that etcd
// has, and the logs against the lines that tools wait for.
//
// Source: operations specification, 4.3 and 1.17.
func TestEveryMetricAndLogLine(t *testing.T) {
	c := testkit.NewCluster(t, 3, append([]string{
		"--metrics=extensive", "--warning-apply-duration=1ns", "--warning-unary-request-duration=1ns", "--snapshot-count=20",
	}, testkit.FastArgs...)...)
	for _, p := range c.Members {
		if err := p.Begin(); err != nil {
			t.Fatal(err)
		}
	}
	l := look(t, c.Members...)
	for _, p := range c.Members {
		if err := p.AwaitReady(); err != nil {
			t.Fatal(err)
		}
	}
	ctx, cancel := context.WithTimeout(context.Background(), 2*patience)
	defer cancel()
	e := everything{t, ctx, c, l}
	for _, p := range c.Members {
		e.await(p, "what it begins with", func(s *seen) bool { return len(s.families) > 0 })
	}
	e.pairs()
	e.leases()
	e.watches()
	e.maintenance()
	e.alarms()
	e.tree()
	e.brokenStream()
	learner := e.learner()
	e.lateLeader()
	e.lostQuorum()
	e.death()
	l.stop()
	members := append(slices.Clone(c.Members), learner)
	for _, m := range c.Members {
		m.Stop()
	}
	for _, line := range logLines {
		if why := line.missing(members); why != "" {
			t.Errorf("the log line %q %s", line.message, why)
		}
	}
	for _, row := range metricRows(t) {
		for _, complaint := range l.check(row) {
			t.Errorf("%s %s", row.name, complaint)
		}
	}
}

// everything is what is done to the cluster.
type everything struct {
	t   *testing.T
	ctx context.Context
	c   *testkit.Cluster
	l   *looker
}

func (e everything) must(err error) {
	e.t.Helper()
	if err != nil {
		e.t.Fatal(err)
	}
}

func (e everything) pairs() {
	client := e.c.Client()
	for i := range 30 {
		_, err := client.Put(e.ctx, fmt.Sprint("k", i), strings.Repeat("v", 100))
		e.must(err)
	}
	_, err := client.Get(e.ctx, "k", clientv3.WithPrefix())
	e.must(err)
	_, err = client.Get(e.ctx, "k", clientv3.WithRev(1<<40))
	if err == nil {
		e.t.Fatal("the future can be read")
	}
	_, err = client.Txn(e.ctx).Then(clientv3.OpPut("a", "b"), clientv3.OpGet("a")).Commit()
	e.must(err)
	_, err = client.Delete(e.ctx, "k1")
	e.must(err)
	_, err = client.RoleAdd(e.ctx, "role")
	e.must(err)
}

func (e everything) leases() {
	client := e.c.Client()
	var err error
	for again := true; again; again = errors.Is(err, rpctypes.ErrLeaseNotFound) { // it may run out before it is used
		short, grantErr := client.Grant(e.ctx, 1)
		e.must(grantErr)
		_, err = client.Put(e.ctx, "short", "", clientv3.WithLease(short.ID))
	}
	e.must(err)
	long, err := client.Grant(e.ctx, 600)
	e.must(err)
	_, err = client.KeepAliveOnce(e.ctx, long.ID)
	e.must(err)
	_, err = client.Revoke(e.ctx, long.ID)
	e.must(err)
	await(e.ctx, e.t, "the end of the lease", func() bool {
		r, err := client.Get(e.ctx, "short")
		return err == nil && r.Count == 0
	})
}

func (e everything) watches() {
	client := e.c.Client()
	ctx, cancel := context.WithCancel(e.ctx)
	defer cancel()
	events := client.Watch(ctx, "w", clientv3.WithCreatedNotify())
	next := func() {
		if r, ok := <-events; !ok || r.Err() != nil {
			e.t.Fatalf("the watch ended: %v, %v", r.Err(), e.ctx.Err())
		}
	}
	next()
	_, err := client.Put(e.ctx, "w", "1")
	e.must(err)
	next()
	e.must(client.RequestProgress(ctx))
	next()
	// A client that takes nothing: what it should be sent waits, and a watcher that begins in the past stays there.
	p := e.c.Members[0]
	for i, metric := range []string{"etcd_debugging_mvcc_pending_events_total", "etcd_debugging_mvcc_slow_watcher_total"} {
		stream, err := pb.NewWatchClient(dialPlain(e.t, p.Endpoint)).Watch(ctx)
		e.must(err)
		e.must(stream.Send(&pb.WatchRequest{RequestUnion: &pb.WatchRequest_CreateRequest{CreateRequest: &pb.WatchCreateRequest{
			Key: []byte("big"), StartRevision: int64(i), // now, or from the beginning
		}}}))
		_, err = stream.Recv() // that it is created
		e.must(err)
		if i == 0 {
			for range 10 {
				_, err := client.Put(e.ctx, "big", strings.Repeat("x", 1<<20))
				e.must(err)
			}
		}
		e.seen(p, metric)
	}
}

// dialPlain connects as no client library would.
func dialPlain(t *testing.T, endpoint string) *grpc.ClientConn {
	t.Helper()
	conn, err := grpc.NewClient(endpoint, grpc.WithTransportCredentials(insecure.NewCredentials()),
		grpc.WithInitialWindowSize(1<<16), grpc.WithInitialConnWindowSize(1<<16))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { conn.Close() })
	return conn
}

// seen waits until a metric of a member is above 0.
func (e everything) seen(p *testkit.Process, name string) {
	e.t.Helper()
	e.await(p, name, func(s *seen) bool { return s.isUp(name) })
}

// lostMessages reports whether a member was seen to have lost some.
func (e everything) lostMessages(p *testkit.Process) bool {
	return e.looks(p, func(s *seen) bool { return s.isUp("etcd_network_peer_sent_failures_total") })
}

// await waits until the looks at a member show something.
func (e everything) await(p *testkit.Process, what string, shown func(*seen) bool) {
	e.t.Helper()
	ctx, cancel := context.WithTimeout(e.ctx, time.Minute)
	defer cancel()
	for !e.looks(p, shown) {
		if ctx.Err() != nil {
			e.l.mu.Lock()
			defer e.l.mu.Unlock()
			e.t.Fatalf("%s: %s did not come; the last look: %v", p.Name, what, e.l.members[p.Name].failed)
		}
		time.Sleep(10 * time.Millisecond)
	}
}

// looks asks what the looks at a member have shown so far.
func (e everything) looks(p *testkit.Process, shown func(*seen) bool) bool {
	e.l.mu.Lock()
	defer e.l.mu.Unlock()
	return shown(e.l.members[p.Name])
}

func (e everything) maintenance() {
	client := e.c.Client()
	r, err := client.Get(e.ctx, "a")
	e.must(err)
	_, err = client.Compact(e.ctx, r.Header.Revision, clientv3.WithCompactPhysical())
	e.must(err)
	for _, p := range e.c.Members {
		_, err = client.Defragment(e.ctx, p.Endpoint)
		e.must(err)
		_, err = client.HashKV(e.ctx, p.Endpoint, 0)
		e.must(err)
	}
	_, err = pb.NewMaintenanceClient(client.ActiveConnection()).Hash(e.ctx, &pb.HashRequest{})
	e.must(err)
	s, err := client.SnapshotWithVersion(e.ctx)
	e.must(err)
	e.must(s.Snapshot.Close())
}

func (e everything) alarms() {
	p := e.c.Members[0]
	maintenance := pb.NewMaintenanceClient(p.Client().ActiveConnection())
	// Of a member that there is not: one that has room ends its own.
	alarm := &pb.AlarmRequest{MemberID: 1, Alarm: pb.AlarmType_NOSPACE, Action: pb.AlarmRequest_ACTIVATE}
	_, err := maintenance.Alarm(e.ctx, alarm)
	e.must(err)
	for path, want := range map[string]int{"/health": 503, "/livez": 200, "/readyz": 200, "/health?exclude=NOSPACE": 200} {
		await(e.ctx, e.t, fmt.Sprintf("%s with %d", path, want), func() bool {
			r, err := http.Get("http://" + p.Endpoint + path)
			e.must(err)
			r.Body.Close()
			if r.StatusCode != want && want != http.StatusOK {
				e.t.Fatalf("%s: %d", path, r.StatusCode)
			}
			return r.StatusCode == want // soon, if nobody leads at the moment
		})
	}
	e.seen(p, "etcd_debugging_server_alarms")
	alarm.Action = pb.AlarmRequest_DEACTIVATE
	_, err = maintenance.Alarm(e.ctx, alarm)
	e.must(err)
}

func (e everything) tree() {
	url := "http://" + e.c.Members[0].Endpoint + "/v2/keys/x"
	ask := func(method, query string, want int) {
		e.t.Helper()
		r, err := http.NewRequestWithContext(e.ctx, method, url+query, nil)
		e.must(err)
		reply, err := http.DefaultClient.Do(r)
		e.must(err)
		reply.Body.Close()
		if reply.StatusCode != want {
			e.t.Fatalf("%s %s: %d, want %d", method, query, reply.StatusCode, want)
		}
	}
	ask("GET", "", http.StatusNotFound)
	ask("PUT", "?value=1&prevExist=true", http.StatusNotFound)
	waited := make(chan struct{})
	go func() {
		defer close(waited)
		r, err := http.Get(url + "?wait=true")
		if err != nil {
			e.t.Error(err)
			return
		}
		defer r.Body.Close()
		if body, err := io.ReadAll(r.Body); err != nil || r.StatusCode != http.StatusOK {
			e.t.Errorf("wait: %s %q %v", r.Status, body, err)
		}
	}()
	e.seen(e.c.Members[0], "etcd_debugging_store_watchers")
	ask("PUT", "?value=1", http.StatusCreated)
	<-waited
	ask("GET", "", http.StatusOK)
	ask("PUT", "?value=1&ttl=1", http.StatusOK)
	e.seen(e.c.Members[0], "etcd_debugging_store_expires_total")
}

// brokenStream sends a watch stream what is too large to be taken.
func (e everything) brokenStream() {
	p := e.c.Members[0]
	stream, err := pb.NewWatchClient(dialPlain(e.t, p.Endpoint)).Watch(e.ctx)
	e.must(err)
	stream.Send(&pb.WatchRequest{RequestUnion: &pb.WatchRequest_CreateRequest{CreateRequest: &pb.WatchCreateRequest{Key: make([]byte, 8<<20)}}})
	if _, err := stream.Recv(); status.Code(err) != codes.ResourceExhausted {
		e.t.Fatalf("a request of 8 MiB: %v", err)
	}
	e.seen(p, "etcd_network_server_stream_failures_total")
}

// learner adds one, which is promoted too early, then given the state, then promoted.
func (e everything) learner() *testkit.Process {
	client := e.c.Client()
	p, id := e.c.Add(true)
	if _, err := client.MemberPromote(e.ctx, id); err == nil {
		e.t.Fatal("a learner that was never there was promoted")
	}
	e.must(p.Begin())
	e.l.add(p)
	e.must(p.AwaitReady())
	e.seen(p, "etcd_server_is_learner")
	promote(e.ctx, e.t, client, id)
	e.await(p, "the end of being a learner", func(s *seen) bool {
		f := s.families["etcd_server_is_learner"]
		return f != nil && valueOf(f.Metric[0]) == 0
	})
	_, err := client.MemberRemove(e.ctx, id)
	for err != nil && !errors.Is(err, rpctypes.ErrMemberNotFound) && e.ctx.Err() == nil { // until it has been connected for long enough
		time.Sleep(100 * time.Millisecond)
		_, err = client.MemberRemove(e.ctx, id)
	}
	e.must(e.ctx.Err())
	p.AwaitExit()
	e.c.Members = e.c.Members[:3]
	return p
}

// lostQuorum pauses all but the leader until what waits for them has failed.
func (e everything) lostQuorum() {
	leader := e.c.Leader()
	for _, p := range e.c.Others(leader) {
		p.Pause()
	}
	client := leader.Client()
	ctx, cancel := context.WithTimeout(e.ctx, 15*time.Second) // the client would try a read for as long as it is let
	defer cancel()
	var waiting sync.WaitGroup
	waiting.Go(func() { client.Put(ctx, "a", "c") })
	waiting.Go(func() { client.Get(ctx, "a") })
	waiting.Wait()
	for _, p := range e.c.Others(leader) {
		p.Resume()
	}
	e.seen(leader, "etcd_server_proposals_failed_total")
	e.seen(leader, "etcd_server_read_indexes_failed_total")
	e.seen(leader, "etcd_server_slow_read_indexes_total")
}

// lateLeader pauses the leader for a moment.
func (e everything) lateLeader() {
	await(e.ctx, e.t, "a late heartbeat", func() bool {
		leader := e.c.Leader()
		leader.Pause()
		time.Sleep(250 * time.Millisecond) // two heartbeats and more, but no election
		leader.Resume()
		time.Sleep(200 * time.Millisecond)
		e.l.mu.Lock()
		defer e.l.mu.Unlock()
		return e.l.members[leader.Name].high["etcd_server_heartbeat_send_failures_total{}"] > 0
	})
}

// death kills a follower: what is sent to it gets lost.
func (e everything) death() {
	leader := e.c.Leader()
	other := e.c.Others(leader)[0]
	other.Kill()
	e.seen(leader, "etcd_network_disconnected_peers_total")
	for ctx := within(e.t); !slices.ContainsFunc(e.c.Others(other), e.lostMessages); time.Sleep(10 * time.Millisecond) { // by whoever leads now
		if ctx.Err() != nil {
			e.t.Fatal("nobody's messages to the dead got lost")
		}
	}
}
