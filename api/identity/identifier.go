package identity

import (
	"context"
	"errors"
	"strings"

	"go.etcd.io/etcd/api/v3/v3rpc/rpctypes"
	"google.golang.org/grpc/credentials"
	"google.golang.org/grpc/metadata"
	"google.golang.org/grpc/peer"

	"keelson/state/auth"
)

// Errors. The texts are for logs, except those that package v3 passes on.
var (
	// ErrInvalidToken: the token is unknown, or was, or is none.
	ErrInvalidToken = errors.New("invalid auth token")
	// ErrWrongPassword: there is no such user, or he has another password.
	ErrWrongPassword = errors.New("authentication failed, invalid user ID or password")
	// ErrNoPassword: the user can't log in with a password.
	ErrNoPassword = errors.New("auth: authentication failed, password was given for no password user")
	// ErrVerifyOnly: this member has no key to sign tokens with.
	ErrVerifyOnly = errors.New("auth: token signing attempted with verify-only key")
	// ErrBusy: too many passwords wait to be looked at. Nothing was done.
	ErrBusy = errors.New("too many requests")
	// ErrOptions is in the error of New when Options.Token is not understood.
	ErrOptions = errors.New("auth: invalid auth options")
	// ErrNoKey: the options of tokens name no file of a key that they need.
	ErrNoKey = errors.New("auth: missing key data")
)

// Identifier tells who is asking. All methods are safe for concurrent use.
type Identifier struct {
	o         Options
	passwords *passwords
	simple    *simpleTokens // nil: tokens are
	web       *webTokens    // these
}

// New makes an Identifier. Errors: ErrOptions, ErrNoKey, and those of reading the files of keys.
func New(o Options) (*Identifier, error) {
	if o.TokenTTL <= 0 {
		o.TokenTTL = tokenTTLDefault
	}
	if o.BcryptCost == 0 {
		o.BcryptCost = bcryptCostDefault
	}
	i := &Identifier{o: o, passwords: newPasswords(o)}
	kind, options, _ := strings.Cut(o.Token, ",")
	switch {
	case kind == "jwt":
		var err error
		i.web, err = newWebTokens(options, o.Clock)
		return i, err
	case kind == "simple" || kind == "": // options of it, which it has none of, are ignored as in etcd
		i.simple = newSimpleTokens(o)
		return i, nil
	}
	return nil, ErrOptions
}

// Validate reports what is wrong with a kind of token, as New does.
func Validate(token string) error {
	_, err := New(Options{Token: token})
	return err
}

// Caller is who makes a gRPC call, by the token that came with it or else by the certificate of the connection. Nobody has a
// name without either. Errors: ErrInvalidToken, and those of Options.CatchUp.
func (i *Identifier) Caller(ctx context.Context) (auth.Caller, error) {
	// First: what is found out below is then true of this revision, or of a later one that this one gives away.
	who := auth.Caller{Revision: i.o.Users().Revision()}
	if token, ok := tokenOf(ctx); ok {
		if i.web != nil {
			return i.web.caller(token)
		}
		var err error
		who.User, err = i.simple.user(ctx, token)
		return who, err
	}
	if i.o.CertificateNames && !cameByGateway(ctx) {
		if name, ok := certifiedName(ctx); ok {
			who.User, who.Unnamed = name, name == ""
		}
	}
	return who, nil
}

// CallerAtOnce is Caller for whoever must not wait. ok is false if it would take long, or fail.
func (i *Identifier) CallerAtOnce(ctx context.Context) (who auth.Caller, ok bool) {
	token, shown := tokenOf(ctx)
	switch {
	case !shown:
		who, err := i.Caller(ctx)
		return who, err == nil
	case i.simple == nil: // whose signature has to be verified
		return auth.Caller{}, false
	}
	who.Revision = i.o.Users().Revision()
	who.User, ok = i.simple.userKnown(token)
	return who, ok
}

// ShowsToken reports whether a token came with a call, good or not.
func ShowsToken(ctx context.Context) bool {
	_, ok := tokenOf(ctx)
	return ok
}

// tokenOf is the token that came with a call.
func tokenOf(ctx context.Context) (token string, ok bool) {
	for _, key := range []string{rpctypes.TokenFieldNameGRPC, rpctypes.TokenFieldNameSwagger} {
		if v := metadata.ValueFromIncomingContext(ctx, key); len(v) > 0 {
			return strings.TrimPrefix(v[0], "Bearer "), true
		}
	}
	return "", false
}

// gatewayKey is metadata that only the JSON gateway sends, whose connection is everybody's.
const gatewayKey = "grpcgateway-accept"

func cameByGateway(ctx context.Context) bool {
	return len(metadata.ValueFromIncomingContext(ctx, gatewayKey)) > 0
}

// certifiedName is the common name of the certificate that the client has shown and the server has verified.
func certifiedName(ctx context.Context) (name string, ok bool) {
	p, ok := peer.FromContext(ctx)
	if !ok {
		return "", false
	}
	tls, ok := p.AuthInfo.(credentials.TLSInfo)
	if !ok {
		return "", false
	}
	for _, chain := range tls.State.VerifiedChains {
		if len(chain) > 0 {
			return chain[0].Subject.CommonName, true
		}
	}
	return "", false
}

// Login checks a password as of users and returns a token. A user who does not exist takes as long as a wrong password.
//
// Errors: ErrWrongPassword, ErrNoPassword, ErrVerifyOnly, ErrBusy, those of Options.Propose: auth.ErrOldRevision says that
// users and roles have changed meanwhile.
func (i *Identifier) Login(ctx context.Context, users *auth.Set, name, password string) (token string, err error) {
	u := users.User(name)
	if u != nil && u.NoPassword {
		return "", ErrNoPassword
	}
	if err := i.passwords.check(ctx, u, password); err != nil {
		return "", err
	}
	if i.web != nil {
		return i.web.issue(name, users.Revision())
	}
	return i.simple.issue(ctx, name, users.Revision())
}

// Hash hashes a password, for the log. Errors: ErrBusy, those of bcrypt.
func (i *Identifier) Hash(ctx context.Context, password string) ([]byte, error) {
	return i.passwords.hash(ctx, password)
}

// Observe is told what the log says of tokens, in order. It does not wait.
func (i *Identifier) Observe(changes []auth.TokenChange) {
	if i.simple != nil {
		i.simple.observe(changes)
	}
}

// Forget ends all tokens: the log may have said more of them than this member has heard.
func (i *Identifier) Forget() { i.Observe([]auth.TokenChange{{Kind: auth.TokensEnd}}) }
