package server

import "sync"

// failure is what ends a member from inside. The first one counts.
type failure struct {
	once     sync.Once
	err      error         // set before happened is closed
	happened chan struct{} // closed when there is one
}

// note takes an error that the member can't survive. It does not wait, and may be called from anywhere.
func (f *failure) note(err error) {
	f.once.Do(func() {
		f.err = err
		close(f.happened)
	})
}

// is reports whether there is one.
func (f *failure) is() bool {
	select {
	case <-f.happened:
		return true
	default:
		return false
	}
}
