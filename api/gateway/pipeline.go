package gateway

import (
	"fmt"
	"net"
	"net/http"
	"slices"
	"strings"

	"go.uber.org/zap"

	"keelson/http1"
)

const everything = "*"

// Pipeline is what every HTTP request of a client passes: old paths are rewritten, hosts and origins are checked, and
// paths under /v3/ go to v3 (nil: the gateway is switched off), those under /v2, /new and /config/local/log to v2 (nil: that is), all others to rest.
func Pipeline(o Options, v3, v2, rest http.Handler, log *zap.Logger) http.Handler {
	if v3 != nil {
		clean := http.NewServeMux() // sends clients that ask for paths like /v3//kv/range to what they mean
		clean.Handle("/v3/", v3)
		v3 = clean
	}
	route := http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if v3 != nil && (r.URL.Path == "/v3" || strings.HasPrefix(r.URL.Path, "/v3/")) {
			v3.ServeHTTP(w, r)
			return
		}
		if v2 != nil && (r.URL.Path == "/v2" || strings.HasPrefix(r.URL.Path, "/v2/") || r.URL.Path == "/new" ||
			r.URL.Path == "/config/local/log") {
			v2.ServeHTTP(w, r)
			return
		}
		rest.ServeHTTP(w, r)
	})
	return lastOfChunks(rewritten(checkedHost(o.HostWhitelist, withOrigin(o.Origins, route), log)))
}

// lastOfChunks makes a request that came in chunks the last one of its connection over HTTP/1. It may have had a length as
// well, which net/http ignores without a word; then somebody in front of us may see another end of it than we do.
//
// Source: RFC 9112, 6.1.
func lastOfChunks(next http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.ProtoMajor == 1 && len(r.TransferEncoding) > 0 {
			w.Header().Set("Connection", "close")
		}
		next.ServeHTTP(w, r)
	})
}

// rewritten serves the paths that the API had before it was finished.
func rewritten(next http.Handler) http.Handler {
	const old, current = "/v3beta/", "/v3/"
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if rest, isOld := strings.CutPrefix(r.URL.Path, old); isOld {
			r.URL.Path = current + rest
			r.URL.RawPath = ""
		}
		next.ServeHTTP(w, r)
	})
}

// checkedHost refuses requests without TLS that are addressed to a host name not listed: a browser that was tricked
// into resolving a foreign name to our address sends that name.
func checkedHost(hosts []string, next http.Handler, log *zap.Logger) http.Handler {
	if slices.Contains(hosts, everything) {
		return next
	}
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if host := hostName(r.Host); r.TLS == nil && !slices.Contains(hosts, host) {
			log.Warn("rejecting HTTP request to prevent DNS rebinding attacks", zap.String("host", host))
			named := r.Host // as etcd names it
			if host, _, err := net.SplitHostPort(named); err == nil {
				named = host
			}
			http.Error(w, fmt.Sprintf(hostRefused, named), http.StatusMisdirectedRequest)
			return
		}
		next.ServeHTTP(w, r)
	})
}

// hostRefused is what who asks for a host that is not listed is told. Source: etcd.
const hostRefused = `
etcd received your request, but the Host header was unrecognized.

To fix this, choose one of the following options:
- Enable TLS, then any HTTPS request will be allowed.
- Add the hostname you want to use to the whitelist in settings.
  - e.g. etcd --host-whitelist %q

This requirement has been added to help prevent "DNS Rebinding" attacks (CVE-2018-5702).
`

// hostName is a Host header without port and brackets.
func hostName(hostport string) string {
	if host, _, err := net.SplitHostPort(hostport); err == nil {
		return host
	}
	return strings.TrimSuffix(strings.TrimPrefix(hostport, "["), "]")
}

// withOrigin tells browsers which origins may call, and answers their preliminary questions.
func withOrigin(origins []string, next http.Handler) http.Handler {
	all := slices.Contains(origins, everything)
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		origin := r.Header.Get("Origin")
		switch {
		case all:
			allow(w.Header(), everything)
		case origin != "" && slices.Contains(origins, origin):
			allow(w.Header(), origin)
		}
		if r.Method == http.MethodOptions {
			w.WriteHeader(http.StatusOK)
			return
		}
		next.ServeHTTP(w, r)
	})
}

const (
	allowedMethods = "POST, GET, OPTIONS, PUT, DELETE"
	allowedHeaders = "accept, content-type, authorization"
)

func allow(header http.Header, origin string) {
	header.Add("Access-Control-Allow-Methods", allowedMethods)
	header.Add("Access-Control-Allow-Origin", origin)
	header.Add("Access-Control-Allow-Headers", allowedHeaders)
}

// SimpleFields are the header lines that answers of a handler behind Simple have to have.
func SimpleFields(o Options) string {
	if !slices.Contains(o.Origins, everything) {
		return ""
	}
	return "Access-Control-Allow-Headers: " + allowedHeaders + "\r\nAccess-Control-Allow-Methods: " + allowedMethods +
		"\r\nAccess-Control-Allow-Origin: " + everything + "\r\n"
}

// Simple is what Pipeline is, for the simple requests of package http1 and a handler under /v2. It declines what Pipeline
// would refuse, or answer in another way than others.
func Simple(o Options, next http1.Handler) http1.Handler {
	return &simple{next: next, hosts: o.HostWhitelist, allHosts: slices.Contains(o.HostWhitelist, everything),
		allOrigins: slices.Contains(o.Origins, everything)}
}

type simple struct {
	next                 http1.Handler
	hosts                []string
	allHosts, allOrigins bool
}

// ServeHTTP1 implements http1.Handler.
func (s *simple) ServeHTTP1(x *http1.Exchange) bool {
	if x.Origin != nil && !s.allOrigins {
		return false
	}
	if !s.allHosts && x.TLS() == nil && !slices.Contains(s.hosts, hostName(string(x.Host))) {
		return false
	}
	return s.next.ServeHTTP1(x)
}

// AnswersAtOnce implements http1.Handler.
func (s *simple) AnswersAtOnce(r *http1.Request) bool { return s.next.AnswersAtOnce(r) }
