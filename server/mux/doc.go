// Package mux lets one port speak gRPC and HTTP, with TLS and without.
//
// A Mux accepts connections from a listener, looks at the first bytes of each, and hands it, with nothing consumed, to
// one of three listeners of its own, which servers accept from as if they had ports of their own:
//
//	                     ┌─ "PRI * HTTP/2.0\r\n..." ──────────────► GRPC()
//	accept ─► undecided ─┼─ 0x16, if TLS is spoken ─► handshake ──► Secure()
//	              │      └─ anything else ────────────────────────► HTTP()
//	              └─ silent too long, too many, closed ───────────► closed
//
// It owns connections until they are handed over; then the servers do, and the mux keeps neither goroutine nor record of
// them. A connection that says nothing is closed after a while, handshake included, and of too many undecided ones the
// oldest: whoever opens connections and keeps silent takes nothing away from those who speak. Handshakes run side by side.
//
// The decision is made in one function from the bytes alone. What comes out of a handshake is not looked at again: over
// TLS both kinds of requests share connections, and are told apart one by one.
//
// Serve runs in one goroutine, the listeners may be used and closed from any. Close ends everything and waits for it.
//
// Source: the v3 API specification, 1.8.
package mux
