package raftlog

import (
	"errors"
	"fmt"

	"go.etcd.io/raft/v3/raftpb"
)

// walkBytes is how much of a log Walk holds at a time, as raft counts.
const walkBytes = 1 << 20

// Walk calls f with each entry of the log in o.Dir as it stands: in order, without those that others replaced; committed tells
// whether the log says that it is. What Open checks is checked, but for the state; an unfinished write at the end does not
// count. Nothing is changed.
//
// Errors: those of f, ErrNoLog, ErrWrongMember, CorruptError, failures to read.
func Walk(o Options, f func(e *raftpb.Entry, committed bool) error) (err error) {
	r := recoverer{o: o.withDefaults()}
	defer func() { err = errors.Join(err, r.close()) }()
	if err := r.read(); err != nil {
		return fmt.Errorf("raftlog: walk %s: %w", o.Dir, err)
	}
	l := r.log()
	for next, end := l.index.base.Index+1, l.index.last+1; next < end; {
		entries, err := l.Entries(next, end, walkBytes)
		if err != nil {
			return err
		}
		for _, e := range entries {
			if err := f(e, e.GetIndex() <= l.hs.commit); err != nil {
				return err
			}
		}
		next += uint64(len(entries))
	}
	return nil
}
