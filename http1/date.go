package http1

import (
	"net/http"
	"sync/atomic"
	"time"
)

// date is the Date field of answers given now, remembered for as long as it is right.
type date struct{ newest atomic.Pointer[dateOf] }

type dateOf struct {
	second int64
	line   []byte
}

func (d *date) line() []byte {
	now := time.Now()
	known := d.newest.Load()
	if known == nil || known.second != now.Unix() {
		known = &dateOf{second: now.Unix(), line: append(now.UTC().AppendFormat([]byte("Date: "), http.TimeFormat), "\r\n"...)}
		d.newest.Store(known)
	}
	return known.line
}
