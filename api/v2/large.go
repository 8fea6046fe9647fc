package v2

import (
	"net/http"
	"time"

	"keelson/node"
)

// largeForms has an element for every large form that is being read. A form may have 10 MiB, and takes a few times its size
// while it is taken apart; others wait.
type largeForms chan struct{}

const (
	largeFormsMax  = 16
	smallFormBytes = 64 << 10
	// formTimeout is how long a large form may wait for its turn, and how long it may take then.
	formTimeout = 30 * time.Second
)

// enter waits for the turn of a request, if its form is large or may be. leave ends the turn.
//
// Errors: node.ErrTooManyRequests, after formTimeout; node.ErrCanceled.
func (l largeForms) enter(w http.ResponseWriter, r *http.Request) (leave func(), err error) {
	if r.Body == nil || 0 <= r.ContentLength && r.ContentLength <= smallFormBytes {
		return func() {}, nil
	}
	timer := time.NewTimer(formTimeout)
	defer timer.Stop()
	select {
	case l <- struct{}{}:
	case <-timer.C:
		return nil, node.ErrTooManyRequests
	case <-r.Context().Done():
		return nil, node.ErrCanceled
	}
	c := http.NewResponseController(w)
	// Not every connection has a clock: those of HTTP/2 have other bounds.
	_ = c.SetReadDeadline(time.Now().Add(formTimeout))
	return func() {
		_ = c.SetReadDeadline(time.Time{})
		<-l
	}, nil
}
