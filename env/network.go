package env

import (
	"context"
	"net"
	"syscall"
)

// Network is the door to other processes.
type Network interface {
	// Listen opens a stream listener; network is "tcp" or "unix".
	Listen(ctx context.Context, network, address string) (net.Listener, error)
	// Dial opens a stream connection.
	Dial(ctx context.Context, network, address string) (net.Conn, error)
}

// NetworkOptions change how the system's network is used.
type NetworkOptions struct {
	// ReusePort lets several listeners share an address, ReuseAddress lets one have the address of another that has just
	// been closed.
	ReusePort, ReuseAddress bool
	// LocalIP is where TCP connections that are dialed come from. Nil: as the system sees fit.
	LocalIP net.IP
}

// SystemNetwork is the operating system's network.
func SystemNetwork() Network { return systemNetwork{} }

// NewNetwork is SystemNetwork with options.
func NewNetwork(o NetworkOptions) Network { return systemNetwork{o} }

type systemNetwork struct{ o NetworkOptions }

func (n systemNetwork) Listen(ctx context.Context, network, address string) (net.Listener, error) {
	var lc net.ListenConfig
	if network == "tcp" && (n.o.ReusePort || n.o.ReuseAddress) {
		lc.Control = func(_, _ string, c syscall.RawConn) error {
			var failure error
			if err := c.Control(func(fd uintptr) { failure = n.o.set(fd) }); err != nil {
				return err
			}
			return failure
		}
	}
	return lc.Listen(ctx, network, address)
}

func (n systemNetwork) Dial(ctx context.Context, network, address string) (net.Conn, error) {
	var d net.Dialer
	if network == "tcp" && n.o.LocalIP != nil {
		d.LocalAddr = &net.TCPAddr{IP: n.o.LocalIP}
	}
	return d.DialContext(ctx, network, address)
}
