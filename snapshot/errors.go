package snapshot

import "errors"

// What is in the error of a Send or a Receive that has failed, beside failures of the disk and of the stream.
var (
	// ErrRefused: the receiver does not want the snapshot. Its reason follows.
	ErrRefused = errors.New("the receiver refuses the snapshot")
	// ErrGarbled: what came is not what the other side sends.
	ErrGarbled = errors.New("the stream is garbled")
	// ErrVersion: the other side speaks a later version of the protocol, or something else.
	ErrVersion = errors.New("unknown protocol version")
	// ErrLimit: the snapshot is larger than the receiver has been told to take.
	ErrLimit = errors.New("the snapshot is too large")
	// ErrStalled: the other side stood still for too long.
	ErrStalled = errors.New("the other side stands still")
)
