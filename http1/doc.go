// Package http1 serves HTTP/1.1 requests that are simple, at next to no cost, and leaves all others to net/http.
//
// Simple is a request of a few methods for a path, with a host, short fields in plain ASCII, and either no body or one of
// a declared length that fits into a buffer (head.go). What a Handler makes of it is up to the handler, who may decline
// as well. A connection that sends anything else goes to net/http for good (handover.go), with every byte from the first
// one of that request on. So there are no odd cases here, and nothing that a proxy in front could see in another way
// than net/http does: whatever this package takes, net/http takes for the same request.
//
//	                          ┌─ complete, simple ─► Handler ─► answer ─► conn
//	conn ─► input ─► parse ──┤─ not complete yet ─► wait
//	                          └─ anything else ────► Handed ─► net/http
//
// A connection has one goroutine while there is something to do, and for a few seconds more. After that it rests, as does
// one whose answer is waited for (Poll): on Linux neither goroutine nor buffer belong to it then (rest_linux.go), so very
// many connections may wait. What comes, comes in order: a request is looked at when the answer before it is given.
//
// Invariants. A connection's input and output (work) belong to the goroutine that runs it; conn.mu guards what is left of
// it while it rests. A connection has at most one poll. Whoever takes poll away, under conn.mu, decides what becomes of
// it: Finish answers, a client that goes is noted.
//
// Bounds: inputMax for a request, RequestTimeout for the time from its first byte to its last, WriteTimeout for an answer
// that a client does not take. How many connections there are is bounded by whoever hands them in.
//
// Sources: RFC 9110, RFC 9112.
package http1
