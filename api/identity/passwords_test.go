package identity

import (
	"context"
	"errors"
	"sync"
	"testing"
	"testing/synctest"

	"golang.org/x/crypto/bcrypt"

	"keelson/env"
	"keelson/state/auth"
)

func newUser(t testing.TB, p *passwords, name, password string) *auth.User {
	t.Helper()
	hash, err := p.hash(t.Context(), password)
	if err != nil {
		t.Fatal(err)
	}
	return &auth.User{Name: name, Hash: hash}
}

// Known bug S8: what is remembered of a password can't be turned back, and is of no use to another user, for another hash, or
// in another process.
func TestWhatIsRemembered(t *testing.T) {
	o := Options{BcryptCost: bcrypt.MinCost, Chance: env.SystemChance()}
	p := newPasswords(o)
	u := newUser(t, p, "ann", "secret")
	if err := p.check(t.Context(), u, "secret"); err != nil {
		t.Fatal(err)
	}
	if len(p.right) != 1 {
		t.Fatalf("%d remembered", len(p.right))
	}
	again := newUser(t, p, "ann", "secret") // salted anew
	other := &auth.User{Name: "ben", Hash: u.Hash}
	for name, k := range map[string]digest{
		"another hash": p.digest(again, "secret"), "another user": p.digest(other, "secret"), "another password": p.digest(u, "secret2"),
		"another process": newPasswords(o).digest(u, "secret"),
	} {
		if _, ok := p.right[k]; ok {
			t.Errorf("remembered for %s", name)
		}
	}
	if err := p.check(t.Context(), u, "wrong"); err != ErrWrongPassword || len(p.right) != 1 || len(p.asked) != 0 {
		t.Errorf("%v; %d remembered, %d asked", err, len(p.right), len(p.asked))
	}
}

// The same question is worked on once, however many ask, and not at all when the answer is remembered.
func TestThousandsLogInForThePriceOfOne(t *testing.T) {
	p := newPasswords(Options{BcryptCost: 8, Chance: env.SystemChance(), Workers: 1})
	u := newUser(t, p, "ann", "secret")
	p.slots <- struct{}{} // nobody works yet
	var callers sync.WaitGroup
	errs := make(chan error, 2000)
	for range cap(errs) {
		callers.Go(func() { errs <- p.check(context.Background(), u, "secret") })
	}
	<-p.slots
	callers.Wait()
	close(errs)
	for err := range errs {
		if err != nil {
			t.Fatal(err)
		}
	}
	p.slots <- struct{}{} // for good: from here on nothing can be compared
	if err := p.check(t.Context(), u, "secret"); err != nil {
		t.Error(err)
	}
	if p.waiting != 0 {
		t.Errorf("%d wait", p.waiting)
	}
}

// Workers are few: while they work, the others wait, give up when their callers do, and are refused when there are too many.
func TestWaitingForAWorker(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		p := newPasswords(Options{BcryptCost: bcrypt.MinCost, Chance: env.SystemChance(), Workers: 1})
		u := newUser(t, p, "ann", "secret")
		p.slots <- struct{}{}
		gone := errors.New("gone")
		first, giveUp := context.WithCancelCause(t.Context())
		asked, waits := make(chan error, 1), make(chan error, 1)
		go func() { asked <- p.check(first, u, "secret") }()
		synctest.Wait()
		go func() { waits <- p.check(t.Context(), u, "secret") }() // with the first one's question
		synctest.Wait()
		giveUp(gone)
		if err := <-asked; err != gone {
			t.Errorf("who gives up: %v", err)
		}
		synctest.Wait()
		<-p.slots // the other one has asked again
		if err := <-waits; err != nil {
			t.Errorf("who waits on: %v", err)
		}

		p.slots <- struct{}{}
		p.waiting = waitingMax
		if _, err := p.hash(t.Context(), "x"); err != ErrBusy {
			t.Errorf("one too many: %v", err)
		}
		if err := p.check(t.Context(), nil, "x"); err != ErrBusy {
			t.Errorf("one too many, unknown: %v", err)
		}
		if err := p.check(t.Context(), u, "other"); err != ErrBusy || len(p.asked) != 0 {
			t.Errorf("one too many, wrong: %v", err)
		}
		if err := p.check(t.Context(), u, "secret"); err != nil {
			t.Errorf("what is remembered needs no worker: %v", err)
		}
	})
}

func TestRememberedPasswordsAreBounded(t *testing.T) {
	p := newPasswords(Options{Chance: env.SystemChance()})
	for i := range rightMax + 100 {
		p.remember(digest{byte(i), byte(i >> 8), byte(i >> 16)})
	}
	if len(p.right) != rightMax || len(p.order) != rightMax {
		t.Errorf("%d remembered, %d in order", len(p.right), len(p.order))
	}
	if _, ok := p.right[digest{99}]; ok {
		t.Error("an old one is remembered")
	}
	if _, ok := p.right[digest{100}]; !ok {
		t.Error("a newer one is not")
	}
}

// A password that bcrypt can't take is refused by its own words; a wrong one that it can't take is just wrong.
func TestLongPasswords(t *testing.T) {
	p := newPasswords(Options{BcryptCost: bcrypt.MinCost, Chance: env.SystemChance()})
	long := string(make([]byte, 73))
	if _, err := p.hash(t.Context(), long); err != bcrypt.ErrPasswordTooLong {
		t.Errorf("hash: %v", err)
	}
	if err := p.check(t.Context(), newUser(t, p, "ann", "x"), long); err != ErrWrongPassword {
		t.Errorf("check: %v", err)
	}
	if err := p.check(t.Context(), &auth.User{Name: "ann"}, ""); err != ErrWrongPassword {
		t.Errorf("no hash: %v", err)
	}
}
