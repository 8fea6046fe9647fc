package bootstrap

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"net/url"
	"os"
	"strings"
	"time"

	"go.etcd.io/etcd/api/v3/etcdserverpb"
	"go.etcd.io/etcd/api/v3/mvccpb"
	"go.etcd.io/etcd/api/v3/v3rpc/rpctypes"
	"google.golang.org/grpc"
	"google.golang.org/grpc/backoff"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/credentials"
	"google.golang.org/grpc/credentials/insecure"
	"google.golang.org/grpc/keepalive"
	"google.golang.org/grpc/metadata"
	"google.golang.org/grpc/resolver"
	"google.golang.org/grpc/resolver/manual"
	"google.golang.org/grpc/status"

	"keelson/config"
)

// remoteRegistry is a registry kept by a cluster that speaks the v3 API. It belongs to one goroutine.
type remoteRegistry struct {
	o     config.Discovery
	conn  *grpc.ClientConn
	kv    etcdserverpb.KVClient
	watch etcdserverpb.WatchClient
	auth  etcdserverpb.AuthClient
	token string // of the user, once authenticated
}

// dialRegistry prepares a connection to the first endpoint that accepts one. As with etcd's clients, the first endpoint's
// scheme says whether all are spoken to with TLS; without a scheme the settings do.
func dialRegistry(o config.Discovery) (*remoteRegistry, error) {
	security, err := registryTLS(o)
	if err != nil {
		return nil, err
	}
	var state resolver.State
	for _, e := range o.Endpoints {
		address, host := endpointAddress(e)
		state.Addresses = append(state.Addresses, resolver.Address{Addr: address, ServerName: host})
	}
	creds := insecure.NewCredentials()
	if security != nil {
		creds = credentials.NewTLS(security)
	}
	found := manual.NewBuilderWithScheme("discovery")
	found.InitialState(state)
	conn, err := grpc.NewClient("discovery:///"+state.Addresses[0].ServerName,
		grpc.WithResolvers(found),
		grpc.WithTransportCredentials(creds),
		grpc.WithConnectParams(grpc.ConnectParams{Backoff: backoff.DefaultConfig, MinConnectTimeout: o.DialTimeout}),
		grpc.WithKeepaliveParams(keepalive.ClientParameters{
			Time: o.KeepaliveTime, Timeout: o.KeepaliveTimeout, PermitWithoutStream: true,
		}),
	)
	if err != nil {
		return nil, err
	}
	return &remoteRegistry{
		o: o, conn: conn, kv: etcdserverpb.NewKVClient(conn),
		watch: etcdserverpb.NewWatchClient(conn), auth: etcdserverpb.NewAuthClient(conn),
	}, nil
}

// endpointAddress is where an endpoint (a URL, or host:port) is dialed, and the name its certificate has to be for.
func endpointAddress(endpoint string) (address, host string) {
	if rest, ok := strings.CutPrefix(endpoint, "unixs:"); ok {
		endpoint = "unix:" + rest
	}
	if strings.HasPrefix(endpoint, "unix:") {
		return "unix:" + strings.TrimPrefix(strings.TrimPrefix(endpoint, "unix:"), "//"), "localhost"
	}
	if u, err := url.Parse(endpoint); err == nil && u.Host != "" {
		return u.Host, u.Host
	}
	return endpoint, endpoint
}

// registryTLS is nil for plain text.
func registryTLS(o config.Discovery) (*tls.Config, error) {
	scheme, _, _ := strings.Cut(o.Endpoints[0], ":")
	asked := o.CertFile != "" || o.KeyFile != "" || o.CAFile != "" || !o.InsecureTransport || o.InsecureSkipVerify
	switch scheme {
	case "http", "unix":
		return nil, nil
	case "https", "unixs":
	default:
		if !asked {
			return nil, nil
		}
	}
	c := &tls.Config{MinVersion: tls.VersionTLS12, InsecureSkipVerify: o.InsecureSkipVerify}
	if o.CertFile != "" || o.KeyFile != "" {
		certificate, err := tls.LoadX509KeyPair(o.CertFile, o.KeyFile)
		if err != nil {
			return nil, fmt.Errorf("client certificate: %w", err)
		}
		c.Certificates = []tls.Certificate{certificate}
	}
	if o.CAFile != "" {
		text, err := os.ReadFile(o.CAFile)
		if err != nil {
			return nil, fmt.Errorf("CA: %w", err)
		}
		c.RootCAs = x509.NewCertPool()
		if !c.RootCAs.AppendCertsFromPEM(text) {
			return nil, fmt.Errorf("CA: no certificate in %s", o.CAFile)
		}
	}
	return c, nil
}

// Close ends the connection.
func (r *remoteRegistry) Close() error { return r.conn.Close() }

func (r *remoteRegistry) Get(ctx context.Context, key string) (value string, ok bool, err error) {
	err = r.call(ctx, func(ctx context.Context) error {
		answer, err := r.kv.Range(ctx, &etcdserverpb.RangeRequest{Key: []byte(key)})
		if err == nil && len(answer.GetKvs()) > 0 {
			value, ok = string(answer.GetKvs()[0].GetValue()), true
		}
		return err
	})
	return value, ok, err
}

func (r *remoteRegistry) List(ctx context.Context, prefix string, limit int64) (pairs []pair, rev int64, err error) {
	err = r.call(ctx, func(ctx context.Context) error {
		answer, err := r.kv.Range(ctx, &etcdserverpb.RangeRequest{
			Key: []byte(prefix), RangeEnd: prefixEnd(prefix), Limit: limit,
			SortTarget: etcdserverpb.RangeRequest_CREATE, SortOrder: etcdserverpb.RangeRequest_ASCEND,
		})
		for _, kv := range answer.GetKvs() {
			pairs = append(pairs, pair{string(kv.GetKey()), string(kv.GetValue())})
		}
		rev = answer.GetHeader().GetRevision()
		return err
	})
	return pairs, rev, err
}

func (r *remoteRegistry) Put(ctx context.Context, key, value string) error {
	return r.call(ctx, func(ctx context.Context) error {
		_, err := r.kv.Put(ctx, &etcdserverpb.PutRequest{Key: []byte(key), Value: []byte(value)})
		return err
	})
}

// Await also returns when the watch can't go on from rev, as that was compacted: a new look will tell.
func (r *remoteRegistry) Await(ctx context.Context, prefix string, rev int64) error {
	ctx, cancel := context.WithCancel(ctx) // the watch ends with it
	defer cancel()
	ctx, err := r.authenticated(ctx)
	if err != nil {
		return r.failure(err)
	}
	stream, err := r.watch.Watch(ctx)
	if err != nil {
		return r.failure(err)
	}
	err = stream.Send(&etcdserverpb.WatchRequest{RequestUnion: &etcdserverpb.WatchRequest_CreateRequest{
		CreateRequest: &etcdserverpb.WatchCreateRequest{Key: []byte(prefix), RangeEnd: prefixEnd(prefix), StartRevision: rev + 1},
	}})
	for err == nil {
		var answer *etcdserverpb.WatchResponse
		answer, err = stream.Recv()
		switch {
		case err != nil:
		case answer.GetCanceled() && answer.GetCompactRevision() == 0:
			return transient{fmt.Errorf("watch canceled: %s", answer.GetCancelReason())}
		case answer.GetCanceled(), hasPut(answer.GetEvents()):
			return nil
		}
	}
	return r.failure(err)
}

func hasPut(events []*mvccpb.Event) bool {
	for _, e := range events {
		if e.GetType() == mvccpb.Event_PUT {
			return true
		}
	}
	return false
}

// prefixEnd is the end of the range of all keys with a prefix, whose last byte is not 0xff.
func prefixEnd(prefix string) []byte {
	end := []byte(prefix)
	end[len(end)-1]++
	return end
}

// call makes a call within the request timeout, under the user's name if there is one.
func (r *remoteRegistry) call(ctx context.Context, f func(context.Context) error) error {
	ctx, cancel := context.WithTimeout(ctx, max(r.o.RequestTimeout, time.Millisecond))
	defer cancel()
	ctx, err := r.authenticated(ctx)
	if err == nil {
		err = f(ctx)
	}
	return r.failure(err)
}

// authenticated adds the user's token to the context. A service without users takes everybody.
func (r *remoteRegistry) authenticated(ctx context.Context) (context.Context, error) {
	if r.o.User == "" {
		return ctx, nil
	}
	if r.token == "" {
		answer, err := r.auth.Authenticate(ctx, &etcdserverpb.AuthenticateRequest{Name: r.o.User, Password: r.o.Password})
		if errors.Is(rpctypes.Error(err), rpctypes.ErrAuthNotEnabled) {
			return ctx, nil
		}
		if err != nil {
			return nil, err
		}
		r.token = answer.GetToken()
	}
	return metadata.AppendToOutgoingContext(ctx, rpctypes.TokenFieldNameGRPC, r.token), nil
}

// failure tells errors that a later try may not meet again from those that are answers. A token that has run out is the
// first kind: the next try gets another.
func (r *remoteRegistry) failure(err error) error {
	switch status.Code(err) {
	case codes.OK:
		return nil
	case codes.InvalidArgument, codes.PermissionDenied, codes.FailedPrecondition, codes.Unimplemented:
		return fmt.Errorf("discovery: %w", err)
	case codes.Unauthenticated:
		r.token = ""
	}
	return transient{err}
}
