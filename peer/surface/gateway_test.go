package surface

import (
	"bytes"
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"net/http"
	"os"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"keelson/peer/process"
)

// request is one HTTP request and what is needed to compare its answers.
type request struct {
	method string // empty: POST
	path   string
	body   string
	header []string // name, value, ...
	// silence: the answer has no end of its own; it is cut off once nothing has come for this long.
	silence time.Duration
	// masked are patterns whose first group is taken for the same on both sides.
	masked []string
	// unordered: the lines of the answer may come in any order.
	unordered bool
	keep      string // the name under which the first group of keeps is kept for later requests, as ${name}
	keeps     string
}

func (r request) String() string {
	s := strings.Join([]string{r.verb(), r.path, r.body}, " ")
	if len(r.header) > 0 {
		s += fmt.Sprint(" ", r.header)
	}
	return s
}

func (r request) verb() string {
	if r.method == "" {
		return http.MethodPost
	}
	return r.method
}

// talk sends requests in order to one server and returns the answers as text.
type talk struct {
	base   string // scheme://host:port
	client *http.Client
	kept   map[string]string
}

func newTalk(base string, config *tls.Config) *talk {
	return &talk{base: base, kept: map[string]string{}, client: &http.Client{
		Transport:     &http.Transport{TLSClientConfig: config, DisableCompression: true, MaxIdleConnsPerHost: 1},
		CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse },
	}}
}

// talkTo makes requests, one after the other or many at a time, and returns the answers in the order of the requests.
func talkTo(base string, requests []request, together bool) []string {
	answers := make([]string, len(requests))
	places := make(chan int)
	var talks sync.WaitGroup
	atATime := 1
	if together {
		atATime = 32
	}
	for range atATime {
		talks.Go(func() {
			k := newTalk(base, nil)
			defer k.client.CloseIdleConnections()
			for i := range places {
				answers[i] = k.do(requests[i])
			}
		})
	}
	for i := range requests {
		places <- i
	}
	close(places)
	talks.Wait()
	return answers
}

const answerTimeout = 20 * time.Second

func (k *talk) do(r request) string {
	ctx, cancel := context.WithTimeout(context.Background(), answerTimeout)
	defer cancel()
	var body io.Reader = http.NoBody
	if r.body != "" {
		body = strings.NewReader(k.filled(r.body))
	}
	hr, err := http.NewRequestWithContext(ctx, r.verb(), k.base+r.path, body)
	if err != nil {
		return "error: " + err.Error()
	}
	for pair := range slices.Chunk(r.header, 2) {
		if pair[0] == "Host" {
			hr.Host = pair[1]
			continue
		}
		hr.Header.Add(pair[0], k.filled(pair[1]))
	}
	quiet := time.AfterFunc(answerTimeout, cancel)
	if r.silence > 0 {
		quiet.Reset(r.silence)
	}
	answer, err := k.client.Do(hr)
	if err != nil {
		if ctx.Err() != nil {
			return "no answer"
		}
		return "error: " + strings.ReplaceAll(err.Error(), k.base, "")
	}
	defer answer.Body.Close()
	var got bytes.Buffer
	buffer := make([]byte, 32<<10)
	for err == nil {
		var n int
		n, err = answer.Body.Read(buffer)
		got.Write(buffer[:n])
		if r.silence > 0 {
			quiet.Reset(r.silence)
		}
	}
	ending := ""
	switch {
	case errors.Is(err, io.EOF):
	case ctx.Err() != nil:
		ending = "\n(goes on)"
	default:
		ending = "\n(" + err.Error() + ")"
	}
	text := got.String()
	if r.keep != "" {
		if found := regexp.MustCompile(r.keeps).FindStringSubmatch(text); found != nil {
			k.kept[r.keep] = found[1]
		}
	}
	if r.unordered {
		lines := strings.Split(text, "\n")
		slices.Sort(lines)
		text = strings.Join(lines, "\n")
	}
	for _, pattern := range r.masked {
		text = masked(text, regexp.MustCompile(pattern))
	}
	return fmt.Sprintf("%s %d\n%s\n%s%s", answer.Proto, answer.StatusCode, headers(answer, got.Len()), plainJSON(text), ending)
}

// filled puts what was kept in place of its name.
func (k *talk) filled(s string) string {
	for name, value := range k.kept {
		s = strings.ReplaceAll(s, "${"+name+"}", value)
	}
	return s
}

// masked puts a mark in place of the first group of each match.
func masked(text string, pattern *regexp.Regexp) string {
	var b strings.Builder
	last := 0
	for _, at := range pattern.FindAllStringSubmatchIndex(text, -1) {
		b.WriteString(text[last:at[2]])
		b.WriteString("<>")
		last = at[3]
	}
	b.WriteString(text[last:])
	return b.String()
}

// headers are those of an answer, sorted, but for the time of day, and for a length that is that of its body: JSON has
// spaces as the build of the program has it.
func headers(answer *http.Response, length int) string {
	header := answer.Header.Clone()
	header.Del("Date")
	header.Del("Vary") // of newer Prometheus libraries
	if header.Get("Content-Length") == strconv.Itoa(length) || answer.Request.Method == http.MethodHead {
		header.Set("Content-Length", "(right)")
	}
	var lines []string
	for name, values := range header {
		for _, value := range values {
			lines = append(lines, name+": "+strings.ReplaceAll(value, "\u00a0", " "))
		}
	}
	slices.Sort(lines)
	return strings.Join(lines, "\n") + fmt.Sprintf("\nencoding %v, closes %v", answer.TransferEncoding, answer.Close)
}

// plainJSON takes out the spaces that protobuf puts into JSON and into its errors as the build of the program has it.
func plainJSON(text string) string {
	var b strings.Builder
	text = strings.ReplaceAll(text, "\u00a0", " ")
	inString, escaped := false, false
	for i := 0; i < len(text); i++ {
		c := text[i]
		b.WriteByte(c)
		switch {
		case escaped:
			escaped = false
		case inString && c == '\\':
			escaped = true
		case c == '"':
			inString = !inString
		case !inString && (c == ',' || c == ':') && i+1 < len(text) && text[i+1] == ' ':
			i++
		}
	}
	return strings.ReplaceAll(b.String(), "proto:  ", "proto: ")
}

// settled waits until a server knows all versions, which etcd does a little after it is ready.
func settled(t *testing.T, address string) {
	t.Helper()
	k := newTalk("http://"+address, nil)
	defer k.client.CloseIdleConnections()
	for deadline := time.Now().Add(readyTimeout); ; time.Sleep(20 * time.Millisecond) {
		answer := k.do(request{method: "GET", path: "/version"})
		if strings.Contains(answer, `"storage":"3.7.0"`) || strings.Contains(answer, " 421\n") {
			return
		}
		if time.Now().After(deadline) {
			t.Fatalf("versions are not known: %s", answer)
		}
	}
}

// only are the arguments that only one of the two, theirs and ours, is given.
var only = [2][]string{1: {"--enable-v2=false"}}

// alone are the arguments of a cluster of one, with its data below dir, on these addresses.
func alone(dir string, addresses []string) []string {
	return []string{
		"--data-dir=" + dir + "/data", "--name=m1",
		"--listen-client-urls=http://" + addresses[0], "--advertise-client-urls=http://" + addresses[0],
		"--listen-peer-urls=http://" + addresses[1], "--initial-advertise-peer-urls=http://" + addresses[1],
		"--initial-cluster=m1=http://" + addresses[1],
	}
}

// compare starts both programs, one after the other, on the same addresses, has each the same talk, and reports answers that
// differ. The requests are made one after the other, or many at a time (together) if none of them changes anything.
func compare(t *testing.T, args []string, requests []request, together bool) {
	t.Helper()
	addresses := freeAddresses(t, 2)
	var answers [2][]string
	for i, p := range []process.Program{theirs, ours} {
		dir, err := os.MkdirTemp("", "surface-")
		if err != nil {
			t.Fatal(err)
		}
		defer os.RemoveAll(dir)
		server := start(t, p, dir, slices.Concat(alone(dir, addresses), args, only[i])...)
		settled(t, addresses[0])
		answers[i] = talkTo("http://"+addresses[0], requests, together)
		stop(t, server)
	}
	for i, r := range requests {
		if a, b := outOfTime(answers[0][i]), outOfTime(answers[1][i]); a != b {
			t.Errorf("%d: %v\n--- etcd\n%s\n--- ours\n%s", i, r, a, b)
		}
	}
}

// outOfTime gives an answer that came too late one text: gateway and server look at the same clock, and the one that sees it first says so.
func outOfTime(answer string) string {
	return strings.ReplaceAll(answer, `{"code":4,"message":"stream terminated by RST_STREAM with error code: CANCEL"}`,
		`{"code":4,"message":"context deadline exceeded"}`)
}
