package rpc

import (
	"context"
	"io"
	"net/http"
	"net/url"
	"runtime/debug"
	"strconv"
	"strings"
	"time"

	"golang.org/x/net/http/httpguts"
	"golang.org/x/net/http2"
	"golang.org/x/net/http2/hpack"
	"google.golang.org/grpc/credentials"
)

// httpBufferBytes of a response are gathered before its header is sent, unless it is flushed.
const httpBufferBytes = 4 << 10

// serveHTTP hands a request that is no gRPC call to the fallback.
func (s *stream) serveHTTP() {
	w := &responseWriter{s: s, header: http.Header{}}
	defer func() {
		if p := recover(); p != nil {
			if p != http.ErrAbortHandler {
				s.conn.server.logf("rpc: panic serving %v: %v\n%s", s.conn.peer.Addr, p, debug.Stack())
			}
			s.abort(http2.ErrCodeInternal, context.Canceled)
		}
	}()
	r, err := s.httpRequest()
	if err != nil {
		http.Error(w, "400 Bad Request: "+err.Error(), http.StatusBadRequest)
	} else {
		w.request = r
		s.conn.server.o.Fallback.ServeHTTP(w, r)
	}
	w.end()
}

// httpRequest is the stream's request as package http has it.
func (s *stream) httpRequest() (*http.Request, error) {
	q := s.request
	u, err := url.ParseRequestURI(q.path)
	if err != nil {
		return nil, err
	}
	r := &http.Request{
		Method: q.httpMethod, URL: u, Proto: "HTTP/2.0", ProtoMajor: 2, Header: http.Header{}, Host: q.authority,
		RequestURI: q.path, RemoteAddr: s.conn.peer.Addr.String(), ContentLength: q.contentLength,
	}
	if t, ok := s.conn.peer.AuthInfo.(credentials.TLSInfo); ok {
		r.TLS = &t.State
	}
	for _, f := range q.fields {
		switch {
		case f.IsPseudo():
		case f.Name == "host":
			if r.Host == "" {
				r.Host = f.Value
			}
		default:
			name := http.CanonicalHeaderKey(f.Name)
			r.Header[name] = append(r.Header[name], f.Value)
		}
	}
	if crumbs := r.Header["Cookie"]; len(crumbs) > 1 { // RFC 9113, 8.2.3
		r.Header["Cookie"] = []string{strings.Join(crumbs, "; ")}
	}
	r.Body = http.NoBody
	if q.contentLength != 0 && !s.hasNoBody() {
		r.Body = &requestBody{s: s, expects: httpguts.HeaderValuesContainsToken(r.Header["Expect"], "100-continue")}
	} else {
		r.ContentLength = 0
	}
	return r.WithContext((*callContext)(s)), nil
}

// hasNoBody reports that the request ended with its header.
func (s *stream) hasNoBody() bool {
	s.conn.mu.Lock()
	defer s.conn.mu.Unlock()
	return s.recvClosed && s.in.received == 0
}

// chunk takes bytes of a body. They go into the last buffer as long as it has room.
func (s *stream) chunk(b []byte) {
	in := &s.in
	for len(b) > 0 {
		if n := len(in.queue); n == in.head || len(in.queue[n-1].body.bytes) == cap(in.queue[n-1].body.bytes) {
			in.push(message{body: newBody(bodyBytesMin)})
		}
		last := &in.queue[len(in.queue)-1].body
		n := min(len(b), cap(last.bytes)-len(last.bytes))
		last.bytes = append(last.bytes, b[:n]...)
		b = b[n:]
	}
}

// requestBody is the body of an HTTP request. One goroutine reads it.
type requestBody struct {
	s       *stream
	expects bool // to be told that it may send
	closed  bool
	chunk   message
	rest    []byte // of chunk
}

// Read implements io.Reader.
func (b *requestBody) Read(p []byte) (int, error) {
	if b.closed {
		return 0, http.ErrBodyReadAfterClose
	}
	if b.expects {
		b.expects = false
		b.s.sendInformational(http.StatusContinue)
	}
	for len(b.rest) == 0 {
		b.chunk.body.free()
		b.chunk = message{}
		m, err := b.s.nextChunk()
		if err != nil {
			return 0, err
		}
		b.chunk, b.rest = m, m.body.bytes
	}
	n := copy(p, b.rest)
	b.rest = b.rest[n:]
	return n, nil
}

// Close implements io.Closer.
func (b *requestBody) Close() error {
	b.closed = true
	b.chunk.body.free()
	b.chunk, b.rest = message{}, nil
	return nil
}

// nextChunk is nextMessage for bodies.
func (s *stream) nextChunk() (message, error) {
	m, err := s.nextMessage()
	if err == io.EOF || err == nil {
		return m, err
	}
	return message{}, io.ErrUnexpectedEOF
}

func (s *stream) sendInformational(code int) {
	c := s.conn
	c.mu.Lock()
	defer c.unlockAndWake()
	if !s.ending && !s.out.headerSent {
		c.appendFields(s, []hpack.HeaderField{{Name: ":status", Value: strconv.Itoa(code)}}, false)
	}
}

// responseWriter is the http.ResponseWriter of a request. One goroutine uses it.
type responseWriter struct {
	s       *stream
	request *http.Request // nil: it could not be read
	header  http.Header
	code    int // 0: not said
	sent    bool
	buffer  []byte
}

var _ http.Flusher = (*responseWriter)(nil)

// Header implements http.ResponseWriter.
func (w *responseWriter) Header() http.Header { return w.header }

// WriteHeader implements http.ResponseWriter.
func (w *responseWriter) WriteHeader(code int) {
	switch {
	case w.code != 0:
	case code >= 100 && code < 200:
		w.s.sendInformational(code)
	default:
		w.code = code
	}
}

// Write implements io.Writer.
func (w *responseWriter) Write(b []byte) (int, error) {
	w.WriteHeader(http.StatusOK)
	if !w.hasBody() {
		if w.request != nil && w.request.Method == http.MethodHead {
			return len(b), nil
		}
		return 0, http.ErrBodyNotAllowed
	}
	w.buffer = append(w.buffer, b...)
	if len(w.buffer) < httpBufferBytes {
		return len(b), nil
	}
	if err := w.flush(); err != nil {
		return 0, err
	}
	return len(b), nil
}

func (w *responseWriter) hasBody() bool {
	return w.code != http.StatusNoContent && w.code != http.StatusNotModified && (w.request == nil || w.request.Method != http.MethodHead)
}

// Flush implements http.Flusher.
func (w *responseWriter) Flush() {
	w.WriteHeader(http.StatusOK)
	w.flush()
}

// flush sends what is there, and waits while the client takes it too slowly.
func (w *responseWriter) flush() error {
	s, c := w.s, w.s.conn
	if err := s.waitForRoom(); err != nil {
		return err
	}
	ok := w.sendHeader()
	if ok && len(w.buffer) > 0 {
		c.appendData(s, w.buffer)
		w.buffer = nil
	}
	c.unlockAndWake()
	return s.headerTaken(ok)
}

// sendHeader sends the header once. The lock must be held.
func (w *responseWriter) sendHeader() bool {
	if w.sent {
		return true
	}
	w.sent, w.s.out.headerSent = true, true
	fields := []hpack.HeaderField{{Name: ":status", Value: strconv.Itoa(w.code)}}
	if len(w.buffer) > 0 && w.header.Get("Content-Type") == "" && w.header.Get("Content-Encoding") == "" {
		w.header.Set("Content-Type", http.DetectContentType(w.buffer))
	}
	if w.header.Get("Date") == "" {
		w.header.Set("Date", time.Now().UTC().Format(http.TimeFormat))
	}
	for name, values := range w.header {
		name = strings.ToLower(name)
		if !validFieldName(name) || strings.HasPrefix(name, "trailer:") {
			continue
		}
		for _, v := range values {
			f := hpack.HeaderField{Name: name, Value: v}
			if malformedField(f) == "" {
				fields = append(fields, f)
			}
		}
	}
	return w.s.conn.appendFields(w.s, fields, false)
}

// end sends what is left. A body that is known as a whole has its length said.
func (w *responseWriter) end() {
	w.WriteHeader(http.StatusOK)
	if !w.sent && w.hasBody() && w.header.Get("Content-Length") == "" {
		w.header.Set("Content-Length", strconv.Itoa(len(w.buffer)))
	}
	if !w.sent || len(w.buffer) > 0 {
		w.flush()
	}
	w.s.finish(nil)
}

// appendData sends bytes of a body, which become the connection's.
func (c *conn) appendData(s *stream, b []byte) {
	if !c.fits(s, len(b)) {
		s.out.queue.addBytes(b)
		c.enlist(s)
		return
	}
	c.consumeWindows(s, len(b))
	c.out = appendFrameHeader(c.out, len(b), http2.FrameData, 0, s.id)
	c.out = append(c.out, b...)
}
