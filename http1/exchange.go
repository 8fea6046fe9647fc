package http1

import (
	"context"
	"crypto/tls"
	"net"
	"net/http"
	"strconv"
)

// Handler answers simple requests.
type Handler interface {
	// ServeHTTP1 answers a request, in one of the ways that an Exchange has, before it returns. False: it has done nothing,
	// and the request is net/http's.
	ServeHTTP1(x *Exchange) bool
	// AnswersAtOnce reports that ServeHTTP1 waits for nothing but its client with a request. It is called often, and knows less.
	AnswersAtOnce(r *Request) bool
}

// Exchange is a request and the way to answer it: with Answer, with Begin, Piece and End, or with Wait.
type Exchange struct {
	Request
	c    *conn
	poll *Poll // that Wait made
}

// TLS is the state of the connection's TLS; nil: it has none.
func (x *Exchange) TLS() *tls.ConnectionState {
	secure, ok := x.c.net.(*tls.Conn)
	if !ok {
		return nil
	}
	state := secure.ConnectionState()
	return &state
}

// Context is what Options.ConnContext made. It does not end with the connection.
func (x *Exchange) Context() context.Context { return x.c.ctx }

// RemoteAddr is the client's address.
func (x *Exchange) RemoteAddr() net.Addr { return x.c.net.RemoteAddr() }

// Answer gives a whole answer. fields are header lines, each with its end. To HEAD the body is not sent, but its length is
// told.
func (x *Exchange) Answer(status int, fields, body []byte) {
	x.AnswerLength(status, fields, body, len(body))
}

// AnswerLength is Answer for a body whose length is told as it should be; what is there of it matters to HEAD alone.
func (x *Exchange) AnswerLength(status int, fields, body []byte, length int) {
	out := x.begin(status, fields)
	out = append(out, "Content-Length: "...)
	out = strconv.AppendInt(out, int64(length), 10)
	out = append(out, "\r\n\r\n"...)
	if x.Method != http.MethodHead {
		out = append(out, body...)
	}
	x.c.w.out = out
}

// Begin begins an answer that comes in pieces.
func (x *Exchange) Begin(status int, fields []byte) {
	x.c.w.out = append(x.begin(status, fields), "Transfer-Encoding: chunked\r\n\r\n"...)
}

// Piece sends a piece, once it is worth it. A client that does not take it in time has gone: that is the error.
func (x *Exchange) Piece(p []byte) error {
	x.c.w.out = appendChunk(x.c.w.out, p)
	if len(x.c.w.out) < outHigh {
		return nil
	}
	return x.c.flush()
}

// End ends an answer that came in pieces.
func (x *Exchange) End() { x.c.w.out = append(x.c.w.out, lastChunk...) }

// begin appends a head up to where the length of the body is told.
func (x *Exchange) begin(status int, fields []byte) []byte {
	out := append(x.c.w.out, statusLine(status)...)
	out = append(out, fields...)
	out = append(out, x.c.s.date.line()...)
	if x.close {
		out = append(out, "Connection: close\r\n"...)
	}
	return out
}

const (
	lastChunk = "0\r\n\r\n"
	crlf      = "\r\n"
)

// appendChunk appends a chunk, unless it is empty: that would be the last one.
func appendChunk(dst, p []byte) []byte {
	if len(p) == 0 {
		return dst
	}
	dst = strconv.AppendInt(dst, int64(len(p)), 16)
	dst = append(dst, crlf...)
	dst = append(dst, p...)
	return append(dst, crlf...)
}

var statusLines = makeStatusLines()

func makeStatusLines() (lines [600]string) {
	for code := range lines {
		if text := http.StatusText(code); text != "" {
			lines[code] = "HTTP/1.1 " + strconv.Itoa(code) + " " + text + crlf
		}
	}
	return lines
}

func statusLine(code int) string { return statusLines[code] }
