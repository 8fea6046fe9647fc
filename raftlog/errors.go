package raftlog

import (
	"errors"
	"fmt"
)

var (
	// ErrNoLog is returned by Open when the directory holds no segment: the log was never created.
	ErrNoLog = errors.New("raftlog: no log in this directory")
	// ErrExists is returned by Create when the directory already holds a segment.
	ErrExists = errors.New("raftlog: directory already holds a log")
	// ErrWrongMember is returned by Open when the log was written by another member or for another cluster.
	ErrWrongMember = errors.New("raftlog: log belongs to another member")
	// ErrCorrupt is what every CorruptError is, for errors.Is.
	ErrCorrupt = errors.New("raftlog: corrupt")
	// ErrStateMismatch is returned by Open when the log and the state on disk do not fit together.
	ErrStateMismatch = errors.New("raftlog: log and state do not fit together")
	// ErrStateBehind is an ErrStateMismatch: the state ends before the log begins. A newer state would do.
	ErrStateBehind = fmt.Errorf("%w: a state that is too old", ErrStateMismatch)
	// ErrClosed is returned by calls that come after Close.
	ErrClosed = errors.New("raftlog: closed")
)

// The advice at the end of a refusal. A log is never repaired silently, so a person has to decide.
const (
	adviceDamage = "the log is damaged and was not changed: check the disk, then replace this member " +
		"(remove it, wipe its data directory, add it as a learner) or restore the directory from a backup"
	adviceForeign = "put files that belong together back, or replace this member (remove it, wipe its data directory, add it as a learner)"
	adviceVersion = "the log was written by another version of the program: start that version"
)

// CorruptError names the bytes that are not what they must be. It is an ErrCorrupt.
type CorruptError struct {
	File     string // full path
	Offset   int64  // bytes from the start of File
	Expected string
	Found    string
	Advice   string // what the operator can do
}

func (e *CorruptError) Error() string {
	return fmt.Sprintf("raftlog: %s at offset %d: expected %s, found %s; %s",
		e.File, e.Offset, e.Expected, e.Found, e.Advice)
}

// Is makes every CorruptError an ErrCorrupt.
func (e *CorruptError) Is(target error) bool { return target == ErrCorrupt }

func corrupt(file string, offset int64, expected, found string) *CorruptError {
	return &CorruptError{File: file, Offset: offset, Expected: expected, Found: found, Advice: adviceDamage}
}
