package process

import (
	"bytes"
	"sync"
)

// Output collects what a program writes, for those who wait for some of it. Safe for concurrent use.
type Output struct {
	mu      sync.Mutex
	bytes   bytes.Buffer
	changed chan struct{} // closed with the next write
}

// NewOutput returns one that is empty.
func NewOutput() *Output { return &Output{changed: make(chan struct{})} }

// Write implements io.Writer.
func (o *Output) Write(p []byte) (int, error) {
	o.mu.Lock()
	defer o.mu.Unlock()
	close(o.changed)
	o.changed = make(chan struct{})
	return o.bytes.Write(p)
}

// Text is what was written so far, and a channel that is closed when there is more.
func (o *Output) Text() (string, <-chan struct{}) {
	o.mu.Lock()
	defer o.mu.Unlock()
	return o.bytes.String(), o.changed
}
