package identity

import (
	"context"
	"crypto/sha256"
	"slices"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"keelson/state/auth"
)

const (
	// tokenLetters of a token are drawn by chance: 91 bits.
	tokenLetters = 16
	alphabet     = "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ"
	// tokensMax bounds the tokens that are known. When there are more, a quarter goes, of those that would expire first.
	tokensMax = 1 << 18
)

// digest is what a token's letters are known by.
type digest [sha256.Size]byte

// simpleTokens are the tokens that the log has made known, each until it was not used for some time.
type simpleTokens struct {
	o Options

	mu     sync.RWMutex
	known  map[digest]*simpleToken
	newest uint64        // index of the newest entry about a token
	swept  time.Duration // when the expired ones were removed last
}

type simpleToken struct {
	user    string
	index   uint64
	expires atomic.Int64 // on the monotonic clock, in nanoseconds
}

func newSimpleTokens(o Options) *simpleTokens {
	return &simpleTokens{o: o, known: make(map[digest]*simpleToken)}
}

// issue makes a token for a user.
func (s *simpleTokens) issue(ctx context.Context, user string, revision uint64) (string, error) {
	letters := s.letters()
	sum := sha256.Sum256([]byte(letters))
	index, err := s.o.Propose(ctx, user, revision, sum[:])
	if err != nil {
		return "", err
	}
	return letters + "." + strconv.FormatUint(index, 10), nil
}

func (s *simpleTokens) letters() string {
	b := make([]byte, 0, tokenLetters)
	for len(b) < tokenLetters {
		// Six bits at a time; those beyond the alphabet are drawn again, so that all letters are as likely.
		for bits, n := s.o.Chance.Uint64(), 0; n < 10 && len(b) < tokenLetters; n++ {
			if i := bits & 63; i < uint64(len(alphabet)) {
				b = append(b, alphabet[i])
			}
			bits >>= 6
		}
	}
	return string(b)
}

// parseToken takes a token apart.
func parseToken(token string) (sum digest, index uint64, ok bool) {
	letters, text, _ := strings.Cut(token, ".")
	index, err := strconv.ParseUint(text, 10, 64)
	if err != nil || len(letters) != tokenLetters {
		return digest{}, 0, false
	}
	return sha256.Sum256([]byte(letters)), index, true
}

// userKnown is whose token it is, if it is known here by now.
func (s *simpleTokens) userKnown(token string) (user string, ok bool) {
	sum, index, ok := parseToken(token)
	if !ok {
		return "", false
	}
	user, ok, _ = s.look(sum, index)
	return user, ok
}

// user is whose token it is. A token that is not known may only not have come here yet.
func (s *simpleTokens) user(ctx context.Context, token string) (string, error) {
	sum, index, ok := parseToken(token)
	if !ok {
		return "", ErrInvalidToken
	}
	user, ok, ahead := s.look(sum, index)
	if !ok && ahead {
		if err := s.o.CatchUp(ctx); err != nil {
			return "", err
		}
		user, ok, _ = s.look(sum, index)
	}
	if !ok {
		return "", ErrInvalidToken
	}
	return user, nil
}

// look finds a token and prolongs its life. ahead says that it is not known and that it may be in an entry which has not
// been applied here.
func (s *simpleTokens) look(sum digest, index uint64) (user string, ok, ahead bool) {
	now := s.o.Clock.Monotonic()
	s.mu.RLock()
	defer s.mu.RUnlock()
	t := s.known[sum]
	if t == nil || t.index != index {
		return "", false, index > s.newest
	}
	if t.expires.Load() < int64(now) {
		return "", false, false
	}
	t.expires.Store(int64(now + s.o.TokenTTL))
	return t.user, true, false
}

func (s *simpleTokens) observe(changes []auth.TokenChange) {
	now := s.o.Clock.Monotonic()
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, c := range changes {
		switch c.Kind {
		case auth.TokenAssigned:
			s.assign(c, now)
		case auth.TokensOfUserEnd:
			for sum, t := range s.known {
				if t.user == c.User {
					delete(s.known, sum)
				}
			}
		case auth.TokensEnd:
			clear(s.known)
		}
	}
}

func (s *simpleTokens) assign(c auth.TokenChange, now time.Duration) {
	s.newest = max(s.newest, c.Index)
	if len(c.Digest) != sha256.Size {
		return
	}
	if len(s.known) >= tokensMax || now-s.swept > s.o.TokenTTL {
		s.sweep(now)
	}
	t := &simpleToken{user: c.User, index: c.Index}
	t.expires.Store(int64(now + s.o.TokenTTL))
	s.known[digest(c.Digest)] = t
}

// sweep removes the tokens that have expired and, if there are too many still, those that are the next to.
func (s *simpleTokens) sweep(now time.Duration) {
	s.swept = now
	s.remove(int64(now))
	if len(s.known) < tokensMax {
		return
	}
	times := make([]int64, 0, len(s.known))
	for _, t := range s.known {
		times = append(times, t.expires.Load())
	}
	slices.Sort(times)
	s.remove(times[len(times)/4] + 1)
	if len(s.known) >= tokensMax { // they can't be told apart
		clear(s.known)
	}
}

// remove removes the tokens that expire before a time.
func (s *simpleTokens) remove(before int64) {
	for sum, t := range s.known {
		if t.expires.Load() < before {
			delete(s.known, sum)
		}
	}
}
