package proxy

import (
	"context"
	"crypto/tls"
	"errors"
	"flag"
	"net"
	"time"

	"go.uber.org/zap"

	"keelson/api/ops"
	"keelson/server/certs"
)

// filesPerConnection is how many open files a forwarded connection needs, filesSpared how many are left for the rest.
const (
	filesPerConnection = 2
	filesSpared        = 100
	connectionsDefault = 10000
)

type gatewayOptions struct {
	listen    string
	endpoints list
	discovery discovery
	caFile    string
	retry     time.Duration
}

// Gateway carries out the command line `gateway start [flags]`, and returns the exit code. program is the name for usage
// texts.
func Gateway(program string, args []string) int {
	o := gatewayOptions{endpoints: list{"127.0.0.1:2379"}}
	set := flag.NewFlagSet(program, flag.ContinueOnError)
	set.StringVar(&o.listen, "listen-addr", "127.0.0.1:23790", "address to listen on")
	set.Var(&o.endpoints, "endpoints", "addresses of members' client URLs, with commas")
	set.StringVar(&o.discovery.domain, "discovery-srv", "", "domain whose SRV records name the members, instead of endpoints")
	set.StringVar(&o.discovery.suffix, "discovery-srv-name", "", "suffix of the SRV service name")
	set.BoolVar(&o.discovery.insecure, "insecure-discovery", false, "accept members without TLS from DNS")
	set.StringVar(&o.caFile, "trusted-ca-file", "", "authorities that members found in DNS must have their certificates from")
	set.DurationVar(&o.retry, "retry-delay", time.Minute, "time after which a member that could not be reached is tried again")
	if code, done := parse(set, args, "Forwards TCP connections to the members of a cluster."); done {
		return code
	}
	logger := newLogger(false)
	return untilSignal(logger, func(ctx context.Context) error { return o.run(ctx, logger) })
}

func (o gatewayOptions) run(ctx context.Context, logger *zap.Logger) error {
	endpoints, err := o.find(ctx)
	if err != nil {
		return err
	}
	if o.retry <= 0 {
		return errors.New("--retry-delay must be > 0")
	}
	f := &forwarder{retry: o.retry, most: connectionsMax(), logger: logger}
	for _, e := range endpoints {
		at := address(e)
		if _, _, err := net.SplitHostPort(at); err != nil {
			return err
		}
		f.remotes = append(f.remotes, &remote{address: at})
	}
	l, err := net.Listen("tcp", o.listen)
	if err != nil {
		return err
	}
	logger.Info("ready to proxy client requests", zap.String("address", l.Addr().String()), zap.Strings("endpoints", endpoints))
	return f.serve(ctx, l)
}

// find are the endpoints that were given, or those that DNS has and that can be trusted.
func (o gatewayOptions) find(ctx context.Context) ([]string, error) {
	if o.discovery.domain == "" {
		if len(o.endpoints) == 0 {
			return nil, errors.New("--endpoints must not be empty")
		}
		return o.endpoints, nil
	}
	found, err := o.discovery.endpoints(ctx, net.DefaultResolver)
	if err != nil || o.caFile == "" {
		return found, err
	}
	plane, err := certs.New(certs.Options{TrustedCAFile: o.caFile, VersionMin: tls.VersionTLS12, ServerName: o.discovery.domain})
	if err != nil {
		return nil, err
	}
	return verified(ctx, found, plane.Client())
}

// connectionsMax is how many connections can be forwarded at a time.
func connectionsMax() int {
	_, limit := ops.FileDescriptors()
	if limit == 0 {
		return connectionsDefault
	}
	return max(int(min(limit, 1<<30))-filesSpared, filesPerConnection) / filesPerConnection
}
