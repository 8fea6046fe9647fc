package server

import (
	"net/http"
	"sync"
	"time"

	"keelson/http1"
)

// catchUpPatience is how long clients wait for a member that was started to be where it was before. A member that finds no
// quorum can't know when it is, and answers what it can from what it has.
const catchUpPatience = 5 * time.Second

// door opens once, and stays open.
type door struct {
	opened chan struct{} // closed when it is open
	once   sync.Once
	timer  *time.Timer // nil: it opens only by open
}

func newDoor() *door { return &door{opened: make(chan struct{})} }

func (d *door) open() {
	d.once.Do(func() { close(d.opened) })
	if d.timer != nil {
		d.timer.Stop()
	}
}

// within sees to it that the door opens within a time. It is called before anybody else knows of the door.
func (d *door) within(patience time.Duration) {
	d.timer = time.AfterFunc(patience, func() { d.once.Do(func() { close(d.opened) }) })
}

// before holds requests for h back until the door is open.
func (d *door) before(h http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		select {
		case <-d.opened:
			h.ServeHTTP(w, r)
		case <-r.Context().Done():
		}
	})
}

// beforeSimple leaves simple requests to net/http, where they wait, until the door is open.
func (d *door) beforeSimple(h http1.Handler) http1.Handler { return simpleDoor{d, h} }

type simpleDoor struct {
	door *door
	next http1.Handler
}

// ServeHTTP1 implements http1.Handler.
func (d simpleDoor) ServeHTTP1(x *http1.Exchange) bool {
	select {
	case <-d.door.opened:
		return d.next.ServeHTTP1(x)
	default:
		return false
	}
}

// AnswersAtOnce implements http1.Handler.
func (d simpleDoor) AnswersAtOnce(r *http1.Request) bool { return d.next.AnswersAtOnce(r) }
