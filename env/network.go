package env

import (
	"context"
	"net"
)

// Network is the door to other processes.
type Network interface {
	// Listen opens a stream listener; network is "tcp" or "unix".
	Listen(ctx context.Context, network, address string) (net.Listener, error)
	// Dial opens a stream connection.
	Dial(ctx context.Context, network, address string) (net.Conn, error)
}

// SystemNetwork is the operating system's network.
func SystemNetwork() Network { return systemNetwork{} }

type systemNetwork struct{}

func (systemNetwork) Listen(ctx context.Context, network, address string) (net.Listener, error) {
	var lc net.ListenConfig
	return lc.Listen(ctx, network, address)
}

func (systemNetwork) Dial(ctx context.Context, network, address string) (net.Conn, error) {
	var d net.Dialer
	return d.DialContext(ctx, network, address)
}
