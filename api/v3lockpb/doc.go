// Package v3lockpb is the wire contract of the service Lock: v3lock.proto, and the Go code that `make generate` makes of it.
//
// It owns names and numbers of messages, which are etcd's and never change; what the calls do is api/v3's. Whoever serves or
// calls Lock uses it. Beside etcd's own package of that name it can't be linked into one program: both would register the
// same messages.
package v3lockpb
