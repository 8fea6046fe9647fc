// Package identity finds out who is asking: it turns a token, a certificate or a password into the name of a user.
//
// It owns the tokens that this member knows, which live for a time and are no part of the state, and the workers that hash
// and compare passwords. What a user may do is decided by package auth in state/auth; package identity says only who it is,
// and as of which revision of users and roles that was established.
//
// A simple token is sixteen letters drawn by chance, a dot, and the index of the log entry that made it known to all members.
// The log holds a digest of the letters. Each member counts a token's time by its own clock, from its last use here. A member
// that is shown a token which it has not heard of first makes sure that it has heard of everything; so a token is good at once
// on every member. JSON web tokens carry all there is to know in themselves.
//
// A clear password is never kept: neither in a log, nor in memory longer than its call. That a password was right is
// remembered as a keyed digest, with a key that dies with the process.
package identity
