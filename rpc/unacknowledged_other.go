//go:build !linux

package rpc

import "net"

// limitUnacknowledged does nothing: only Linux has it.
func limitUnacknowledged(net.Conn, *Options) {}
