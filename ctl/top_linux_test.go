package ctl

import (
	"bufio"
	"fmt"
	"io"
	"net"
	"os"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"keelson/internal/testkit"
)

// terminal opens a terminal of its own: what is written to keyboard is typed at it. What it shows nobody reads.
func terminal(t *testing.T) (keyboard, screen *os.File) {
	t.Helper()
	keyboard, err := os.OpenFile("/dev/ptmx", os.O_RDWR, 0)
	if err != nil {
		t.Fatal(err)
	}
	number, err := unix.IoctlGetUint32(int(keyboard.Fd()), unix.TIOCGPTN)
	if err == nil {
		err = unix.IoctlSetPointerInt(int(keyboard.Fd()), unix.TIOCSPTLCK, 0)
	}
	if err == nil {
		screen, err = os.OpenFile(fmt.Sprintf("/dev/pts/%d", number), os.O_RDWR, 0)
	}
	if err != nil {
		t.Fatal(err)
	}
	shown := make(chan struct{})
	go func() {
		defer close(shown)
		io.Copy(io.Discard, keyboard)
	}()
	t.Cleanup(func() {
		screen.Close()
		keyboard.Close()
		<-shown
	})
	return keyboard, screen
}

// silentEndpoint answers so many requests for its metrics; of the next one it tells, and says nothing any more.
func silentEndpoint(t *testing.T, answers int64) (address string, asked <-chan struct{}) {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { l.Close() })
	var left atomic.Int64
	left.Store(answers)
	waits := make(chan struct{}, 16)
	go func() {
		for {
			c, err := l.Accept()
			if err != nil {
				return
			}
			t.Cleanup(func() { c.Close() })
			go func() {
				if line, _ := bufio.NewReader(c).ReadString('\n'); !strings.HasPrefix(line, "GET ") {
					return
				}
				if left.Add(-1) >= 0 {
					io.WriteString(c, "HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n")
					return
				}
				waits <- struct{}{}
			}()
		}
	}()
	return l.Addr().String(), waits
}

// A key ends top at once, whatever it waits for.
func TestTopEndsWithAKey(t *testing.T) {
	p := testkit.NewProcess(t)
	p.Start()
	for _, key := range []string{"q", "\x03"} {
		for answers := range int64(2) {
			silent, asked := silentEndpoint(t, answers)
			keyboard, screen := terminal(t)
			ended := make(chan int)
			go func() {
				args := []string{"top", "--interval=10ms", "--command-timeout=1h", "--endpoints", p.Endpoint + "," + silent}
				ended <- Keelson(args, Streams{In: screen, Out: screen, Err: screen}, "", nil, noTools)
			}()
			patience := time.After(time.Minute)
			select {
			case <-asked:
			case <-patience:
				t.Fatal("top does not ask")
			}
			if _, err := io.WriteString(keyboard, key); err != nil {
				t.Fatal(err)
			}
			select {
			case code := <-ended:
				if code != 0 {
					t.Errorf("%q after %d answers: exit code %d", key, answers, code)
				}
			case <-patience:
				t.Fatalf("%q does not end it after %d answers", key, answers)
			}
		}
	}
}
