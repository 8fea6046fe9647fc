// Package testkit holds what several packages' tests share: a member as a real process, and clients for it.
//
// It is for tests only. Whatever it starts it also ends, through testing.TB's Cleanup.
package testkit
