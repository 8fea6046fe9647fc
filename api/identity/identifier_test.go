package identity

import (
	"context"
	"crypto/sha256"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"errors"
	"fmt"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/cockroachdb/pebble/v2/vfs"
	"golang.org/x/crypto/bcrypt"
	"google.golang.org/grpc/credentials"
	"google.golang.org/grpc/metadata"
	"google.golang.org/grpc/peer"

	"keelson/command"
	"keelson/env"
	"keelson/state/auth"
	"keelson/storage"
)

// handClock stands still until it is moved.
type handClock struct {
	env.Clock
	mu  sync.Mutex
	now time.Duration
}

func (c *handClock) Monotonic() time.Duration {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.now
}

func (c *handClock) Now() time.Time { return time.Unix(1764000000, 0).Add(c.Monotonic()) }

func (c *handClock) move(d time.Duration) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.now += d
}

// bed is an Identifier among users, with a log of its own.
type bed struct {
	t     testing.TB
	clock *handClock
	db    *storage.DB
	set   *auth.Set
	index uint64
	id    *Identifier

	catchUps int
	behind   []auth.TokenChange // what CatchUp brings
	failing  error              // of CatchUp
}

func newBed(t testing.TB, change func(*Options)) *bed {
	t.Helper()
	db, err := storage.Open(storage.Options{FS: vfs.NewMem(), Dir: "db", Manual: true, MemtableBytes: 1 << 20, CacheBytes: 1 << 20})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { db.Close() })
	b := &bed{t: t, clock: &handClock{Clock: env.SystemClock()}, db: db, index: 10}
	if b.set, err = auth.Load(db); err != nil {
		t.Fatal(err)
	}
	o := Options{
		BcryptCost: bcrypt.MinCost, Users: func() *auth.Set { return b.set }, Clock: b.clock, Chance: env.SystemChance(),
		CatchUp: func(context.Context) error {
			b.catchUps++
			b.id.Observe(b.behind)
			return b.failing
		},
		Propose: func(_ context.Context, user string, revision uint64, digest []byte) (uint64, error) {
			if revision != b.set.Revision() {
				return 0, auth.ErrOldRevision
			}
			err := b.do(&command.TokenAssign{User: user, Digest: digest})
			return b.index, err
		},
	}
	if change != nil {
		change(&o)
	}
	if b.id, err = New(o); err != nil {
		t.Fatal(err)
	}
	return b
}

// do applies one op, and tells the Identifier of it.
func (b *bed) do(op command.Op) error {
	b.index++
	batch := b.db.NewBatch()
	tx := auth.Begin(batch, b.set)
	_, err := tx.Apply(op, b.index)
	b.set = tx.Set()
	if e := batch.Commit(); e != nil {
		b.t.Fatal(e)
	}
	b.id.Observe(tx.Tokens())
	return err
}

// enable makes root and ann, whose passwords are their names, and has everybody say who he is.
func (b *bed) enable() {
	b.t.Helper()
	for _, name := range []string{auth.Root, "ann"} {
		hash, err := b.id.Hash(b.t.Context(), name)
		if err != nil {
			b.t.Fatal(err)
		}
		b.must(&command.UserAdd{Name: name, Hash: hash})
	}
	b.must(&command.UserGrantRole{Name: auth.Root, Role: auth.Root})
	b.must(&command.AuthEnable{})
}

func (b *bed) must(op command.Op) {
	b.t.Helper()
	if err := b.do(op); err != nil {
		b.t.Fatal(err)
	}
}

func (b *bed) login(name string) string {
	b.t.Helper()
	token, err := b.id.Login(b.t.Context(), b.set, name, name)
	if err != nil {
		b.t.Fatal(err)
	}
	return token
}

// with is the context of a call with metadata.
func with(ctx context.Context, pairs ...string) context.Context {
	return metadata.NewIncomingContext(ctx, metadata.Pairs(pairs...))
}

// wantCaller holds what a token tells against a name; empty: it is no good. Who must not wait is told the same, of a simple token that
// is known.
func (b *bed) wantCaller(what, token, want string) {
	b.t.Helper()
	ctx := with(b.t.Context(), "token", token)
	before := b.catchUps
	known, ok := b.id.CallerAtOnce(ctx)
	if b.catchUps != before {
		b.t.Errorf("%s: waited to tell at once", what)
	}
	who, err := b.id.Caller(ctx)
	if wantOK := err == nil && b.catchUps == before && b.id.simple != nil; ok != wantOK || ok && known != who {
		b.t.Errorf("%s: at once %+v, %v; otherwise %+v, %v", what, known, ok, who, err)
	}
	switch {
	case want == "" && err != ErrInvalidToken:
		b.t.Errorf("%s: %+v, %v, want none", what, who, err)
	case want != "" && (err != nil || who.User != want || who.Revision != b.set.Revision()):
		b.t.Errorf("%s: %+v, %v, want %s at %d", what, who, err, want, b.set.Revision())
	}
}

func TestLogin(t *testing.T) {
	b := newBed(t, nil)
	b.enable()
	b.must(&command.UserAdd{Name: "nopass", NoPassword: true})
	for _, c := range []struct {
		name, password string
		want           error
	}{
		{"ann", "ann", nil}, {"ann", "ann", nil}, {"ann", "Ann", ErrWrongPassword}, {"ann", "", ErrWrongPassword},
		{"root", "ann", ErrWrongPassword}, {"nobody", "nobody", ErrWrongPassword}, {"", "", ErrWrongPassword},
		{"nopass", "x", ErrNoPassword}, {"nopass", "", ErrNoPassword}, {"ann", strings.Repeat("a", 100), ErrWrongPassword},
	} {
		if _, err := b.id.Login(t.Context(), b.set, c.name, c.password); err != c.want {
			t.Errorf("%q with %q: %v, want %v", c.name, c.password, err, c.want)
		}
	}
	before := b.set
	b.must(&command.RoleAdd{Name: "r"})
	if _, err := b.id.Login(t.Context(), before, "ann", "ann"); err != auth.ErrOldRevision {
		t.Errorf("as of users that have changed: %v", err)
	}
}

// Section 7.4: letters, a dot, and the index of the entry.
func TestSimpleTokens(t *testing.T) {
	b := newBed(t, nil)
	b.enable()
	token := b.login("ann")
	letters, index, ok := strings.Cut(token, ".")
	if !ok || len(letters) != 16 || index != fmt.Sprint(b.index) || strings.Trim(letters, alphabet) != "" {
		t.Errorf("token %q at %d", token, b.index)
	}
	if other := b.login("ann"); other == token {
		t.Errorf("two logins gave %q", token)
	}
	b.wantCaller("a token", token, "ann")
	b.wantCaller("a bearer's token", "Bearer "+token, "ann")
	for _, bad := range []string{
		"", ".", "x", letters, letters + ".", letters + ".x", letters + ".-1", letters + "." + index + "0", letters + ".1",
		"Bearer", "bearer " + token, "Bearer  " + token, token + " ", strings.ToUpper(letters) + "." + index, token + ".1",
		strings.Repeat("a", 16) + ".99999999999999999999999", strings.Repeat("x", 1<<16) + "." + index, "\xff\x00.1",
	} {
		b.wantCaller(fmt.Sprintf("%.40q", bad), bad, "")
	}
	if who, err := b.id.Caller(with(t.Context(), "authorization", "Bearer "+token)); err != nil || who.User != "ann" {
		t.Errorf("as the gateway forwards it: %+v, %v", who, err)
	}
	if _, err := b.id.Caller(with(t.Context(), "token", "bad", "authorization", token)); err != ErrInvalidToken {
		t.Errorf("a bad token wins over the gateway's: %v", err)
	}
	if who, err := b.id.Caller(with(t.Context(), "token", token, "token", "bad")); err != nil || who.User != "ann" {
		t.Errorf("the first one counts: %+v, %v", who, err)
	}
	if who, err := b.id.Caller(t.Context()); err != nil || who.User != "" || who.Revision != b.set.Revision() {
		t.Errorf("nobody: %+v, %v", who, err)
	}
}

// A token lives from its last use on.
func TestTokensExpire(t *testing.T) {
	b := newBed(t, func(o *Options) { o.TokenTTL = time.Minute })
	b.enable()
	used, unused := b.login("ann"), b.login("ann")
	for range 5 {
		b.clock.move(50 * time.Second)
		b.wantCaller("used", used, "ann")
	}
	b.wantCaller("unused", unused, "")
	b.clock.move(61 * time.Second)
	b.wantCaller("used, later", used, "")
	b.login("ann") // sweeps
	if n := len(b.id.simple.known); n != 1 {
		t.Errorf("%d tokens are kept", n)
	}
}

// Tokens end with the user, with the password, with disabling, and when the member has missed a part of the log.
func TestTokensEnd(t *testing.T) {
	b := newBed(t, nil)
	b.enable()
	ann, root := b.login("ann"), b.login("root")
	b.must(&command.UserChangePassword{Name: "ann", Hash: b.set.User("ann").Hash})
	b.wantCaller("after another password", ann, "")
	b.wantCaller("another user", root, "root")
	ann = b.login("ann")
	b.must(&command.UserDelete{Name: "ann"})
	b.wantCaller("after the user", ann, "")
	b.must(&command.AuthDisable{})
	b.must(&command.AuthEnable{})
	b.wantCaller("after disabling", root, "")
	root = b.login("root")
	b.must(&command.UserGrantRole{Name: auth.Root, Role: auth.Root})
	b.wantCaller("after a change of roles", root, "root")
	b.id.Forget()
	b.wantCaller("after a snapshot", root, "")
}

// A token that another member has given is waited for, and only that.
func TestUnseenTokens(t *testing.T) {
	b := newBed(t, nil)
	b.enable()
	letters := "abcdefghijklmnop"
	sum := sha256.Sum256([]byte(letters))
	b.behind = []auth.TokenChange{{Kind: auth.TokenAssigned, User: "ann", Digest: sum[:], Index: 99}}
	b.wantCaller("unseen", letters+".99", "ann")
	b.behind = nil
	if b.catchUps != 1 {
		t.Errorf("caught up %d times", b.catchUps)
	}
	b.wantCaller("seen, of another index", letters+".98", "")
	b.wantCaller("unknown, of an entry that was seen", "ponmlkjihgfedcba.98", "")
	if b.catchUps != 1 {
		t.Errorf("caught up for what can't come: %d times", b.catchUps)
	}
	b.wantCaller("unknown, of an entry to come", "ponmlkjihgfedcba.100", "")
	b.failing = errors.New("no quorum")
	if _, err := b.id.Caller(with(t.Context(), "token", "ponmlkjihgfedcba.100")); err != b.failing {
		t.Errorf("without a quorum: %v", err)
	}
}

// However many tokens there are, they are bounded, and those used last stay.
func TestTokensAreBounded(t *testing.T) {
	b := newBed(t, nil)
	b.enable()
	token := b.login("ann")
	for i := range tokensMax + 10 {
		if i%1000 == 0 {
			b.clock.move(time.Millisecond)
			b.wantCaller("in use", token, "ann")
		}
		sum := sha256.Sum256(fmt.Appendf(nil, "%d", i))
		b.id.Observe([]auth.TokenChange{{Kind: auth.TokenAssigned, User: "ann", Digest: sum[:], Index: 1}})
	}
	if n := len(b.id.simple.known); n > tokensMax {
		t.Errorf("%d tokens", n)
	}
	b.wantCaller("in use", token, "ann")
	b.id.Observe([]auth.TokenChange{{Kind: auth.TokenAssigned, User: "ann", Digest: []byte("short"), Index: 1}})
}

// Section 7.5: the common name of a verified certificate, unless there is a token or the gateway in between.
func TestNamesFromCertificates(t *testing.T) {
	b := newBed(t, func(o *Options) { o.CertificateNames = true })
	b.enable()
	shown := func(name string) context.Context {
		leaf := &x509.Certificate{Subject: pkix.Name{CommonName: name}}
		info := credentials.TLSInfo{State: tls.ConnectionState{VerifiedChains: [][]*x509.Certificate{{leaf, {Subject: pkix.Name{CommonName: "CA"}}}}}}
		return peer.NewContext(t.Context(), &peer.Peer{AuthInfo: info})
	}
	token := b.login("root")
	unverified := peer.NewContext(t.Context(), &peer.Peer{AuthInfo: credentials.TLSInfo{State: tls.ConnectionState{
		PeerCertificates: []*x509.Certificate{{Subject: pkix.Name{CommonName: "ann"}}},
	}}})
	now := b.set.Revision()
	for _, c := range []struct {
		name string
		ctx  context.Context
		want auth.Caller
	}{
		{"a certificate", shown("ann"), auth.Caller{User: "ann", Revision: now}},
		{"of nobody we know", shown("zoe"), auth.Caller{User: "zoe", Revision: now}},
		{"without a name", shown(""), auth.Caller{Revision: now, Unnamed: true}},
		{"and a token", with(shown("ann"), "token", token), auth.Caller{User: "root", Revision: now}},
		{"through the gateway", with(shown("ann"), "grpcgateway-accept", "*/*"), auth.Caller{Revision: now}},
		{"unverified", unverified, auth.Caller{Revision: now}},
		{"no TLS", peer.NewContext(t.Context(), &peer.Peer{}), auth.Caller{Revision: now}},
	} {
		if who, err := b.id.Caller(c.ctx); err != nil || who != c.want {
			t.Errorf("%s: %+v, %v, want %+v", c.name, who, err, c.want)
		}
	}
	if _, err := b.id.Caller(with(shown("ann"), "token", "bad")); err != ErrInvalidToken {
		t.Errorf("a bad token wins over a good certificate: %v", err)
	}
	b.id.o.CertificateNames = false
	if who, err := b.id.Caller(shown("ann")); err != nil || who.User != "" {
		t.Errorf("where certificates are no names: %+v, %v", who, err)
	}
}
