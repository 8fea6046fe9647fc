package gateway

import (
	"net/http"

	"go.uber.org/zap"
)

// nameIgnored is what a client is told whose certificate has a name. Source: etcd.
const nameIgnored = "CommonName of client sending a request against gateway will be ignored and not used as expected"

// RefuseNames refuses requests of clients whose certificates name somebody, while names in certificates stand for users
// (matters): all requests reach the services over one connection, which has no name, so that the client would not be who it
// takes itself for. Whatever it sends besides, a token too.
func RefuseNames(matters func() bool, next http.Handler, log *zap.Logger) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if certifiedName(r) != "" && matters() {
			log.Warn("rejected HTTP request of a client with a name", zap.String("remote-addr", r.RemoteAddr), zap.String("path", r.URL.Path))
			http.Error(w, nameIgnored, http.StatusBadRequest)
			return
		}
		next.ServeHTTP(w, r)
	})
}

// certifiedName is the common name in the verified certificate of a request's client.
func certifiedName(r *http.Request) string {
	if r.TLS == nil {
		return ""
	}
	for _, chain := range r.TLS.VerifiedChains {
		if len(chain) > 0 {
			return chain[0].Subject.CommonName
		}
	}
	return ""
}
