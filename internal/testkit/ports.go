package testkit

import (
	"fmt"
	"math/rand/v2"
	"net"
	"sync"
	"testing"
)

// Ports are given out below those that systems use for outgoing connections: what is free while its member is down must
// still be free when the member comes back.
const portMin, portMax = 10000, 30000

var claimed sync.Map // sockets, by address: closed when this process ends

// FreeAddress returns a loopback address that nobody listens on and that no process's FreeAddress has returned before.
func FreeAddress(t testing.TB) string {
	t.Helper()
	for range 1000 {
		if port := portMin + rand.IntN(portMax-portMin); Claim(port) {
			return fmt.Sprintf("127.0.0.1:%d", port)
		}
	}
	t.Fatal("no free address")
	return ""
}

// Claim reports whether nobody listens on a port of 127.0.0.1 and no process has claimed it, and claims it for as long as this
// one runs. The claim is a socket on the port of that number that datagrams have: members use none.
func Claim(port int) bool {
	address := fmt.Sprintf("127.0.0.1:%d", port)
	claim, err := net.ListenPacket("udp", address)
	if err != nil {
		return false
	}
	l, err := net.Listen("tcp", address)
	if err != nil {
		claim.Close()
		return false
	}
	l.Close()
	claimed.Store(address, claim)
	return true
}
