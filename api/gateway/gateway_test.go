package gateway

import (
	"bufio"
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"

	"github.com/gorilla/websocket"
	"go.etcd.io/etcd/api/v3/etcdserverpb"
	"go.etcd.io/etcd/api/v3/mvccpb"
	"go.etcd.io/etcd/api/v3/v3rpc/rpctypes"
	"go.uber.org/zap"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/metadata"
	"google.golang.org/grpc/status"
	"google.golang.org/grpc/test/bufconn"
)

// api answers with fixed messages and remembers the metadata of the last call.
type api struct {
	etcdserverpb.UnimplementedKVServer
	etcdserverpb.UnimplementedWatchServer
	etcdserverpb.UnimplementedLeaseServer
	etcdserverpb.UnimplementedMaintenanceServer
	etcdserverpb.UnimplementedClusterServer
	etcdserverpb.UnimplementedAuthServer

	metadata chan metadata.MD // capacity 1
	left     chan struct{}    // one for each snapshot whose caller is gone; capacity 16
}

func header() *etcdserverpb.ResponseHeader {
	return &etcdserverpb.ResponseHeader{ClusterId: 14841639068965178418, MemberId: 10276657743932975437, Revision: 2, RaftTerm: 2}
}

func (a *api) Put(ctx context.Context, r *etcdserverpb.PutRequest) (*etcdserverpb.PutResponse, error) {
	select {
	case <-a.metadata:
	default:
	}
	md, _ := metadata.FromIncomingContext(ctx)
	a.metadata <- md
	switch string(r.Key) {
	case "":
		return nil, rpctypes.ErrGRPCEmptyKey
	case "unauthenticated":
		return nil, rpctypes.ErrGRPCInvalidAuthToken
	case "unavailable":
		return nil, rpctypes.ErrGRPCNoLeader
	case "exhausted":
		return nil, rpctypes.ErrGRPCNoSpace
	case "denied":
		return nil, rpctypes.ErrGRPCPermissionDenied
	case "unknown":
		return nil, errors.New("raw")
	case "canceled":
		return nil, status.Error(codes.Canceled, "etcdserver: request canceled")
	case "deadline":
		return nil, status.Error(codes.DeadlineExceeded, "context deadline exceeded")
	}
	return &etcdserverpb.PutResponse{Header: header()}, nil
}

func (*api) Range(_ context.Context, r *etcdserverpb.RangeRequest) (*etcdserverpb.RangeResponse, error) {
	if r.SortOrder == etcdserverpb.RangeRequest_DESCEND {
		return &etcdserverpb.RangeResponse{Header: header()}, nil
	}
	return &etcdserverpb.RangeResponse{Header: header(), Count: 1, Kvs: []*mvccpb.KeyValue{
		{Key: r.Key, Value: []byte("bar"), CreateRevision: 2, ModRevision: 2, Version: 1}}}, nil
}

func (*api) DeleteRange(context.Context, *etcdserverpb.DeleteRangeRequest) (*etcdserverpb.DeleteRangeResponse, error) {
	return &etcdserverpb.DeleteRangeResponse{Header: header()}, nil
}

func (*api) Txn(_ context.Context, r *etcdserverpb.TxnRequest) (*etcdserverpb.TxnResponse, error) {
	if len(r.Success) == 0 || r.Success[0].Request == nil {
		return nil, rpctypes.ErrGRPCKeyNotFound
	}
	if c := r.Compare; len(c) != 1 || c[0].Target != etcdserverpb.Compare_VALUE || string(c[0].GetValue()) != "bar" {
		return nil, status.Error(codes.InvalidArgument, "compare was not understood")
	}
	return &etcdserverpb.TxnResponse{Header: header(), Succeeded: true, Responses: []*etcdserverpb.ResponseOp{
		{Response: &etcdserverpb.ResponseOp_ResponsePut{ResponsePut: &etcdserverpb.PutResponse{Header: header()}}}}}, nil
}

func (*api) Status(context.Context, *etcdserverpb.StatusRequest) (*etcdserverpb.StatusResponse, error) {
	return &etcdserverpb.StatusResponse{Header: header(), Version: "3.7.1", DbSize: 20480, RaftIndex: 9, DbSizeInUse: 16384, StorageVersion: "3.7.0", DbSizeQuota: 2147483648}, nil
}

func (*api) HashKV(context.Context, *etcdserverpb.HashKVRequest) (*etcdserverpb.HashKVResponse, error) {
	return &etcdserverpb.HashKVResponse{Hash: 3021207871, CompactRevision: -1, HashRevision: 2}, nil
}

func (*api) Defragment(context.Context, *etcdserverpb.DefragmentRequest) (*etcdserverpb.DefragmentResponse, error) {
	return &etcdserverpb.DefragmentResponse{}, nil
}

// Snapshot goes on until its caller is gone.
func (a *api) Snapshot(_ *etcdserverpb.SnapshotRequest, stream grpc.ServerStreamingServer[etcdserverpb.SnapshotResponse]) error {
	if err := stream.Send(&etcdserverpb.SnapshotResponse{Header: header()}); err != nil {
		return err
	}
	<-stream.Context().Done()
	a.left <- struct{}{}
	return stream.Context().Err()
}

func (*api) LeaseGrant(_ context.Context, r *etcdserverpb.LeaseGrantRequest) (*etcdserverpb.LeaseGrantResponse, error) {
	return &etcdserverpb.LeaseGrantResponse{Header: header(), ID: 7, TTL: r.TTL}, nil
}

func (*api) LeaseKeepAlive(stream grpc.BidiStreamingServer[etcdserverpb.LeaseKeepAliveRequest, etcdserverpb.LeaseKeepAliveResponse]) error {
	for {
		r, err := stream.Recv()
		if err != nil {
			return nil
		}
		if err := stream.Send(&etcdserverpb.LeaseKeepAliveResponse{Header: header(), ID: r.ID, TTL: 30}); err != nil {
			return err
		}
	}
}

func (*api) Watch(stream grpc.BidiStreamingServer[etcdserverpb.WatchRequest, etcdserverpb.WatchResponse]) error {
	for {
		r, err := stream.Recv()
		if err != nil {
			return nil
		}
		create := r.GetCreateRequest()
		if create == nil {
			continue
		}
		if string(create.Key) == "refused" {
			return rpctypes.ErrGRPCNoLeader
		}
		events := []*mvccpb.Event{{Type: mvccpb.Event_PUT, Kv: &mvccpb.KeyValue{Key: create.Key, Value: []byte("bar"), CreateRevision: 2, ModRevision: 2, Version: 1}},
			{Type: mvccpb.Event_DELETE, Kv: &mvccpb.KeyValue{Key: create.Key, ModRevision: 3}}}
		for _, reply := range []*etcdserverpb.WatchResponse{{Header: header(), Created: true}, {Header: header(), Events: events}} {
			if err := stream.Send(reply); err != nil {
				return err
			}
		}
		if string(create.Key) == "lost" {
			return rpctypes.ErrGRPCNoLeader
		}
	}
}

// start serves an api through a gateway and returns the gateway's address.
func start(t *testing.T) (*api, string) {
	t.Helper()
	listener := bufconn.Listen(1 << 20)
	server := grpc.NewServer()
	a := &api{metadata: make(chan metadata.MD, 1), left: make(chan struct{}, 16)}
	etcdserverpb.RegisterKVServer(server, a)
	etcdserverpb.RegisterWatchServer(server, a)
	etcdserverpb.RegisterLeaseServer(server, a)
	etcdserverpb.RegisterMaintenanceServer(server, a)
	done := make(chan error, 1)
	go func() { done <- server.Serve(listener) }()
	g, err := New(Parts{Dial: listener.DialContext, MaxBodyBytes: 4096, Log: zap.NewNop()})
	if err != nil {
		t.Fatal(err)
	}
	front := httptest.NewServer(Pipeline(Options{Enabled: true, Origins: []string{"*"}, HostWhitelist: []string{"*"}}, g, nil,
		http.NotFoundHandler(), zap.NewNop()))
	t.Cleanup(func() {
		front.Close()
		if err := g.Close(); err != nil {
			t.Error(err)
		}
		server.Stop()
		if err := <-done; err != nil {
			t.Error(err)
		}
	})
	return a, front.URL
}

func post(t *testing.T, method, url, body string, headers ...string) (*http.Response, string) {
	t.Helper()
	r, err := http.NewRequest(method, url, strings.NewReader(body))
	if err != nil {
		t.Fatal(err)
	}
	for i := 0; i < len(headers); i += 2 {
		r.Header.Set(headers[i], headers[i+1])
	}
	reply, err := http.DefaultClient.Do(r)
	if err != nil {
		t.Fatal(err)
	}
	defer reply.Body.Close()
	text, err := io.ReadAll(reply.Body)
	if err != nil {
		t.Fatal(err)
	}
	return reply, string(text)
}

// compact removes the spaces that the JSON library inserts at random, line by line.
func compact(t *testing.T, text string) string {
	t.Helper()
	var lines []string
	for line := range strings.Lines(text) {
		var b bytes.Buffer
		if err := json.Compact(&b, []byte(line)); err != nil {
			t.Fatalf("%q is not JSON: %v", line, err)
		}
		if strings.HasSuffix(line, "\n") {
			b.WriteByte('\n')
		}
		lines = append(lines, b.String())
	}
	return strings.Join(lines, "")
}

const headerJSON = `"header":{"cluster_id":"14841639068965178418","member_id":"10276657743932975437","revision":"2","raft_term":"2"}`

func TestJSON(t *testing.T) {
	_, url := start(t)
	cases := []struct {
		name, method, path, body string
		code                     int
		want                     string
	}{
		{"put", "POST", "/v3/kv/put", `{"key":"Zm9v","value":"YmFy"}`, 200, `{` + headerJSON + `}`},
		{"old path", "POST", "/v3beta/kv/put", `{"key":"Zm9v","value":"YmFy"}`, 200, `{` + headerJSON + `}`},
		{"unpadded, URL-safe base64", "POST", "/v3/kv/range", `{"key":"_-8"}`, 200,
			`{` + headerJSON + `,"kvs":[{"key":"/+8=","create_revision":"2","mod_revision":"2","version":"1","value":"YmFy"}],"count":"1"}`},
		{"range", "POST", "/v3/kv/range", `{"key":"Zm9v","limit":5,"revision":"3","keys_only":false,"sortOrder":"ASCEND","sort_target":1}`, 200,
			`{` + headerJSON + `,"kvs":[{"key":"Zm9v","create_revision":"2","mod_revision":"2","version":"1","value":"YmFy"}],"count":"1"}`},
		{"empty range", "POST", "/v3/kv/range", `{"key":"Zm9v","sort_order":"DESCEND"}`, 200, `{` + headerJSON + `}`},
		{"nothing deleted", "POST", "/v3/kv/deleterange", `{"key":"Zm9v"}`, 200, `{` + headerJSON + `}`},
		{"unknown field", "POST", "/v3/kv/put", `{"key":"Zm9v","colour":"red"}`, 200, `{` + headerJSON + `}`},
		{"txn", "POST", "/v3/kv/txn", `{"compare":[{"target":"VALUE","key":"Zm9v","value":"YmFy","result":"EQUAL"}],"success":[{"requestPut":{"key":"Zm9v"}}]}`, 200,
			`{` + headerJSON + `,"succeeded":true,"responses":[{"response_put":{` + headerJSON + `}}]}`},
		{"txn in proto names", "POST", "/v3/kv/txn", `{"compare":[{"target":3,"key":"Zm9v","value":"YmFy"}],"success":[{"request_put":{"key":"Zm9v"}}]}`, 200,
			`{` + headerJSON + `,"succeeded":true,"responses":[{"response_put":{` + headerJSON + `}}]}`},
		{"misspelt op", "POST", "/v3/kv/txn", `{"success":[{"requestPutt":{"key":"Zm9v"}}]}`, 400, `{"code":3,"message":"etcdserver: key not found"}`},
		{"status", "POST", "/v3/maintenance/status", `{}`, 200,
			`{` + headerJSON + `,"version":"3.7.1","dbSize":"20480","raftIndex":"9","dbSizeInUse":"16384","storageVersion":"3.7.0","dbSizeQuota":"2147483648"}`},
		{"hash", "POST", "/v3/maintenance/hashkv", `{}`, 200, `{"hash":3021207871,"compact_revision":"-1","hash_revision":"2"}`},
		{"defragment", "POST", "/v3/maintenance/defragment", `{}`, 200, `{}`},
		{"empty body", "POST", "/v3/maintenance/defragment", ``, 200, `{}`},
		{"grant", "POST", "/v3/lease/grant", `{"TTL":"10"}`, 200, `{` + headerJSON + `,"ID":"7","TTL":"10"}`},
		{"keep-alive", "POST", "/v3/lease/keepalive", `{"ID":7}` + "\n" + `{"ID":"8"}`, 200,
			`{"result":{` + headerJSON + `,"ID":"7","TTL":"30"}}` + "\n" + `{"result":{` + headerJSON + `,"ID":"8","TTL":"30"}}` + "\n"},
		{"watch", "POST", "/v3/watch", `{"create_request":{"key":"Zm9v"}}`, 200,
			`{"result":{` + headerJSON + `,"created":true}}` + "\n" +
				`{"result":{` + headerJSON + `,"events":[{"kv":{"key":"Zm9v","create_revision":"2","mod_revision":"2","version":"1","value":"YmFy"}},` +
				`{"type":"DELETE","kv":{"key":"Zm9v","mod_revision":"3"}}]}}` + "\n"},
		{"watch without a request", "POST", "/v3/watch", ``, 200, ``},
		{"watch with a null request", "POST", "/v3/watch", `{}`, 200, ``},
		{"watch that is lost", "POST", "/v3/watch", `{"create_request":{"key":"bG9zdA=="}}`, 200,
			`{"result":{` + headerJSON + `,"created":true}}` + "\n" +
				`{"result":{` + headerJSON + `,"events":[{"kv":{"key":"bG9zdA==","create_revision":"2","mod_revision":"2","version":"1","value":"YmFy"}},` +
				`{"type":"DELETE","kv":{"key":"bG9zdA==","mod_revision":"3"}}]}}` + "\n" +
				`{"error":{"code":14,"message":"etcdserver: no leader"}}` + "\n"},
		{"malformed", "POST", "/v3/kv/put", `{"key"`, 400, ``},
		{"wrong type", "POST", "/v3/kv/put", `{"key":5}`, 400, ``},
		{"too large", "POST", "/v3/kv/put", `{"key":"` + strings.Repeat("A", 5000) + `"}`, 400, ``},
		{"verb", "GET", "/v3/kv/put", ``, 501, `{"code":12,"message":"Method Not Allowed"}`},
		{"path", "POST", "/v3/nowhere", `{}`, 404, `{"code":5,"message":"Not Found"}`},
		{"empty key", "POST", "/v3/kv/put", `{}`, 400, `{"code":3,"message":"etcdserver: key is not provided"}`},
		{"unavailable", "POST", "/v3/kv/put", `{"key":"dW5hdmFpbGFibGU="}`, 503, `{"code":14,"message":"etcdserver: no leader"}`},
		{"exhausted", "POST", "/v3/kv/put", `{"key":"ZXhoYXVzdGVk"}`, 429, `{"code":8,"message":"etcdserver: mvcc: database space exceeded"}`},
		{"denied", "POST", "/v3/kv/put", `{"key":"ZGVuaWVk"}`, 403, `{"code":7,"message":"etcdserver: permission denied"}`},
		{"unknown", "POST", "/v3/kv/put", `{"key":"dW5rbm93bg=="}`, 500, `{"code":2,"message":"raw"}`},
		{"canceled", "POST", "/v3/kv/put", `{"key":"Y2FuY2VsZWQ="}`, 499, `{"code":1,"message":"etcdserver: request canceled"}`},
		{"deadline", "POST", "/v3/kv/put", `{"key":"ZGVhZGxpbmU="}`, 504, `{"code":4,"message":"context deadline exceeded"}`},
		{"not served", "POST", "/v3/cluster/member/list", `{}`, 501, `{"code":12,"message":"unknown service etcdserverpb.Cluster"}`},
		{"outside", "POST", "/v2/keys", ``, 404, ``},
	}
	for _, c := range cases {
		t.Run(c.name, func(t *testing.T) {
			reply, body := post(t, c.method, url+c.path, c.body)
			if reply.StatusCode != c.code {
				t.Errorf("code %d, want %d (%s)", reply.StatusCode, c.code, body)
			}
			if c.path == "/v2/keys" {
				return
			}
			if got := reply.Header.Get("Content-Type"); got != "application/json" && body != "" {
				t.Errorf("content type %q", got)
			}
			if c.code == 400 && c.want == "" {
				if !strings.HasPrefix(compact(t, body), `{"code":3,"message":"`) {
					t.Errorf("body %s", body)
				}
			} else if got := compact(t, body); got != c.want {
				t.Errorf("\n got %s\nwant %s", got, c.want)
			}
		})
	}
}

func TestRefusedStream(t *testing.T) {
	_, url := start(t)
	reply, body := post(t, "POST", url+"/v3/watch", `{"create_request":{"key":"cmVmdXNlZA=="}}`)
	if reply.StatusCode != 503 || compact(t, body) != `{"error":{"code":14,"message":"etcdserver: no leader"}}`+"\n" {
		t.Errorf("%d %q", reply.StatusCode, body)
	}
}

func TestMetadata(t *testing.T) {
	a, url := start(t)
	post(t, "POST", url+"/v3/kv/put", `{"key":"Zm9v"}`, "Authorization", "a.token", "Grpc-Metadata-hasleader", "true", "Accept", "x/y")
	md := <-a.metadata
	for key, want := range map[string]string{"authorization": "a.token", "hasleader": "true", "grpcgateway-accept": "x/y"} {
		if got := md.Get(key); len(got) != 1 || got[0] != want {
			t.Errorf("%s: %q, want %q", key, got, want)
		}
	}
	reply, _ := post(t, "POST", url+"/v3/kv/put", `{"key":"dW5hdXRoZW50aWNhdGVk"}`)
	if reply.StatusCode != 401 || reply.Header.Get("WWW-Authenticate") != "etcdserver: invalid auth token" {
		t.Errorf("%d, WWW-Authenticate %q", reply.StatusCode, reply.Header.Get("WWW-Authenticate"))
	}
}

// Lines of a stream must arrive while its request is still open.
func TestStreamIsNotHeldBack(t *testing.T) {
	_, url := start(t)
	bodyReader, bodyWriter := io.Pipe()
	r, err := http.NewRequest("POST", url+"/v3/lease/keepalive", bodyReader)
	if err != nil {
		t.Fatal(err)
	}
	go io.WriteString(bodyWriter, `{"ID":1}`+"\n")
	reply, err := http.DefaultClient.Do(r)
	if err != nil {
		t.Fatal(err)
	}
	defer reply.Body.Close()
	lines := bufio.NewReader(reply.Body)
	for i := range 3 {
		line, err := lines.ReadString('\n')
		if err != nil || !strings.Contains(line, `"ID":"1"`) {
			t.Fatalf("line %d: %q, %v", i, line, err)
		}
		if i < 2 {
			io.WriteString(bodyWriter, `{"ID":1}`+"\n")
		}
	}
	bodyWriter.Close()
	if rest, err := io.ReadAll(lines); err != nil || len(rest) > 0 {
		t.Errorf("after the end: %q, %v", rest, err)
	}
}

// A stream that is refused before its request has been read must leave a connection that can be used again.
func TestRequestIsReadToItsEnd(t *testing.T) {
	_, url := start(t)
	conn, err := net.Dial("tcp", strings.TrimPrefix(url, "http://"))
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	replies := bufio.NewReader(conn)
	for _, c := range []struct {
		field, body string
		code        int
	}{
		{"Grpc-Timeout: x", "{}", 400},
		{"Grpc-Timeout: x", strings.Repeat(" ", unreadBytesMax-1), 400},
		{"Accept: */*", "]" + strings.Repeat(" ", 100_000), 200},
		{"Accept: */*", `{"ID":1}`, 200},
	} {
		fmt.Fprintf(conn, "POST /v3/lease/keepalive HTTP/1.1\r\nHost: x\r\n%s\r\nContent-Length: %d\r\n\r\n%s", c.field, len(c.body), c.body)
		reply, err := http.ReadResponse(replies, nil)
		if err != nil {
			t.Fatalf("%s, %d bytes: %v", c.field, len(c.body), err)
		}
		if _, err := io.Copy(io.Discard, reply.Body); err != nil {
			t.Fatal(err)
		}
		if reply.StatusCode != c.code || reply.Close {
			t.Errorf("%s, %d bytes: code %d, last %t; want %d", c.field, len(c.body), reply.StatusCode, reply.Close, c.code)
		}
	}
}

func TestWebsocket(t *testing.T) {
	a, url := start(t)
	dialer := websocket.Dialer{Subprotocols: []string{"Bearer, a.token"}}
	conn, reply, err := dialer.Dial("ws"+strings.TrimPrefix(url, "http")+"/v3/watch", nil)
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	if got := reply.Header.Get("Sec-WebSocket-Protocol"); got != "Bearer" {
		t.Errorf("subprotocol %q", got)
	}
	for range 2 {
		if err := conn.WriteMessage(websocket.TextMessage, []byte(`{"create_request":{"key":"Zm9v"}}`)); err != nil {
			t.Fatal(err)
		}
		for _, want := range []string{`"created":true`, `"events":[`} {
			_, frame, err := conn.ReadMessage()
			if err != nil || !strings.Contains(compact(t, string(frame)), want) {
				t.Fatalf("frame %q, %v; want %s", frame, err, want)
			}
		}
	}
	put, _, err := dialer.Dial("ws"+strings.TrimPrefix(url, "http")+"/v3/kv/put", nil)
	if err != nil {
		t.Fatal(err)
	}
	defer put.Close()
	if err := put.WriteMessage(websocket.TextMessage, []byte(`{"key":"Zm9v"}`)); err != nil {
		t.Fatal(err)
	}
	if _, frame, err := put.ReadMessage(); err != nil || compact(t, string(frame)) != `{`+headerJSON+`}` {
		t.Errorf("frame %q, %v", frame, err)
	}
	if got := (<-a.metadata).Get("authorization"); len(got) != 1 || got[0] != "Bearer a.token" {
		t.Errorf("authorization %q", got)
	}
}

// A websocket that answers for long can be closed, whatever the client has sent behind the one message that the call takes.
func TestWebsocketOfStreamIsClosed(t *testing.T) {
	a, url := start(t)
	for name, more := range map[string][]string{
		"nothing": nil, "more messages": {`{}`, `{}`}, "garbage": {"x"}, "more than a body may have": {strings.Repeat(" ", 10_000), `{}`},
	} {
		conn, _, err := websocket.DefaultDialer.Dial("ws"+strings.TrimPrefix(url, "http")+"/v3/maintenance/snapshot", nil)
		if err != nil {
			t.Fatal(err)
		}
		defer conn.Close()
		for _, frame := range append([]string{`{}`}, more...) {
			if err := conn.WriteMessage(websocket.TextMessage, []byte(frame)); err != nil {
				t.Fatal(err)
			}
		}
		if _, frame, err := conn.ReadMessage(); err != nil || !strings.Contains(string(frame), `"result"`) {
			t.Fatalf("%s: %s, %v", name, frame, err)
		}
		if err := conn.WriteMessage(websocket.CloseMessage, websocket.FormatCloseMessage(websocket.CloseNormalClosure, "")); err != nil {
			t.Fatal(err)
		}
		conn.SetReadDeadline(time.Now().Add(20 * time.Second))
		if _, frame, err := conn.ReadMessage(); !websocket.IsCloseError(err, websocket.CloseNormalClosure) {
			t.Fatalf("%s: closed: %q, %v", name, frame, err)
		}
		<-a.left
	}
}

func TestDialFails(t *testing.T) {
	g, err := New(Parts{Dial: func(context.Context) (net.Conn, error) { return nil, errors.New("nobody there") }, MaxBodyBytes: 1 << 20, Log: zap.NewNop()})
	if err != nil {
		t.Fatal(err)
	}
	defer g.Close()
	w := httptest.NewRecorder()
	g.ServeHTTP(w, httptest.NewRequest("POST", "/v3/kv/put", strings.NewReader(`{"key":"Zm9v"}`)))
	if w.Code != 503 || !strings.Contains(w.Body.String(), "nobody there") {
		t.Errorf("%d %s", w.Code, w.Body)
	}
}
