package v2

import (
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"

	"golang.org/x/crypto/bcrypt"

	"go.uber.org/zap/zapcore"

	"keelson/command"
)

// withUsers makes users, roles of theirs and a guest who may do nothing, and switches access control on. Passwords are names.
func (s *service) withUsers(t *testing.T) {
	t.Helper()
	var ops []command.Op
	for name, roles := range map[string][]string{"root": nil, "alice": {"reader", "exact"}, "bob": {"writer"}} {
		hash, err := bcrypt.GenerateFromPassword([]byte(name), bcrypt.MinCost)
		if err != nil {
			t.Fatal(err)
		}
		ops = append(ops, &command.TreeUser{Name: name, Hash: hash, Roles: roles})
	}
	for _, op := range append(ops,
		&command.TreeRole{Name: "reader", Mode: command.TreeAccessCreate, Read: []string{"/foodir/*"}},
		&command.TreeRole{Name: "exact", Mode: command.TreeAccessCreate, Read: []string{"/exact"}, Write: []string{"/exact"}},
		&command.TreeRole{Name: "writer", Mode: command.TreeAccessCreate, Write: []string{"/foo*"}},
		&command.TreeRole{Name: "guest", Mode: command.TreeAccessCreate},
		&command.TreeAccess{Enabled: true},
	) {
		if r, err := s.Propose(t.Context(), op); err != nil || r.TreeRefusal != nil {
			t.Fatalf("%+v: %v, %v", op, r.TreeRefusal, err)
		}
	}
}

func TestAccessToKeys(t *testing.T) {
	s := newService(t)
	s.withUsers(t)
	for _, c := range []struct {
		user, method, path string
		allowed            bool
	}{
		{"alice", "GET", "/foodir/foo/bar", true},
		{"alice", "GET", "/foodir/", true},
		{"alice", "GET", "/foodir", false},
		{"alice", "GET", "/foodir/?recursive=true", true},
		{"alice", "PUT", "/foodir/foo", false},
		{"alice", "GET", "/exact", true},
		{"alice", "GET", "/exact/", false},
		{"alice", "GET", "/exact?recursive=true", false},
		{"alice", "PUT", "/exact", true},
		{"alice", "GET", "/../exact", false}, // decided by the path as it came
		{"bob", "GET", "/foodir/x", false},
		{"bob", "PUT", "/foobar", true},
		{"bob", "DELETE", "/foobar?recursive=true", true},
		{"bob", "POST", "/fo", false},
		{"root", "PUT", "/anything", true},
		{"root", "GET", "?recursive=true", true},
		{"", "GET", "/foodir/x", false},
		{"nobody", "GET", "/foodir/x", false},
	} {
		r := httptest.NewRequest(c.method, "http://h/v2/keys"+c.path, nil)
		if c.user != "" {
			r.SetBasicAuth(c.user, c.user)
		}
		w := httptest.NewRecorder()
		s.handler.ServeHTTP(w, r)
		denied := w.Code == http.StatusUnauthorized && strings.Contains(w.Body.String(), `{"errorCode":110,"message":"The request requires user authentication","cause":"Insufficient credentials","index":0}`)
		if denied == c.allowed {
			t.Errorf("%+v: %d %s", c, w.Code, w.Body)
		}
	}
}

// Whoever says who it is, and is wrong, is not a guest; a certificate counts only if it was verified and names a user.
func TestWhoAsks(t *testing.T) {
	s := newService(t)
	s.withUsers(t)
	chain := func(name string) [][]*x509.Certificate {
		return [][]*x509.Certificate{{{Subject: pkix.Name{CommonName: "unknown"}}, {Subject: pkix.Name{CommonName: name}}}}
	}
	for name, c := range map[string]struct {
		header string
		tls    *tls.ConnectionState
		status int
	}{
		"a user":                                {header: "Basic YWxpY2U6YWxpY2U=", status: 404},
		"a wrong password":                      {header: "Basic YWxpY2U6d3Jvbmc=", status: 401},
		"an empty name":                         {header: "Basic OmFsaWNl", status: 401},
		"no basic credentials":                  {header: "Bearer x", status: 401},
		"damaged credentials":                   {header: "Basic !!!", status: 401},
		"a certificate":                         {tls: &tls.ConnectionState{VerifiedChains: chain("alice")}, status: 404},
		"a certificate of nobody":               {tls: &tls.ConnectionState{VerifiedChains: chain("carol")}, status: 401},
		"a certificate not verified":            {tls: &tls.ConnectionState{PeerCertificates: chain("alice")[0]}, status: 401},
		"wrong words beside a good certificate": {header: "Basic !!!", tls: &tls.ConnectionState{VerifiedChains: chain("alice")}, status: 401},
	} {
		r := httptest.NewRequest("GET", "http://h/v2/keys/foodir/x", nil)
		r.TLS = c.tls
		if c.header != "" {
			r.Header.Set("Authorization", c.header)
		}
		w := httptest.NewRecorder()
		s.handler.ServeHTTP(w, r)
		if w.Code != c.status {
			t.Errorf("%s: %d %s", name, w.Code, w.Body)
		}
	}
}

// A password that was found right is remembered until anything about users changes.
func TestPasswordsAreForgotten(t *testing.T) {
	s := newService(t)
	s.withUsers(t)
	ask := func(password string) int {
		r := httptest.NewRequest("GET", "http://h/v2/keys/exact", nil)
		r.SetBasicAuth("alice", password)
		w := httptest.NewRecorder()
		s.handler.ServeHTTP(w, r)
		return w.Code
	}
	for _, c := range []struct {
		password string
		want     int
	}{{"alice", 404}, {"alice", 404}, {"other", 401}} { // twice: the second time it is remembered
		if got := ask(c.password); got != c.want {
			t.Errorf("%s: %d, want %d", c.password, got, c.want)
		}
	}
	hash, err := bcrypt.GenerateFromPassword([]byte("other"), bcrypt.MinCost)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := s.Propose(t.Context(), &command.TreeUser{Name: "alice", Hash: hash}); err != nil {
		t.Fatal(err)
	}
	if ask("alice") != 401 || ask("other") != 404 {
		t.Error("the old password still counts")
	}
	if _, err := s.Propose(t.Context(), &command.TreeUser{Name: "alice", Mode: command.TreeAccessDelete}); err != nil {
		t.Fatal(err)
	}
	if ask("other") != 401 {
		t.Error("a user that was removed still counts")
	}
}

// Every endpoint has its rule: what is asked without a name, when access is controlled.
func TestEveryEndpointHasARule(t *testing.T) {
	s := newService(t, func(o *Options) {
		o.Token = func() string { return "token" }
		o.SetLogLevel = func(zapcore.Level) { t.Error("the log's level is changed") }
	})
	s.withUsers(t)
	for request, status := range map[string]int{
		"GET /v2/keys/a": 401, "HEAD /v2/keys/a": 401, "PUT /v2/keys/a": 401, "POST /v2/keys/a": 401, "DELETE /v2/keys/a": 401,
		"GET /v2/keys/a?wait=true": 401, "GET /v2/keys/a?quorum=true": 401,
		"GET /new": 401, "PUT /new?size=3": 401, "PUT /config/local/log": 401,
		"GET /v2/members": 200, "GET /v2/members/leader": 200, "POST /v2/members": 401, "PUT /v2/members/b": 401, "DELETE /v2/members/b": 401,
		"GET /v2/machines": 200, "GET /v2/stats/self": 200, "GET /v2/stats/leader": 200, "GET /v2/stats/store": 200,
		"GET /v2/auth/enable": 200, "PUT /v2/auth/enable": 401, "DELETE /v2/auth/enable": 401,
		"GET /v2/auth/users": 401, "GET /v2/auth/users/root": 401, "PUT /v2/auth/users/root": 401, "DELETE /v2/auth/users/root": 401,
		"GET /v2/auth/roles": 401, "GET /v2/auth/roles/root": 401, "PUT /v2/auth/roles/x": 401, "DELETE /v2/auth/roles/x": 401,
	} {
		method, path, _ := strings.Cut(request, " ")
		w := httptest.NewRecorder()
		s.handler.ServeHTTP(w, httptest.NewRequest(method, "http://h"+path, strings.NewReader("{}")))
		if w.Code != status {
			t.Errorf("%s: %d %s", request, w.Code, w.Body)
		}
		if w.Header().Get("Www-Authenticate") != "" {
			t.Errorf("%s asks for credentials", request)
		}
	}
}
