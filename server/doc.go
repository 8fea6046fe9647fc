// Package server is one process: its parts opened, wired, started and stopped in order. It is also what embedders and
// tests call.
//
// From below to above: the data directory is locked, the store and the raft log are opened and found to fit together,
// the node runs them, the services speak for the node, the listeners let clients in, and the member tells the cluster
// where it is. Stopping goes the other way. Nothing here decides how the parts behave: this is the one place that
// knows them all, and it stays a list.
package server
