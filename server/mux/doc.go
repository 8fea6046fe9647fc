// Package mux lets one port speak gRPC and HTTP.
//
// A Mux accepts connections from a listener, looks at the first bytes of each, and hands it, with nothing consumed, to
// one of two listeners of its own, which a gRPC server and an HTTP server accept from as if they had ports of their own:
//
//	                     ┌─ "PRI * HTTP/2.0\r\n..." ──► GRPC()
//	accept ─► undecided ─┤
//	              │      └─ anything else ────────────► HTTP()
//	              └─ silent too long, too many, closed ─► closed
//
// It owns connections until they are handed over; then the servers do, and the mux keeps neither goroutine nor record of
// them. A connection that says nothing is closed after a while, and of too many undecided ones the oldest: whoever opens
// connections and keeps silent takes nothing away from those who speak.
//
// The decision is made in one function from the bytes alone. A listener that also takes TLS adds one more answer to it
// (a record of type handshake, 0x16), whose connections are decided again after the handshake.
//
// Serve runs in one goroutine, the listeners may be used and closed from any. Close ends everything and waits for it.
//
// Source: the v3 API specification, 1.8.
package mux
