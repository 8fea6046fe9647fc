// Package auth knows users, roles and permissions, and decides who may do what.
//
// It owns the table Auth. All of it is small and is kept in memory as well, as an immutable Set: reading needs no disk and
// no lock. A change goes through a Tx, which writes to the batch of Apply and leaves a new Set behind; package state
// publishes that Set once the batch is committed.
//
// Set.Authorize is the one place where the permission table of the API is decided: over a parsed request, which is a
// command or one of the types of request.go, with everything nested in it. What it does not know it denies. It is asked
// before a request is served and once more, with the same answer on all members, when a command is applied.
//
// It does not know who is asking: package api/identity turns certificates, tokens and passwords into the name that a Caller
// carries. It hashes and compares no password, and keeps no token; it only tells, in order, which tokens came and went.
//
// Invariants: users and roles are ordered by name, a user's roles by name, a role's permissions by key and end. The
// revision counts every change but enabling, and never goes back.
package auth
