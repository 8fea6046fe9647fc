// Package socket writes to sockets without waiting.
//
// A goroutine that has something small to say on an idle connection says it itself, rather than wake the one that writes: a
// wake-up costs more than the write. What the socket does not take at once is left to the writer.
//
// It owns the system call. It leaves to its callers (transport, server/mux) who may write when, and what is left over.
package socket
