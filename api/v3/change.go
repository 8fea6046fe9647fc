package v3

import (
	"context"

	"go.etcd.io/etcd/api/v3/v3rpc/rpctypes"

	"keelson/command"
	"keelson/rpc"
	"keelson/state"
	"keelson/state/auth"
	"keelson/state/mvcc"
)

// replyMaker makes the reply to a command that had this result.
type replyMaker func(h header, res *state.Result) *encoded

// change proposes op, which costs about so many bytes of the quota, and answers with what reply makes of its result. Where the call allows
// it, the answer is deferred: then no goroutine waits for it.
func (s *Services) change(ctx context.Context, op command.Op, costBytes int64, reply replyMaker) (any, error) {
	if d := rpc.Defer(ctx); d != nil {
		return s.changeLater(ctx, d, op, costBytes, reply)
	}
	return s.changeNow(ctx, op, costBytes, reply)
}

// changeNow is change on a goroutine that may wait.
func (s *Services) changeNow(ctx context.Context, op command.Op, costBytes int64, reply replyMaker) (any, error) {
	res, err := s.propose(ctx, op)
	if err == nil {
		err = s.checkRoom(ctx, costBytes)
	}
	if err != nil {
		return nil, err
	}
	return reply(s.header(res.Revision), &res), nil
}

// changeLater is change for a call whose answer is d.
func (s *Services) changeLater(ctx context.Context, d *rpc.Deferred, op command.Op, costBytes int64, reply replyMaker) (any, error) {
	if sizeCommand(op) > s.o.MaxRequestBytes {
		return nil, rpctypes.ErrGRPCRequestTooLarge
	}
	d.OnEnd(func(cause error) error { return wireError(s.o.Member.Abandon(cause)) })
	err := s.o.Member.ProposeLater(ctx, op, d, func(res *state.Result, alone bool, err error) {
		if err == nil {
			err = ended(res)
		}
		switch err {
		case nil:
			if s.exceeds(costBytes) {
				kept := *res
				d.Go(func() {
					if err := s.checkRoom(ctx, costBytes); err != nil {
						d.Complete(nil, err)
						return
					}
					d.Complete(reply(s.header(kept.Revision), &kept), nil)
				})
				return
			}
			if r := reply(s.header(res.Revision), res); alone {
				d.CompleteAndWrite(r, nil)
			} else {
				d.Complete(r, nil)
			}
		case auth.ErrOldRevision: // users have changed since the call was let in
			d.Go(func() {
				again, ok := s.readmit(ctx)
				if !ok {
					again = ctx
				}
				d.Complete(s.changeNow(again, op, costBytes, reply))
			})
		default:
			d.Complete(nil, wireError(err))
		}
	})
	if err != nil {
		return nil, wireError(err)
	}
	return d, nil
}

// ended is why a command that has come to its end has no reply; nil: it has one.
func ended(res *state.Result) error {
	if res.Refusal == nil && res.Cut {
		return mvcc.ErrTooLarge
	}
	return res.Refusal
}

// exceeds reports whether the store may be beyond its quota by the time that a change of this cost has been carried out.
func (s *Services) exceeds(costBytes int64) bool {
	return costBytes > 0 && s.o.Quota != nil && s.o.Quota.Exceeded()
}

// checkRoom is called when a change of this cost has been carried out. As in etcd, who made it is told if the store has grown beyond
// its quota meanwhile, and the alarm is raised; what was written stays. Nothing of that is in the state: another member may find
// otherwise.
//
// Source: v3 API specification, 2.8.
func (s *Services) checkRoom(ctx context.Context, costBytes int64) error {
	if !s.exceeds(costBytes) {
		return nil
	}
	s.o.Quota.Raise(ctx)
	return rpctypes.ErrGRPCNoSpace
}
