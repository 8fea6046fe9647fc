package v2

import (
	"context"

	"keelson/command"
	"keelson/node"
	"keelson/state"
)

// Member is what the API asks of the running member.
type Member interface {
	// Propose puts a change into the log and waits for its result.
	Propose(ctx context.Context, op command.Op) (state.Result, error)
	// Read opens a view that holds every acknowledged write, ReadLocal one of what this member has.
	Read(ctx context.Context) (*state.View, error)
	ReadLocal() *state.View
	Status() node.Status
}

// Quota refuses what would grow the store beyond its size.
type Quota interface {
	// Admit reports whether so many bytes more may be stored.
	Admit(ctx context.Context, costBytes int64) bool
}
