package env

import (
	"fmt"

	"golang.org/x/sys/unix"
)

// set sets the options of a socket that is about to listen.
func (o NetworkOptions) set(fd uintptr) error {
	for _, option := range []struct {
		wanted bool
		name   string
		number int
	}{{o.ReusePort, "SO_REUSEPORT", unix.SO_REUSEPORT}, {o.ReuseAddress, "SO_REUSEADDR", unix.SO_REUSEADDR}} {
		if !option.wanted {
			continue
		}
		if err := unix.SetsockoptInt(int(fd), unix.SOL_SOCKET, option.number, 1); err != nil {
			return fmt.Errorf("set %s: %w", option.name, err)
		}
	}
	return nil
}
