package peer

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"time"

	pb "go.etcd.io/etcd/api/v3/etcdserverpb"
	"google.golang.org/protobuf/proto"

	"keelson/node"
	"keelson/state"
	"keelson/state/lease"
)

const (
	// appliedWaitMax is how long a lease that is not there may keep its caller waiting until this member has applied all
	// that is committed.
	appliedWaitMax = time.Second
	// callTimeout bounds one call to a leader, who answers within renewalPatience: the next try may find another leader.
	callTimeout = time.Second
)

// LessorOptions are the parts of a Lessor. All are required.
type LessorOptions struct {
	Member Member
	Local  Leases
	Client *Client
	// RequestTimeout bounds the wait for a leader's answer.
	RequestTimeout time.Duration
}

// Lessor knows how long leases still live, whoever leads: on the leader from its own clock, elsewhere from the leader.
// While renewals are on their way to the leader, one goroutine carries them. Close it.
type Lessor struct {
	o        LessorOptions
	renewals *renewals
}

// NewLessor makes a Lessor.
func NewLessor(o LessorOptions) *Lessor {
	return &Lessor{o: o, renewals: newRenewals(o.Client, o.Member)}
}

// Close ends the goroutine. Who still waits gets node.ErrStopped.
func (l *Lessor) Close() { l.renewals.close() }

// Leases lists the leases, the one that runs out first in front; none on a member that does not lead.
func (l *Lessor) Leases() []node.LeaseTimes { return l.o.Local.Leases() }

// RenewLease lets a lease live for its full TTL from now and returns that TTL.
//
// Errors: state.ErrLeaseNotFound, for certain; node.ErrNotLeader if this member leads but could not make sure of it;
// node.ErrNoLeader if nobody was known to lead for the whole request timeout, node.ErrTimeout if the one who leads did
// not answer in that time; node.ErrTimeoutApplied.
// Source: etcd v3 API, Lease, KeepAlive.
func (l *Lessor) RenewLease(ctx context.Context, id lease.ID) (ttlSeconds int64, err error) {
	if l.o.Member.Status().Leading { // without the cost of a timeout
		ttl, err := l.renewHere(ctx, id)
		if err != node.ErrNotLeader {
			return ttl, notPrimary(err)
		}
	}
	ctx, cancel := context.WithTimeoutCause(ctx, l.o.RequestTimeout, node.ErrTimeout)
	defer cancel()
	hadLeader := false
	for {
		r, err := l.renewals.send(ctx, id, &hadLeader)
		switch {
		case err != nil:
			return 0, err
		case r.err == nil && r.ttlSeconds == 0:
			return 0, state.ErrLeaseNotFound
		case r.err != errLeadsHere:
			return r.ttlSeconds, r.err
		}
		ttl, err := l.renewHere(ctx, id)
		if err != node.ErrNotLeader {
			return ttl, notPrimary(err)
		}
	}
}

// notPrimary turns the errors for which a member could not make sure that it leads into the one that sends the client
// elsewhere.
func notPrimary(err error) error {
	if err == node.ErrTimeout || err == node.ErrLeaderChanged || err == node.ErrNoLeader {
		return node.ErrNotLeader
	}
	return err
}

// renewHere renews by this member's own clock. That a lease is not there counts only when all is applied that others may
// know of.
func (l *Lessor) renewHere(ctx context.Context, id lease.ID) (ttlSeconds int64, err error) {
	ttl, err := l.o.Local.RenewLease(ctx, id)
	if !errors.Is(err, state.ErrLeaseNotFound) {
		return ttl, err
	}
	if err := l.catchUp(ctx); err != nil {
		return 0, err
	}
	return l.o.Local.RenewLease(ctx, id)
}

// catchUp waits until this member has applied all that anybody may know of.
func (l *Lessor) catchUp(ctx context.Context) error {
	ctx, cancel := context.WithTimeoutCause(ctx, appliedWaitMax, node.ErrTimeoutApplied)
	defer cancel()
	v, err := l.o.Member.Read(ctx)
	if err != nil {
		return err
	}
	v.Close()
	return nil
}

// LeaseTimes tells how a lease stands; ok is false if there is none.
//
// Errors: node.ErrNoLeader, node.ErrTimeout, node.ErrLeaderChanged, node.ErrTimeoutApplied.
// Source: etcd v3 API, Lease, TimeToLive.
func (l *Lessor) LeaseTimes(ctx context.Context, id lease.ID) (t node.LeaseTimes, ok bool, err error) {
	ctx, cancel := context.WithTimeoutCause(ctx, l.o.RequestTimeout, node.ErrTimeout)
	defer cancel()
	hadLeader := false
	for {
		if l.o.Member.Status().Leading {
			t, ok, err = l.timesHere(ctx, id)
			if err != node.ErrNotLeader {
				return t, ok, err
			}
		}
		leader, urls := l.o.Client.leader()
		if leader != 0 && leader != l.o.Member.Status().MemberID {
			hadLeader = true
			if t, ok, err = l.timesThere(ctx, urls, id); err == nil {
				return t, ok, nil
			}
		}
		if !l.o.Client.pause(ctx) {
			return node.LeaseTimes{}, false, giveUp(ctx, hadLeader)
		}
	}
}

// timesHere goes by this member's own clock.
func (l *Lessor) timesHere(ctx context.Context, id lease.ID) (t node.LeaseTimes, ok bool, err error) {
	t, ok, err = l.o.Local.LeaseTimes(ctx, id)
	if err != nil || ok {
		return t, ok, err
	}
	if err := l.catchUp(ctx); err != nil {
		return node.LeaseTimes{}, false, err
	}
	return l.o.Local.LeaseTimes(ctx, id)
}

// timesThere asks the leader.
func (l *Lessor) timesThere(ctx context.Context, urls []string, id lease.ID) (t node.LeaseTimes, ok bool, err error) {
	ctx, cancel := context.WithTimeout(ctx, callTimeout+appliedWaitMax)
	defer cancel()
	body, err := proto.Marshal(&pb.LeaseTimeToLiveRequest{ID: int64(id)})
	if err != nil {
		panic("peer: " + err.Error()) // a number always encodes
	}
	reply, err := l.o.Client.ask(ctx, urls, request{method: http.MethodPost, path: "/leases/internal", body: body})
	if err != nil {
		return t, false, err
	}
	var told pb.LeaseTimeToLiveResponse
	if err := proto.Unmarshal(reply, &told); err != nil {
		return t, false, fmt.Errorf("peer: lease times of the leader: %w", err)
	}
	if told.GrantedTTL == 0 {
		return t, false, nil
	}
	return node.LeaseTimes{ID: id, TTLSeconds: told.GrantedTTL, RemainingSeconds: told.TTL}, true, nil
}
