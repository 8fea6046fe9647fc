// Package socket writes to sockets without waiting, reads from them without holding memory meanwhile, and looks whether there is something to read.
//
// A goroutine that has something small to say on an idle connection says it itself, rather than wake the one that writes: a
// wake-up costs more than the write. What the socket does not take at once is left to the writer. A connection at rest needs no
// buffer to read into: most of thousands are at rest, and what is used again at once is in the processor's caches.
//
// It owns the system calls. It leaves to its callers (transport, server/mux, http1, bench) who may read and write when, and what is left over.
package socket
