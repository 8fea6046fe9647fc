package rpc

import (
	"net"
	"syscall"

	"golang.org/x/sys/unix"
)

// limitUnacknowledged has the kernel end a connection on which bytes stay unacknowledged for the keepalive timeout, as
// grpc-go does. Connections that are no TCP sockets have no such limit.
func limitUnacknowledged(nc net.Conn, o *Options) {
	if o.KeepaliveTime < 0 {
		return
	}
	if t, ok := nc.(interface{ NetConn() net.Conn }); ok {
		nc = t.NetConn()
	}
	socket, ok := nc.(syscall.Conn)
	if !ok {
		return
	}
	if raw, err := socket.SyscallConn(); err == nil {
		milliseconds := int(o.KeepaliveTimeout.Milliseconds())
		raw.Control(func(fd uintptr) { unix.SetsockoptInt(int(fd), unix.IPPROTO_TCP, unix.TCP_USER_TIMEOUT, milliseconds) })
	}
}
