// Package surface compares what a server program called etcd shows to the outside, ours and etcd's own, both run as
// black boxes on the same addresses with the same command lines: the JSON gateway and the other HTTP pages request by
// request.
//
// What the two may differ in is said where it is compared, each with its row in docs/differences.md.
package surface
