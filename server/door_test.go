package server

import (
	"context"
	"net/http"
	"net/http/httptest"
	"testing"
	"testing/synctest"
	"time"
)

// TestDoor: requests wait until the door is open, or their clients have gone; it opens once, by itself at the latest.
func TestDoor(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		d := newDoor()
		d.within(catchUpPatience)
		served := 0
		h := d.before(http.HandlerFunc(func(http.ResponseWriter, *http.Request) { served++ }))
		ask := func(patience time.Duration) {
			ctx, cancel := context.WithTimeout(t.Context(), patience)
			defer cancel()
			h.ServeHTTP(httptest.NewRecorder(), httptest.NewRequestWithContext(ctx, http.MethodGet, "/v2/keys/", nil))
		}
		ask(catchUpPatience / 2)
		if served != 0 {
			t.Fatal("served before the door was open")
		}
		ask(catchUpPatience)
		if served != 1 {
			t.Fatal("the door does not open by itself")
		}
		d.open()
		d.open()
		ask(catchUpPatience)
		if served != 2 {
			t.Fatal("not served once the door was open")
		}
	})
}
