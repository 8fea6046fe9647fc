package transport

import (
	"crypto/tls"
	"errors"
	"net"
	"os"
	"sync/atomic"
	"time"

	"keelson/env"
	"keelson/internal/socket"
)

// line is a connection whose reads and writes fail when nothing at all moves for too long, and which is counted. One
// goroutine reads and one writes at a time.
type line struct {
	conn           net.Conn
	clock          env.Clock
	sent, received *atomic.Uint64

	read, write deadline
	// arrived, if set, is called by reads after bytes have arrived.
	arrived func() error

	scratch []byte // of writeParts, where the connection can't take several parts at once
}

// deadline is renewed lazily: it fails between timeout and 9/8 of it after the last sign of life. timeout 0: never.
type deadline struct {
	timeout time.Duration
	renewed time.Duration // monotonic; 0: not yet
}

// pieceBytes is the most that one Write is given where a timeout would not tell how much was written.
const pieceBytes = 64 << 10

// due reports when the deadline is to be moved to, and whether that is necessary by now.
func (d *deadline) due(clock env.Clock) (time.Time, bool) {
	now := clock.Monotonic()
	if d.timeout == 0 || d.renewed != 0 && now-d.renewed < d.timeout/8 {
		return time.Time{}, false
	}
	d.renewed = now
	return clock.Now().Add(d.timeout + d.timeout/8), true
}

// closeNow closes a connection without saying goodbye, which could wait for the other side.
func closeNow(conn net.Conn) error {
	if encrypted, ok := conn.(*tls.Conn); ok {
		conn = encrypted.NetConn()
	}
	return conn.Close()
}

func (l *line) Read(p []byte) (int, error) {
	if at, ok := l.read.due(l.clock); ok {
		if err := l.conn.SetReadDeadline(at); err != nil {
			return 0, err
		}
	}
	n, err := l.conn.Read(p)
	if n > 0 {
		l.received.Add(uint64(n))
		if l.arrived != nil && err == nil {
			err = l.arrived()
		}
	}
	if errors.Is(err, os.ErrDeadlineExceeded) {
		err = errSilent
	}
	return n, err
}

func (l *line) Write(p []byte) (int, error) {
	written := 0
	for written < len(p) {
		n, err := l.writePiece(p[written:min(len(p), written+pieceBytes)])
		written += n
		if err != nil {
			return written, err
		}
	}
	return written, nil
}

func (l *line) writePiece(p []byte) (int, error) {
	if err := l.beforeWrite(); err != nil {
		return 0, err
	}
	n, err := l.conn.Write(p)
	l.sent.Add(uint64(n))
	return n, err
}

// writeNow writes what the connection takes at once.
func (l *line) writeNow(to *socket.Prompt, p []byte) (int, error) {
	if err := l.beforeWrite(); err != nil {
		return 0, err
	}
	n, err := to.Write(p)
	l.sent.Add(uint64(n))
	return n, err
}

func (l *line) beforeWrite() error {
	if at, ok := l.write.due(l.clock); ok {
		return l.conn.SetWriteDeadline(at)
	}
	return nil
}

// writeParts writes all parts, with few system calls. It consumes them.
func (l *line) writeParts(parts *net.Buffers) error {
	if _, ok := l.conn.(*net.TCPConn); !ok {
		return l.writeGathered(*parts)
	}
	for len(*parts) > 0 {
		if err := l.beforeWrite(); err != nil {
			return err
		}
		n, err := parts.WriteTo(l.conn)
		l.sent.Add(uint64(n))
		if err != nil && (n == 0 || !errors.Is(err, os.ErrDeadlineExceeded)) {
			return err
		}
		if err != nil {
			l.write.renewed = 0 // slow, but it moves
		}
	}
	return nil
}

// writeGathered copies the parts together, so that small ones do not become a record each on an encrypted connection.
func (l *line) writeGathered(parts net.Buffers) error {
	if l.scratch == nil {
		l.scratch = make([]byte, 0, pieceBytes)
	}
	b := l.scratch[:0]
	for _, part := range parts {
		for len(part) > 0 {
			n := copy(b[len(b):cap(b)], part)
			b, part = b[:len(b)+n], part[n:]
			if len(b) < cap(b) {
				continue
			}
			if _, err := l.writePiece(b); err != nil {
				return err
			}
			b = b[:0]
		}
	}
	if len(b) == 0 {
		return nil
	}
	_, err := l.writePiece(b)
	return err
}
