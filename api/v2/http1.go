package v2

import (
	"bytes"
	"crypto/tls"
	"net/http"
	"strconv"
	"sync"

	"keelson/http1"
)

// ServeHTTP1 answers requests for keys that need nothing of net/http, which are nearly all. It declines streams, and forms
// with anything unusual.
func (h *Handler) ServeHTTP1(x *http1.Exchange) bool {
	path, ok := keysPathOf(x.Path)
	if !ok {
		return false
	}
	var f form
	if len(x.Body) > 0 && (x.ContentType == nil || !bytes.EqualFold(x.ContentType, formType) || !f.takeEncoded(x.Body)) {
		return false
	}
	if !f.takeEncoded(x.Query) || f.has(pStream) {
		return false
	}
	now := h.o.Clock.Now()
	out := outlets.Get().(*http1Outlet)
	out.x, out.h = x, h
	if refusal := out.q.parse(x.Method, path, &f, now); refusal != nil {
		writeError(out, refusal)
	} else {
		h.serve(x.Context(), &out.q, out, now, out)
	}
	out.recycle()
	return true
}

// AnswersAtOnce implements http1.Handler: for a key, or a directory with what is directly in it, of what this member knows, to whom
// has no password to be compared.
func (h *Handler) AnswersAtOnce(r *http1.Request) bool {
	if r.Method != http.MethodGet || r.Authorization != nil {
		return false
	}
	for _, name := range [...]parameter{pQuorum, pWait, pRecursive} {
		if bytes.Contains(r.Query, []byte(parameterNames[name])) {
			return false
		}
	}
	return true
}

var formType = []byte("application/x-www-form-urlencoded")

// keysPathOf is the decoded path of a request for keys.
func keysPathOf(raw []byte) (string, bool) {
	if !bytes.HasPrefix(raw, []byte(keysPrefix)) {
		return "", false
	}
	path, ok := unescape(raw, false)
	return path, ok && under(path, keysPrefix)
}

// http1Outlet answers through package http1.
type http1Outlet struct {
	x      *http1.Exchange
	h      *Handler
	q      request
	fields []byte
	body   []byte
}

var outlets = sync.Pool{New: func() any { return &http1Outlet{fields: make([]byte, 0, 512), body: make([]byte, 0, 512)} }}

// bodyKeptMax is the largest buffer that is kept for the next answer.
const bodyKeptMax = 16 << 10

func (o *http1Outlet) recycle() {
	o.x, o.h, o.q = nil, nil, request{}
	if cap(o.body) <= bodyKeptMax {
		outlets.Put(o)
	}
}

func (o *http1Outlet) authorization() string     { return string(o.x.Authorization) }
func (o *http1Outlet) tls() *tls.ConnectionState { return o.x.TLS() }

func (o *http1Outlet) buffer() []byte { return o.body[:0] }

func (o *http1Outlet) whole(head answerHead, body []byte, length int) {
	o.body = body
	o.x.AnswerLength(head.status, o.headOf(head), body, length)
}

func (o *http1Outlet) begin(head answerHead) { o.x.Begin(head.status, o.headOf(head)) }

func (o *http1Outlet) piece(body []byte) error { return o.x.Piece(body) }

func (o *http1Outlet) end() { o.x.End() }

// headOf is a head as header lines.
func (o *http1Outlet) headOf(head answerHead) []byte {
	b := append(o.fields[:0], o.h.fields...)
	b = append(b, "X-Etcd-Index: "...)
	b = strconv.AppendUint(b, head.index, 10)
	if head.done {
		b = append(b, "\r\nX-Raft-Index: "...)
		b = strconv.AppendUint(b, head.raftIndex, 10)
		b = append(b, "\r\nX-Raft-Term: "...)
		b = strconv.AppendUint(b, head.raftTerm, 10)
	}
	o.fields = append(b, "\r\n"...)
	return o.fields
}

// poll lets the connection rest until the hub has something.
func (o *http1Outlet) poll(head answerHead, q *request, w *waiter) {
	if events, ended := o.h.hub.takeServed(w); ended {
		o.x.Begin(head.status, o.headOf(head))
		o.body = appendEvents(o.body[:0], events)
		if o.x.Piece(o.body) != nil {
			panic(http.ErrAbortHandler)
		}
		o.x.End()
		return
	}
	p := &parked{h: o.h, path: q.path, recursive: q.recursive, waiter: w}
	p.conn = o.x.Wait(head.status, o.headOf(head), p.leave)
	o.h.hub.park(w, p.answer)
}
