package config

import (
	"fmt"
	"net"
)

// DefaultHost is the address that packets to the outside leave from. Nothing is sent to find out: connecting a
// datagram socket only asks the routing table.
func DefaultHost() (string, error) {
	const outside = "192.0.2.1:9" // documentation network, RFC 5737
	conn, err := net.Dial("udp4", outside)
	if err != nil {
		return "", fmt.Errorf("config: default route: %w", err)
	}
	defer conn.Close()
	return conn.LocalAddr().(*net.UDPAddr).IP.String(), nil
}
