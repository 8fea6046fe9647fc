package transport

import (
	"bufio"
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"sync"
	"time"

	"go.etcd.io/raft/v3/raftpb"
	"go.uber.org/zap"
)

// streamID names an accepted stream: there is one of a kind from a member.
type streamID struct {
	from uint64
	kind kind
}

// incoming is an accepted stream.
type incoming struct {
	streamID
	counters *counters
	ctx      context.Context // ends with the stream
	cancel   context.CancelCauseFunc
	done     chan struct{} // closed when nothing of it reaches the handler any more

	// Guarded by Transport.mu.
	conn   net.Conn  // nil: not taken over from the HTTP server yet
	before *incoming // the stream that this one replaces, until attach
}

// end closes the stream for a reason. Its goroutine notices. Transport.mu is held.
func (in *incoming) end(reason error) {
	in.cancel(reason)
	if in.conn != nil {
		closeNow(in.conn)
	}
}

// ServeHTTP accepts streams from other members: a request for one becomes a stream, served by the calling goroutine until
// it ends; everything else is refused. The server has to bound the time a request may take to arrive.
func (t *Transport) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	if r.URL.Path != streamPath {
		http.NotFound(w, r)
		return
	}
	h, k, reason := t.judge(r)
	if reason != "" {
		t.refuse(w, r, h, reason)
		return
	}
	hijacker, ok := w.(http.Hijacker)
	if !ok {
		t.refuse(w, r, h, reasonNoUpgrade)
		return
	}
	in, reason := t.admit(streamID{h.from, k})
	if reason != "" {
		t.refuse(w, r, h, reason)
		return
	}
	defer t.leave(in)
	conn, buffered, err := hijacker.Hijack()
	if err != nil {
		t.refuse(w, r, h, reasonNoUpgrade)
		return
	}
	defer closeNow(conn)
	if !t.attach(in, conn) || buffered.Reader.Buffered() > 0 {
		return // it was ended already; or it speaks before it is answered, so it is not one of ours
	}
	t.serve(in, conn, h)
}

// refuse answers with a reason.
func (t *Transport) refuse(w http.ResponseWriter, r *http.Request, h hello, reason string) {
	t.hello(h.from, "").writeTo(w.Header())
	w.Header().Set("Connection", "close")
	http.Error(w, reason, statusOf[reason])
	if !t.refusals.isNews(idText(h.from)+reason, t.o.Clock.Monotonic()) {
		return
	}
	fields := []zap.Field{
		zap.String("local-member-id", idText(t.o.MemberID)), zap.String("local-member-cluster-id", idText(t.o.ClusterID)),
		zap.String("remote-peer-id", idText(h.from)), zap.String("remote-peer-cluster-id", idText(h.cluster)),
		zap.String("remote-address", r.RemoteAddr), zap.String("remote-version", h.version),
	}
	what := "refused a stream"
	if reason == reasonOtherCluster {
		what = "request cluster ID mismatch"
	}
	t.log.Warn(what, append(fields, zap.String("reason", reason))...)
}

// serve is the life of an accepted stream.
func (t *Transport) serve(in *incoming, conn net.Conn, h hello) {
	read, write := t.timeoutsOf(in.kind)
	setUserTimeout(conn, max(read, write))
	if err := conn.SetDeadline(time.Time{}); err != nil { // the HTTP server's
		return
	}
	l := t.newLine(conn, in.counters)
	l.read.timeout, l.write.timeout = read, write
	if err := t.accept(l, h); err != nil {
		return
	}
	t.log.Info("accepted a stream from a peer", zap.String("remote-peer-id", idText(h.from)), zap.Stringer("stream", in.kind),
		zap.String("remote-version", h.version))
	t.setAccepted(in)
	switch in.kind {
	case kindBulk:
		t.o.Handler.Bulk(in.ctx, h.from, l)
		return
	case kindFetch:
		t.o.Handler.Fetch(in.ctx, h.from, l)
		return
	}
	err := t.receive(in, l)
	if cause := context.Cause(in.ctx); cause != nil {
		err = cause
	}
	switch {
	case t.ctx.Err() != nil:
		return
	case errors.Is(err, errMalformed) || errors.Is(err, io.ErrUnexpectedEOF):
		in.counters.receiveFailures.Add(1)
	}
	t.log.Warn("lost the stream from a peer", zap.String("remote-peer-id", idText(h.from)), zap.Stringer("stream", in.kind), zap.Error(err))
}

// accept says yes.
func (t *Transport) accept(l *line, h hello) error {
	header := make(http.Header)
	header.Set("Connection", "Upgrade")
	header.Set("Upgrade", upgradeName)
	answer := t.hello(h.from, "")
	answer.protocol = min(h.protocol, protocolMax)
	answer.writeTo(header)
	b := []byte("HTTP/1.1 101 Switching Protocols\r\n")
	text := &byteWriter{b}
	header.Write(text) // into memory: can't fail
	_, err := l.Write(append(text.b, "\r\n"...))
	return err
}

type byteWriter struct{ b []byte }

func (w *byteWriter) Write(p []byte) (int, error) {
	w.b = append(w.b, p...)
	return len(p), nil
}

// receive reads frames and passes the messages in them on, as many at a time as have arrived together.
func (t *Transport) receive(in *incoming, l *line) error {
	alive := newAlive(l, t.o.keepAlive())
	l.arrived = alive.remind
	frames := frameReader{
		r: bufio.NewReaderSize(l, in.kind.bufferBytes()), headBytesMax: headBytesMax, tailBytesMax: in.kind.tailBytesMax(),
	}
	handle := t.o.Handler.Receive
	if in.kind == kindMessages {
		handle = t.o.Handler.ReceiveEntries // which may wait
		var watching sync.WaitGroup
		ended := make(chan struct{})
		watching.Go(func() { alive.watch(ended) })
		defer watching.Wait()
		defer close(ended)
	}
	var batch []*raftpb.Message
	deliver := func() {
		if len(batch) > 0 {
			in.counters.receivedMessages.Add(uint64(len(batch)))
			alive.busy.Store(true)
			handle(batch)
			alive.busy.Store(false)
			clear(batch)
			batch = batch[:0]
		}
	}
	// What came before the end of the stream, or before a malformed frame, is as good as anything.
	defer deliver()
	for {
		f, err := frames.next()
		if err != nil {
			return err
		}
		switch f.typ {
		case framePing:
			err = alive.answer(binary.LittleEndian.Uint64(f.head))
		case framePong:
			err = fmt.Errorf("%w: an answer to nothing", errMalformed)
		case frameMessage:
			var m *raftpb.Message
			if m, err = decodeMessage(f.head, f.tail); err == nil && t.isForUs(in, m) {
				batch = append(batch, m)
			}
		}
		if err != nil {
			return err
		}
		if len(batch) == receiveMax || len(batch) > 0 && !frames.ready() {
			deliver()
		}
	}
}

// isForUs checks the addresses of a message: it is for this member, of the sort its stream is for, and its sender is who
// dialed, unless raft passes such messages on for others. Anything else is dropped and counted.
func (t *Transport) isForUs(in *incoming, m *raftpb.Message) bool {
	k, _ := route(m.GetType())
	ours := m.GetTo() == t.o.MemberID && k == in.kind && (m.GetFrom() == in.from || passedOn(m.GetType()))
	if !ours {
		in.counters.receiveFailures.Add(1)
	}
	return ours
}
