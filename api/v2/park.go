package v2

import (
	"fmt"
	"net"
	"time"
)

// parked is a long poll that waits without the goroutine and the buffers that serving a request takes: there may be very many
// of them, and nearly all do nothing. Its headers have been sent, and say that the connection ends with the answer.
type parked struct {
	h      *Handler
	conn   net.Conn
	q      request
	waiter *waiter
}

// parkedWriteTimeout bounds how long the last bytes of a parked poll may take.
const parkedWriteTimeout = 5 * time.Second

// park lets a poll wait on its bare connection, which is the poll's own from here on.
func (h *Handler) park(conn net.Conn, q *request, w *waiter) {
	p := &parked{h: h, conn: conn, q: request{path: q.path, recursive: q.recursive}, waiter: w}
	go p.watchClient(w)
	h.hub.park(w, p.answer)
}

// watchClient waits until the client has gone, or has said something it must not say yet, or the answer is given. Then nobody
// waits any more. It ends when the connection does.
func (p *parked) watchClient(w *waiter) {
	var b [1]byte
	p.conn.Read(b[:])
	p.h.hub.leave(w)
	p.conn.Close()
}

// answer writes what has come, and the end of the body. It is called once for each time that the poll is registered.
func (p *parked) answer() {
	events, ended := p.h.hub.take(p.waiter)
	if ended == endedReset && len(events) == 0 {
		if next := p.h.again(&p.q, p.waiter, nil); next != nil {
			p.waiter = next
			go p.watchClient(next) // the one of before ends with the same connection
			p.h.hub.park(next, p.answer)
			return
		}
	}
	defer p.conn.Close()
	var body []byte
	for _, e := range events {
		body = appendEvent(body, e)
	}
	if p.conn.SetWriteDeadline(time.Now().Add(parkedWriteTimeout)) != nil {
		return
	}
	p.conn.Write(appendChunks(nil, body))
}

// appendChunks appends a body as the rest of a chunked message.
func appendChunks(dst, body []byte) []byte {
	if len(body) > 0 {
		dst = fmt.Appendf(dst, "%x\r\n%s\r\n", len(body), body)
	}
	return append(dst, "0\r\n\r\n"...)
}
