package v2

import (
	"bufio"
	"fmt"
	"net"
	"net/http"
	"strings"
	"testing"
	"time"
)

// Large forms take turns; small ones do not wait for them, and who holds a turn without sending does not hold it for ever.
func TestLargeFormsTakeTurns(t *testing.T) {
	s := newService(t)
	var holding []net.Conn
	for range largeFormsMax {
		c, err := net.Dial("tcp", s.server.Listener.Addr().String())
		if err != nil {
			t.Fatal(err)
		}
		defer c.Close()
		fmt.Fprintf(c, "PUT /v2/keys/a HTTP/1.1\r\nHost: h\r\nContent-Type: application/x-www-form-urlencoded\r\nContent-Length: %d\r\n\r\nvalue=", smallFormBytes+6)
		holding = append(holding, c)
	}
	for deadline := time.Now().Add(30 * time.Second); len(s.handler.forms) < largeFormsMax; time.Sleep(time.Millisecond) {
		if time.Now().After(deadline) {
			t.Fatalf("%d turns", len(s.handler.forms))
		}
	}
	if got := s.ask("PUT", "/v2/keys/small", "value=x"); !strings.HasPrefix(got, "201 ") {
		t.Errorf("a small one: %s", got)
	}
	large := make(chan string)
	go func() { large <- s.ask("PUT", "/v2/keys/b", "value="+strings.Repeat("v", 2*smallFormBytes)) }()
	fmt.Fprint(holding[3], strings.Repeat("v", smallFormBytes))
	if got := <-large; !strings.HasPrefix(got, "201 ") {
		t.Errorf("the next one: %.100s", got)
	}
	resp, err := http.ReadResponse(bufio.NewReader(holding[3]), nil)
	if err != nil || resp.StatusCode/100 != 2 {
		t.Errorf("the one that held a turn: %v, %v", resp, err)
	}
}
