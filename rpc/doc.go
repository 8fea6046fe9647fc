// Package rpc is a gRPC server on HTTP/2, made for unary calls that cost next to nothing.
//
// It takes services as they are generated for grpc-go (Server is a grpc.ServiceRegistrar) with a codec and interceptors
// of package grpc, and gives handlers the contexts that they know: metadata, peer, deadline, grpc.SetHeader. What it owns
// is everything between a net.Conn and a handler: frames (frames.go), header blocks (headers.go, request.go), flow
// control and messages in (inbound.go) and out (output.go), the calls (unary.go, serverstream.go), keepalive, deadlines
// and the orderly end (timers.go), and what is not gRPC and goes to a plain http.Handler (fallback.go). Who listens,
// what is served and what is counted is left to the caller.
//
//	          ┌────────────── reader ──────────────┐
//	conn ───► input ─► frame ─► stream ─► message ─┼─► worker: handler ─► reply ─┐
//	          └────────────────────────────────────┘                             │ under conn.mu
//	conn ◄─────────────────────── writer ◄──── out (and the streams' queues) ◄───┘
//
// A connection at rest has one goroutine, the reader, and no buffer: memory is lent to it when there is something to read. The reader
// parses frames where they lie in its buffer and hands complete requests to pooled workers, or runs methods that never wait by itself; those may also leave their answer to somebody else (deferred.go).
// Whoever has an answer appends it to the connection's output
// under a short lock; the writer, a worker as long as there is something to write, takes all of it at once. While the reader has more to look at, the writer is held back,
// so that what came together is answered together. An answer that comes alone, on a connection that can be written to without
// waiting, is written by whoever has it, and nobody is woken.
//
// Invariants. One lock per connection, conn.mu, guards everything that both sides touch; no handler, codec or callback
// runs under it. The reader never waits for a handler or a socket to be written, except while a client leaves so much
// behind (orphansMax, outBytesHigh) that reading on would cost memory. Every buffer has a bound: what a client sends by
// its windows, by grantBytesMax and unreadBytesMax; what it does not take by sendQueueMax on each stream, or one
// message; its header blocks by HeaderBytesMax and fragmentsMax; frames that serve nothing by noiseMax.
//
// Violations end what they concern: a stream with RST_STREAM, the connection with GOAWAY and the code that RFC 9113 asks
// for. Where gRPC leaves room, texts and order of checks are those of grpc-go, so that clients see no difference.
//
// Sources: RFC 9113 (HTTP/2), RFC 7541 (HPACK), gRPC over HTTP2 (PROTOCOL-HTTP2.md of the gRPC project).
package rpc
