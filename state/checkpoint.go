package state

import (
	"context"
	"fmt"

	"keelson/storage"
)

// Checkpoint makes a copy of the state in dir, which must not exist, out of hard links: a database of its own. It
// returns which position it holds, and raft's configuration at that position (encoded; empty: none); both are read from
// the copy itself, because entries may be applied meanwhile. Everything that was applied when Checkpoint was called is in
// it. Any goroutine may call it; the removal of compacted versions waits for it.
func (m *Machine) Checkpoint(dir string) (at Position, confState []byte, err error) {
	v := m.View() // keeps the database open
	defer v.Close()
	db := v.store.db
	if err := db.Checkpoint(dir); err != nil {
		return Position{}, nil, fmt.Errorf("state: checkpoint: %w", err)
	}
	c, err := db.OpenCheckpoint(dir)
	if err != nil {
		return Position{}, nil, fmt.Errorf("state: checkpoint: %w", err)
	}
	at, confState, err = v.readCheckpoint(c)
	if e := c.Close(); err == nil {
		err = e
	}
	if err != nil {
		return Position{}, nil, fmt.Errorf("state: checkpoint: %w", err)
	}
	return at, confState, nil
}

// readCheckpoint reads what a checkpoint holds that was begun after v was opened.
func (v *View) readCheckpoint(c *storage.DB) (at Position, confState []byte, err error) {
	s, err := openStore(c, Options{NewestCacheBytes: -1})
	if err != nil {
		return Position{}, nil, err
	}
	p := s.shared.Load()
	if was := v.published.applied; p.applied.Index < was.Index {
		return Position{}, nil, fmt.Errorf("checkpoint ends at %d, but %d was applied before", p.applied.Index, was.Index)
	}
	return p.applied, p.members.ConfState(), nil
}

// Flush makes everything that has been applied durable. It takes as long as that takes. Any goroutine may call it.
func (m *Machine) Flush() error {
	v := m.View() // keeps the database open
	defer v.Close()
	return v.store.db.Flush()
}

// Shrink gives back the space of what has been deleted or replaced; see storage.DB.Shrink. Any goroutine may call it.
func (m *Machine) Shrink(ctx context.Context) error {
	v := m.View() // keeps the database open
	defer v.Close()
	return v.store.db.Shrink(ctx)
}

// Scrub reads all tables again, as storage.DB.ScrubTable says, and returns how many bytes that were. It does not keep views
// from being given up. Any goroutine may call it.
func (m *Machine) Scrub(ctx context.Context, pace func(ctx context.Context, bytes int) error) (bytes int64, err error) {
	v := m.View() // keeps the database open
	db := v.store.db
	tables, err := db.Tables()
	v.Close()
	for _, path := range tables {
		if err != nil {
			break
		}
		var n int64
		n, err = db.ScrubTable(ctx, path, pace)
		bytes += n
	}
	return bytes, err
}

// Sizes tells how much the database holds. Any goroutine may call it.
func (m *Machine) Sizes() storage.Sizes {
	v := m.View() // keeps the database open
	defer v.Close()
	return v.store.db.Sizes()
}

// Stats tells what the database does with its files. Any goroutine may call it.
func (m *Machine) Stats() storage.Stats {
	v := m.View() // keeps the database open
	defer v.Close()
	return v.store.db.Stats()
}

// Close closes the database in use, without a flush: what was not flushed is applied again from the log. Everybody else
// must have ended; what Install has retired is closed by whoever got it.
func (m *Machine) Close() error { return m.store.db.Close() }
