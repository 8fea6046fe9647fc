package auth

// TokenChangeKind tells what has happened to tokens.
type TokenChangeKind uint8

// What can happen to tokens.
const (
	TokenAssigned   TokenChangeKind = iota + 1
	TokensOfUserEnd                 // those of one user
	TokensEnd                       // all
)

// TokenChange tells whoever keeps tokens what the log says of them. Tokens are no part of the state: how long one lives is a
// matter of time.
type TokenChange struct {
	Kind TokenChangeKind
	User string // of the first two kinds
	// Digest and Index are of a token that was assigned: what it is known by, and the index of the entry that says so.
	Digest []byte
	Index  uint64
}
