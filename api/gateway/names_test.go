package gateway

import (
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"net/http/httptest"
	"strings"
	"testing"

	"go.uber.org/zap"
)

// Section 7.5: a name that would be ignored is refused, while names matter.
func TestRefuseNames(t *testing.T) {
	verified := func(name string) *tls.ConnectionState {
		return &tls.ConnectionState{VerifiedChains: [][]*x509.Certificate{{{Subject: pkix.Name{CommonName: name}}}}}
	}
	for _, c := range []struct {
		name    string
		tls     *tls.ConnectionState
		matters bool
		code    int
	}{
		{"in clear text", nil, true, 200},
		{"without a certificate", &tls.ConnectionState{}, true, 200},
		{"without a name", verified(""), true, 200},
		{"a name", verified("ann"), true, 400},
		{"a name that does not matter", verified("ann"), false, 200},
	} {
		r := httptest.NewRequest("POST", "/v3/kv/put", nil)
		r.TLS = c.tls
		w := httptest.NewRecorder()
		RefuseNames(func() bool { return c.matters }, named("v3"), zap.NewNop()).ServeHTTP(w, r)
		if w.Code != c.code || c.code == 400 && strings.TrimSpace(w.Body.String()) != nameIgnored {
			t.Errorf("%s: %d %s", c.name, w.Code, w.Body)
		}
	}
}
