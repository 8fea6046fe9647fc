//go:build !linux

package transport

import (
	"net"
	"time"
)

// setUserTimeout does nothing here: see sockopt_linux.go.
func setUserTimeout(net.Conn, time.Duration) {}
