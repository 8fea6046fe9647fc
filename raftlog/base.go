package raftlog

import (
	"errors"
	"fmt"
)

// Base returns the position behind which the log in o.Dir begins: a state that ends before it can't go on with this log. What
// Open checks is checked, but for the state. Nothing is changed.
//
// Errors: ErrNoLog, ErrWrongMember, CorruptError, failures to read.
func Base(o Options) (at Position, err error) {
	r := recoverer{o: o.withDefaults()}
	defer func() { err = errors.Join(err, r.close()) }()
	if err := r.read(); err != nil {
		return at, fmt.Errorf("raftlog: base of %s: %w", o.Dir, err)
	}
	return r.index.base, nil
}
