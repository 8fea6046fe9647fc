package peer

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"strconv"
	"time"

	"keelson/env"
	"keelson/node"
)

// clusterHeader is the header by which members say, in lower-case hex, to which cluster they belong.
const clusterHeader = "X-Etcd-Cluster-Id"

// replyBytesMax bounds what is read of a reply: a member list, or as many renewals as fit into a call.
const replyBytesMax = 1 << 20

// retryPause lies between two tries to get an answer from the leader.
const retryPause = 50 * time.Millisecond

// ClientOptions are the parts of a Client. All are required.
type ClientOptions struct {
	Member Member
	// HTTP reaches the other members' peer URLs, see NewHTTP; it has this member's credentials and no timeout of its own.
	HTTP  *http.Client
	Clock env.Clock
}

// Client asks other members.
type Client struct{ o ClientOptions }

// NewClient makes a client.
func NewClient(o ClientOptions) *Client { return &Client{o} }

// unreachableError is why there was no reply. That the request was carried out is possible if it was sent.
type unreachableError struct {
	sent  bool
	cause error
}

func (e *unreachableError) Error() string { return e.cause.Error() }
func (e *unreachableError) Unwrap() error { return e.cause }

// leader says who leads, as far as this member knows, and where it is reached. id 0: nobody known.
func (c *Client) leader() (id uint64, urls []string) {
	id = c.o.Member.Status().Leader
	if id == 0 {
		return 0, nil
	}
	v := c.o.Member.ReadLocal()
	defer v.Close()
	m, _ := v.Members().Get(id) // a leader this member has not heard of yet has no addresses
	return id, m.PeerURLs
}

// request is what is asked of a member.
type request struct {
	method, path  string
	body          []byte
	authorization string // of the client on whose behalf it is asked; empty: nobody's
	caller        string // callerHeader; empty: there is no such client, or it has a token
}

// ask sends a request to a member, at its first address that gives an answer, and returns the body of the reply.
//
// Errors: *unreachableError, or what the member replied.
func (c *Client) ask(ctx context.Context, urls []string, r request) ([]byte, error) {
	var err error = &unreachableError{cause: errors.New("peer: the member has no known address")}
	sent := false
	for _, base := range urls {
		var reply []byte
		reply, err = c.askAt(ctx, base, r)
		var unreachable *unreachableError
		if !errors.As(err, &unreachable) {
			return reply, err
		}
		sent = sent || unreachable.sent
		unreachable.sent = sent
	}
	return nil, err
}

func (c *Client) askAt(ctx context.Context, base string, r request) ([]byte, error) {
	req, err := http.NewRequestWithContext(ctx, r.method, urlOf(base, r.path), bytes.NewReader(r.body))
	if err != nil {
		return nil, &unreachableError{cause: fmt.Errorf("peer: %w", err)}
	}
	req.Header.Set(clusterHeader, strconv.FormatUint(c.o.Member.Status().ClusterID, 16))
	if r.authorization != "" {
		req.Header.Set("Authorization", r.authorization)
	}
	if r.caller != "" {
		req.Header.Set(callerHeader, r.caller)
	}
	reply, err := c.o.HTTP.Do(req)
	if err != nil {
		return nil, &unreachableError{sent: !isDialError(err), cause: fmt.Errorf("peer: %w", err)}
	}
	defer reply.Body.Close()
	body, err := io.ReadAll(io.LimitReader(reply.Body, replyBytesMax+1))
	if err == nil && len(body) > replyBytesMax {
		err = fmt.Errorf("reply is longer than %d bytes", replyBytesMax)
	}
	if err != nil {
		return nil, &unreachableError{sent: true, cause: fmt.Errorf("peer: read reply of %s%s: %w", base, r.path, err)}
	}
	if reply.StatusCode != http.StatusOK {
		return nil, textError(string(body))
	}
	return body, nil
}

// isDialError tells the errors before which nothing was sent.
func isDialError(err error) bool {
	var op *net.OpError
	return errors.As(err, &op) && op.Op == "dial"
}

// pause waits until it makes sense to ask again. It reports false if ctx has ended.
func (c *Client) pause(ctx context.Context) bool {
	t := c.o.Clock.NewTimer(retryPause)
	defer t.Stop()
	select {
	case <-t.C():
		return true
	case <-ctx.Done():
		return false
	}
}

// giveUp is the error of whoever asked for the leader's word until ctx ended: hadLeader says whether one was known at any
// time.
func giveUp(ctx context.Context, hadLeader bool) error {
	err := context.Cause(ctx)
	if err == node.ErrTimeout && !hadLeader {
		return node.ErrNoLeader
	}
	return err
}
