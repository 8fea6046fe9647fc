package identity

import (
	"context"
	"crypto/hmac"
	"crypto/sha256"
	"encoding/binary"
	"errors"
	"runtime"
	"sync"

	"golang.org/x/crypto/bcrypt"

	"keelson/state/auth"
)

const (
	// rightMax is how many right passwords are remembered; beyond that, the oldest is forgotten.
	rightMax = 1 << 14
	// waitingMax is how many calls may wait for a worker.
	waitingMax = 1 << 12
)

// passwords hashes and compares passwords. Both are made to be slow; so few are looked at at a time, and the others wait, in
// the goroutines of their calls. A password that was right is remembered, and the same question is asked only once at a time.
type passwords struct {
	cost   int
	slots  chan struct{} // one for each worker that is at work
	key    []byte        // of the digests that are remembered
	nobody func() []byte // the hash that is compared with when there is no such user

	mu      sync.Mutex
	waiting int
	right   map[digest]struct{}
	order   []digest // of right, as a ring
	next    int      // in order: what is overwritten next
	asked   map[digest]*question
}

// question is a comparison under way.
type question struct {
	done chan struct{} // closed when ok and err are set
	ok   bool
	err  error
}

func newPasswords(o Options) *passwords {
	workers := o.Workers
	if workers <= 0 {
		workers = max(runtime.GOMAXPROCS(0)/2, 1)
	}
	p := &passwords{
		cost: o.BcryptCost, slots: make(chan struct{}, workers),
		right: make(map[digest]struct{}), asked: make(map[digest]*question),
	}
	if o.Chance != nil {
		for range 4 {
			p.key = binary.LittleEndian.AppendUint64(p.key, o.Chance.Uint64())
		}
	}
	p.nobody = sync.OnceValue(func() []byte {
		hash, err := bcrypt.GenerateFromPassword([]byte("nobody"), p.cost)
		if err != nil {
			panic("identity: bcrypt: " + err.Error())
		}
		return hash
	})
	return p
}

// hash hashes a password.
func (p *passwords) hash(ctx context.Context, password string) (hash []byte, err error) {
	if e := p.work(ctx, func() { hash, err = bcrypt.GenerateFromPassword([]byte(password), p.cost) }); e != nil {
		return nil, e
	}
	return hash, err
}

// check compares a password with a user's; nil is nobody, who has none that is right.
func (p *passwords) check(ctx context.Context, u *auth.User, password string) error {
	if u == nil {
		if err := p.work(ctx, func() { bcrypt.CompareHashAndPassword(p.nobody(), []byte(password)) }); err != nil {
			return err
		}
		return ErrWrongPassword
	}
	k := p.digest(u, password)
	for {
		q, mine := p.ask(k)
		if q == nil {
			return nil
		}
		if mine {
			q.err = p.work(ctx, func() { q.ok = bcrypt.CompareHashAndPassword(u.Hash, []byte(password)) == nil })
			p.answer(k, q)
		}
		select {
		case <-q.done:
		case <-ctx.Done():
			return context.Cause(ctx)
		}
		switch {
		case q.ok:
			return nil
		case q.err == nil:
			return ErrWrongPassword
		case mine || errors.Is(q.err, ErrBusy):
			return q.err
		}
		// Whoever asked has given up: ask again.
	}
}

// digest is what a right password is remembered by. It holds the hash as well, so that a change of the password forgets it.
func (p *passwords) digest(u *auth.User, password string) (k digest) {
	m := hmac.New(sha256.New, p.key)
	for _, part := range [][]byte{[]byte(u.Name), u.Hash} {
		m.Write(binary.AppendUvarint(nil, uint64(len(part))))
		m.Write(part)
	}
	m.Write([]byte(password))
	m.Sum(k[:0])
	return k
}

// ask returns the question under way about a password; mine says that it is the caller's to find the answer. Nil: it is known
// to be right.
func (p *passwords) ask(k digest) (q *question, mine bool) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if _, ok := p.right[k]; ok {
		return nil, false
	}
	if q := p.asked[k]; q != nil {
		return q, false
	}
	q = &question{done: make(chan struct{})}
	p.asked[k] = q
	return q, true
}

func (p *passwords) answer(k digest, q *question) {
	p.mu.Lock()
	defer p.mu.Unlock()
	delete(p.asked, k)
	if q.ok {
		p.remember(k)
	}
	close(q.done)
}

func (p *passwords) remember(k digest) {
	if len(p.order) < rightMax {
		p.order = append(p.order, k)
	} else {
		delete(p.right, p.order[p.next])
		p.order[p.next] = k
		p.next = (p.next + 1) % rightMax
	}
	p.right[k] = struct{}{}
}

// work does f when a worker is free. Errors: ErrBusy, the context's.
func (p *passwords) work(ctx context.Context, f func()) error {
	if !p.wait(1) {
		return ErrBusy
	}
	defer p.wait(-1)
	select {
	case p.slots <- struct{}{}:
	case <-ctx.Done():
		return context.Cause(ctx)
	}
	defer func() { <-p.slots }()
	f()
	return nil
}

// wait counts who waits; false: there are too many.
func (p *passwords) wait(n int) bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	if n > 0 && p.waiting >= waitingMax {
		return false
	}
	p.waiting += n
	return true
}
