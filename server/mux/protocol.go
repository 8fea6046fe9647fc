package mux

import "bytes"

// preface is what an HTTP/2 client that needs no upgrade says first. RFC 9113, 3.4.
const preface = "PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"

// protocol is what a connection speaks.
type protocol int

const (
	undecided protocol = iota // more bytes are needed
	http1
	http2  // with prior knowledge, which in clear text means gRPC
	secure // TLS
)

// handshakeRecord is the first byte of a TLS connection: the type of its first record. RFC 8446, 5.1.
const handshakeRecord = 0x16

// decide tells from the first bytes of a connection what is to become of it.
func (o Options) decide(first []byte) protocol {
	switch {
	case o.SecureOnly:
		return secure
	case len(first) == 0:
		return undecided
	case o.Secure != nil && first[0] == handshakeRecord:
		return secure
	case o.Whole:
		return http1
	}
	return decide(first)
}

// decide tells from the first bytes of a connection in clear text what it speaks. It needs at most len(preface) bytes.
func decide(first []byte) protocol {
	switch {
	case len(first) >= len(preface) && string(first[:len(preface)]) == preface:
		return http2
	case len(first) < len(preface) && bytes.HasPrefix([]byte(preface), first):
		return undecided
	}
	return http1
}
