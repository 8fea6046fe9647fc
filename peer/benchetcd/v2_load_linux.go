package main

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"net"
	"slices"
	"strconv"
	"syscall"
	"time"
	"unsafe"
)

// sockets are connections to one server that one goroutine looks after: the load should cost far less than what it loads. So
// system calls that never wait are made without telling the Go scheduler.
type sockets struct {
	set   int
	conns []*socket
	ready [256]syscall.EpollEvent
}

// socket is one connection with at most one request under way.
type socket struct {
	fd    int
	begin time.Time
	in    []byte // of an answer that is not complete
}

// perAddress is how many connections come from one loopback address, so that its ports suffice.
const perAddress = 10_000

// dialSockets makes n connections, and calls each with every one as soon as it is there.
func dialSockets(server string, n int, each func(*socket) error) (*sockets, error) {
	host, port, err := net.SplitHostPort(server)
	if err != nil {
		return nil, err
	}
	number, err := strconv.Atoi(port)
	if err != nil {
		return nil, err
	}
	to := &syscall.SockaddrInet4{Port: number, Addr: [4]byte(net.ParseIP(host).To4())}
	s := &sockets{}
	if s.set, err = syscall.EpollCreate1(syscall.EPOLL_CLOEXEC); err != nil {
		return nil, fmt.Errorf("epoll: %w", err)
	}
	for i := range n {
		c, err := s.dial(to, byte(1+i/perAddress))
		if err == nil {
			err = each(c)
		}
		if err != nil {
			s.close()
			return nil, fmt.Errorf("connection %d: %w", i, err)
		}
	}
	return s, nil
}

func (s *sockets) dial(to *syscall.SockaddrInet4, from byte) (*socket, error) {
	fd, err := syscall.Socket(syscall.AF_INET, syscall.SOCK_STREAM|syscall.SOCK_CLOEXEC, 0)
	if err != nil {
		return nil, err
	}
	c := &socket{fd: fd}
	s.conns = append(s.conns, c)
	if err := syscall.Bind(fd, &syscall.SockaddrInet4{Addr: [4]byte{127, 0, 0, from}}); err != nil {
		return nil, err
	}
	if err := syscall.Connect(fd, to); err != nil {
		return nil, err
	}
	if err := syscall.SetsockoptInt(fd, syscall.IPPROTO_TCP, syscall.TCP_NODELAY, 1); err != nil {
		return nil, err
	}
	if err := syscall.SetNonblock(fd, true); err != nil {
		return nil, err
	}
	return c, syscall.EpollCtl(s.set, syscall.EPOLL_CTL_ADD, fd, &syscall.EpollEvent{Events: syscall.EPOLLIN, Fd: int32(len(s.conns) - 1)})
}

func (s *sockets) close() {
	for _, c := range s.conns {
		syscall.Close(c.fd)
	}
	syscall.Close(s.set)
}

// send sends a request, at a time that the caller has looked up.
func (c *socket) send(request []byte, now time.Time) error {
	c.begin = now
	n, _, errno := syscall.RawSyscall6(syscall.SYS_SENDTO, uintptr(c.fd), uintptr(unsafe.Pointer(unsafe.SliceData(request))), uintptr(len(request)),
		syscall.MSG_NOSIGNAL, 0, 0)
	if errno != 0 {
		return fmt.Errorf("send a request: %w", errno)
	}
	if n < uintptr(len(request)) {
		return fmt.Errorf("%d of %d bytes of a request were sent", n, len(request))
	}
	return nil
}

// wait waits for input on any connection, and calls each with those that have some.
func (s *sockets) wait(each func(c *socket) error) error {
	const patience = 100 // milliseconds
	n, err := syscall.EpollWait(s.set, s.ready[:], patience)
	if err != nil && err != syscall.EINTR {
		return fmt.Errorf("epoll: %w", err)
	}
	for _, e := range s.ready[:max(n, 0)] {
		if err := each(s.conns[e.Fd]); err != nil {
			return err
		}
	}
	return nil
}

var scratch = make([]byte, 64<<10)

// read returns what has come of the answer so far. It is valid until the next read of any connection.
func (c *socket) read() ([]byte, error) {
	n, _, errno := syscall.RawSyscall6(syscall.SYS_RECVFROM, uintptr(c.fd), uintptr(unsafe.Pointer(unsafe.SliceData(scratch))), uintptr(len(scratch)), 0, 0, 0)
	switch {
	case errno == syscall.EAGAIN:
		return c.in, nil
	case errno != 0:
		return nil, errno
	case n == 0:
		return nil, errors.New("the server has closed a connection")
	case len(c.in) == 0:
		return scratch[:n], nil
	}
	c.in = append(c.in, scratch[:n]...)
	return c.in, nil
}

// loopHTTP keeps a request under way on each of so many connections until the time is over, or until there were total.
//
// Errors: a connection breaks; a status other than 200 and 201.
func loopHTTP(ctx context.Context, server string, conns int, duration time.Duration, total int, request func(i int) []byte) (l httpLoad, err error) {
	var requests [][]byte // made before, so that making them is not measured
	for i := range v2Keys {
		requests = append(requests, request(i))
	}
	var latencies []time.Duration
	sent, open := 0, 0
	begin := time.Now()
	next := func(c *socket, now time.Time) error {
		if total > 0 && sent >= total || duration > 0 && now.Sub(begin) >= duration || ctx.Err() != nil {
			return nil
		}
		sent++
		open++
		return c.send(requests[sent*7919%v2Keys], now) // every key comes, in no order
	}
	s, err := dialSockets(server, conns, func(c *socket) error { return next(c, time.Now()) })
	if err != nil {
		return l, err
	}
	defer s.close()
	for open > 0 {
		err := s.wait(func(c *socket) error {
			answer, err := c.read()
			if err != nil {
				return err
			}
			whole, err := isWhole(answer)
			if err != nil || !whole {
				c.in = append(c.in[:0], answer...)
				return err
			}
			c.in = c.in[:0]
			open--
			now := time.Now()
			latencies = append(latencies, now.Sub(c.begin))
			return next(c, now)
		})
		if err = errors.Join(err, ctx.Err()); err != nil {
			return l, err
		}
	}
	l.count, l.elapsed = len(latencies), time.Since(begin)
	slices.Sort(latencies)
	l.p50, l.p99 = latencies[len(latencies)/2], latencies[len(latencies)*99/100]
	return l, nil
}

// isWhole reports whether an answer with a declared length is complete.
func isWhole(answer []byte) (bool, error) {
	head := bytes.Index(answer, []byte("\r\n\r\n"))
	if head < 0 {
		return false, nil
	}
	if !bytes.HasPrefix(answer, []byte("HTTP/1.1 200 ")) && !bytes.HasPrefix(answer, []byte("HTTP/1.1 201 ")) {
		return false, fmt.Errorf("refused: %.300q", answer)
	}
	const name = "\r\nContent-Length: "
	at := bytes.Index(answer[:head], []byte(name))
	if at < 0 {
		return false, fmt.Errorf("an answer without a length: %.300q", answer)
	}
	digits := answer[at+len(name) : head]
	if end := bytes.IndexByte(digits, '\r'); end >= 0 {
		digits = digits[:end]
	}
	length, err := strconv.Atoi(string(digits))
	return err == nil && len(answer) >= head+4+length, err
}

// polls are long polls that wait.
type polls struct{ s *sockets }

// openPolls lets n polls wait, and returns when each has got its head.
func openPolls(ctx context.Context, server string, n int) (*polls, error) {
	i := 0
	s, err := dialSockets(server, n, func(c *socket) error { // at once: a server may not wait for many that say nothing
		i++
		return c.send(fmt.Appendf(nil, "GET %s?wait=true HTTP/1.1\r\nHost: %s\r\n\r\n", pollKey(i-1), server), time.Now())
	})
	if err != nil {
		return nil, err
	}
	p := &polls{s}
	if heads, err := p.answered(ctx, n); err != nil || heads != n {
		p.close()
		return nil, fmt.Errorf("%d of %d polls were accepted: %w", heads, n, err)
	}
	return p, nil
}

// answered waits until so many polls have got something, and a moment longer, and returns how many have.
func (p *polls) answered(ctx context.Context, want int) (got int, err error) {
	seen := map[*socket]bool{}
	for quiet := 0; len(seen) < want || quiet < 2; {
		quiet++
		err := p.s.wait(func(c *socket) error {
			quiet = 0
			seen[c] = true
			_, err := c.read()
			return err
		})
		if err = errors.Join(err, ctx.Err()); err != nil {
			return len(seen), err
		}
	}
	return len(seen), nil
}

func (p *polls) close() { p.s.close() }
