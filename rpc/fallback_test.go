package rpc

import (
	"bytes"
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"io"
	"log"
	"net/http"
	"strings"
	"testing"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials"
	pb "google.golang.org/grpc/interop/grpc_testing"
)

// newHTTPKit serves calls and h on one port over TLS, and returns an HTTP client and the options of a gRPC client.
func newHTTPKit(t *testing.T, h http.Handler) (*kit, *http.Client, grpc.DialOption) {
	certificate := selfSigned(t)
	pool := x509.NewCertPool()
	pool.AddCert(certificate.Leaf)
	k := newKit(t, Options{Fallback: h, ErrorLog: log.New(io.Discard, "", 0)})
	k.listener = tls.NewListener(k.listener, &tls.Config{Certificates: []tls.Certificate{certificate}, NextProtos: []string{"h2"}})
	pb.RegisterTestServiceServer(k.server, nullService{})
	k.serve()
	ours := &tls.Config{RootCAs: pool, ServerName: "localhost"}
	transport := &http.Transport{TLSClientConfig: ours.Clone(), Protocols: new(http.Protocols)}
	transport.Protocols.SetHTTP2(true)
	t.Cleanup(transport.CloseIdleConnections)
	return k, &http.Client{Transport: transport, Timeout: 20 * time.Second}, grpc.WithTransportCredentials(credentials.NewTLS(ours))
}

func TestFallback(t *testing.T) {
	ended := make(chan error, 1)
	mux := http.NewServeMux()
	mux.HandleFunc("/echo", func(w http.ResponseWriter, r *http.Request) {
		body, err := io.ReadAll(r.Body)
		w.Header().Set("X-Asked", fmt.Sprintf("%s %s %s %d %v %s", r.Method, r.URL, r.Host, r.ContentLength, r.TLS != nil, r.Header.Get("Cookie")))
		if err != nil {
			w.WriteHeader(http.StatusBadRequest)
		}
		w.Write(body)
	})
	mux.HandleFunc("/empty", func(http.ResponseWriter, *http.Request) {})
	mux.HandleFunc("/gone", func(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(http.StatusNoContent) })
	mux.HandleFunc("/large", func(w http.ResponseWriter, _ *http.Request) {
		for range 100 {
			w.Write(bytes.Repeat([]byte("x"), 10_000))
		}
	})
	mux.HandleFunc("/stream", func(w http.ResponseWriter, r *http.Request) {
		for i := 0; ; i++ {
			if _, err := fmt.Fprintln(w, i); err != nil {
				break
			}
			w.(http.Flusher).Flush()
			if i == 2 {
				<-r.Context().Done()
			}
		}
		ended <- r.Context().Err()
	})
	mux.HandleFunc("/panic", func(http.ResponseWriter, *http.Request) { panic("no") })
	mux.HandleFunc("/abort", func(w http.ResponseWriter, _ *http.Request) {
		w.WriteHeader(http.StatusOK)
		w.(http.Flusher).Flush()
		panic(http.ErrAbortHandler)
	})
	k, client, calls := newHTTPKit(t, mux)
	base := "https://" + k.listener.Addr().String()
	get := func(method, path, body string, headers ...string) (*http.Response, string) {
		t.Helper()
		r, err := http.NewRequest(method, base+path, strings.NewReader(body))
		if err != nil {
			t.Fatal(err)
		}
		if body == "" {
			r.Body = nil
		}
		for i := 0; i < len(headers); i += 2 {
			r.Header.Add(headers[i], headers[i+1])
		}
		reply, err := client.Do(r)
		if err != nil {
			return nil, err.Error()
		}
		defer reply.Body.Close()
		text, err := io.ReadAll(reply.Body)
		if err != nil {
			return reply, err.Error()
		}
		return reply, string(text)
	}
	host := k.listener.Addr().String()
	for _, body := range []string{"", "hello", strings.Repeat("y", 300_000)} {
		r, text := get("POST", "/echo?a=b", body, "Cookie", "a=1", "Cookie", "b=2")
		if text != body || r.StatusCode != 200 || r.ProtoMajor != 2 {
			t.Errorf("%d bytes of %d, %v", len(text), len(body), r)
		}
		if want := fmt.Sprintf("POST /echo?a=b %s %d true a=1; b=2", host, len(body)); r.Header.Get("X-Asked") != want {
			t.Errorf("got %q, want %q", r.Header.Get("X-Asked"), want)
		}
	}
	if r, text := get("GET", "/echo", ""); r.Header.Get("Content-Length") != "0" || text != "" || r.Header.Get("Date") == "" {
		t.Errorf("%v %q", r, text)
	}
	if r, text := get("POST", "/echo", "hi", "Expect", "100-continue"); text != "hi" || r.Header.Get("Content-Type") != "text/plain; charset=utf-8" || r.Header.Get("Content-Length") != "2" {
		t.Errorf("%v %q", r, text)
	}
	if r, text := get("HEAD", "/large", ""); r.StatusCode != 200 || text != "" {
		t.Errorf("%v %q", r, text)
	}
	if r, text := get("GET", "/large", ""); r.StatusCode != 200 || len(text) != 1_000_000 {
		t.Errorf("%v %d", r, len(text))
	}
	if r, _ := get("GET", "/gone", ""); r.StatusCode != 204 || r.Header.Get("Content-Length") != "" {
		t.Errorf("%v", r)
	}
	if r, text := get("GET", "/nowhere", ""); r.StatusCode != 404 || text != "404 page not found\n" {
		t.Errorf("%v %q", r, text)
	}
	for _, path := range []string{"/panic", "/abort"} {
		if _, text := get("GET", path, ""); !strings.Contains(text, "INTERNAL_ERROR") {
			t.Errorf("%s: %q", path, text)
		}
	}

	ctx, cancel := context.WithCancel(context.Background())
	r, err := http.NewRequestWithContext(ctx, "GET", base+"/stream", nil)
	if err != nil {
		t.Fatal(err)
	}
	reply, err := client.Do(r)
	if err != nil {
		t.Fatal(err)
	}
	defer reply.Body.Close()
	if _, err := io.ReadFull(reply.Body, make([]byte, 6)); err != nil { // comes though the handler goes on
		t.Error(err)
	}
	cancel()
	if err := <-ended; !errors.Is(err, context.Canceled) {
		t.Errorf("the handler's context ended with %v", err)
	}

	grpcClient := pb.NewTestServiceClient(k.dial(calls))
	if _, err := grpcClient.UnaryCall(context.Background(), new(pb.SimpleRequest)); err != nil {
		t.Error(err)
	}
}

// What is no call and no proper request either.
func TestFallbackRefuses(t *testing.T) {
	k := newTestKit(t, Options{Fallback: http.NotFoundHandler()})
	for path, want := range map[string]string{"/x": "404", "no-slash": "400", "/%zz": "400"} {
		r := k.rawClient().hello()
		r.headers(1, true, ":method", "GET", ":scheme", "http", ":path", path, ":authority", "a")
		if a := r.await(1); a.status != want {
			t.Errorf("%s: %v", path, a)
		}
	}
	r := k.rawClient().hello()
	r.headers(1, true, ":method", "CONNECT", ":authority", "a")
	if a := r.await(1); a.status != "400" {
		t.Errorf("CONNECT: %v", a)
	}
}
