package join

import (
	"cmp"
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"net/url"
	"slices"
	"strconv"
	"strings"
	"time"

	pb "go.etcd.io/etcd/api/v3/etcdserverpb"
	"go.etcd.io/etcd/api/v3/v3rpc/rpctypes"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/credentials"
	"google.golang.org/grpc/credentials/insecure"
	"google.golang.org/grpc/metadata"
	"google.golang.org/grpc/status"

	"keelson/config"
	"keelson/server/bootstrap"
)

const (
	// autoPromoteKey asks, in the metadata of MemberAdd, that the learner be promoted as soon as it has caught up.
	autoPromoteKey = "keelson-auto-promote"

	askTimeout = 10 * time.Second // of asking one member for the list, and of one call to another
	retryPause = time.Second
)

// admission is how one member gets a place in a cluster.
type admission struct {
	peers    []string // of members, to ask
	name     string
	peerURLs []string // ours, sorted
	dataDir  string
	stay     bool // a learner, until somebody promotes it
	client   *bootstrap.Client
	security *tls.Config   // towards client URLs with TLS; nil: the system's authorities
	pause    time.Duration // between attempts
	say      func(format string, args ...any)
}

// passing is a refusal that may be none a little later.
type passing struct{ error }

func (p passing) Unwrap() error { return p.error }

// admit finds or makes this member's place, and returns the members with it. While the cluster is not ready to take one
// more, it tries again until ctx ends.
func (a *admission) admit(ctx context.Context) ([]bootstrap.Member, error) {
	var last error
	for {
		members, err := a.attempt(ctx)
		var p passing
		switch {
		case err != nil && last != nil && ctx.Err() != nil:
			return nil, fmt.Errorf("gave up: %w", last) // this attempt was cut short
		case !errors.As(err, &p):
			return members, err
		}
		if last == nil || last.Error() != err.Error() {
			a.say("%v; trying again", err)
		}
		last = err
		select {
		case <-time.After(a.pause):
		case <-ctx.Done():
			return nil, fmt.Errorf("gave up: %w", last)
		}
	}
}

func (a *admission) attempt(ctx context.Context) ([]bootstrap.Member, error) {
	c, err := a.ask(ctx)
	if err != nil {
		return nil, err
	}
	if done, err := a.placed(c); done || err != nil {
		return c.Members, err
	}
	members, err := a.add(ctx, c)
	if !errors.Is(err, rpctypes.ErrPeerURLExist) {
		return members, err
	}
	// It may have been us, when an answer got lost.
	if c, again := a.ask(ctx); again == nil {
		if done, wrong := a.placed(c); done || wrong != nil {
			return c.Members, wrong
		}
	}
	return nil, err
}

// ask asks for the members of the cluster: the first of the given ones that answers.
func (a *admission) ask(ctx context.Context) (bootstrap.Cluster, error) {
	var failures []string
	for _, u := range a.peers {
		asking, cancel := context.WithTimeout(ctx, askTimeout)
		c, err := a.client.Cluster(asking, u)
		cancel()
		if err == nil {
			return c, nil
		}
		failures = append(failures, err.Error())
	}
	return bootstrap.Cluster{}, fmt.Errorf("no member answers: %s; --peer has to be the peer URL of a running member "+
		"(its port is 2380 as a rule, the client port is another), reachable from here", strings.Join(failures, "; "))
}

// placed reports whether the cluster has a place for this member already. It is an error if somebody has that place, or
// its name.
func (a *admission) placed(c bootstrap.Cluster) (bool, error) {
	for _, m := range c.Members {
		hasRun := m.Name != "" || len(m.ClientURLs) > 0
		switch isOurs := slices.Equal(sorted(m.PeerURLs), a.peerURLs); {
		case isOurs && hasRun:
			return false, fmt.Errorf("member %x (%s) has these peer URLs and has run before, but there is no data of it in %s; "+
				"give the directory where its data is, or, if that is lost, remove the member (etcdctl member remove %x) and run this again",
				m.ID, m.Name, a.dataDir, m.ID)
		case isOurs:
			a.say("member %x was added before and has not run yet: taking its place", m.ID)
			return true, nil
		case m.Name == a.name:
			return false, fmt.Errorf("member %x at %s is called %s already: give this one another --name",
				m.ID, strings.Join(m.PeerURLs, ","), a.name)
		}
	}
	return false, nil
}

// add has a voter of the cluster add this member, whichever can.
func (a *admission) add(ctx context.Context, c bootstrap.Cluster) ([]bootstrap.Member, error) {
	var failures []string
	for _, m := range c.Members {
		if m.IsLearner {
			continue // it can't add anybody
		}
		for _, u := range m.ClientURLs {
			r, err := a.addThrough(ctx, u, c.ID)
			switch {
			case err == nil:
				a.say("added to cluster %x as learner %x through %s; it becomes a voter once it has caught up", c.ID, r.Member.GetID(), u)
				return membersOf(r.Members), nil
			case isUnreached(err):
				failures = append(failures, fmt.Sprintf("%s: %v", u, err))
			default:
				return nil, a.explain(err, u)
			}
		}
	}
	if len(failures) == 0 {
		return nil, passing{fmt.Errorf("cluster %x has no member that says where clients reach it", c.ID)}
	}
	return nil, passing{fmt.Errorf("no member of cluster %x can be reached as a client (%s); the members' --advertise-client-urls have to be "+
		"reachable from here", c.ID, strings.Join(failures, "; "))}
}

// errForeign is that an address leads to somebody else.
var errForeign = errors.New("belongs to another cluster")

// addThrough makes sure that the server at a client URL belongs to the cluster, and calls MemberAdd there.
func (a *admission) addThrough(ctx context.Context, clientURL string, cluster uint64) (*pb.MemberAddResponse, error) {
	conn, err := dial(clientURL, a.security)
	if err != nil {
		return nil, err
	}
	defer conn.Close()
	ctx, cancel := context.WithTimeout(ctx, askTimeout)
	defer cancel()
	service := pb.NewClusterClient(conn)
	list, err := service.MemberList(ctx, &pb.MemberListRequest{Linearizable: false})
	switch {
	case err != nil:
		return nil, err
	case list.Header.GetClusterId() != cluster:
		return nil, fmt.Errorf("%w, %x", errForeign, list.Header.GetClusterId())
	}
	if !a.stay {
		ctx = metadata.AppendToOutgoingContext(ctx, autoPromoteKey, "true")
	}
	return service.MemberAdd(ctx, &pb.MemberAddRequest{PeerURLs: a.peerURLs, IsLearner: true})
}

// dial prepares a connection to a client URL.
func dial(clientURL string, tlsConfig *tls.Config) (*grpc.ClientConn, error) {
	u, err := url.Parse(clientURL)
	if err != nil {
		return nil, err
	}
	security := insecure.NewCredentials()
	if config.Secure(*u) {
		security = credentials.NewTLS(tlsConfig)
	}
	target := "passthrough:///" + u.Host
	if file := config.SocketPath(*u); file != "" {
		target = "unix:" + file
	}
	return grpc.NewClient(target, grpc.WithTransportCredentials(security), grpc.WithNoProxy())
}

// isUnreached reports failures after which another member may do better. Those that come from the server's words, such as
// that it has no leader, are the cluster's.
func isUnreached(err error) bool {
	if errors.Is(err, errForeign) {
		return true
	}
	if _, isCluster := rpctypes.Error(err).(rpctypes.EtcdError); isCluster {
		return false
	}
	switch status.Code(err) {
	case codes.Unavailable, codes.DeadlineExceeded, codes.Unimplemented, codes.Unknown:
		return true
	}
	return false
}

// explain says what a refusal of MemberAdd means here.
func (a *admission) explain(err error, through string) error {
	var words rpctypes.EtcdError
	if !errors.As(rpctypes.Error(err), &words) {
		return fmt.Errorf("adding this member through %s: %w", through, err)
	}
	err = fmt.Errorf("adding this member through %s: %w", through, words)
	switch {
	case errors.Is(words, rpctypes.ErrPeerURLExist):
		return fmt.Errorf("%w: another member has one of %s (see etcdctl member list); remove that one, or give other --initial-advertise-peer-urls",
			err, strings.Join(a.peerURLs, ","))
	case errors.Is(words, rpctypes.ErrTooManyLearners):
		return passing{fmt.Errorf("%w: waiting for another learner to be promoted (see etcdctl member list)", err)}
	case words.Code() == codes.Unauthenticated || words.Code() == codes.PermissionDenied || errors.Is(words, rpctypes.ErrUserEmpty):
		return fmt.Errorf("%w: only root may add members here; do that with etcdctl --user root member add %s --learner --peer-urls=%s, then run this again",
			err, a.name, strings.Join(a.peerURLs, ","))
	case words.Code() == codes.Unavailable || errors.Is(words, rpctypes.ErrMemberNotEnoughStarted):
		return passing{err}
	}
	return err
}

func membersOf(list []*pb.Member) []bootstrap.Member {
	members := make([]bootstrap.Member, len(list))
	for i, m := range list {
		members[i] = bootstrap.Member{ID: m.ID, Name: m.Name, PeerURLs: m.PeerURLs, ClientURLs: m.ClientURLs, IsLearner: m.IsLearner}
	}
	return members
}

// initialCluster describes the members as the flag of that name does. What they are called there means nothing but for
// our own name, so that one who has no name yet, or one that can't stand there, goes by its id.
func initialCluster(members []bootstrap.Member, name string, peerURLs []string) string {
	taken := map[string]bool{name: true}
	var pairs []string
	for _, m := range slices.SortedFunc(slices.Values(members), func(x, y bootstrap.Member) int { return cmp.Compare(x.ID, y.ID) }) {
		called := m.Name
		switch {
		case slices.Equal(sorted(m.PeerURLs), peerURLs):
			called = name
		case called == "" || taken[called] || strings.ContainsAny(called, ",= "):
			called = strconv.FormatUint(m.ID, 16)
		}
		taken[called] = true
		for _, u := range sorted(m.PeerURLs) {
			pairs = append(pairs, called+"="+u)
		}
	}
	return strings.Join(pairs, ",")
}

func sorted(list []string) []string { return slices.Sorted(slices.Values(list)) }
