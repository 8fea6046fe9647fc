package bench

import (
	"net"
	"sync"

	"keelson/internal/socket"
)

// readBufferBytes is how much is read at a time.
const readBufferBytes = 256 << 10

// inputs are the buffers of connections that have something to read. Most of thousands have nothing, and a buffer that was just used is
// in the processor's caches.
var inputs = sync.Pool{New: func() any { return new([readBufferBytes]byte) }}

// input reads a connection. It belongs to the reader goroutine.
type input struct {
	conn     net.Conn
	late     *socket.Late           // nil: the connection is no plain one, or the system can't do it
	buffer   *[readBufferBytes]byte // nil: nothing is left in it
	from, to int                    // what is left
}

func newInput(conn net.Conn) *input {
	return &input{conn: conn, late: socket.NewLate(conn)}
}

// buffered is how much can be read without waiting.
func (i *input) buffered() int { return i.to - i.from }

func (i *input) Read(p []byte) (int, error) {
	if i.buffered() == 0 {
		i.drop()
		if err := i.fill(); err != nil {
			return 0, err
		}
	}
	n := copy(p, i.buffer[i.from:i.to])
	i.from += n
	return n, nil
}

func (i *input) fill() (err error) {
	n := 0
	if i.late != nil {
		n, err = i.late.Read(i.take, i.drop)
	} else {
		n, err = i.conn.Read(i.take())
	}
	i.from, i.to = 0, n
	if n > 0 {
		return nil
	}
	i.drop()
	return err
}

func (i *input) take() []byte {
	i.buffer = inputs.Get().(*[readBufferBytes]byte)
	return i.buffer[:]
}

func (i *input) drop() {
	if i.buffer != nil {
		inputs.Put(i.buffer)
		i.buffer = nil
	}
}
