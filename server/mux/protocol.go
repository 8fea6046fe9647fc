package mux

import "bytes"

// preface is what an HTTP/2 client that needs no upgrade says first. RFC 9113, 3.4.
const preface = "PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"

// protocol is what a connection speaks.
type protocol int

const (
	undecided protocol = iota // more bytes are needed
	http1
	http2 // with prior knowledge, which in clear text means gRPC
)

// decide tells from the first bytes of a connection what it speaks. It needs at most len(preface) bytes.
func decide(first []byte) protocol {
	switch {
	case len(first) >= len(preface) && string(first[:len(preface)]) == preface:
		return http2
	case len(first) < len(preface) && bytes.HasPrefix([]byte(preface), first):
		return undecided
	}
	return http1
}
