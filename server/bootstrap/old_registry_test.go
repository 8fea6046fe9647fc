package bootstrap

import (
	"context"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"reflect"
	"strings"
	"sync"
	"testing"
	"time"
)

// oldService answers as the v2 API does, from a list: method and path (with the query), then status and body. The last
// answer to a request stays.
type oldService struct {
	mu      sync.Mutex
	answers map[string][]string
	asked   []string
}

func (s *oldService) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	body, _ := io.ReadAll(r.Body)
	s.mu.Lock()
	defer s.mu.Unlock()
	asked := strings.TrimSpace(r.Method + " " + r.URL.RequestURI() + " " + string(body))
	s.asked = append(s.asked, asked)
	list := s.answers[r.Method+" "+strings.TrimPrefix(r.URL.RequestURI(), "/v2/keys/tok")]
	if len(list) == 0 {
		w.WriteHeader(404)
		io.WriteString(w, `{"errorCode":100,"message":"Key not found","cause":"/tok","index":7}`)
		return
	}
	if len(list) > 1 {
		s.answers[r.Method+" "+strings.TrimPrefix(r.URL.RequestURI(), "/v2/keys/tok")] = list[1:]
	}
	status, text, _ := strings.Cut(list[0], " ")
	w.Header().Set("X-Etcd-Index", "9")
	if status == "500" {
		w.WriteHeader(500)
	}
	io.WriteString(w, text)
}

const oldOwn = "http://127.0.0.1:23800"

func oldNodes(values ...string) string {
	var nodes []string
	for i, v := range values {
		id, value, _ := strings.Cut(v, " ")
		nodes = append(nodes, fmt.Sprintf(`{"key":"/tok/%s","value":%q,"modifiedIndex":1,"createdIndex":%d}`, id, value, 10-i))
	}
	return `200 {"action":"get","node":{"key":"/tok","dir":true,"nodes":[` + strings.Join(nodes, ",") + `]}}`
}

func oldSize(n string) string {
	return `200 {"action":"get","node":{"key":"/tok/_config/size","value":"` + n + `"}}`
}

// What a discovery below a URL fails with, and how it asks.
func TestDiscoverByURL(t *testing.T) {
	id := "" // of the member that looks, as the answers of a first try show
	for _, c := range []struct {
		name    string
		answers map[string][]string
		want    string // error; empty: it succeeds
	}{
		{"no size", nil, "discovery: size key not found"},
		{"size", map[string][]string{"GET /_config/size": {oldSize("x")}}, "discovery: size key is bad"},
		{"size of none", map[string][]string{"GET /_config/size": {oldSize("0")}}, "discovery: size key is bad"},
		{"no JSON", map[string][]string{"GET /_config/size": {"200 <html>"}}, "discovery: bad discovery endpoint"},
		{"full", map[string][]string{"GET /_config/size": {oldSize("1")}, "GET ": {oldNodes("1 a=http://127.0.0.1:1")}}, "discovery: cluster is full"},
		{"id", map[string][]string{"GET /_config/size": {oldSize("1")}, "GET ": {oldNodes()},
			"PUT /ID?prevExist=false": {`200 {"errorCode":105,"message":"Key already exists"}`}}, "discovery: found duplicate id"},
		{"name", map[string][]string{"GET /_config/size": {oldSize("2")},
			"GET ":                    {oldNodes(), oldNodes("1 m0=http://127.0.0.1:1", "ID m0="+oldOwn)},
			"PUT /ID?prevExist=false": {`200 {"action":"create","node":{"createdIndex":5}}`},
			"GET /ID?wait=true&recursive=true&waitIndex=5": {`200 {"action":"create","node":{}}`}}, "discovery: found duplicate name"},
		{"address", map[string][]string{"GET /_config/size": {oldSize("2")},
			"GET ":                    {oldNodes(), oldNodes("1 nothing", "ID m0="+oldOwn)},
			"PUT /ID?prevExist=false": {`200 {"action":"create","node":{"createdIndex":5}}`},
			"GET /ID?wait=true&recursive=true&waitIndex=5": {`200 {"action":"create","node":{}}`}}, "discovery: invalid peer URL"},
		{"three tries, a wait, and a fourth member who is too late", map[string][]string{
			"GET /_config/size": {"500 a", "500 {}", oldSize("3")},
			"GET ": {oldNodes(), oldNodes("ID m0=" + oldOwn),
				oldNodes("9 late=http://127.0.0.1:9", "2 b=http://127.0.0.1:2", "1 a=http://127.0.0.1:1", "ID m0="+oldOwn)},
			"PUT /ID?prevExist=false":                      {`200 {"action":"create","node":{"createdIndex":5}}`},
			"GET /ID?wait=true&recursive=true&waitIndex=5": {`200 {"action":"create","node":{}}`},
			"GET ?wait=true&recursive=true&waitIndex=10":   {"200 "}}, ""},
	} {
		t.Run(c.name, func(t *testing.T) {
			s := &oldService{}
			server := httptest.NewServer(s)
			defer server.Close()
			token := server.URL + "/v2/keys/tok"
			o, _ := options(t, "m0", "--initial-advertise-peer-urls="+oldOwn, "--discovery="+token+"/")
			clock := newHasty()
			o.Clock = clock
			alone, err := o.Config.Founding(t.Context(), o.Resolver, "m0="+oldOwn, token+"/")
			if err != nil {
				t.Fatal(err)
			}
			id = fmt.Sprintf("%x", alone.LocalID)
			s.answers = map[string][]string{}
			for request, list := range c.answers {
				for _, answer := range list {
					request := strings.ReplaceAll(request, "ID", id)
					s.answers[request] = append(s.answers[request], strings.ReplaceAll(answer, "ID", id))
				}
			}
			if c.want != "" {
				fails(t, o, c.want)
				return
			}
			b, err := Begin(context.Background(), o)
			if err != nil || len(b.Members) != 3 || b.MemberID != alone.LocalID {
				t.Errorf("%+v, %v", b, err)
			}
			if want := []time.Duration{2 * time.Second, 4 * time.Second}; !reflect.DeepEqual(*clock.pauses, want) {
				t.Errorf("pauses %v, want %v", *clock.pauses, want)
			}
		})
	}
	for _, bad := range []string{"x", "ftp://a/b", "http://", "http://a/b?c=d", "http://a/%zz"} {
		o, _ := options(t, "m0", "--initial-advertise-peer-urls="+oldOwn, "--discovery="+bad)
		fails(t, o, "discovery: invalid URL")
	}
	o, _ := options(t, "m0", "--initial-advertise-peer-urls="+oldOwn, "--discovery=http://a/b", "--initial-cluster-state=existing")
	fails(t, o, errDiscoveryAndExisting.Error())
}
