package proxy

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"math/rand/v2"
	"net/http"
	"net/http/pprof"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/promhttp"
	"go.etcd.io/etcd/api/v3/v3rpc/rpctypes"
	clientv3 "go.etcd.io/etcd/client/v3"
	"go.uber.org/zap"
)

// pageTimeout bounds a question to a member on behalf of a page.
const pageTimeout = 5 * time.Second

// pages are what the proxy serves over HTTP.
func (o *grpcOptions) pages(client *clientv3.Client, own prometheus.Gatherer, logger *zap.Logger) http.Handler {
	pages := http.NewServeMux()
	members := &memberPages{client: client, secure: o.upstream != nil, logger: logger, http: &http.Client{
		Transport: &http.Transport{TLSClientConfig: o.upstream.Clone(), DisableKeepAlives: true}, Timeout: pageTimeout,
	}}
	pages.Handle("/metrics", members)
	pages.Handle("/health", members)
	pages.Handle("/proxy/metrics", promhttp.HandlerFor(prometheus.Gatherers{prometheus.DefaultGatherer, own}, promhttp.HandlerOpts{}))
	pages.HandleFunc("/proxy/health", func(w http.ResponseWriter, r *http.Request) { answerHealth(w, r, client) })
	if o.pprof {
		pages.HandleFunc("/debug/pprof/", pprof.Index)
		pages.HandleFunc("/debug/pprof/cmdline", pprof.Cmdline)
		pages.HandleFunc("/debug/pprof/profile", pprof.Profile)
		pages.HandleFunc("/debug/pprof/symbol", pprof.Symbol)
		pages.HandleFunc("/debug/pprof/trace", pprof.Trace)
	}
	return pages
}

// health is what /proxy/health says.
type health struct {
	Health string `json:"health"`
	Reason string `json:"reason"`
}

// answerHealth reads a key through the connection to the cluster. That it may not be read is an answer, too.
func answerHealth(w http.ResponseWriter, r *http.Request, client *clientv3.Client) {
	if r.Method != http.MethodGet {
		w.Header().Set("Allow", http.MethodGet)
		http.Error(w, "Method Not Allowed", http.StatusMethodNotAllowed)
		return
	}
	h := health{Health: "true"}
	ctx, cancel := context.WithTimeout(r.Context(), pageTimeout)
	defer cancel()
	_, err := client.Get(ctx, "a")
	switch {
	case len(client.Endpoints()) == 0:
		h = health{"false", "no connection to proxy"}
	case err != nil && err != rpctypes.ErrPermissionDenied && err != rpctypes.ErrUserEmpty:
		h = health{"false", fmt.Sprintf("GET ERROR:%s", err)}
	}
	text, err := json.Marshal(h)
	if err != nil {
		panic("proxy: health: " + err.Error()) // two strings always encode
	}
	w.Header().Set("Content-Type", "text/plain; charset=utf-8")
	if h.Health != "true" {
		w.WriteHeader(http.StatusServiceUnavailable)
	}
	w.Write(text)
}

// memberPages passes on a page of the first member that has one.
type memberPages struct {
	client *clientv3.Client
	http   *http.Client
	secure bool // with TLS, whatever the endpoints say
	logger *zap.Logger
}

// ServeHTTP implements http.Handler.
func (p *memberPages) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	endpoints := p.client.Endpoints()
	var last error
	for _, i := range rand.Perm(len(endpoints)) {
		u := webURL(endpoints[i], p.secure) + r.URL.Path
		if r.URL.RawQuery != "" {
			u += "?" + r.URL.RawQuery
		}
		if last = p.pass(w, r, u); last == nil {
			return
		}
		p.logger.Warn("failed to read a page of a member", zap.String("url", u), zap.Error(last))
	}
	http.Error(w, fmt.Sprintf("GET ERROR:%v", last), http.StatusServiceUnavailable)
}

// pass is an error as long as nothing has been answered.
func (p *memberPages) pass(w http.ResponseWriter, r *http.Request, u string) error {
	q, err := http.NewRequestWithContext(r.Context(), r.Method, u, nil)
	if err != nil {
		return err
	}
	q.Header.Set("Accept", r.Header.Get("Accept"))
	reply, err := p.http.Do(q)
	if err != nil {
		return err
	}
	defer reply.Body.Close()
	for _, name := range []string{"Content-Type", "Allow"} {
		if v := reply.Header.Get(name); v != "" {
			w.Header().Set(name, v)
		}
	}
	w.WriteHeader(reply.StatusCode)
	_, _ = io.Copy(w, reply.Body) // whoever asked is gone, or notices
	return nil
}

// webURL is an endpoint as a URL.
func webURL(endpoint string, secure bool) string {
	scheme := "http://"
	if secure || isSecure(endpoint) {
		scheme = "https://"
	}
	return scheme + address(endpoint)
}
