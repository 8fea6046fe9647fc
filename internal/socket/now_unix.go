//go:build unix

package socket

import (
	"errors"
	"io"
	"syscall"
)

// CanReadNow: ReadNow and WriteNow can do it here.
const CanReadNow = true

// ReadNow reads what is there on a socket that does not wait; ready is false if that is nothing. io.EOF is the end.
func ReadNow(fd uintptr, b []byte) (n int, ready bool, err error) {
	for {
		n, err = receive(fd, b)
		switch {
		case errors.Is(err, syscall.EINTR):
			continue
		case errors.Is(err, syscall.EAGAIN):
			return 0, false, nil
		case err == nil && n == 0:
			err = io.EOF
		}
		return max(n, 0), true, err
	}
}

// WriteNow writes what a socket that does not wait takes, which may be nothing.
func WriteNow(fd uintptr, b []byte) (n int, err error) {
	for {
		n, err = send(fd, b)
		switch {
		case errors.Is(err, syscall.EINTR):
			continue
		case errors.Is(err, syscall.EAGAIN):
			return 0, nil
		}
		return max(n, 0), err
	}
}

// HasInput reports whether a read of a socket that does not wait would find something: bytes, the end, or an error.
func HasInput(fd uintptr) bool {
	for {
		switch err := peek(fd); {
		case errors.Is(err, syscall.EINTR):
		case errors.Is(err, syscall.EAGAIN):
			return false
		default:
			return true
		}
	}
}
