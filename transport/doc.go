// Package transport carries raft's messages between the members of a cluster, and opens connections for bulk.
//
// It owns the streams to and from every peer: dialing, handshake, framing, queues, liveness, and what is counted about
// them. It leaves to others what messages mean and what is lost (the replica tells by itself), who belongs (SetPeers,
// Options.IsRemoved), what goes through a bulk stream (snapshots), and the listener with its HTTP server, whose
// read-header timeout bounds how long a connection may be silent before its handshake.
//
// # What flows
//
//	Send ──► per peer: queue "messages" ──► writer ──TCP──► reader ──► Handler.ReceiveEntries   (of the other member)
//	                └► queue "control"  ──► writer ──TCP──► reader ──► Handler.Receive
//	OpenBulk ─────────────────────────────────────TCP──────────────► Handler.Bulk
//	OpenFetch ────────────────────────────────────TCP──────────────► Handler.Fetch
//
// A few small messages are written by whoever sends them, if nobody is at the stream and the socket takes them at once;
// otherwise the writer is woken.
//
// Each arrow is a TCP connection of its own, dialed by the member that sends: two members are joined by four streams
// that last and, at times, one for bulk each way. The format is in docs/formats/peer-stream.md.
//
// Messages: everything whose length or order has to do with entries: MsgApp with and without entries, MsgProp, MsgSnap.
// Control: all the rest, so that it never waits behind entries. Acknowledgements of entries (MsgAppResp) go there too: in
// their direction entries are forwarded proposals, behind which a commit must not wait, and they refer to nothing else
// that has to come first. Each stream keeps the order of what was sent; between the two there is none.
//
// # An outgoing stream
//
//	              handshake accepted
//	connecting ───────────────────────► up
//	   │   ▲ ▲                           │
//	   │   │ └───────── lost ────────────┘   the queue is dropped, Unreachable
//	   │   │
//	failed │ after a pause of 50 ms to 1 s
//	   ▼   │
//	   down                                  the queue is dropped, Unreachable; Send drops
//
// A first attempt keeps what is sent meanwhile; once an attempt has failed, Send drops until one succeeds: messages of
// consensus do not get better with age.
//
// The side that dialed sends a ping every second, the other side answers it, and also says once a second that bytes
// arrive, so that a long queue on a slow line is not taken for silence. Either side closes a connection that was silent
// for ReadTimeout, or took nothing for WriteTimeout.
//
// # Invariants
//
//   - Send never waits for the network or for a handler. ReceiveEntries may wait for a disk: what waits with it are later messages of its
//     stream, a newer stream in its place, and Stop. The other side is told meanwhile that this one is there.
//   - Handler.Receive and ReceiveEntries get messages of one stream in the order they were sent, each once, none invented: from a sender
//     whose handshake named this cluster, this member and itself, addressed to this member, with sound checksums.
//   - At most one stream of a kind is accepted from a member; a newer one replaces the older, which has delivered its last
//     message before the newer one delivers its first.
//   - Entries are encoded once, however many peers they go to, and never copied if they are large.
//   - A message may get lost at any time. If one did because of a full queue or a lost connection, Handler.Unreachable
//     follows.
//
// Everything of Transport may be called from anywhere at any time. The handler's Unreachable and Removed are called by
// one goroutine of the transport, never from within a call to it; Receive, ReceiveEntries and Bulk by a goroutine per stream. The messages
// and entries given to Send are read later, by several goroutines: nobody may change them any more.
//
// Goroutines: two per outgoing stream (writer, and reader of answers), one per accepted stream (the HTTP server's), another one if it is for
// messages, one that reports. All have ended when Stop returns.
package transport
