package ops

import (
	"context"
	"errors"
	"io"
	"net"
	"strings"
	"testing"

	"go.etcd.io/etcd/api/v3/etcdserverpb"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/credentials/insecure"
	"google.golang.org/grpc/status"
	"google.golang.org/grpc/test/bufconn"
)

// api answers just enough to count.
type api struct {
	etcdserverpb.UnimplementedKVServer
	etcdserverpb.UnimplementedWatchServer
}

func (api) Range(context.Context, *etcdserverpb.RangeRequest) (*etcdserverpb.RangeResponse, error) {
	return &etcdserverpb.RangeResponse{}, nil
}

func (api) Put(_ context.Context, r *etcdserverpb.PutRequest) (*etcdserverpb.PutResponse, error) {
	if len(r.Key) == 0 {
		return nil, status.Error(codes.InvalidArgument, "etcdserver: key is not provided")
	}
	return nil, errors.New("raw")
}

func (api) Watch(stream grpc.BidiStreamingServer[etcdserverpb.WatchRequest, etcdserverpb.WatchResponse]) error {
	for {
		if _, err := stream.Recv(); err != nil {
			if errors.Is(err, io.EOF) {
				return nil
			}
			return err
		}
		for range 2 {
			if err := stream.Send(&etcdserverpb.WatchResponse{}); err != nil {
				return err
			}
		}
	}
}

func TestGRPCCounts(t *testing.T) {
	m := NewMetrics(Options{Metrics: "extensive"}, Identity{}, func() Readings { return Readings{} })
	listener := bufconn.Listen(1 << 16)
	server := grpc.NewServer(grpc.ChainUnaryInterceptor(m.GRPC.UnaryInterceptor), grpc.ChainStreamInterceptor(m.GRPC.StreamInterceptor))
	etcdserverpb.RegisterKVServer(server, api{})
	etcdserverpb.RegisterWatchServer(server, api{})
	m.GRPC.Prepare(server.GetServiceInfo(), "etcdserverpb.Watch")
	if got := series(t, m, "grpc_server_started_total", `etcdserverpb.Watch`); got != "" {
		t.Errorf("a service that comes later is shown before its use:\n%s", got)
	}
	done := make(chan error, 1)
	go func() { done <- server.Serve(listener) }()
	conn, err := grpc.NewClient("passthrough:///x", grpc.WithTransportCredentials(insecure.NewCredentials()),
		grpc.WithContextDialer(func(ctx context.Context, _ string) (net.Conn, error) { return listener.DialContext(ctx) }))
	if err != nil {
		t.Fatal(err)
	}
	ctx := context.Background()
	kv := etcdserverpb.NewKVClient(conn)
	for range 3 {
		if _, err := kv.Range(ctx, &etcdserverpb.RangeRequest{}); err != nil {
			t.Fatal(err)
		}
	}
	if _, err := kv.Put(ctx, &etcdserverpb.PutRequest{}); status.Code(err) != codes.InvalidArgument {
		t.Fatal(err)
	}
	if _, err := kv.Put(ctx, &etcdserverpb.PutRequest{Key: []byte("k")}); status.Code(err) != codes.Unknown {
		t.Fatal(err)
	}
	watch, err := etcdserverpb.NewWatchClient(conn).Watch(ctx)
	if err != nil {
		t.Fatal(err)
	}
	if err := watch.Send(&etcdserverpb.WatchRequest{}); err != nil {
		t.Fatal(err)
	}
	if err := watch.CloseSend(); err != nil {
		t.Fatal(err)
	}
	for received := 0; ; received++ {
		if _, err := watch.Recv(); err != nil {
			if !errors.Is(err, io.EOF) || received != 2 {
				t.Fatalf("%d messages, then %v", received, err)
			}
			break
		}
	}
	conn.Close()
	server.GracefulStop()
	if err := <-done; err != nil {
		t.Fatal(err)
	}
	for _, want := range []string{
		`grpc_server_started_total{grpc_method="Range",grpc_service="etcdserverpb.KV",grpc_type="unary"} 3`,
		`grpc_server_handled_total{grpc_code="OK",grpc_method="Range",grpc_service="etcdserverpb.KV",grpc_type="unary"} 3`,
		`grpc_server_msg_sent_total{grpc_method="Range",grpc_service="etcdserverpb.KV",grpc_type="unary"} 3`,
		`grpc_server_handled_total{grpc_code="InvalidArgument",grpc_method="Put",grpc_service="etcdserverpb.KV",grpc_type="unary"} 1`,
		`grpc_server_handled_total{grpc_code="Unknown",grpc_method="Put",grpc_service="etcdserverpb.KV",grpc_type="unary"} 1`,
		`grpc_server_msg_received_total{grpc_method="Put",grpc_service="etcdserverpb.KV",grpc_type="unary"} 2`,
		`grpc_server_msg_sent_total{grpc_method="Put",grpc_service="etcdserverpb.KV",grpc_type="unary"} 0`,
		`grpc_server_handled_total{grpc_code="OK",grpc_method="Watch",grpc_service="etcdserverpb.Watch",grpc_type="bidi_stream"} 1`,
		`grpc_server_msg_received_total{grpc_method="Watch",grpc_service="etcdserverpb.Watch",grpc_type="bidi_stream"} 1`,
		`grpc_server_msg_sent_total{grpc_method="Watch",grpc_service="etcdserverpb.Watch",grpc_type="bidi_stream"} 2`,
		`grpc_server_handled_total{grpc_code="DataLoss",grpc_method="DeleteRange",grpc_service="etcdserverpb.KV",grpc_type="unary"} 0`,
		`grpc_server_started_total{grpc_method="RangeStream",grpc_service="etcdserverpb.KV",grpc_type="server_stream"} 0`,
		`grpc_server_handling_seconds_count{grpc_method="Range",grpc_service="etcdserverpb.KV",grpc_type="unary"} 3`,
	} {
		name, _, _ := strings.Cut(want, "{")
		if got := series(t, m, name, want); got == "" {
			t.Errorf("metrics lack %s", want)
		}
	}
}

// series are the scraped lines of one metric that contain text.
func series(t *testing.T, m *Metrics, name, text string) string {
	t.Helper()
	m2 := newSurface(&member{}, Options{}, false)
	s := NewSurface(Parts{Member: &member{}, Metrics: m, Versions: m2.versions, Raft: m2.raft, Log: m2.log})
	var found []string
	for line := range strings.Lines(ask(s.Client(), "GET", "/metrics").Body.String()) {
		if line = strings.TrimSuffix(line, "\n"); strings.HasPrefix(line, name) && strings.Contains(line, text) {
			found = append(found, line)
		}
	}
	return strings.Join(found, "\n")
}

func TestCodeOf(t *testing.T) {
	cases := map[codes.Code]error{
		codes.OK:               nil,
		codes.Canceled:         context.Canceled,
		codes.DeadlineExceeded: context.DeadlineExceeded,
		codes.Unavailable:      status.Error(codes.Unavailable, "etcdserver: no leader"),
		codes.Unknown:          errors.New("raw"),
	}
	for want, err := range cases {
		if got := codeOf(err); got != want {
			t.Errorf("%v: %v, want %v", err, got, want)
		}
	}
}

func TestPreparedSeries(t *testing.T) {
	m := NewMetrics(Options{}, Identity{}, func() Readings { return Readings{} })
	all := services()
	methods := 0
	for _, info := range all {
		methods += len(info.Methods)
	}
	m.GRPC.Prepare(all)
	families := gather(t, m)
	if got, want := len(families["grpc_server_handled_total"].GetMetric()), 17*methods; got != want {
		t.Errorf("%d series of handled calls, want %d", got, want)
	}
	if families["grpc_server_handling_seconds"] != nil {
		t.Error("latencies are counted though nobody asked for them")
	}
}

func BenchmarkUnaryInterceptor(b *testing.B) {
	g := newGRPC(false)
	g.Prepare(services())
	info := &grpc.UnaryServerInfo{FullMethod: "/etcdserverpb.KV/Put"}
	handle := func(context.Context, any) (any, error) { return nil, nil }
	ctx := context.Background()
	for b.Loop() {
		if _, err := g.UnaryInterceptor(ctx, nil, info, handle); err != nil {
			b.Fatal(err)
		}
	}
}

// laterAnswer is an answer that is given later.
type laterAnswer struct{ then []func(error) }

func (l *laterAnswer) Then(f func(error)) { l.then = append(l.then, f) }

// A call whose answer is deferred is counted when the answer is there.
func TestGRPCCountsDeferred(t *testing.T) {
	m := NewMetrics(Options{Metrics: "basic"}, Identity{}, func() Readings { return Readings{} })
	info := &grpc.UnaryServerInfo{FullMethod: "/etcdserverpb.KV/Put"}
	for _, outcome := range []error{nil, status.Error(codes.Aborted, "")} {
		later := &laterAnswer{}
		reply, err := m.GRPC.UnaryInterceptor(context.Background(), nil, info, func(context.Context, any) (any, error) { return later, nil })
		if reply != later || err != nil {
			t.Fatalf("%v, %v", reply, err)
		}
		if got := series(t, m, "grpc_server_handled_total", `grpc_code="`+status.Code(outcome).String()+`"`); strings.Contains(got, " 1") {
			t.Errorf("counted before its time:\n%s", got)
		}
		for _, f := range later.then {
			f(outcome)
		}
		if got := series(t, m, "grpc_server_handled_total", `grpc_code="`+status.Code(outcome).String()+`"`); !strings.Contains(got, " 1") {
			t.Errorf("not counted:\n%s", got)
		}
	}
	if got := series(t, m, "grpc_server_msg_sent_total", "Put"); !strings.Contains(got, " 1") {
		t.Errorf("messages sent:\n%s", got)
	}
}
