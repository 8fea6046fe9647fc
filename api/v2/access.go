package v2

import (
	"crypto/sha256"
	"crypto/tls"
	"net/http"
	"strings"
	"sync"

	"golang.org/x/crypto/bcrypt"

	"keelson/state"
	"keelson/state/tree"
)

// Access decides who may do what, by the users and roles of the v2 API. They have nothing to do with those of the v3 API.
// Safe for concurrent use.
//
// Source: v2 API specification, 12.6.
type Access struct {
	views Views
	salt  []byte
	// certificates lets a client's certificate say who it is.
	certificates bool

	mu sync.Mutex
	// passed are passwords that were found right, as of revision. Finding that out takes long, on purpose.
	passed   map[[sha256.Size]byte]bool
	revision uint64
}

// passedMax bounds the passwords that are remembered. Beyond, all are forgotten.
const passedMax = 1024

// Views is what Access decides by.
type Views interface {
	ReadLocal() *state.View
	TreeState() tree.State
}

// NewAccess makes an Access. salt is drawn by chance, and known to nobody else.
func NewAccess(views Views, salt []byte, certificates bool) *Access {
	return &Access{views: views, salt: salt, certificates: certificates, passed: map[[sha256.Size]byte]bool{}}
}

// who is a request's user, with what is needed to look at its roles.
type who struct {
	tree *tree.View
	// user is nil for a guest, and for whoever is not who it says it is.
	user  *tree.User
	guest bool
}

// credentials are what a request says about who makes it.
type credentials interface {
	authorization() string // the field; empty: there is none
	tls() *tls.ConnectionState
}

// httpCredentials are those of a request of net/http.
type httpCredentials http.Request

func (c *httpCredentials) authorization() string     { return c.Header.Get("Authorization") }
func (c *httpCredentials) tls() *tls.ConnectionState { return c.TLS }

// identify finds out who makes a request.
func (a *Access) identify(c credentials, t *tree.View, revision uint64) (w who) {
	w.tree = t
	if authorization := c.authorization(); authorization != "" {
		header := http.Header{"Authorization": {authorization}}
		name, password, ok := (&http.Request{Header: header}).BasicAuth()
		if !ok || name == "" {
			return w
		}
		if u, err := t.User(name); err == nil && u != nil && a.matches(u, password, revision) {
			w.user = u
		}
		return w
	}
	if u := a.byCertificate(c, t); u != nil {
		w.user = u
		return w
	}
	w.guest = true
	return w
}

// byCertificate is the user that a client's certificate names; nil: none.
func (a *Access) byCertificate(c credentials, t *tree.View) *tree.User {
	if !a.certificates {
		return nil
	}
	state := c.tls()
	if state == nil {
		return nil
	}
	for _, chain := range state.VerifiedChains {
		for _, c := range chain {
			if u, err := t.User(c.Subject.CommonName); err == nil && u != nil && c.Subject.CommonName != "" {
				return u
			}
		}
	}
	return nil
}

// matches reports whether a password is a user's.
func (a *Access) matches(u *tree.User, password string, revision uint64) bool {
	h := sha256.New()
	for _, part := range []string{string(a.salt), u.Name, "\x00", string(u.Hash), "\x00", password} {
		h.Write([]byte(part))
	}
	key := [sha256.Size]byte(h.Sum(nil))
	a.mu.Lock()
	known := a.passed[key] && a.revision == revision
	a.mu.Unlock()
	if known {
		return true
	}
	if bcrypt.CompareHashAndPassword(u.Hash, []byte(password)) != nil {
		return false
	}
	a.mu.Lock()
	defer a.mu.Unlock()
	if a.revision != revision || len(a.passed) >= passedMax {
		a.passed, a.revision = map[[sha256.Size]byte]bool{}, revision
	}
	a.passed[key] = true
	return true
}

// keys refuses a request for keys that its user may not make.
func (a *Access) keys(c credentials, q *request) *tree.Error {
	allowed, err := a.decide(c, func(w who) bool { return w.mayUse(q) })
	if err != nil {
		return failureOf(err)
	}
	if !allowed {
		return fault(codeUnauthorized, insufficient)
	}
	return nil
}

// isRoot reports whether a request may change members, users and roles: as long as access is not controlled, everybody may.
func (a *Access) isRoot(r *http.Request) bool {
	allowed, err := a.decide((*httpCredentials)(r), func(w who) bool { return w.user != nil && w.hasRole(tree.RootRole) })
	return err == nil && allowed
}

// decide lets a question be answered for whoever makes a request; if access is not controlled the answer is yes.
func (a *Access) decide(c credentials, ask func(who) bool) (bool, error) {
	if !a.views.TreeState().Access.Enabled {
		return true, nil
	}
	view := a.views.ReadLocal()
	defer view.Close()
	access := view.TreeState().Access
	if !access.Enabled { // since this moment
		return true, nil
	}
	t, err := view.Tree()
	if err != nil {
		return false, err
	}
	defer t.Close()
	return ask(a.identify(c, t, access.Revision)), nil
}

func (w who) hasRole(name string) bool {
	for _, role := range w.roles() {
		if role == name {
			return true
		}
	}
	return false
}

func (w who) roles() []string {
	switch {
	case w.user != nil && w.user.Name == tree.RootUser:
		return append([]string{tree.RootRole}, w.user.Roles...)
	case w.user != nil:
		return w.user.Roles
	case w.guest:
		return []string{tree.GuestRole}
	}
	return nil
}

// mayUse reports whether a request for keys is allowed by any role.
func (w who) mayUse(q *request) bool {
	recursive := q.recursive && !w.guest
	for _, name := range w.roles() {
		if name == tree.RootRole {
			return true
		}
		role, err := w.tree.Role(name)
		if err != nil || role == nil {
			continue
		}
		patterns := role.Write
		if q.method == http.MethodGet || q.method == http.MethodHead {
			patterns = role.Read
		}
		for _, p := range patterns {
			if covers(p, q.subject, recursive) {
				return true
			}
		}
	}
	return false
}

// covers reports whether a pattern stands for a path, and if recursive for everything that begins with it.
func covers(pattern, path string, recursive bool) bool {
	if prefix, isPrefix := strings.CutSuffix(pattern, "*"); isPrefix {
		return strings.HasPrefix(path, prefix)
	}
	return !recursive && pattern == path
}
