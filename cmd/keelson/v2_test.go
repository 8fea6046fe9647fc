package main

import (
	"bufio"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"strings"
	"testing"
	"time"

	"keelson/internal/testkit"
)

// v2Client talks to one server's v2 API.
type v2Client struct {
	t    testing.TB
	base string
	http *http.Client
}

func newV2Client(t testing.TB, p *testkit.Process) *v2Client {
	transport := &http.Transport{MaxIdleConnsPerHost: 64}
	t.Cleanup(transport.CloseIdleConnections)
	return &v2Client{t: t, base: "http://" + p.Endpoint, http: &http.Client{
		Transport: transport, Timeout: time.Minute,
		CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse },
	}}
}

// v2Reply is an answer that has come as a whole.
type v2Reply struct {
	status int
	header http.Header
	body   string
}

// v2Request makes a request. form is the body of a PUT or POST.
func (c *v2Client) request(ctx context.Context, method, path, form string) *http.Request {
	c.t.Helper()
	r, err := http.NewRequestWithContext(ctx, method, c.base+path, strings.NewReader(form))
	if err != nil {
		c.t.Fatal(err)
	}
	if method == http.MethodPut || method == http.MethodPost {
		r.Header.Set("Content-Type", "application/x-www-form-urlencoded")
	}
	return r
}

// do sends a request and waits for the whole answer.
func (c *v2Client) do(method, path, form string) v2Reply {
	c.t.Helper()
	return c.send(c.request(context.Background(), method, path, form))
}

func (c *v2Client) send(r *http.Request) v2Reply {
	c.t.Helper()
	resp, err := c.http.Do(r)
	if err != nil {
		c.t.Fatalf("%s %s: %v", r.Method, r.URL, err)
	}
	defer resp.Body.Close()
	body, err := io.ReadAll(resp.Body)
	if err != nil {
		c.t.Fatalf("%s %s: %v", r.Method, r.URL, err)
	}
	return v2Reply{resp.StatusCode, resp.Header, string(body)}
}

// keys is do below /v2/keys.
func (c *v2Client) keys(method, path, form string) v2Reply {
	c.t.Helper()
	return c.do(method, "/v2/keys"+path, form)
}

// v2Poll is a long poll under way.
type v2Poll struct {
	path   string
	header http.Header
	status int
	lines  chan string // closed when the body has ended
	cancel context.CancelFunc
}

// poll begins a long poll and returns when its headers have come.
func (c *v2Client) poll(path string) *v2Poll {
	c.t.Helper()
	ctx, cancel := context.WithCancel(context.Background())
	c.t.Cleanup(cancel)
	untimed := *c.http
	untimed.Timeout = 0
	resp, err := untimed.Do(c.request(ctx, http.MethodGet, "/v2/keys"+path, ""))
	if err != nil {
		c.t.Fatalf("poll %s: %v", path, err)
	}
	p := &v2Poll{path: path, header: resp.Header, status: resp.StatusCode, lines: make(chan string, 2000), cancel: cancel}
	go func() {
		defer close(p.lines)
		defer resp.Body.Close()
		for in := bufio.NewReader(resp.Body); ; {
			line, err := in.ReadString('\n')
			if line != "" {
				p.lines <- line
			}
			if err != nil {
				return
			}
		}
	}()
	return p
}

// next is the next line of a poll; empty if its body ends, or if nothing comes for so long.
func (p *v2Poll) next(patience time.Duration) string {
	select {
	case line := <-p.lines: // also if there is no time to wait
		return line
	default:
	}
	select {
	case line := <-p.lines:
		return line
	case <-time.After(patience):
		return ""
	}
}

// v2Node and v2Event are what clients decode.
type v2Node struct {
	Key           string   `json:"key"`
	Value         *string  `json:"value"`
	Dir           bool     `json:"dir"`
	Expiration    string   `json:"expiration"`
	TTL           int64    `json:"ttl"`
	Nodes         []v2Node `json:"nodes"`
	ModifiedIndex uint64   `json:"modifiedIndex"`
	CreatedIndex  uint64   `json:"createdIndex"`
}

func (n *v2Node) value() string {
	if n == nil || n.Value == nil {
		return ""
	}
	return *n.Value
}

type v2Event struct {
	Action string  `json:"action"`
	Node   *v2Node `json:"node"`
	Prev   *v2Node `json:"prevNode"`

	ErrorCode int    `json:"errorCode"`
	Message   string `json:"message"`
	Cause     string `json:"cause"`
	Index     uint64 `json:"index"`
}

// event decodes an answer or a line of a poll.
func (c *v2Client) event(body string) (e v2Event) {
	c.t.Helper()
	if err := json.Unmarshal([]byte(body), &e); err != nil {
		c.t.Fatalf("%q: %v", body, err)
	}
	return e
}

// must sends a request for keys that has to succeed, or to fail with a code.
func (c *v2Client) must(method, path, form string, code int) v2Event {
	c.t.Helper()
	e := c.event(c.keys(method, path, form).body)
	if e.ErrorCode != code {
		c.t.Fatalf("%s %s %s: error %d %s (%s), want %d", method, path, form, e.ErrorCode, e.Message, e.Cause, code)
	}
	return e
}

// index is the X-Etcd-Index of an answer.
func (r v2Reply) index() (n uint64) {
	fmt.Sscan(r.header.Get("X-Etcd-Index"), &n)
	return n
}
