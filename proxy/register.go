package proxy

import (
	"context"
	"os"
	"slices"
	"time"

	pb "go.etcd.io/etcd/api/v3/etcdserverpb"
	clientv3 "go.etcd.io/etcd/client/v3"
	"go.etcd.io/etcd/client/v3/naming/endpoints"
	"go.uber.org/zap"
)

// registerPause lies between two tries to register.
const registerPause = time.Second

// memberList answers with the proxies that have registered, or with this one.
func (o *grpcOptions) memberList(client *clientv3.Client) func(context.Context) ([]*pb.Member, error) {
	host, err := os.Hostname()
	if err != nil {
		host = o.advertise
	}
	return func(ctx context.Context) ([]*pb.Member, error) {
		if o.resolverPrefix == "" {
			return []*pb.Member{{Name: host, ClientURLs: []string{o.advertise}}}, nil
		}
		manager, err := endpoints.NewManager(client, o.resolverPrefix)
		if err != nil {
			return nil, err
		}
		found, err := manager.List(ctx)
		if err != nil {
			return nil, err
		}
		var list []*pb.Member
		for _, e := range found {
			name, _ := e.Metadata.(string)
			list = append(list, &pb.Member{Name: name, ClientURLs: []string{e.Addr}})
		}
		if len(list) == 0 {
			list = append(list, &pb.Member{Name: host, ClientURLs: []string{o.advertise}})
		}
		slices.SortFunc(list, func(a, b *pb.Member) int { return slices.Compare(a.ClientURLs, b.ClientURLs) })
		return list, nil
	}
}

// keepInStep starts what has to be repeated: registering, and asking for endpoints.
func (o *grpcOptions) keepInStep(ctx context.Context, p *running, client *clientv3.Client, logger *zap.Logger) {
	ctx, cancel := context.WithCancel(ctx)
	var ended []chan struct{}
	begin := func(f func()) {
		done := make(chan struct{})
		ended = append(ended, done)
		go func() { // until cancel
			defer close(done)
			f()
		}()
	}
	if o.resolverPrefix != "" && o.advertise != "" {
		begin(func() { o.register(ctx, client, logger) })
	}
	if o.autoSync > 0 {
		begin(func() { o.syncEndpoints(ctx, client, logger) })
	}
	p.stop = append([]func(){func() {
		cancel()
		for _, done := range ended {
			<-done
		}
	}}, p.stop...)
}

// register keeps this proxy in the list under the prefix for as long as it runs, and a little longer.
func (o *grpcOptions) register(ctx context.Context, client *clientv3.Client, logger *zap.Logger) {
	for ctx.Err() == nil {
		lost, err := o.registerOnce(ctx, client)
		if err == nil {
			logger.Info("registered endpoint", zap.String("prefix", o.resolverPrefix), zap.String("endpoint", o.advertise))
			for range lost {
			}
			err = context.Cause(ctx)
		}
		if ctx.Err() == nil {
			logger.Warn("lost the registration", zap.String("prefix", o.resolverPrefix), zap.Error(err))
		}
		select {
		case <-time.After(registerPause):
		case <-ctx.Done():
		}
	}
}

// registerOnce returns a channel that is closed when the registration is lost.
func (o *grpcOptions) registerOnce(ctx context.Context, client *clientv3.Client) (<-chan *clientv3.LeaseKeepAliveResponse, error) {
	lease, err := client.Grant(ctx, int64(o.resolverTTLSeconds))
	if err != nil {
		return nil, err
	}
	manager, err := endpoints.NewManager(client, o.resolverPrefix)
	if err != nil {
		return nil, err
	}
	host, _ := os.Hostname() // only shown
	key := o.resolverPrefix + "/" + o.advertise
	if err := manager.AddEndpoint(ctx, key, endpoints.Endpoint{Addr: o.advertise, Metadata: host}, clientv3.WithLease(lease.ID)); err != nil {
		return nil, err
	}
	return client.KeepAlive(ctx, lease.ID)
}

// syncEndpoints follows the cluster's membership.
func (o *grpcOptions) syncEndpoints(ctx context.Context, client *clientv3.Client, logger *zap.Logger) {
	ticker := time.NewTicker(o.autoSync)
	defer ticker.Stop()
	for {
		asking, cancel := context.WithTimeout(ctx, lookUpTimeout)
		err := client.Sync(asking)
		cancel()
		switch {
		case ctx.Err() != nil:
			return
		case err != nil:
			logger.Warn("failed to sync the endpoints", zap.Error(err))
		default:
			logger.Info("synced the endpoints", zap.Strings("endpoints", client.Endpoints()))
		}
		select {
		case <-ticker.C:
		case <-ctx.Done():
			return
		}
	}
}
