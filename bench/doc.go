// Package bench is the load generator: it measures a server that speaks etcd's v3 API, ours or another, from outside.
//
// It owns a client made for nothing else, the loads, the histogram and the report. It leaves starting servers and
// comparing them to whoever calls it, and it knows nothing of this project's packages: it speaks the wire.
//
//	Options ─► load ─► conn (one reader, one writer goroutine each) ⇄ server
//	              │
//	              └─► histogram, counters ─► Result ─► report
//
// On a machine where load and server share the cores, what the load costs is taken from the server. So there is no
// goroutine per request: a connection's reader finishes a call, its completion starts the next one, and what was
// written meanwhile goes out in one write when no more input is buffered. Requests are encoded by hand. Server CPU
// and memory are read from the operating system when the server's process id is given.
//
// Run may be called from any goroutine; everything it starts has ended when it returns.
package bench
