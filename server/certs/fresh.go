package certs

import (
	"errors"
	"os"
	"slices"
	"sync"
	"time"
)

// fresh is what was made of some files, and is made anew once one of them has changed. It costs a stat of each file to ask
// for it. Safe for use by many goroutines.
type fresh[T any] struct {
	paths []string
	parse func(contents [][]byte) (T, error)

	mu     sync.Mutex
	seen   []os.FileInfo // of the files that value was made of; nil: there is no value
	seenAt time.Time     // when they were looked at, before they were read
	value  T
}

func newFresh[T any](parse func([][]byte) (T, error), paths ...string) *fresh[T] {
	return &fresh[T]{paths: paths, parse: parse}
}

// get returns the value as the files have it now. After an error the next call tries again.
func (f *fresh[T]) get() (T, error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	var none T
	at := time.Now()
	now := make([]os.FileInfo, len(f.paths))
	for i, path := range f.paths {
		var err error
		if now[i], err = os.Stat(path); err != nil {
			f.seen = nil
			return none, asOpen(err)
		}
	}
	if f.seen != nil && slices.EqualFunc(f.seen, now, f.unchanged) {
		return f.value, nil
	}
	f.seen = nil
	contents := make([][]byte, len(f.paths))
	for i, path := range f.paths {
		var err error
		if contents[i], err = os.ReadFile(path); err != nil {
			return none, err
		}
	}
	value, err := f.parse(contents)
	if err != nil {
		return none, err
	}
	f.seen, f.seenAt, f.value = now, at, value
	return value, nil
}

// asOpen is what opening the file would have said, in words that people know.
func asOpen(err error) error {
	if failed := (*os.PathError)(nil); errors.As(err, &failed) {
		return &os.PathError{Op: "open", Path: failed.Path, Err: failed.Err}
	}
	return err
}

// settleTime is how old a change must have been when it was seen, so that one after it can't have had the same time: file
// systems keep time in steps, of seconds at worst.
const settleTime = 2 * time.Second

// unchanged reports whether a file is certainly the one that was read.
func (f *fresh[T]) unchanged(seen, now os.FileInfo) bool {
	return os.SameFile(seen, now) && seen.Size() == now.Size() && seen.ModTime().Equal(now.ModTime()) &&
		f.seenAt.Sub(seen.ModTime()) > settleTime
}
