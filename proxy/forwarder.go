package proxy

import (
	"context"
	"io"
	"net"
	"sync"
	"time"

	"go.uber.org/zap"
)

// dialTimeout bounds an attempt to reach a remote.
const dialTimeout = 2 * time.Second

// forwarder takes connections and joins each to a remote. Remotes are taken in turn; one that can't be reached is left out
// until it has been tried again.
type forwarder struct {
	remotes []*remote
	retry   time.Duration // between two tries of a remote that could not be reached
	most    int           // connections at a time; more wait to be accepted
	logger  *zap.Logger

	mu   sync.Mutex
	next int
}

// remote is where connections may go.
type remote struct {
	address string
	down    bool // guarded by forwarder.mu
}

// serve forwards what l accepts until ctx ends, and returns when all has ended. The error is the listener's.
func (f *forwarder) serve(ctx context.Context, l net.Listener) error {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	var running sync.WaitGroup
	defer running.Wait()
	defer cancel()
	stop := context.AfterFunc(ctx, func() { l.Close() })
	defer stop()
	running.Go(func() { f.watch(ctx) })
	places := make(chan struct{}, f.most)
	for {
		select {
		case places <- struct{}{}:
		case <-ctx.Done():
			return nil
		}
		conn, err := l.Accept()
		if err != nil {
			if ctx.Err() != nil {
				return nil
			}
			if temporary, ok := err.(interface{ Temporary() bool }); ok && temporary.Temporary() {
				<-places
				time.Sleep(10 * time.Millisecond) // no file descriptor left
				continue
			}
			return err
		}
		running.Go(func() {
			defer func() { <-places }()
			f.join(ctx, conn)
		})
	}
}

// join copies between a client and the first remote that can be reached, until both sides have ended.
func (f *forwarder) join(ctx context.Context, client net.Conn) {
	defer client.Close()
	member := f.dial(ctx)
	if member == nil {
		return
	}
	defer member.Close()
	stop := context.AfterFunc(ctx, func() {
		client.Close()
		member.Close()
	})
	defer stop()
	var both sync.WaitGroup
	for _, way := range [][2]net.Conn{{member, client}, {client, member}} {
		both.Go(func() {
			if _, err := io.Copy(way[0], way[1]); err != nil {
				way[1].Close() // so that the other way ends, too
			}
			if half, ok := way[0].(interface{ CloseWrite() error }); ok {
				half.CloseWrite()
			}
		})
	}
	both.Wait()
}

// dial reaches a remote, each at most once. Nil: none can be reached.
func (f *forwarder) dial(ctx context.Context) net.Conn {
	for range f.remotes {
		r := f.pick()
		if r == nil {
			break
		}
		conn, err := f.reach(ctx, r)
		if err == nil {
			return conn
		}
		f.set(r, true)
		f.logger.Warn("deactivated endpoint", zap.String("address", r.address), zap.Duration("interval", f.retry), zap.Error(err))
	}
	return nil
}

func (f *forwarder) reach(ctx context.Context, r *remote) (net.Conn, error) {
	ctx, cancel := context.WithTimeout(ctx, dialTimeout)
	defer cancel()
	return (&net.Dialer{}).DialContext(ctx, "tcp", r.address)
}

// pick is the next remote that is not down.
func (f *forwarder) pick() *remote {
	f.mu.Lock()
	defer f.mu.Unlock()
	for range f.remotes {
		r := f.remotes[f.next%len(f.remotes)]
		f.next++
		if !r.down {
			return r
		}
	}
	return nil
}

func (f *forwarder) set(r *remote, down bool) {
	f.mu.Lock()
	defer f.mu.Unlock()
	r.down = down
}

func (f *forwarder) isDown(r *remote) bool {
	f.mu.Lock()
	defer f.mu.Unlock()
	return r.down
}

// watch tries the remotes that are down again, time and again.
func (f *forwarder) watch(ctx context.Context) {
	ticker := time.NewTicker(f.retry)
	defer ticker.Stop()
	for {
		select {
		case <-ticker.C:
		case <-ctx.Done():
			return
		}
		for _, r := range f.remotes {
			if !f.isDown(r) {
				continue
			}
			conn, err := f.reach(ctx, r)
			if err != nil {
				f.logger.Warn("failed to activate endpoint (stay inactive for another interval)",
					zap.String("address", r.address), zap.Duration("interval", f.retry), zap.Error(err))
				continue
			}
			conn.Close()
			f.set(r, false)
			f.logger.Info("activated endpoint", zap.String("address", r.address))
		}
	}
}
