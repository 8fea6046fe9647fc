package peer

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"net/url"
	"strconv"
	"strings"
	"time"

	"go.etcd.io/etcd/api/v3/v3rpc/rpctypes"
	"google.golang.org/grpc/metadata"

	"keelson/command"
	"keelson/node"
	"keelson/state/auth"
	"keelson/state/members"
)

// promote has a learner promoted, if this member leads, and replies with the members as they are then. The token of the
// client on whose behalf it is asked goes where the tokens of clients are looked for.
func (h *Handler) promote(w http.ResponseWriter, r *http.Request) {
	text := strings.TrimPrefix(r.URL.Path, "/members/promote/")
	id, err := strconv.ParseUint(text, 10, 64)
	if err != nil {
		http.Error(w, fmt.Sprintf("member %s not found in cluster", text), http.StatusNotFound)
		return
	}
	ctx := r.Context()
	if token := r.Header.Get("Authorization"); token != "" {
		ctx = metadata.NewIncomingContext(ctx, metadata.Pairs(rpctypes.TokenFieldNameGRPC, token))
	}
	who, err := h.callerOf(ctx, r)
	if err != nil {
		writeError(w, err)
		return
	}
	list, err := promoteHere(auth.WithCaller(ctx, who), h.o.Cluster, h.o.Member, id)
	if err != nil {
		writeError(w, err)
		return
	}
	writeMembers(w, list)
}

// callerHeader names the client on whose behalf a member asks that has proven by a certificate who it is: that proof was between the
// client and that member. It is believed as everything is that comes to the peer port: commands in raft's messages name their
// callers in the same way.
const callerHeader = "X-Keelson-Caller"

// callerOf is on whose behalf another member asks: by the client's token, or by the name that the member vouches for.
func (h *Handler) callerOf(ctx context.Context, r *http.Request) (auth.Caller, error) {
	vouched := r.Header.Get(callerHeader)
	if vouched == "" || r.Header.Get("Authorization") != "" {
		return h.o.Caller(ctx)
	}
	return parseCaller(vouched)
}

// formatCaller is the header for a caller: the revision of users and roles that goes with the name, a space, the name, escaped.
func formatCaller(who auth.Caller) string {
	return strconv.FormatUint(who.Revision, 10) + " " + url.QueryEscape(who.User)
}

func parseCaller(text string) (who auth.Caller, err error) {
	revision, name, _ := strings.Cut(text, " ")
	if who.Revision, err = strconv.ParseUint(revision, 10, 64); err == nil {
		who.User, err = url.QueryUnescape(name)
	}
	if err != nil {
		return auth.Caller{}, fmt.Errorf("peer: %s %.100q: %w", callerHeader, text, err)
	}
	return who, nil
}

// vouchedFor is the header for who makes the call that ctx belongs to, if only this member can tell who that is.
func vouchedFor(ctx context.Context) string {
	who, ok := auth.CallerOf(ctx)
	if !ok || who.User == "" || tokenOf(ctx) != "" {
		return ""
	}
	return formatCaller(who)
}

// promoteHere promotes a learner on the member that leads.
func promoteHere(ctx context.Context, c Cluster, m Member, id uint64) ([]members.Member, error) {
	res, err := c.ChangeMembers(ctx, &command.MemberPromote{ID: id})
	if err == nil {
		err = res.Refusal
	}
	if err != nil {
		return nil, err
	}
	v := m.ReadLocal()
	defer v.Close()
	return v.Members().List(), nil
}

// Promoter has learners promoted by the leader, whichever member that is.
type Promoter struct {
	member  Member
	cluster Cluster
	client  *Client
	timeout time.Duration
}

// NewPromoter makes a Promoter that gives up after a time.
func NewPromoter(m Member, local Cluster, c *Client, timeout time.Duration) *Promoter {
	return &Promoter{member: m, cluster: local, client: c, timeout: timeout}
}

// Promote makes a learner a voter and returns the members, by id, as they are then.
//
// Errors: what the leader says, node.ErrNoLeader, node.ErrTimeout, node.ErrCanceled. With the last two it may still come
// to pass.
func (p *Promoter) Promote(ctx context.Context, id uint64) ([]members.Member, error) {
	ctx, cancel := context.WithTimeoutCause(ctx, p.timeout, node.ErrTimeout)
	defer cancel()
	hadLeader, unsure := false, false
	for {
		list, err := p.try(ctx, id)
		var unreachable *unreachableError
		switch {
		case errors.As(err, &unreachable):
			hadLeader, unsure = true, unsure || unreachable.sent
		case err == members.ErrNotLearner && unsure:
			return p.list(ctx) // an earlier try had succeeded
		case err == node.ErrNotLeader:
			hadLeader = true
		case err != node.ErrNoLeader:
			return list, err
		}
		if !p.client.pause(ctx) {
			return nil, giveUpWrite(ctx, hadLeader)
		}
	}
}

// giveUpWrite is giveUp for a change that may still come to pass.
func giveUpWrite(ctx context.Context, hadLeader bool) error {
	switch err := giveUp(ctx, hadLeader); err {
	case context.Canceled:
		return node.ErrCanceled
	case context.DeadlineExceeded:
		return node.ErrTimeout
	default:
		return err
	}
}

// try asks the leader, as far as this member knows one.
func (p *Promoter) try(ctx context.Context, id uint64) ([]members.Member, error) {
	st := p.member.Status()
	if st.Leading {
		return promoteHere(ctx, p.cluster, p.member, id)
	}
	leader, urls := p.client.leader()
	if leader == 0 || leader == st.MemberID { // it begins, or ends, to lead
		return nil, node.ErrNoLeader
	}
	reply, err := p.client.ask(ctx, urls, request{
		method: http.MethodPost, path: "/members/promote/" + strconv.FormatUint(id, 10), authorization: tokenOf(ctx), caller: vouchedFor(ctx),
	})
	if err != nil {
		return nil, err
	}
	list, err := parseMembers(reply)
	if err != nil {
		return nil, fmt.Errorf("peer: member list of the leader: %w", err)
	}
	return list, nil
}

// list lists the members with all changes that anybody knows to be made.
func (p *Promoter) list(ctx context.Context) ([]members.Member, error) {
	v, err := p.member.Read(ctx)
	if err != nil {
		return nil, err
	}
	defer v.Close()
	return v.Members().List(), nil
}

// tokenOf is the token that a client sent along with its call; empty: none.
func tokenOf(ctx context.Context) string {
	for _, key := range []string{rpctypes.TokenFieldNameGRPC, rpctypes.TokenFieldNameSwagger} {
		if v := metadata.ValueFromIncomingContext(ctx, key); len(v) > 0 {
			return v[0]
		}
	}
	return ""
}
