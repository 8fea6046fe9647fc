package gateway

import (
	"crypto/tls"
	"io"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"

	"go.uber.org/zap"
)

// named answers with its name and the path it was asked for.
func named(name string) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) { io.WriteString(w, name+" "+r.URL.Path) })
}

func TestRouting(t *testing.T) {
	everyone := Options{Origins: []string{"*"}, HostWhitelist: []string{"*"}}
	p := Pipeline(everyone, named("v3"), named("v2"), named("rest"), zap.NewNop())
	off := Pipeline(everyone, nil, nil, named("rest"), zap.NewNop())
	for path, want := range map[string][2]string{
		"/v3/kv/put":     {"v3 /v3/kv/put", "rest /v3/kv/put"},
		"/v3beta/kv/put": {"v3 /v3/kv/put", "rest /v3/kv/put"},
		"/v3alpha/kv":    {"rest /v3alpha/kv", "rest /v3alpha/kv"},
		"/v3":            {"to /v3/", "rest /v3"},
		"/v3//kv/put":    {"to /v3/kv/put", "rest /v3//kv/put"},
		"/v2":            {"v2 /v2", "rest /v2"},
		"/v2/keys/a":     {"v2 /v2/keys/a", "rest /v2/keys/a"},
		"/v2x":           {"rest /v2x", "rest /v2x"},
		"/health":        {"rest /health", "rest /health"},
	} {
		for i, h := range []http.Handler{p, off} {
			w := httptest.NewRecorder()
			h.ServeHTTP(w, httptest.NewRequest("POST", path, nil))
			got := w.Body.String()
			if w.Code == http.StatusTemporaryRedirect {
				got = "to " + w.Header().Get("Location")
			}
			if got != want[i] {
				t.Errorf("%s: %q, want %q", path, got, want[i])
			}
		}
	}
}

func TestHostWhitelist(t *testing.T) {
	listed := Options{Origins: []string{"*"}, HostWhitelist: []string{"good.example", "127.0.0.1", "::1"}}
	p := Pipeline(listed, named("v3"), named("v2"), named("rest"), zap.NewNop())
	cases := []struct {
		host string
		tls  bool
		code int
	}{
		{"good.example", false, 200},
		{"good.example:2379", false, 200},
		{"127.0.0.1:2379", false, 200},
		{"[::1]:2379", false, 200},
		{"[::1]", false, 200},
		{"bad.example", false, 421},
		{"bad.example:2379", false, 421},
		{"good.example.bad", false, 421},
		{"", false, 421},
		{"bad.example", true, 200},
	}
	for _, c := range cases {
		r := httptest.NewRequest("GET", "/health", nil)
		r.Host = c.host
		if c.tls {
			r.TLS = &tls.ConnectionState{}
		}
		w := httptest.NewRecorder()
		p.ServeHTTP(w, r)
		if w.Code != c.code {
			t.Errorf("host %q (TLS %t): %d, want %d", c.host, c.tls, w.Code, c.code)
		}
		if c.code == 421 && (!strings.Contains(w.Body.String(), "--host-whitelist") || !strings.Contains(w.Body.String(), "CVE-2018-5702") ||
			!strings.Contains(w.Body.String(), hostName(c.host))) {
			t.Errorf("host %q: body %q", c.host, w.Body)
		}
	}
}

func TestCORS(t *testing.T) {
	everyone := Options{Origins: []string{"*"}, HostWhitelist: []string{"*"}}
	listed := Options{Origins: []string{"http://a", "http://b"}, HostWhitelist: []string{"*"}}
	cases := []struct {
		name    string
		options Options
		method  string
		origin  string
		allowed string
		body    string
	}{
		{"all, no origin", everyone, "GET", "", "*", "rest /x"},
		{"all, an origin", everyone, "GET", "http://a", "*", "rest /x"},
		{"all, preliminary", everyone, "OPTIONS", "http://a", "*", ""},
		{"listed", listed, "GET", "http://b", "http://b", "rest /x"},
		{"listed, preliminary", listed, "OPTIONS", "http://b", "http://b", ""},
		{"not listed", listed, "GET", "http://c", "", "rest /x"},
		{"not listed, preliminary", listed, "OPTIONS", "http://c", "", ""},
		{"listed, no origin", listed, "GET", "", "", "rest /x"},
	}
	for _, c := range cases {
		t.Run(c.name, func(t *testing.T) {
			r := httptest.NewRequest(c.method, "/x", nil)
			if c.origin != "" {
				r.Header.Set("Origin", c.origin)
			}
			w := httptest.NewRecorder()
			Pipeline(c.options, nil, nil, named("rest"), zap.NewNop()).ServeHTTP(w, r)
			if w.Code != 200 || w.Body.String() != c.body || w.Header().Get("Access-Control-Allow-Origin") != c.allowed {
				t.Errorf("%d %q, allowed %q", w.Code, w.Body, w.Header().Get("Access-Control-Allow-Origin"))
			}
			methods, headers := "", ""
			if c.allowed != "" {
				methods, headers = "POST, GET, OPTIONS, PUT, DELETE", "accept, content-type, authorization"
			}
			if w.Header().Get("Access-Control-Allow-Methods") != methods || w.Header().Get("Access-Control-Allow-Headers") != headers {
				t.Errorf("headers %v", w.Header())
			}
		})
	}
}

// A request in chunks is the last one on its connection.
func TestChunksEndTheConnection(t *testing.T) {
	ok := http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) { io.Copy(w, r.Body) })
	server := httptest.NewServer(Pipeline(Options{HostWhitelist: []string{"*"}}, nil, nil, ok, zap.NewNop()))
	defer server.Close()
	for _, chunked := range []bool{false, true} {
		var body io.Reader = strings.NewReader("x")
		if chunked {
			body = io.MultiReader(body) // of a length that is not known
		}
		resp, err := http.Post(server.URL, "text/plain", body)
		if err != nil {
			t.Fatal(err)
		}
		text, err := io.ReadAll(resp.Body)
		resp.Body.Close()
		if err != nil || string(text) != "x" || resp.Close != chunked {
			t.Errorf("chunked %t: %q, %v, close %t", chunked, text, err, resp.Close)
		}
	}
}
