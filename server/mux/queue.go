package mux

import (
	"net"
	"sync"
)

// offer is a connection for whoever accepts it. claim is asked first; false: it is no longer to be had.
type offer struct {
	conn  net.Conn
	claim func() bool
}

// queue is a listener whose connections are put into it. It holds none: whoever puts one waits until it is taken.
type queue struct {
	address net.Addr
	offers  chan offer
	closed  chan struct{}
	once    sync.Once
}

func newQueue(address net.Addr) *queue {
	return &queue{address: address, offers: make(chan offer), closed: make(chan struct{})}
}

// put waits until o is taken; false: the queue was closed before.
func (q *queue) put(o offer) bool {
	select {
	case q.offers <- o:
		return true
	case <-q.closed:
		return false
	}
}

// Accept waits for the next connection.
func (q *queue) Accept() (net.Conn, error) {
	for {
		select {
		case <-q.closed:
			return nil, net.ErrClosed
		default:
		}
		select {
		case o := <-q.offers:
			if o.claim() {
				return o.conn, nil
			}
		case <-q.closed:
			return nil, net.ErrClosed
		}
	}
}

// Close makes Accept fail from now on.
func (q *queue) Close() error {
	q.once.Do(func() { close(q.closed) })
	return nil
}

// Addr is the address of the listener in front.
func (q *queue) Addr() net.Addr { return q.address }
