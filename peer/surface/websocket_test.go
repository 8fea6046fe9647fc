package surface

import (
	"errors"
	"fmt"
	"io"
	"net/http"
	"os"
	"regexp"
	"slices"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/gorilla/websocket"

	"keelson/peer/process"
)

const (
	// frameSilence is how long nothing has to come before what is sent next is sent.
	frameSilence = 500 * time.Millisecond
	// closeSilence is that for the end, once it was asked for.
	closeSilence = 5 * time.Second
)

// exchange is one websocket: what is sent through it, and what besides.
type exchange struct {
	path   string
	offers []string // subprotocols
	header http.Header
	sends  []string // frames; one that begins with a path is a request made besides, when all before has been answered
	binary bool     // the frames are binary
	closes bool     // the client says that it ends, after the last frame
	single bool     // the call takes one request: ours answers it, etcd waits for its end, which a websocket can't tell of
	stream bool     // the answer has no end of its own: the client's end is answered in the same way
}

func (e exchange) String() string {
	return strings.TrimSpace(fmt.Sprint(e.path, " ", e.offers, " ", strings.Join(e.sends, " ")))
}

// held makes the exchange with a server and returns what came back, frame by frame.
func (e exchange) held(address string) string {
	var b strings.Builder
	dialer := websocket.Dialer{Subprotocols: e.offers, HandshakeTimeout: answerTimeout}
	conn, reply, err := dialer.Dial("ws://"+address+e.path, e.header)
	if reply != nil {
		fmt.Fprintf(&b, "%s %q %q\n", reply.Status, reply.Header.Get("Sec-Websocket-Protocol"), reply.Header.Get("Content-Type"))
	}
	if err != nil {
		fmt.Fprintln(&b, err)
		return b.String()
	}
	defer conn.Close()
	frames := make(chan string)
	go func() {
		defer close(frames)
		for {
			kind, data, err := conn.ReadMessage()
			if err != nil {
				if errors.Is(err, syscall.ECONNRESET) { // which of the two it is depends on what was on its way
					err = &websocket.CloseError{Code: websocket.CloseAbnormalClosure, Text: io.ErrUnexpectedEOF.Error()}
				}
				if !strings.Contains(err.Error(), "use of closed network connection") {
					frames <- "ends: " + err.Error()
				}
				return
			}
			frames <- fmt.Sprintf("%d %s", kind, data)
		}
	}()
	quiet := func(silence time.Duration) (ended bool) {
		for {
			select {
			case frame, ok := <-frames:
				if !ok {
					return true
				}
				for _, pattern := range append([]string{`"(?:cluster_id|member_id)": ?"(\d+)"`}, volatile...) { // ids follow from addresses
					frame = masked(frame, regexp.MustCompile(pattern))
				}
				fmt.Fprintln(&b, strings.TrimSpace(plainJSON(frame)))
			case <-time.After(silence):
				return false
			}
		}
	}
	kind := websocket.TextMessage
	if e.binary {
		kind = websocket.BinaryMessage
	}
	for _, frame := range e.sends {
		if path, body, ok := strings.Cut(frame, " "); ok && strings.HasPrefix(path, "/") {
			k := newTalk("http://"+address, nil)
			fmt.Fprintln(&b, "besides:", strings.SplitN(k.do(request{path: path, body: body}), "\n", 2)[0])
			k.client.CloseIdleConnections()
		} else if err := conn.WriteMessage(kind, []byte(frame)); err != nil {
			fmt.Fprintln(&b, "not sent")
		}
		if quiet(frameSilence) {
			return b.String()
		}
	}
	if e.closes {
		conn.WriteControl(websocket.CloseMessage, websocket.FormatCloseMessage(websocket.CloseNormalClosure, ""), time.Now().Add(answerTimeout))
		if !quiet(closeSilence) {
			fmt.Fprintln(&b, "goes on")
		}
	}
	return b.String()
}

// TestWebsockets makes calls of every kind through websockets.
func TestWebsockets(t *testing.T) {
	t.Parallel()
	const put = `/v3/kv/put {"key":"YQ==","value":"MQ=="}`
	exchanges := []exchange{
		{path: "/v3/watch", sends: []string{`{"create_request":{"key":"YQ=="}}`, put, put, `{"create_request":{"key":"Yg==","watch_id":"7"}}`, `{"cancel_request":{"watch_id":"7"}}`,
			`{"progress_request":{}}`, put}, closes: true},
		{path: "/v3/watch", sends: []string{`{"create_request":{"key":"YQ==","start_revision":"2","prev_kv":true}}`, `{"cancel_request":{"watch_id":9}}`, `x`}},
		{path: "/v3/watch", sends: []string{`{"create_request":{"key":"YQ==","start_revision":"100"}}`}, closes: true},
		{path: "/v3/watch", sends: []string{`{"create_request":{"key":1}}`}},
		{path: "/v3/watch", sends: []string{`{"nosuch":{}}`}},
		{path: "/v3/watch", sends: []string{""}},
		{path: "/v3/watch", sends: []string{`{"create_request":{"key":"YQ=="}}{"create_request":{"key":"Yg=="}}`, put}},
		{path: "/v3/watch", sends: []string{`{"create_request":`, `{"key":"YQ=="}}`, put}},
		{path: "/v3/watch", sends: []string{`{"create_request":{"key":"YQ=="}}`}, binary: true},
		{path: "/v3/watch", offers: []string{"Bearer, x"}, sends: []string{`{"create_request":{"key":"YQ=="}}`}},
		{path: "/v3/watch", offers: []string{"x", "y"}, sends: []string{`{"create_request":{"key":"YQ=="}}`}},
		{path: "/v3/watch?method=GET", sends: []string{`{"create_request":{"key":"YQ=="}}`}},
		{path: "/v3/watch", header: http.Header{"Origin": {"http://elsewhere"}}, sends: []string{`{"create_request":{"key":"YQ=="}}`}},
		{path: "/v3/watch", closes: true},
		{path: "/v3/lease/keepalive", closes: true},
		{path: "/v3/election/observe", closes: true},
		{path: "/v3/election/observe", sends: []string{`{"name":"ZQ=="}`}, closes: true},
		{path: "/v3/election/observe", sends: []string{`{"name":"ZQ=="}`, `{"name":"Zg=="}`}, closes: true},
		{path: "/v3/election/observe", sends: []string{`{"name":"ZQ=="}`, `/v3/lease/grant {"ID":9,"TTL":600}`, `/v3/election/campaign {"name":"ZQ==","lease":9,"value":"MQ=="}`}, closes: true, single: true, stream: true},
		{path: "/v3/election/observe", sends: []string{`x`}, closes: true},
		{path: "/v3/maintenance/snapshot", closes: true},
		{path: "/v3/kv/put", closes: true},
		{path: "/v3/lease/grant", sends: []string{`{"ID":6,"TTL":600}`}, single: true},
		{path: "/v3/lease/keepalive", sends: []string{`/v3/lease/grant {"ID":5,"TTL":600}`, `{"ID":5}`, `{"ID":"5"}`, `{"ID":7}`}, closes: true},
		{path: "/v3/lease/keepalive", sends: []string{`{"ID":"x"}`}},
		{path: "/v3/kv/put", sends: []string{`{"key":"YQ==","value":"Mg=="}`, `{"key":"YQ=="}`}, single: true},
		{path: "/v3/kv/put", sends: []string{`x`}},
		{path: "/v3/kv/range", sends: []string{`{"key":"YQ=="}`}, closes: true, single: true},
		{path: "/v3/nosuch", sends: []string{`{}`}},
		{path: "/nosuch", sends: []string{`{}`}},
		{path: "/version"},
		{path: "/health"},
	}
	var answers [2][]string
	var talks sync.WaitGroup
	for i, p := range []process.Program{theirs, ours} {
		addresses := freeAddresses(t, 2)
		dir, err := os.MkdirTemp("", "surface-")
		if err != nil {
			t.Fatal(err)
		}
		defer os.RemoveAll(dir)
		server := start(t, p, dir, slices.Concat(alone(dir, addresses), only[i])...)
		settled(t, addresses[0])
		talks.Go(func() {
			for _, e := range exchanges {
				answers[i] = append(answers[i], strings.NewReplacer(addresses[0], "(client)", addresses[1], "(peer)").Replace(e.held(addresses[0])))
			}
		})
		defer stop(t, server)
	}
	talks.Wait()
	for i, e := range exchanges {
		a, b := answers[0][i], answers[1][i]
		if e.single {
			if strings.Contains(a, `"header"`) || !strings.Contains(b, `"header"`) || e.stream && lastLine(a) != lastLine(b) {
				t.Errorf("%d: %v: whether a call of one request is answered\n--- etcd\n%s\n--- ours\n%s", i, e, a, b)
			}
		} else if a != b {
			t.Errorf("%d: %v\n--- etcd\n%s\n--- ours\n%s", i, e, a, b)
		}
	}
}

func lastLine(text string) string {
	lines := strings.Split(strings.TrimSpace(text), "\n")
	return lines[len(lines)-1]
}
