package ctl

import (
	"context"
	"fmt"
	"net"
	"strings"
	"time"

	clientv3 "go.etcd.io/etcd/client/v3"
	"go.uber.org/zap"
	"google.golang.org/grpc/grpclog"

	"keelson/internal/cli"
)

// configure reads the environment, chooses the printer and says how to connect. Each command calls it once, when its own
// arguments are understood.
//
// Errors: settings that exclude each other, TLS files that cannot be read, names that cannot be resolved, an unknown format.
func (s *session) configure() (*clientv3.ConfigSpec, error) {
	if err := s.applyEnvironment(); err != nil {
		return nil, err
	}
	if err := s.applyContext(); err != nil {
		return nil, err
	}
	if s.flags.debug {
		grpclog.SetLoggerV2(grpclog.NewLoggerV2WithVerbosity(s.err, s.err, s.err, 4))
		s.dumpEnvironment()
	}
	var err error
	if s.print, err = newPrinter(s); err != nil {
		return nil, err
	}
	endpoints, err := s.endpoints()
	if err != nil {
		return nil, err
	}
	secure, err := s.secure()
	if err != nil {
		return nil, err
	}
	auth, err := s.credentials(s.flags.user, s.flags.password, s.flags.given("password"))
	if err != nil {
		return nil, err
	}
	if s.flags.jwt != "" {
		auth = &clientv3.AuthConfig{Token: s.flags.jwt}
	}
	return &clientv3.ConfigSpec{
		Endpoints: endpoints, DialTimeout: s.flags.dialTimeout, KeepAliveTime: s.flags.keepaliveTime,
		KeepAliveTimeout: s.flags.keepaliveTimeout, MaxCallSendMsgSize: s.flags.requestBytesMax,
		MaxCallRecvMsgSize: s.flags.recvBytesMax, Secure: secure, Auth: auth,
	}, nil
}

// endpoints are those of the flag, or what DNS says of a domain.
func (s *session) endpoints() ([]string, error) {
	if s.flags.discoverySRV == "" {
		return s.flags.endpoints, nil
	}
	found, err := discover(s.flags.discoverySRV, s.flags.discoverySRVName)
	if err != nil {
		return nil, err
	}
	if s.flags.insecureDiscovery {
		return found, nil
	}
	var safe []string
	for _, endpoint := range found {
		if strings.HasPrefix(endpoint, "https://") {
			safe = append(safe, endpoint)
		} else {
			fmt.Fprintf(s.err, "ignoring discovered insecure endpoint %q\n", endpoint)
		}
	}
	if len(safe) == 0 {
		return nil, fmt.Errorf("no secure endpoint found in %v of %s", found, s.flags.discoverySRV)
	}
	return safe, nil
}

// discover asks DNS for the members of a domain.
func discover(domain, service string) ([]string, error) {
	suffix := ""
	if service != "" {
		suffix = "-" + service
	}
	var found []string
	var failures []string
	for _, kind := range []struct{ service, scheme string }{{"etcd-client-ssl", "https"}, {"etcd-client", "http"}} {
		_, records, err := net.LookupSRV(kind.service+suffix, "tcp", domain)
		if err != nil {
			failures = append(failures, err.Error())
			continue
		}
		for _, r := range records {
			found = append(found, fmt.Sprintf("%s://%s", kind.scheme, net.JoinHostPort(strings.TrimSuffix(r.Target, "."), fmt.Sprint(r.Port))))
		}
	}
	if len(failures) == 2 {
		return nil, fmt.Errorf("dns lookup errors: %s", strings.Join(failures, " and "))
	}
	return found, nil
}

// secure is how the connection is protected.
func (s *session) secure() (*clientv3.SecureConfig, error) {
	f := &s.flags
	for _, file := range []struct{ flag, value string }{{"cert", f.cert}, {"key", f.key}, {"cacert", f.cacert}} {
		if f.given(file.flag) && file.value == "" {
			return nil, cli.Fail(cli.ExitBadArgs, "empty string is passed to --%s option", file.flag)
		}
	}
	secure := &clientv3.SecureConfig{
		Cert: f.cert, Key: f.key, Cacert: f.cacert, InsecureTransport: f.insecureTransport, InsecureSkipVerify: f.insecureSkipVerify,
	}
	if f.discoverySRV != "" && !f.insecureDiscovery {
		secure.ServerName = f.discoverySRV
	}
	return secure, nil
}

// credentials splits NAME:PASSWORD; a password that is missing is asked for. An empty user is nobody.
func (s *session) credentials(user, password string, separate bool) (*clientv3.AuthConfig, error) {
	switch {
	case user == "":
		return nil, nil
	case separate:
		return &clientv3.AuthConfig{Username: user, Password: password}, nil
	}
	if name, secret, ok := strings.Cut(user, ":"); ok {
		return &clientv3.AuthConfig{Username: name, Password: secret}, nil
	}
	secret, err := s.askPassword("Password: ")
	if err != nil {
		return nil, cli.With(cli.ExitError, err)
	}
	return &clientv3.AuthConfig{Username: user, Password: secret}, nil
}

// connect makes the client that --endpoints and the other flags ask for.
func (s *session) connect() (*clientv3.Client, error) {
	spec, err := s.configure()
	if err != nil {
		return nil, err
	}
	return s.dial(spec, nil)
}

// dial makes a client; logger nil is the client's own, which writes warnings to stderr.
func (s *session) dial(spec *clientv3.ConfigSpec, logger *zap.Logger) (*clientv3.Client, error) {
	quiet := logger
	if quiet == nil {
		quiet = zap.NewNop()
	}
	config, err := clientv3.NewClientConfig(spec, quiet)
	if err != nil {
		return nil, cli.With(cli.ExitBadArgs, err)
	}
	if config.Logger = logger; logger == nil && !s.plain {
		config.Logger = quiet // keelson explains what went wrong in its own words
	}
	client, err := clientv3.New(*config)
	if err != nil {
		return nil, cli.With(cli.ExitBadConnection, err)
	}
	return client, nil
}

// short is the context of a command that is over soon.
func (s *session) short() (context.Context, context.CancelFunc) {
	return context.WithTimeout(context.Background(), s.flags.commandTimeout)
}

// withClient connects, lets f make its short calls, and disconnects.
func (s *session) withClient(f func(ctx context.Context, c *clientv3.Client) error) error {
	c, err := s.connect()
	if err != nil {
		return err
	}
	defer c.Close()
	ctx, cancel := s.short()
	defer cancel()
	return f(ctx, c)
}

// closeSoon gives the far side a moment to hear that we leave, even if the caller's context has ended.
func closeSoon() (context.Context, context.CancelFunc) {
	return context.WithTimeout(context.Background(), 2*time.Second)
}
