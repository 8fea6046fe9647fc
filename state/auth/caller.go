package auth

import "context"

// Caller is who asks.
type Caller struct {
	// User is a name; empty: nobody has said. That there is such a user is not certain.
	User string
	// Revision is the revision of users and roles that the caller's right to the name was established at.
	Revision uint64
	// Unnamed: there is proof of who it is, but no name in it.
	Unnamed bool
}

type callerKey struct{}

// WithCaller returns a context for what is done on behalf of a caller.
func WithCaller(ctx context.Context, who Caller) context.Context {
	return context.WithValue(ctx, callerKey{}, who)
}

// CallerOf is on whose behalf something is done; ok is false if nobody has said.
func CallerOf(ctx context.Context) (who Caller, ok bool) {
	who, ok = ctx.Value(callerKey{}).(Caller)
	return who, ok
}
