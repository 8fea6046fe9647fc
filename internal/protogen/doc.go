// Command protogen writes the Go code of our .proto files: messages, gRPC stubs and gateway handlers, next to each file. It needs no
// protoc: a Go library compiles the files, and the plugins are Go programs, run at a fixed version each.
//
// It is run by `make generate`, in its own directory; nothing imports it.
package main
