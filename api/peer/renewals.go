package peer

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"sync"
	"sync/atomic"

	"keelson/node"
	"keelson/state/lease"
)

// errLeadsHere is the answer to a renewal that came to the right member after all.
var errLeadsHere = errors.New("this member leads")

// renewals carries renewals to the leader, one call at a time: all that arrive while a call is under way go with the next
// one. A goroutine makes the calls for as long as anybody waits.
type renewals struct {
	client *Client
	member Member

	mu       sync.Mutex
	gathered []*renewal // one record per caller
	running  bool       // the goroutine
	closed   bool

	ctx  context.Context // ends with close
	stop context.CancelFunc
	done sync.WaitGroup
}

// renewal is one caller who waits.
type renewal struct {
	id     lease.ID
	answer chan renewed // capacity 1
	// hadLeader: somebody was known to lead while this waited.
	hadLeader atomic.Bool
	// gone: the caller has given up.
	gone atomic.Bool
}

func newRenewals(c *Client, m Member) *renewals {
	r := &renewals{client: c, member: m}
	r.ctx, r.stop = context.WithCancel(context.Background())
	return r
}

// send has a lease renewed by the leader. hadLeader becomes true if there was somebody to ask.
func (r *renewals) send(ctx context.Context, id lease.ID, hadLeader *bool) (renewed, error) {
	w := &renewal{id: id, answer: make(chan renewed, 1)}
	w.hadLeader.Store(*hadLeader)
	if !r.join(w) {
		return renewed{}, node.ErrStopped
	}
	select {
	case answer := <-w.answer:
		*hadLeader = w.hadLeader.Load()
		return answer, nil
	case <-ctx.Done():
		w.gone.Store(true)
		return renewed{}, giveUp(ctx, w.hadLeader.Load())
	}
}

func (r *renewals) join(w *renewal) bool {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.closed {
		return false
	}
	r.gathered = append(r.gathered, w)
	if !r.running {
		r.running = true
		r.done.Go(r.run)
	}
	return true
}

// run makes calls until nobody waits.
func (r *renewals) run() {
	for batch := r.take(); batch != nil; batch = r.take() {
		left := r.call(batch)
		if len(left) == 0 {
			continue
		}
		r.putBack(left)
		if !r.client.pause(r.ctx) {
			r.settleAll(renewed{err: node.ErrStopped})
		}
	}
}

// take takes what goes into the next call; nil: nobody waits any more, and the goroutine ends.
func (r *renewals) take() []*renewal {
	r.mu.Lock()
	defer r.mu.Unlock()
	var batch []*renewal
	i := 0
	for ; i < len(r.gathered) && len(batch) < renewalsMax; i++ {
		if w := r.gathered[i]; !w.gone.Load() {
			batch = append(batch, w)
		}
	}
	r.gathered = r.gathered[i:]
	if len(batch) == 0 {
		r.gathered, r.running = nil, false
	}
	return batch
}

// putBack lets renewals wait for a later call, before those who came after them.
func (r *renewals) putBack(batch []*renewal) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.gathered = append(batch, r.gathered...)
}

func (r *renewals) settleAll(answer renewed) {
	r.mu.Lock()
	defer r.mu.Unlock()
	for _, w := range r.gathered {
		w.answer <- answer
	}
	r.gathered = nil
}

// call asks the leader once and returns those who have no answer yet.
func (r *renewals) call(batch []*renewal) (left []*renewal) {
	leader, urls := r.client.leader()
	if st := r.member.Status(); st.Leading {
		for _, w := range batch {
			w.answer <- renewed{err: errLeadsHere}
		}
		return nil
	} else if leader == 0 || leader == st.MemberID { // it begins, or ends, to lead
		return batch
	}
	var body []byte
	for _, w := range batch {
		w.hadLeader.Store(true)
		body = appendRenewal(body, w.id)
	}
	answers, err := r.ask(urls, body, len(batch))
	if err != nil {
		return batch
	}
	for i, w := range batch {
		if answers[i].err != nil {
			left = append(left, w) // undecided, for whatever reason
		} else {
			w.answer <- answers[i]
		}
	}
	return left
}

// ask sends n renewals and returns as many answers.
func (r *renewals) ask(urls []string, body []byte, n int) ([]renewed, error) {
	ctx, cancel := context.WithTimeout(r.ctx, callTimeout)
	defer cancel()
	reply, err := r.client.ask(ctx, urls, request{method: http.MethodPost, path: "/leases", body: body})
	if err != nil {
		return nil, err
	}
	answers, err := parseRenewed(reply)
	if err == nil && len(answers) != n {
		err = fmt.Errorf("peer: %d answers to %d renewals", len(answers), n)
	}
	return answers, err
}

// close ends the goroutine; who waits gets node.ErrStopped.
func (r *renewals) close() {
	r.mu.Lock()
	r.closed = true
	r.mu.Unlock()
	r.stop()
	r.done.Wait()
}
