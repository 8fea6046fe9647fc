package watch

import (
	"fmt"
	"slices"
	"sync"
	"testing"
	"testing/synctest"

	"keelson/state/mvcc"
)

var _ History = (*mvcc.Store)(nil)

// store is a History in memory. It keeps everything that ever happened for checking, and shows what is above its floor.
type store struct {
	mu    sync.Mutex
	all   []mvcc.Event
	pairs map[string]*mvcc.KeyValue
	rev   mvcc.Revision
	floor mvcc.Revision
	reads int   // calls of Changes
	fail  error // of Changes
	// asked, if set, is called once when the floor is asked for, as catching up does before it looks for events.
	asked func()
}

func newStore() *store { return &store{pairs: make(map[string]*mvcc.KeyValue), rev: 1, floor: -1} }

// change is one put, or a delete if value is "".
type change struct{ key, value string }

func put(key, value string) change { return change{key, value} }
func del(key string) change        { return change{key: key} }

// commit makes one revision of the changes and returns its events. Deletes of missing keys are left out; nothing left
// makes no revision.
func (s *store) commit(changes ...change) (events []mvcc.Event) {
	s.mu.Lock()
	defer s.mu.Unlock()
	rev := s.rev + 1
	for _, c := range changes {
		prev := s.pairs[c.key]
		ev := mvcc.Event{Kind: mvcc.Put, Sub: uint32(len(events)), Prev: prev}
		ev.KV = mvcc.KeyValue{Key: []byte(c.key), ModRevision: rev}
		switch {
		case c.value != "":
			ev.KV.Value, ev.KV.CreateRevision, ev.KV.Version = []byte(c.value), rev, 1
			if prev != nil {
				ev.KV.CreateRevision, ev.KV.Version, ev.KV.Lease = prev.CreateRevision, prev.Version+1, int64(prev.Version)
			}
			kept := ev.KV
			s.pairs[c.key] = &kept
		case prev == nil:
			continue
		default:
			ev.Kind = mvcc.Delete
			delete(s.pairs, c.key)
		}
		events = append(events, ev)
	}
	if len(events) > 0 {
		s.rev = rev
		s.all = append(s.all, events...)
	}
	return events
}

func (s *store) compact(rev mvcc.Revision) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.floor = max(s.floor, rev)
}

func (s *store) Revision() mvcc.Revision {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.rev
}

func (s *store) Compacted() mvcc.Revision {
	if asked := s.asked; asked != nil {
		s.asked = nil
		asked()
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.floor
}

func (s *store) since(from mvcc.Revision) []mvcc.Event {
	i, _ := slices.BinarySearchFunc(s.all, from, func(ev mvcc.Event, rev mvcc.Revision) int {
		return int(ev.KV.ModRevision - rev)
	})
	return s.all[i:len(s.all):len(s.all)]
}

func (s *store) Changes(from, to mvcc.Revision, lower, upper []byte, maxBytes int, f func(*mvcc.Event) error) (mvcc.Revision, error) {
	s.mu.Lock()
	floor, fail := s.floor, s.fail
	events := s.since(from)
	s.reads++
	if to > s.rev {
		panic(fmt.Sprintf("history asked up to %d of %d", to, s.rev))
	}
	s.mu.Unlock()
	if fail != nil {
		return 0, fail
	}
	if from < floor {
		return 0, mvcc.ErrCompacted
	}
	size := 0
	var last mvcc.Revision
	for _, ev := range events {
		rev := ev.KV.ModRevision
		if rev > to {
			break
		}
		if rev != last && size >= maxBytes {
			return rev, nil
		}
		last = rev
		if string(ev.KV.Key) < string(lower) || upper != nil && string(ev.KV.Key) >= string(upper) {
			continue
		}
		size += eventPayload(&ev)
		if rev-1 < floor {
			ev.Prev = nil
		}
		ev.KV.Key, ev.KV.Value = slices.Clone(ev.KV.Key), slices.Clone(ev.KV.Value)
		if err := f(&ev); err != nil {
			return 0, err
		}
		scribble(ev.KV.Key) // the event was only valid during the call
		scribble(ev.KV.Value)
	}
	return to + 1, nil
}

func scribble(b []byte) {
	for i := range b {
		b[i] = '!'
	}
}

// fixture is a store, a hub on it, and what tests do with them.
type fixture struct {
	t     testing.TB
	store *store
	hub   *Hub
}

func newFixture(t testing.TB, o Options) *fixture {
	s := newStore()
	return &fixture{t: t, store: s, hub: NewHub(s, o)}
}

// commit makes one revision and publishes it.
func (f *fixture) commit(changes ...change) mvcc.Revision {
	if events := f.store.commit(changes...); len(events) > 0 {
		f.hub.Publish(events, events[0].KV.ModRevision)
	}
	return f.store.Revision()
}

// puts makes n revisions of key.
func (f *fixture) puts(key string, n int) {
	for i := range n {
		f.commit(put(key, fmt.Sprint(i)))
	}
}

// putsOneByOne is puts with time for each to be dispatched.
func (f *fixture) putsOneByOne(key string, n int) {
	for i := range n {
		f.commit(put(key, fmt.Sprint(i)))
		synctest.Wait()
	}
}
