package rpc

import (
	"context"
	"sync"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/metadata"
	"google.golang.org/grpc/peer"
)

// The keys under which grpc's packages look things up in a context. They are not exported; a probe that is asked tells.
var (
	metadataKey  = keyAskedBy(func(ctx context.Context) { metadata.FromIncomingContext(ctx) })
	peerKey      = keyAskedBy(func(ctx context.Context) { peer.FromContext(ctx) })
	transportKey = keyAskedBy(func(ctx context.Context) { grpc.ServerTransportStreamFromContext(ctx) })
)

type probe struct {
	context.Context
	key any
}

func (p *probe) Value(key any) any {
	p.key = key
	return nil
}

func keyAskedBy(ask func(context.Context)) any {
	p := &probe{Context: context.Background()}
	ask(p)
	if p.key == nil {
		panic("rpc: grpc does not look into its context")
	}
	return p.key
}

// cancellation is the part of a call's context that changes. Most calls end without anybody having asked for it, so
// nothing is made before.
type cancellation struct {
	mu       sync.Mutex
	err      error         // not nil: ended
	done     chan struct{} // nil: not asked for
	after    map[*func()]struct{}
	deferred *Deferred // an answer that ends with the context
}

// closedChan is the Done of all contexts that had ended before anybody asked.
var closedChan = func() chan struct{} {
	c := make(chan struct{})
	close(c)
	return c
}()

// cancel ends the context, once, and carries out what waits for that. No lock may be held.
func (c *cancellation) cancel(err error) {
	c.mu.Lock()
	if c.err != nil {
		c.mu.Unlock()
		return
	}
	c.err = err
	if c.done == nil {
		c.done = closedChan
	} else {
		close(c.done)
	}
	after, deferred := c.after, c.deferred
	c.after, c.deferred = nil, nil
	c.mu.Unlock()
	for f := range after {
		(*f)()
	}
	if deferred != nil {
		deferred.end(err)
	}
}

// callContext is the context.Context of the stream that it is another view of.
type callContext stream

// Deadline implements context.Context.
func (c *callContext) Deadline() (time.Time, bool) { return c.deadline, !c.deadline.IsZero() }

// Done implements context.Context.
func (c *callContext) Done() <-chan struct{} {
	e := &c.cancellation
	e.mu.Lock()
	defer e.mu.Unlock()
	if e.done == nil {
		e.done = make(chan struct{})
	}
	return e.done
}

// Err implements context.Context.
func (c *callContext) Err() error {
	e := &c.cancellation
	e.mu.Lock()
	defer e.mu.Unlock()
	return e.err
}

// Value implements context.Context.
func (c *callContext) Value(key any) any {
	switch key {
	case metadataKey:
		return c.request.metadata
	case peerKey:
		return c.conn.peer
	case transportKey:
		return (*transportStream)(c)
	case deferKey{}:
		if c.deferrable != nil {
			return c.deferrable
		}
		return nil
	}
	if c.conn.base == nil {
		return nil
	}
	return c.conn.base.Value(key)
}

// MetadataValue is the first value of a field of a call's metadata, of which no copy is made; the name is in lower case. Any
// server's context will do.
func MetadataValue(ctx context.Context, name string) (value string, ok bool) {
	md, _ := ctx.Value(metadataKey).(metadata.MD)
	if values := md[name]; len(values) > 0 {
		return values[0], true
	}
	return "", false
}

// AfterFunc is how package context waits for the end of a context that is not its own, without a goroutine.
func (c *callContext) AfterFunc(f func()) (stop func() bool) {
	e := &c.cancellation
	e.mu.Lock()
	if e.err != nil {
		e.mu.Unlock()
		f()
		return func() bool { return false }
	}
	if e.after == nil {
		e.after = map[*func()]struct{}{}
	}
	key := &f
	e.after[key] = struct{}{}
	e.mu.Unlock()
	return func() bool {
		e.mu.Lock()
		defer e.mu.Unlock()
		_, waits := e.after[key]
		delete(e.after, key)
		return waits
	}
}

// String keeps logs short.
func (c *callContext) String() string { return "rpc.Context(" + c.request.path + ")" }
