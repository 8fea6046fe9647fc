package http1

import (
	"bufio"
	"bytes"
	"io"
	"net/http"
	"net/textproto"
	"strings"
	"testing"
)

const plainHead = "GET /v2/keys/a?wait=true HTTP/1.1\r\nHost: 127.0.0.1:2379\r\nUser-Agent: x/1 (y; z)\r\nAccept: */*\r\n\r\n"

// Whatever is taken for simple, net/http takes for the same request, and finds the same end of.
func FuzzParse(f *testing.F) {
	f.Add([]byte(plainHead))
	f.Add([]byte("PUT /v2/keys/a%2fb HTTP/1.1\r\nHOST:h\r\nContent-Type: application/x-www-form-urlencoded\r\ncontent-length:\t7 \r\nConnection: close\r\nAuthorization: Basic eDp5\r\nOrigin: http://o\r\n\r\nvalue=1GET / HTTP/1.1\r\n"))
	f.Add([]byte("POST //x?? HTTP/1.1\r\nHost: [::1]:80\r\nConnection: Keep-Alive\r\n\r\n"))
	for _, c := range oddHeads {
		f.Add([]byte(c))
	}
	f.Fuzz(func(t *testing.T, b []byte) {
		var r Request
		if parse(b, &r) != simple || r.headLength+r.bodyLength > len(b) {
			return
		}
		source := bufio.NewReaderSize(bytes.NewReader(b), len(b)+16)
		want, err := http.ReadRequest(source)
		if err != nil {
			t.Fatalf("net/http refuses %q: %v", b, err)
		}
		body, err := io.ReadAll(want.Body)
		if err != nil {
			t.Fatal(err)
		}
		if len(want.TransferEncoding) > 0 || want.ProtoMajor != 1 || want.ProtoMinor != 1 || want.Header.Get("Expect") != "" {
			t.Fatalf("%+v", want)
		}
		rest, err := io.ReadAll(source)
		if err != nil {
			t.Fatal(err)
		}
		end := r.headLength + r.bodyLength
		if string(body) != string(b[r.headLength:end]) || string(rest) != string(b[end:]) {
			t.Errorf("body %q, rest %q of %q", body, rest, b)
		}
		target := string(r.Path)
		if r.Query != nil {
			target += "?" + string(r.Query)
		}
		if want.Method != r.Method || want.RequestURI != target || want.Host != string(r.Host) || want.Close != r.close {
			t.Errorf("%q: %+v, want %+v", b, r, want)
		}
		if escaped, _ := strings.CutSuffix(want.URL.RequestURI(), "?"+want.URL.RawQuery); want.URL.RawQuery != string(r.Query) || !strings.Contains(target, want.URL.RawQuery) && escaped != string(r.Path) {
			t.Errorf("%q: query %q, want %q", b, r.Query, want.URL.RawQuery)
		}
		for name, got := range map[string][]byte{"Authorization": r.Authorization, "Origin": r.Origin, "Content-Type": r.ContentType} {
			if values := want.Header[name]; (got != nil) != (len(values) == 1) || string(got) != textproto.MIMEHeader(want.Header).Get(name) {
				t.Errorf("%q: %s %q, want %q", b, name, got, values)
			}
		}
	})
}

// oddHeads are what proxies and servers have been made to disagree about, and what else this package leaves alone.
var oddHeads = []string{
	"GET / HTTP/1.0\r\nHost: h\r\n\r\n",
	"GET / HTTP/1.1\nHost: h\n\n",
	"GET / HTTP/1.1\r\nHost: h\n\r\n",
	"GET / HTTP/1.1\r\n\r\n",
	"GET / HTTP/1.1\r\nHost: h\r\nHost: h\r\n\r\n",
	"GET / HTTP/1.1\r\nHost: a b\r\n\r\n",
	"GET / HTTP/1.1\r\nHost:\r\n\r\n",
	"GET / HTTP/1.1\r\nHost : h\r\n\r\n",
	"GET / HTTP/1.1\r\n Host: h\r\n\r\n",
	"GET / HTTP/1.1\r\nHost: h\r\nX: a\r\n b\r\n\r\n",
	"GET / HTTP/1.1\r\nHost: h\r\nX\r\n\r\n",
	"GET / HTTP/1.1\r\nHost: h\r\n: x\r\n\r\n",
	"GET / HTTP/1.1\r\nHost: h\r\nX: \x00\r\n\r\n",
	"GET / HTTP/1.1\r\nHost: h\r\nX: \x80\r\n\r\n",
	"GET / HTTP/1.1\r\nHost: h\r\nX: a\rb\r\n\r\n",
	"GET / HTTP/1.1\r\nHost: h\r\nX\xe9: a\r\n\r\n",
	"GET  / HTTP/1.1\r\nHost: h\r\n\r\n",
	"GET / /x HTTP/1.1\r\nHost: h\r\n\r\n",
	"GET /\x7f HTTP/1.1\r\nHost: h\r\n\r\n",
	"GET /\xc3\xa4 HTTP/1.1\r\nHost: h\r\n\r\n",
	"GET /a%2 HTTP/1.1\r\nHost: h\r\n\r\n",
	"GET /a%zz?b HTTP/1.1\r\nHost: h\r\n\r\n",
	"GET /a#b HTTP/1.1\r\nHost: h\r\n\r\n",
	"GET http://h/ HTTP/1.1\r\nHost: h\r\n\r\n",
	"GET * HTTP/1.1\r\nHost: h\r\n\r\n",
	"get / HTTP/1.1\r\nHost: h\r\n\r\n",
	"OPTIONS / HTTP/1.1\r\nHost: h\r\n\r\n",
	"GET / HTTP/1.1\r\nHost: h\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\r\n",
	"GET / HTTP/1.1\r\nHost: h\r\nUpgrade: h2c\r\n\r\n",
	"GET / HTTP/1.1\r\nHost: h\r\nHTTP2-Settings: x\r\n\r\n",
	"GET / HTTP/1.1\r\nHost: h\r\nConnection: close\r\nConnection: close\r\n\r\n",
	"GET / HTTP/1.1\r\nHost: h\r\nTE: trailers\r\n\r\n",
	"GET / HTTP/1.1\r\nHost: h\r\nContent-Length: 1\r\n\r\nx",
	"DELETE / HTTP/1.1\r\nHost: h\r\nContent-Length: 1\r\n\r\nx",
	"PUT / HTTP/1.1\r\nHost: h\r\nContent-Length: 1\r\nContent-Length: 1\r\n\r\nx",
	"PUT / HTTP/1.1\r\nHost: h\r\nContent-Length: 1, 1\r\n\r\nx",
	"PUT / HTTP/1.1\r\nHost: h\r\nContent-Length: +1\r\n\r\nx",
	"PUT / HTTP/1.1\r\nHost: h\r\nContent-Length: -1\r\n\r\nx",
	"PUT / HTTP/1.1\r\nHost: h\r\nContent-Length: 0x1\r\n\r\nx",
	"PUT / HTTP/1.1\r\nHost: h\r\nContent-Length:\r\n\r\nx",
	"PUT / HTTP/1.1\r\nHost: h\r\nContent-Length: 18446744073709551617\r\n\r\nx",
	"PUT / HTTP/1.1\r\nHost: h\r\nContent-Length: 9999999\r\n\r\nx",
	"PUT / HTTP/1.1\r\nHost: h\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
	"PUT / HTTP/1.1\r\nHost: h\r\nContent-Length: 5\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
	"PUT / HTTP/1.1\r\nHost: h\r\nTransfer-Encoding: xchunked\r\n\r\n0\r\n\r\n",
	"PUT / HTTP/1.1\r\nHost: h\r\ntransfer-encoding:\tidentity\r\n\r\n",
	"PUT / HTTP/1.1\r\nHost: h\r\nExpect: 100-continue\r\nContent-Length: 1\r\n\r\nx",
	"PUT / HTTP/1.1\r\nHost: h\r\nTrailer: X\r\nContent-Length: 1\r\n\r\nx",
	"POST / HTTP/1.1\r\nHost: h\r\nContent-Type: a\r\nContent-Type: b\r\n\r\n",
	"POST / HTTP/1.1\r\nHost: h\r\nAuthorization: a\r\nAuthorization: b\r\n\r\n",
	"GET / HTTP/1.1\r\nHost: h\r\n" + strings.Repeat("X: y\r\n", fieldsMax) + "\r\n",
	"GET / HTTP/1.1\r\nHost: h\r\nX: " + strings.Repeat("y", headMax) + "\r\n\r\n",
	"GET /" + strings.Repeat("a", headMax),
}

func TestOddHeadsAreLeftAlone(t *testing.T) {
	for _, head := range oddHeads {
		var r Request
		if v := parse([]byte(head), &r); v != odd {
			t.Errorf("%.80q is taken: %d", head, v)
		}
		for end := range min(len(head), 200) { // whatever the pieces are that it comes in
			if v := parse([]byte(head[:end]), &r); v == simple && end < strings.Index(head, "\r\n\r\n") {
				t.Errorf("%.80q is taken", head[:end])
			}
		}
	}
}

func TestHeadsThatAreNotComplete(t *testing.T) {
	for end := range len(plainHead) {
		var r Request
		if v := parse([]byte(plainHead[:end]), &r); v != incomplete {
			t.Errorf("%q: %d", plainHead[:end], v)
		}
	}
	var r Request
	if v := parse([]byte(plainHead), &r); v != simple || r.headLength != len(plainHead) || string(r.Path) != "/v2/keys/a" || string(r.Query) != "wait=true" {
		t.Errorf("%d, %+v", v, r)
	}
}

func BenchmarkParse(b *testing.B) {
	head := []byte("PUT /v2/keys/bench/00000000000001 HTTP/1.1\r\nHost: 127.0.0.1:2379\r\nUser-Agent: Go-http-client/1.1\r\nContent-Length: 70\r\n" +
		"Content-Type: application/x-www-form-urlencoded\r\nAccept-Encoding: gzip\r\n\r\n")
	var r Request
	b.ReportAllocs()
	for b.Loop() {
		if parse(head, &r) != simple {
			b.Fatal("not simple")
		}
	}
}
