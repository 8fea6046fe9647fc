package identity

import (
	"crypto"
	"crypto/sha256"
	"errors"
	"fmt"
	"os"
	"strings"
	"sync"
	"time"

	"github.com/golang-jwt/jwt/v5"

	"keelson/env"
	"keelson/state/auth"
)

const (
	webTTLDefault = 5 * time.Minute
	// verifiedMax is how many tokens are remembered as good, so that their signatures are not looked at each time.
	verifiedMax = 1 << 12
)

// webTokens signs and verifies JSON web tokens.
type webTokens struct {
	clock  env.Clock
	method jwt.SigningMethod
	sign   any // key; nil: this member only verifies
	verify any // key
	ttl    time.Duration
	parser *jwt.Parser

	mu       sync.Mutex
	verified map[digest]claims
}

// claims are what a token says.
type claims struct {
	Username string `json:"username"`
	Revision uint64 `json:"revision"`
	jwt.RegisteredClaims
}

// newWebTokens takes the options as etcd does: name=value,name=value. Errors: ErrOptions, with what is wrong.
func newWebTokens(options string, clock env.Clock) (*webTokens, error) {
	o, err := parseWebOptions(options)
	if err != nil {
		return nil, fmt.Errorf("%w: %w", ErrOptions, err)
	}
	w := &webTokens{clock: clock, method: o.method, ttl: o.ttl, verified: make(map[digest]claims)}
	switch err := w.readKeys(o.publicFile, o.privateFile); {
	case errors.Is(err, ErrNoKey):
		return nil, err
	case err != nil:
		return nil, fmt.Errorf("%w: %w", ErrOptions, err)
	}
	w.parser = jwt.NewParser(jwt.WithValidMethods([]string{w.method.Alg()}), jwt.WithExpirationRequired(),
		jwt.WithTimeFunc(func() time.Time { return clock.Now() }))
	return w, nil
}

type webOptions struct {
	method                  jwt.SigningMethod
	publicFile, privateFile string
	ttl                     time.Duration
}

func parseWebOptions(text string) (o webOptions, err error) {
	o.ttl = webTTLDefault
	seen := map[string]bool{}
	for _, part := range strings.Split(text, ",") {
		name, value, ok := strings.Cut(part, "=")
		if !ok || seen[name] {
			return o, fmt.Errorf("option %q", part)
		}
		seen[name] = true
		switch name {
		case "sign-method":
			if o.method = jwt.GetSigningMethod(value); o.method == nil || o.method == jwt.SigningMethodNone {
				return o, fmt.Errorf("unknown sign-method %q", value)
			}
		case "pub-key":
			o.publicFile = value
		case "priv-key":
			o.privateFile = value
		case "ttl":
			if o.ttl, err = time.ParseDuration(value); err != nil || o.ttl <= 0 {
				return o, fmt.Errorf("ttl %q is no duration above zero", value)
			}
		default:
			return o, fmt.Errorf("unknown option %q", name)
		}
	}
	if o.method == nil {
		return o, fmt.Errorf("no sign-method")
	}
	return o, nil
}

// readKeys reads the files of keys. A public key can be had from the private one; without a private one this member only
// verifies. The secret of the HS methods is the content of the private key's file.
func (w *webTokens) readKeys(publicFile, privateFile string) (err error) {
	var public, private []byte
	if publicFile != "" {
		if public, err = os.ReadFile(publicFile); err != nil {
			return err
		}
	}
	if privateFile != "" {
		if private, err = os.ReadFile(privateFile); err != nil {
			return err
		}
	}
	if _, isSecret := w.method.(*jwt.SigningMethodHMAC); isSecret {
		if len(private) == 0 {
			return ErrNoKey
		}
		w.sign, w.verify = private, private
		return nil
	}
	if private != nil {
		if w.sign, err = parsePrivate(w.method, private); err != nil {
			return fmt.Errorf("%s: %w", privateFile, err)
		}
		w.verify = w.sign.(crypto.Signer).Public()
	}
	if public != nil {
		key, err := parsePublic(w.method, public)
		if err != nil {
			return fmt.Errorf("%s: %w", publicFile, err)
		}
		if w.verify != nil && !key.(interface{ Equal(crypto.PublicKey) bool }).Equal(w.verify) {
			return fmt.Errorf("%s and %s do not belong together", publicFile, privateFile)
		}
		w.verify = key
	}
	if w.verify == nil {
		return ErrNoKey
	}
	return nil
}

func parsePrivate(method jwt.SigningMethod, pem []byte) (crypto.Signer, error) {
	switch method.(type) {
	case *jwt.SigningMethodECDSA:
		return jwt.ParseECPrivateKeyFromPEM(pem)
	case *jwt.SigningMethodEd25519:
		key, err := jwt.ParseEdPrivateKeyFromPEM(pem)
		if err != nil {
			return nil, err
		}
		return key.(crypto.Signer), nil
	}
	return jwt.ParseRSAPrivateKeyFromPEM(pem)
}

func parsePublic(method jwt.SigningMethod, pem []byte) (crypto.PublicKey, error) {
	switch method.(type) {
	case *jwt.SigningMethodECDSA:
		return jwt.ParseECPublicKeyFromPEM(pem)
	case *jwt.SigningMethodEd25519:
		return jwt.ParseEdPublicKeyFromPEM(pem)
	}
	return jwt.ParseRSAPublicKeyFromPEM(pem)
}

// issue signs a token.
func (w *webTokens) issue(user string, revision uint64) (string, error) {
	if w.sign == nil {
		return "", ErrVerifyOnly
	}
	c := claims{Username: user, Revision: revision}
	c.ExpiresAt = jwt.NewNumericDate(w.clock.Now().Add(w.ttl))
	token, err := jwt.NewWithClaims(w.method, c).SignedString(w.sign)
	if err != nil {
		return "", fmt.Errorf("auth: sign token: %w", err)
	}
	return token, nil
}

// caller is whom a token names.
func (w *webTokens) caller(token string) (auth.Caller, error) {
	sum := digest(sha256.Sum256([]byte(token)))
	c, ok := w.remembered(sum)
	if !ok {
		if _, err := w.parser.ParseWithClaims(token, &c, func(*jwt.Token) (any, error) { return w.verify, nil }); err != nil {
			return auth.Caller{}, ErrInvalidToken
		}
		if c.Username == "" || c.Revision == 0 {
			return auth.Caller{}, ErrInvalidToken
		}
		w.remember(sum, c)
	}
	return auth.Caller{User: c.Username, Revision: c.Revision}, nil
}

func (w *webTokens) remembered(sum digest) (c claims, ok bool) {
	w.mu.Lock()
	defer w.mu.Unlock()
	c, ok = w.verified[sum]
	if ok && !w.clock.Now().Before(c.ExpiresAt.Time) {
		delete(w.verified, sum)
		return claims{}, false
	}
	return c, ok
}

func (w *webTokens) remember(sum digest, c claims) {
	w.mu.Lock()
	defer w.mu.Unlock()
	if len(w.verified) >= verifiedMax {
		clear(w.verified)
	}
	w.verified[sum] = c
}
