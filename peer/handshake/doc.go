// Package handshake compares what two programs called etcd make of TLS, ours and etcd's own, both run as black boxes in the
// same situations: who is let in and who is not, what those who are not are told, and what the log says of them; versions,
// suites and protocols; what comes of clear text where TLS is spoken, and the reverse; files that change while they are used;
// names in certificates as names of users; members among themselves.
//
// Every situation starts both programs, has the same clients come to both, ends both, and holds what the clients saw, and the
// log lines about their connections, against each other. What the two may differ in are the rules in differences_test.go, each
// with its row in docs/differences.md.
package handshake
