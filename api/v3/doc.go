// Package v3 is etcd's v3 API: the gRPC services KV, Watch, Lease, Cluster, Maintenance, Lock, Election
// and Health.
//
// It owns what a client can see of the protocol: the shape checks of requests and the order in which errors win, the
// translation of requests into commands and reads, the bytes of replies, and the one table from refusals to gRPC
// statuses (status.go). It leaves to others what the words mean: commands are carried out by the state machine, which
// it reaches through Member; who belongs and who leads is changed through Cluster; watchers live in package watch; the time
// left of a lease is known to Lessor, and whether a learner may vote to Promoter, whoever leads. The services
// are registered on any grpc.ServiceRegistrar whose codec is Codec().
//
// What flows: a request message comes in, is checked and becomes a command.Op for Member.Propose or a read of a
// state.View; the result is encoded by hand, straight from the state's own types, into a reply that Codec passes
// through as it is (codec.go). Ranges are encoded from the view's iterator into pooled chunks, under one budget of bytes
// for all running reads (budget.go); events of watches come encoded and are never copied.
//
// Invariants: nothing here changes state except through Member.Propose; no request makes the server allocate more than
// a small multiple of its own size before its limits were checked; an idle watch stream costs the handler's goroutine
// in Recv and nothing else (a stream opened with hasleader one more).
//
// All types are safe for concurrent use. One Services belongs to one member and is closed after the gRPC server that
// serves it has stopped.
package v3
