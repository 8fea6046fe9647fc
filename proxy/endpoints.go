package proxy

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"net"
	"strconv"
	"strings"
	"time"
)

// lookUpTimeout bounds the questions to DNS, and the test of one endpoint.
const lookUpTimeout = 5 * time.Second

// discovery is how members are found by their names in DNS.
type discovery struct {
	domain, suffix string
	insecure       bool // take records of members without TLS
}

// resolver asks DNS; net.Resolver is one.
type resolver interface {
	LookupSRV(ctx context.Context, service, proto, name string) (string, []*net.SRV, error)
}

// endpoints are the client addresses of a domain: those with TLS, then, if they are accepted, those without.
func (d discovery) endpoints(ctx context.Context, r resolver) ([]string, error) {
	ctx, cancel := context.WithTimeout(ctx, lookUpTimeout)
	defer cancel()
	suffix := ""
	if d.suffix != "" {
		suffix = "-" + d.suffix
	}
	var found []string
	var errs []error
	look := func(scheme, service string) {
		_, records, err := r.LookupSRV(ctx, service+suffix, "tcp", d.domain)
		if err != nil {
			errs = append(errs, err)
			return
		}
		for _, record := range records {
			host := net.JoinHostPort(strings.TrimSuffix(record.Target, "."), strconv.Itoa(int(record.Port)))
			found = append(found, scheme+"://"+host)
		}
	}
	look("https", "etcd-client-ssl")
	if d.insecure {
		look("http", "etcd-client")
	}
	if len(found) == 0 {
		return nil, fmt.Errorf("no endpoints of %s in DNS: %w", d.domain, errors.Join(errs...))
	}
	return found, nil
}

// address is host:port of an endpoint with or without a scheme.
func address(endpoint string) string {
	if _, rest, ok := strings.Cut(endpoint, "://"); ok {
		endpoint = rest
	}
	return strings.TrimSuffix(endpoint, "/")
}

// verified are the endpoints that show a certificate that security believes.
func verified(ctx context.Context, endpoints []string, security *tls.Config) (good []string, err error) {
	var errs []error
	for _, e := range endpoints {
		attempt, cancel := context.WithTimeout(ctx, lookUpTimeout)
		conn, err := (&tls.Dialer{Config: security}).DialContext(attempt, "tcp", address(e))
		cancel()
		if err != nil {
			errs = append(errs, fmt.Errorf("%s: %w", e, err))
			continue
		}
		conn.Close()
		good = append(good, e)
	}
	if len(good) == 0 {
		return nil, fmt.Errorf("no endpoint can be trusted: %w", errors.Join(errs...))
	}
	return good, nil
}
