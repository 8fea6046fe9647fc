// Package proxy stands between clients and a cluster: as a gateway, which forwards TCP connections and does not look
// inside, and as a gRPC proxy, which takes calls and makes them again.
//
//	client ──TCP──► gateway ──TCP──► a member that can be reached
//
//	client ──call──► grpc-proxy ──┬─ MemberList ───► answered: the proxy itself
//	                              ├─ Watch ────────► watchers of the same, joined into one (watchHub)
//	                              ├─ other calls ──► the same bytes, to a member (with a namespace: keys rewritten)
//	                              └─ HTTP ─────────► /health, /metrics of a member; /proxy/... of its own
//
// The gRPC proxy knows no method but those whose messages it has to read. It keeps nothing of a call when it has ended, so
// that it needs no storage and any number of them may stand before a cluster. What it gives a client is what a member gives:
// reads are not remembered and renewals of leases are passed on one by one.
//
// The package owns command lines, listeners and connections of both. It depends on no part of a member but for what
// listeners and TLS have in common. Each command runs until a signal ends it; what it starts has ended when it returns.
//
// Source: the operations specification, 1.19.
package proxy
