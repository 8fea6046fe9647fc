package proxy

import (
	"context"
	"flag"
	"fmt"
	"io"
	"math/rand/v2"
	"net/http"
	"strings"
	"sync"
	"testing"
	"time"

	pb "go.etcd.io/etcd/api/v3/etcdserverpb"
	"go.etcd.io/etcd/api/v3/mvccpb"
	"go.etcd.io/etcd/api/v3/v3rpc/rpctypes"
	clientv3 "go.etcd.io/etcd/client/v3"
	"go.uber.org/zap"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/credentials/insecure"
	"google.golang.org/grpc/status"

	"keelson/internal/testkit"
)

const patience = time.Minute

var seedFlag = flag.Uint64("seed", 0, "seed of the random tests; 0: a new one")

// proxied starts a proxy in this process before a member, and returns its address.
func proxied(t *testing.T, p *testkit.Process) string {
	t.Helper()
	o := grpcOptions{}
	o.define(flag.NewFlagSet("proxy", flag.ContinueOnError))
	o.endpoints, o.listen = list{p.Endpoint}, testkit.FreeAddress(t)
	client, err := o.connect(t.Context(), zap.NewNop())
	if err != nil {
		t.Fatal(err)
	}
	ctx, stop := context.WithCancel(context.Background())
	running, err := o.listenAndServe(ctx, nil, client, zap.NewNop())
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		stop()
		running.wait(ctx)
		client.Close()
	})
	return o.listen
}

func dial(t *testing.T, endpoint string, change ...func(*clientv3.Config)) *clientv3.Client {
	t.Helper()
	config := clientv3.Config{Endpoints: []string{endpoint}, Logger: zap.NewNop(), DialTimeout: patience}
	for _, c := range change {
		c(&config)
	}
	c, err := clientv3.New(config)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { c.Close() })
	return c
}

func as(name, password string) func(*clientv3.Config) {
	return func(c *clientv3.Config) { c.Username, c.Password = name, password }
}

// figure is a metric without labels.
func figure(t *testing.T, address, path, name string) string {
	t.Helper()
	r, err := (&http.Client{Transport: &http.Transport{DisableKeepAlives: true}}).Get("http://" + address + path)
	if err != nil {
		t.Fatal(err)
	}
	defer r.Body.Close()
	text, err := io.ReadAll(r.Body)
	if err != nil {
		t.Fatal(err)
	}
	for line := range strings.Lines(string(text)) {
		if value, ok := strings.CutPrefix(line, name+" "); ok {
			return strings.TrimSpace(value)
		}
	}
	return ""
}

func awaitWatchers(t *testing.T, p *testkit.Process, watchers, streams string) {
	t.Helper()
	want := watchers + " watchers on " + streams + " streams"
	for deadline := time.Now().Add(patience); ; time.Sleep(5 * time.Millisecond) {
		got := figure(t, p.Endpoint, "/metrics", "etcd_debugging_mvcc_watcher_total") + " watchers on " +
			figure(t, p.Endpoint, "/metrics", "etcd_debugging_mvcc_watch_stream_total") + " streams"
		if got == want {
			return
		}
		if time.Now().After(deadline) {
			t.Fatalf("%s and not %s within %v", got, want, patience)
		}
	}
}

func must(t *testing.T, _ any, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

// events reads a watch until it has had an event of a revision.
func events(t *testing.T, from clientv3.WatchChan, through int64) (list []string) {
	t.Helper()
	timeout := time.After(patience)
	for {
		select {
		case r, ok := <-from:
			if !ok || r.Err() != nil {
				t.Fatalf("the watch ended: %v", r.Err())
			}
			for _, e := range r.Events {
				list = append(list, told(e))
			}
			if n := len(r.Events); n > 0 && r.Events[n-1].Kv.ModRevision >= through {
				return list
			}
		case <-timeout:
			t.Fatalf("no event of revision %d after %v", through, list)
		}
	}
}

func told(e *clientv3.Event) string {
	text := fmt.Sprintf("%d %v %s=%s", e.Kv.ModRevision, e.Type, e.Kv.Key, e.Kv.Value)
	if e.PrevKv != nil {
		text += fmt.Sprintf(" was %s", e.PrevKv.Value)
	}
	return text
}

func TestWatchersOfManyClientsAreOneAtTheMember(t *testing.T) {
	p := testkit.NewProcess(t)
	p.Start()
	at := proxied(t, p)
	direct := p.Client()
	must(t, nil, put(direct, "w/before"))
	const clients = 12
	var channels []clientv3.WatchChan
	ctx, cancel := context.WithCancel(t.Context())
	for range clients {
		c := dial(t, at)
		channels = append(channels, c.Watch(ctx, "w/", clientv3.WithPrefix(), clientv3.WithPrevKV()))
	}
	awaitWatchers(t, p, "1", "1")
	if got := figure(t, at, "/proxy/metrics", "etcd_grpc_proxy_watchers_coalescing_total"); got != fmt.Sprint(clients) {
		t.Errorf("joined watchers: %s", got)
	}
	var want []string
	var last int64
	for i := range 50 {
		r, err := direct.Put(t.Context(), fmt.Sprintf("w/%d", i%7), fmt.Sprint(i))
		must(t, r, err)
		last = r.Header.Revision
		line := fmt.Sprintf("%d PUT w/%d=%d", last, i%7, i)
		if i >= 7 {
			line += fmt.Sprintf(" was %d", i-7)
		}
		want = append(want, line)
	}
	for i, ch := range channels {
		if got := events(t, ch, last); strings.Join(got, "\n") != strings.Join(want, "\n") {
			t.Errorf("client %d was told\n%s\nwant\n%s", i, strings.Join(got, "\n"), strings.Join(want, "\n"))
		}
	}
	if figure(t, at, "/proxy/metrics", "etcd_grpc_proxy_events_coalescing_total") == "0" {
		t.Error("no events are counted as saved")
	}
	cancel()
	awaitWatchers(t, p, "0", "0")
}

func put(c *clientv3.Client, key string) error {
	_, err := c.Put(context.Background(), key, "v")
	return err
}

// Clients come at any time and ask for any revision, while others write: each is told exactly what happened, once and in order,
// and what it hears of progress is true.
func TestJoinedWatchersMissNothing(t *testing.T) {
	seed := *seedFlag
	if seed == 0 {
		seed = rand.Uint64()
	}
	t.Logf("seed %d", seed)
	rng := rand.New(rand.NewPCG(seed, 0))
	p := testkit.NewProcess(t)
	p.Start()
	at := proxied(t, p)
	direct := p.Client()
	const writes, watchers = 1000, 60
	var mu sync.Mutex
	history := []*clientv3.Event{}
	newest, furthest, coming := int64(1), int64(0), true
	// goesOn: there are watchers to come, or one waits for what has not been written.
	goesOn := func() bool {
		mu.Lock()
		defer mu.Unlock()
		return coming || newest < furthest
	}
	prefixes := []string{"a/", "b/", "c/"}
	writer, clients := rand.New(rand.NewPCG(seed, 1)), []*clientv3.Client{dial(t, at), dial(t, at), dial(t, at)}
	written := make(chan struct{})
	go func() {
		defer close(written)
		begun := time.Now()
		for i := 0; i < writes && time.Since(begun) < patience/2 || goesOn(); i++ {
			key := prefixes[writer.IntN(3)] + fmt.Sprint(writer.IntN(4))
			op := clientv3.OpPut(key, fmt.Sprint(i))
			if writer.IntN(4) == 0 {
				op = clientv3.OpDelete(key)
			}
			r, err := direct.Txn(context.Background()).Then(op).Commit()
			if err != nil {
				t.Error(err)
				return
			}
			mu.Lock()
			newest = r.Header.Revision
			switch d := r.Responses[0].GetResponseDeleteRange(); {
			case d == nil:
				history = append(history, &clientv3.Event{Type: clientv3.EventTypePut,
					Kv: &mvccpb.KeyValue{Key: []byte(key), Value: []byte(fmt.Sprint(i)), ModRevision: newest}})
			case d.Deleted > 0:
				history = append(history, &clientv3.Event{Type: clientv3.EventTypeDelete, Kv: &mvccpb.KeyValue{Key: []byte(key), ModRevision: newest}})
			}
			mu.Unlock()
		}
	}()
	var all sync.WaitGroup
	for i := range watchers {
		prefix, start, client, deletes := prefixes[rng.IntN(3)], int64(0), clients[rng.IntN(len(clients))], rng.IntN(3) > 0
		mu.Lock()
		if known := newest; rng.IntN(3) > 0 {
			start = max(1, known-int64(rng.IntN(200))+int64(rng.IntN(20)))
		}
		furthest = max(furthest, start)
		mu.Unlock()
		options := []clientv3.OpOption{clientv3.WithPrefix(), clientv3.WithRev(start), clientv3.WithCreatedNotify()}
		if !deletes {
			options = append(options, clientv3.WithFilterDelete())
		}
		ctx, cancel := context.WithCancel(t.Context())
		// Some have a stream of their own.
		if rng.IntN(4) == 0 {
			ctx = clientv3.WithRequireLeader(ctx)
		}
		ch := client.Watch(ctx, prefix, options...)
		all.Add(1)
		go func() {
			defer all.Done()
			defer cancel()
			var got []string
			from, told_, through := start, int64(0), int64(0)
			var timeout <-chan time.Time // once all is written
			asking := time.NewTicker(20 * time.Millisecond)
			defer asking.Stop()
			done := written
			var last int64 = -1
			for last < 0 || through < last {
				select {
				case r, ok := <-ch:
					if !ok || r.Err() != nil {
						t.Errorf("watcher %d ended: %v", i, r.Err())
						return
					}
					if r.Created && from == 0 {
						from = r.Header.Revision + 1
					}
					if r.IsProgressNotify() {
						through = max(through, r.Header.Revision)
					}
					for _, e := range r.Events {
						if e.Kv.ModRevision <= through {
							t.Errorf("watcher %d: %s after progress up to %d", i, told(e), through)
						}
						if e.Kv.ModRevision < told_ {
							t.Errorf("watcher %d: %s after revision %d", i, told(e), told_)
						}
						told_ = e.Kv.ModRevision
						got = append(got, told(e))
					}
				case <-asking.C:
					client.RequestProgress(ctx)
				case <-done:
					done, timeout = nil, time.After(patience)
					mu.Lock()
					last = newest
					mu.Unlock()
				case <-timeout:
					t.Errorf("watcher %d from %d: progress up to %d, not %d", i, start, through, last)
					return
				}
			}
			var want []string
			mu.Lock()
			for _, e := range history {
				if e.Kv.ModRevision >= from && strings.HasPrefix(string(e.Kv.Key), prefix) && (deletes || e.Type == clientv3.EventTypePut) {
					want = append(want, told(e))
				}
			}
			mu.Unlock()
			if strings.Join(got, "\n") != strings.Join(want, "\n") {
				t.Errorf("watcher %d of %s from %d was told\n%s\nwant\n%s", i, prefix, start, strings.Join(got, "\n"), strings.Join(want, "\n"))
			}
		}()
		time.Sleep(time.Duration(rng.IntN(20)) * time.Millisecond) // they come at any time
	}
	mu.Lock()
	coming = false
	mu.Unlock()
	all.Wait()
	<-written
}

// What a client may not watch it is not told, whoever else watches the same through the proxy.
func TestJoinedWatchersNeedTheRight(t *testing.T) {
	p := testkit.NewProcess(t)
	p.Start()
	root := p.Client()
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	defer cancel()
	for _, name := range []string{"root", "ann", "bob"} {
		r, err := root.UserAdd(ctx, name, "pw")
		must(t, r, err)
	}
	for _, err := range []error{
		func() error { _, err := root.UserGrantRole(ctx, "root", "root"); return err }(),
		func() error { _, err := root.RoleAdd(ctx, "team"); return err }(),
		func() error {
			_, err := root.RoleGrantPermission(ctx, "team", "w/", clientv3.GetPrefixRangeEnd("w/"), clientv3.PermissionType(clientv3.PermReadWrite))
			return err
		}(),
		func() error { _, err := root.UserGrantRole(ctx, "ann", "team"); return err }(),
		func() error { _, err := root.AuthEnable(ctx); return err }(),
	} {
		if err != nil && err != rpctypes.ErrRoleNotFound {
			t.Fatal(err)
		}
	}
	at := proxied(t, p)
	ann, bob, direct := dial(t, at, as("ann", "pw")), dial(t, at, as("bob", "pw")), dial(t, p.Endpoint, as("root", "pw"))
	// Two streams of one client, with one token.
	first := ann.Watch(ctx, "w/", clientv3.WithPrefix())
	second := ann.Watch(clientv3.WithRequireLeader(ctx), "w/", clientv3.WithPrefix())
	awaitWatchers(t, p, "2", "2")
	for r := range bob.Watch(ctx, "w/", clientv3.WithPrefix()) {
		if len(r.Events) > 0 || r.Err() == nil || !strings.Contains(r.Err().Error(), "permission denied") {
			t.Errorf("bob is told %v, %v", r.Events, r.Err())
		}
	}
	r, err := direct.Put(ctx, "w/1", "v")
	must(t, r, err)
	for _, ch := range []clientv3.WatchChan{first, second} {
		events(t, ch, r.Header.Revision)
	}
	revoked, err := direct.UserRevokeRole(ctx, "ann", "team")
	must(t, revoked, err)
	for _, ch := range []clientv3.WatchChan{first, second} {
		// The member says why, and the client closes the channel.
		for r := range ch {
			if len(r.Events) > 0 {
				t.Errorf("after the right was taken away: %v", r.Events)
			}
		}
	}
	awaitWatchers(t, p, "0", "0")
}

// A member that goes away and comes back costs no event.
func TestJoinedWatchersOutliveTheirMember(t *testing.T) {
	p := testkit.NewProcess(t)
	p.Start()
	at := proxied(t, p)
	var channels []clientv3.WatchChan
	for range 3 {
		channels = append(channels, dial(t, at).Watch(t.Context(), "w/", clientv3.WithPrefix()))
	}
	awaitWatchers(t, p, "1", "1")
	for range 3 {
		must(t, nil, put(p.Client(), "w/a"))
		p.Kill()
		p.Start()
		r, err := p.Client().Put(t.Context(), "w/b", "v")
		must(t, r, err)
		for i, ch := range channels {
			if got := events(t, ch, r.Header.Revision); len(got) != 2 {
				t.Errorf("watcher %d was told %v", i, got)
			}
		}
	}
	awaitWatchers(t, p, "1", "1")
}

// raw opens a watch stream without a client's conveniences.
func raw(t *testing.T, at string) (pb.Watch_WatchClient, context.CancelFunc) {
	t.Helper()
	conn, err := grpc.NewClient(at, grpc.WithTransportCredentials(insecure.NewCredentials()))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { conn.Close() })
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	t.Cleanup(cancel)
	s, err := pb.NewWatchClient(conn).Watch(ctx)
	if err != nil {
		t.Fatal(err)
	}
	return s, cancel
}

func create(r *pb.WatchCreateRequest) *pb.WatchRequest {
	return &pb.WatchRequest{RequestUnion: &pb.WatchRequest_CreateRequest{CreateRequest: r}}
}

// Ids, refusals and cancellations are those of a member, before and after a watcher is joined.
func TestWatchStreamThroughTheProxyIsAMembers(t *testing.T) {
	p := testkit.NewProcess(t)
	p.Start()
	at := proxied(t, p)
	ctx := t.Context()
	for i := range 5 {
		r, err := p.Client().Put(ctx, "k", fmt.Sprint(i))
		must(t, r, err)
	}
	compacted, err := p.Client().Compact(ctx, 4)
	must(t, compacted, err)
	play := func(endpoint string, joined func()) (said []string) {
		status, err := p.Client().Status(ctx, p.Endpoint)
		must(t, status, err)
		base := status.Header.Revision
		s, end := raw(t, endpoint)
		defer end()
		send := func(r *pb.WatchRequest) {
			t.Helper()
			must(t, nil, s.Send(r))
		}
		hear := func() {
			t.Helper()
			r, err := s.Recv()
			if err != nil {
				t.Fatalf("from %s: %v after\n%s", endpoint, err, strings.Join(said, "\n"))
			}
			line := fmt.Sprintf("id %d rev now%+d created %v canceled %v compact %d %q", r.WatchId, max(r.Header.Revision-base, -1), r.Created, r.Canceled, r.CompactRevision, r.CancelReason)
			for _, e := range r.Events {
				line += " " + told((*clientv3.Event)(e))
			}
			said = append(said, line)
		}
		for _, r := range []*pb.WatchCreateRequest{
			{Key: []byte("k")}, {Key: []byte("k"), WatchId: 7}, {Key: []byte("k"), WatchId: 7}, {Key: []byte("k"), StartRevision: 5, Fragment: true},
			{Key: []byte("b"), RangeEnd: []byte("a")},
		} {
			send(create(r))
			hear()
			if r.StartRevision > 0 {
				hear() // its events, which may come before or after the reply to another request
			}
		}
		send(create(&pb.WatchCreateRequest{Key: []byte("k"), StartRevision: 2, WatchId: 9}))
		hear()
		hear() // compacted
		joined()
		for _, id := range []int64{7, 99, 0} {
			send(&pb.WatchRequest{RequestUnion: &pb.WatchRequest_CancelRequest{CancelRequest: &pb.WatchCancelRequest{WatchId: id}}})
			if id != 99 { // nobody
				hear()
			}
		}
		// Who has nothing more to ask may go on listening.
		send(create(&pb.WatchCreateRequest{Key: []byte("l"), WatchId: 8}))
		hear()
		joined()
		must(t, nil, s.CloseSend())
		must(t, nil, put(p.Client(), "l"))
		r, err := s.Recv()
		must(t, r, err)
		if len(r.Events) != 1 || r.WatchId != 8 {
			t.Errorf("from %s after the last request: %v", endpoint, r)
		}
		return said
	}
	want := play(p.Endpoint, func() {})
	awaitWatchers(t, p, "0", "0")
	got := play(at, func() { awaitWatchers(t, p, "2", "2") }) // the one with fragments stays alone
	if strings.Join(got, "\n") != strings.Join(want, "\n") {
		t.Errorf("through the proxy\n%s\nfrom a member\n%s", strings.Join(got, "\n"), strings.Join(want, "\n"))
	}
}

// A client that does not read costs the proxy a bounded amount of memory, and others nothing.
// An id that the client has cancelled can be given again in the next request, as at a member.
func TestIDIsFreeOnceCancelled(t *testing.T) {
	p := testkit.NewProcess(t)
	p.Start()
	conn := dial(t, proxied(t, p)).ActiveConnection()
	stream, err := pb.NewWatchClient(conn).Watch(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	create := &pb.WatchRequest{RequestUnion: &pb.WatchRequest_CreateRequest{CreateRequest: &pb.WatchCreateRequest{Key: []byte("k"), WatchId: 7}}}
	cancel := &pb.WatchRequest{RequestUnion: &pb.WatchRequest_CancelRequest{CancelRequest: &pb.WatchCancelRequest{WatchId: 7}}}
	const times = 20
	for range times {
		for _, r := range []*pb.WatchRequest{create, cancel} {
			if err := stream.Send(r); err != nil {
				t.Fatal(err)
			}
		}
	}
	for i := range times {
		for _, want := range []string{"created", "cancelled"} {
			r, err := stream.Recv()
			if err != nil {
				t.Fatal(err)
			}
			if r.WatchId != 7 || r.Created != (want == "created") || r.Canceled != (want == "cancelled") {
				t.Fatalf("round %d: %v, want %s", i, r, want)
			}
		}
	}
	if err := stream.Send(create); err != nil {
		t.Fatal(err)
	}
	if r, err := stream.Recv(); err != nil || !r.Created || r.Canceled {
		t.Fatalf("%v, %v", r, err)
	}
	if _, err := dial(t, p.Endpoint).Put(t.Context(), "k", "v"); err != nil {
		t.Fatal(err)
	}
	if r, err := stream.Recv(); err != nil || len(r.Events) != 1 || r.WatchId != 7 {
		t.Fatalf("%v, %v", r, err)
	}
}

func TestSlowWatcherIsEnded(t *testing.T) {
	p := testkit.NewProcess(t)
	p.Start()
	at := proxied(t, p)
	slow, _ := raw(t, at)
	must(t, nil, slow.Send(create(&pb.WatchCreateRequest{Key: []byte("k")})))
	quick := dial(t, at).Watch(t.Context(), "k")
	awaitWatchers(t, p, "1", "1")
	value := strings.Repeat("v", 1<<20)
	var last int64
	for range 2*replyQueueBytes>>20 + 2 {
		r, err := p.Client().Put(t.Context(), "k", value)
		must(t, r, err)
		last = r.Header.Revision
	}
	events(t, quick, last)
	for {
		if _, err := slow.Recv(); err != nil {
			if status.Code(err) != codes.Unavailable || !strings.Contains(err.Error(), "too slowly") {
				t.Errorf("the slow client is told %v", err)
			}
			return
		}
	}
}

// Progress is told while nobody writes as well, of watchers from now on and of those from the past, before they are joined and after.
func TestProgressWhileNobodyWrites(t *testing.T) {
	p := testkit.NewProcess(t, "--watch-progress-notify-interval", "200ms")
	p.Start()
	at := proxied(t, p)
	for _, key := range []string{"k", "k", "other"} {
		must(t, nil, put(p.Client(), key))
	}
	now, err := p.Client().Status(t.Context(), p.Endpoint)
	must(t, now, err)
	for _, start := range []int64{0, 2} {
		s, _ := raw(t, at)
		must(t, nil, s.Send(create(&pb.WatchCreateRequest{Key: []byte("k"), StartRevision: start})))
		progress := func(when string) {
			t.Helper()
			must(t, nil, s.Send(&pb.WatchRequest{RequestUnion: &pb.WatchRequest_ProgressRequest{ProgressRequest: &pb.WatchProgressRequest{}}}))
			for {
				r, err := s.Recv()
				if err != nil {
					t.Fatalf("from %d, %s: %v", start, when, err)
				}
				if r.WatchId != noWatcher {
					continue // its creation, and the events from the past
				}
				if r.Header.Revision != now.Header.Revision {
					t.Errorf("from %d, %s: progress at %d, want %d", start, when, r.Header.Revision, now.Header.Revision)
				}
				return
			}
		}
		progress("at once")
		awaitWatchers(t, p, "1", "1") // both watch the same
		progress("joined")
		progress("again")
	}
	// And to who asked to be told of it when nothing happens.
	notified, cancel := context.WithTimeout(t.Context(), patience)
	defer cancel()
	for r := range dial(t, at).Watch(notified, "k", clientv3.WithProgressNotify()) {
		if r.Err() != nil {
			t.Fatal(r.Err())
		}
		if r.IsProgressNotify() {
			return
		}
	}
	t.Error("no progress was notified")
}
