package identity

import (
	"context"
	"time"

	"keelson/env"
	"keelson/state/auth"
)

// Options are the settings and the surroundings of an Identifier.
type Options struct {
	// Token is the kind of token: "simple", or "jwt," and its options. Empty: simple.
	Token string
	// TokenTTL is how long a simple token lives after it was last used. 0: 5 minutes.
	TokenTTL time.Duration
	// BcryptCost is the cost of hashing a password, from 4 to 31. 0: 10.
	BcryptCost int
	// CertificateNames lets the common name of a client's verified certificate stand for a token.
	CertificateNames bool

	// Users is users and roles as this member has applied them.
	Users func() *auth.Set
	// CatchUp returns when this member has applied everything that any member had acknowledged before.
	CatchUp func(ctx context.Context) error
	// Propose has a token made known to all members, and returns the index of the entry that does. A refusal of the machine is
	// an error here.
	Propose func(ctx context.Context, user string, revision uint64, digest []byte) (index uint64, err error)

	Clock  env.Clock
	Chance env.Chance
	// Workers is how many passwords are hashed or compared at a time. 0: half of the processors, one at least.
	Workers int
}

const (
	tokenTTLDefault   = 5 * time.Minute
	bcryptCostDefault = 10
)
