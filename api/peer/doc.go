// Package peer is what members ask of each other over HTTP, on the port where they also exchange messages: the member
// list, promotions and leases that only the leader can decide about, hashes to compare, versions.
//
// It owns both ends. Handler answers; Client asks the leader, or everybody. Above the client stand three parts that hide
// from package v3 who leads: Lessor (renewals and times of leases), Promoter (learners become voters) and, for the
// comparison of hashes, Checker. It leaves the streams of raft's messages and snapshots to package transport, whose paths
// below /raft the server mounts beside Handler, and it decides nothing about leases and members itself: that is the
// node's.
//
// What flows: a request that came in at a member that does not lead goes out as an HTTP request to the leader's peer URL;
// its answer, an error included, comes back unchanged. Errors travel as the texts that clients know (errors.go).
//
// Invariants: whoever asks gives up within the request timeout; a body is never read beyond its bound; a reply tells of
// which cluster it is, and a request for another cluster is refused; a member that cannot be asked for its hash counts as
// unchecked, never as checked.
//
// All types are safe for concurrent use. Lessor and Checker own goroutines; see there.
package peer
