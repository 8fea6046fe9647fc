package v2

import (
	"net/http"
	"net/http/httptest"
	"net/url"
	"reflect"
	"strings"
	"testing"
)

// A form that is read without package url has the parameters that package url finds; so does a path.
func FuzzForm(f *testing.F) {
	f.Add("value=a+b%20c&ttl=5&value=2&&=&x=%zz", "dir&wait=&recursive=true;sorted=true")
	f.Add("val%75e=1", "%")
	f.Add(strings.Repeat("a&", pairsMax+1), "")
	f.Add("", "prevExist=t&refresh=1&noValueOnSuccess=false&stream&quorum&prevIndex=1&waitIndex=2&prevValue=+")
	f.Fuzz(func(t *testing.T, body, query string) {
		var got, want form
		if path, ok := unescape([]byte(query), false); ok {
			if decoded, err := url.PathUnescape(query); err != nil || decoded != path {
				t.Errorf("path %q: %q, want %q (%v)", query, path, decoded, err)
			}
		}
		if !got.takeEncoded([]byte(body)) || !got.takeEncoded([]byte(query)) {
			return
		}
		r := httptest.NewRequest("PUT", "/", strings.NewReader(body))
		r.Header.Set("Content-Type", "application/x-www-form-urlencoded")
		r.URL.RawQuery = query
		if err := r.ParseForm(); err != nil {
			t.Fatalf("%q, %q: %v", body, query, err)
		}
		want.take(r.Form)
		if got != want {
			t.Errorf("%q, %q: %+v, want %+v", body, query, got, want)
		}
	})
}

// Requests are answered alike by both servers, whichever of them takes them.
func TestBothServersAnswerAlike(t *testing.T) {
	simple, other := newService(t), newService(t)
	alone := httptest.NewServer(other.handler)
	t.Cleanup(alone.Close)
	for _, line := range strings.Split(strings.TrimSpace(`
GET /
PUT /a value=1
PUT /a value=2&ttl=100
PUT /a?value=3
PUT /a%2fb value=x
PUT /dir/a%20b/c+d value=%C3%A4+%ff%26
GET /dir/a%20b/c+d
GET /dir?recursive=true&sorted=true
GET /dir/?recursive=true
GET //dir///a%20b/./
HEAD /dir
HEAD /missing
GET /missing/x
GET /dir?recursive=maybe
GET /dir?wait=true&waitIndex=x
HEAD /a?wait=true
GET /a?wait=true&waitIndex=1
GET /?wait=true&recursive=true&waitIndex=2
GET /a?quorum=true
PUT /a prevValue=
PUT /a prevExist=false&value=1
PUT /a prevExist=true&noValueOnSuccess=true
PUT /a value=1;2
PUT /a value=%zz
PUT /a?x=%zz value=1
PUT /a refresh=true&ttl=5
POST /queue value=x
POST /queue?dir=true
DELETE /queue
DELETE /queue?recursive=true
DELETE /a?prevIndex=7
DELETE /a
PATCH /a
GET /_hidden?quorum=false
PUT /`+strings.Repeat("long", 500)+` value=`+strings.Repeat("v", 70000)+`
GET /`+strings.Repeat("long", 500)), "\n") {
		method, rest, _ := strings.Cut(line, " ")
		path, body, _ := strings.Cut(rest, " ")
		var got [2]*http.Response
		var text [2]string
		for i, at := range []*service{simple, other} {
			base := simple.server.URL
			if i == 1 {
				base = alone.URL
			}
			r, err := http.NewRequest(method, base+keysPrefix+path, strings.NewReader(body))
			if err != nil {
				t.Fatal(err)
			}
			if method == "PUT" || method == "POST" {
				r.Header.Set("Content-Type", "application/x-www-form-urlencoded")
			}
			got[i] = at.do(r)
			text[i] = show(t, got[i])
			got[i].Header.Del("Date")
		}
		if text[0] != text[1] || !reflect.DeepEqual(got[0].Header, got[1].Header) || got[0].ContentLength != got[1].ContentLength {
			t.Errorf("%s\n %s %v %d\n %s %v %d", line, text[0], got[0].Header, got[0].ContentLength, text[1], got[1].Header, got[1].ContentLength)
		}
	}
}
