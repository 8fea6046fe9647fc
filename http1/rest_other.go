//go:build !linux

package http1

// resting is empty: here every connection waits with a goroutine, a small one.
type resting struct{}

func newResting() *resting { return &resting{} }

func (*resting) add(*conn) bool   { return false }
func (*resting) takes(*conn) bool { return false }
func (*resting) forget(*conn)     {}
func (*resting) close()           {}
