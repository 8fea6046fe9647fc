package http1

import (
	"os"
	"sync"
	"syscall"
)

// resting are connections that wait without a goroutine: one waits for all of them. It waits as goroutines do, because
// the set of sockets is itself something that the runtime can wait for.
type resting struct {
	set  *os.File // nil: there is none, and every connection waits with a goroutine
	raw  syscall.RawConn
	done sync.WaitGroup

	mu    sync.Mutex
	last  uint64           // name that was given last
	conns map[uint64]*conn // those that rest or have rested
}

// wokenAtOnce is how many connections are woken with one call.
const wokenAtOnce = 128

func newResting() *resting {
	r := &resting{conns: map[uint64]*conn{}}
	fd, err := syscall.EpollCreate1(syscall.EPOLL_CLOEXEC)
	if err != nil {
		return r
	}
	if err := syscall.SetNonblock(fd, true); err != nil {
		syscall.Close(fd)
		return r
	}
	r.set = os.NewFile(uintptr(fd), "resting connections")
	if r.raw, err = r.set.SyscallConn(); err != nil {
		r.set.Close()
		r.set = nil
		return r
	}
	r.done.Go(r.loop)
	return r
}

// takes reports whether a connection can rest here.
func (r *resting) takes(c *conn) bool { return r.set != nil && c.raw != nil }

// add lets a connection rest until there is something to be read, or its client has gone. False: it can't rest here.
func (r *resting) add(c *conn) bool {
	if !r.takes(c) {
		return false
	}
	r.mu.Lock()
	op := syscall.EPOLL_CTL_MOD
	if c.resting == 0 {
		op = syscall.EPOLL_CTL_ADD
		r.last++
		c.resting = r.last
		r.conns[c.resting] = c
	}
	event := syscall.EpollEvent{
		Events: syscall.EPOLLIN | syscall.EPOLLRDHUP | syscall.EPOLLONESHOT,
		Fd:     int32(c.resting), Pad: int32(c.resting >> 32),
	}
	r.mu.Unlock()
	added := false
	_ = r.raw.Control(func(set uintptr) { // after an error it is not added
		_ = c.raw.Control(func(fd uintptr) { added = syscall.EpollCtl(int(set), op, int(fd), &event) == nil })
	})
	return added
}

// forget takes note that a connection rests no more. The kernel has forgotten its socket when it is closed.
func (r *resting) forget(c *conn) {
	r.mu.Lock()
	defer r.mu.Unlock()
	delete(r.conns, c.resting)
}

func (r *resting) loop() {
	var events [wokenAtOnce]syscall.EpollEvent
	for {
		n := 0
		err := r.raw.Read(func(set uintptr) bool {
			var err error
			n, err = syscall.EpollWait(int(set), events[:], 0)
			return n > 0 || err != nil && err != syscall.EINTR
		})
		if err != nil {
			return
		}
		for _, e := range events[:max(n, 0)] {
			r.mu.Lock()
			c := r.conns[uint64(uint32(e.Fd))|uint64(uint32(e.Pad))<<32]
			r.mu.Unlock()
			if c != nil {
				go c.woken()
			}
		}
	}
}

func (r *resting) close() {
	if r.set != nil {
		r.set.Close()
		r.done.Wait()
	}
}
