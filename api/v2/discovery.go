package v2

import (
	"fmt"
	"net/http"
	"strconv"
)

const (
	// newTokenPath is where a place to meet is asked for.
	newTokenPath = "/new"
	registryPath = "/_etcd/registry/"

	registrySizeDefault = 3
)

// newToken makes a registry for a cluster that is to be founded, and answers its URL: members started with it find each
// other there. Everything else is done with keys below it.
//
// Source: v2 API specification, 14.
func (h *Handler) newToken(w http.ResponseWriter, r *http.Request) {
	if !allowed(w, r, http.MethodGet, http.MethodPut) {
		return
	}
	w.Header()["X-Etcd-Cluster-Id"] = h.clusterID
	size := uint64(registrySizeDefault)
	if text := r.URL.Query().Get("size"); text != "" {
		n, err := strconv.ParseUint(text, 10, 31)
		if err != nil || n == 0 {
			http.Error(w, "size is not a number of members", http.StatusBadRequest)
			return
		}
		size = n
	}
	if h.o.Token == nil {
		http.NotFound(w, r)
		return
	}
	path := registryPath + h.o.Token()
	q := &request{method: http.MethodPut, value: strconv.FormatUint(size, 10), prevExist: new(bool)}
	q.path = path + "/_config/size"
	q.subject = q.path
	made := &registryOutlet{httpOutlet: httpOutlet{w: w, r: r, h: h}, url: urlOf(r, keysPrefix+path)}
	h.serve(r.Context(), q, (*httpCredentials)(r), h.o.Clock.Now(), made)
}

// urlOf is a path of this server as the client of a request reaches it.
func urlOf(r *http.Request, path string) string {
	scheme := "http"
	if r.TLS != nil {
		scheme = "https"
	}
	return scheme + "://" + r.Host + path
}

// registryOutlet answers the URL of what was made. What was refused is answered as it is for keys.
type registryOutlet struct {
	httpOutlet
	url string
}

func (o *registryOutlet) whole(head answerHead, body []byte, length int) {
	if head.status != http.StatusCreated {
		o.httpOutlet.whole(head, body, length)
		return
	}
	o.w.Header()["Content-Type"] = []string{"text/plain; charset=utf-8"}
	fmt.Fprint(o.w, o.url)
}
