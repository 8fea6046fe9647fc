package bootstrap

import (
	"context"
	"crypto/tls"
	"encoding/json"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/url"
	"strconv"
	"strings"
	"sync"
	"time"

	"keelson/config"
	"keelson/env"
)

const (
	probeTimeout    = time.Second      // of asking whether a new member has run before
	fetchTimeout    = 10 * time.Second // of asking for the cluster to join, and for versions
	answerBytesMax  = 1 << 20
	clusterIDHeader = "X-Etcd-Cluster-Id"
)

// Client asks running members what they tell strangers over their peer URLs.
type Client struct{ http *http.Client }

// NewClient makes a Client. security is for peer URLs of https and unixs, network is how they are dialed; both may be nil.
// Nothing has to be closed.
func NewClient(security *tls.Config, network env.Network) *Client {
	if network == nil {
		network = env.SystemNetwork()
	}
	t := &http.Transport{TLSClientConfig: security, DisableKeepAlives: true}
	t.DialContext = func(ctx context.Context, kind, address string) (net.Conn, error) {
		if path, ok := ctx.Value(socketPath{}).(string); ok {
			kind, address = "unix", path
		}
		return network.Dial(ctx, kind, address)
	}
	return &Client{&http.Client{Transport: t}}
}

// socketPath keys, in a request's context, the file of a unix URL.
type socketPath struct{}

// Cluster is a running cluster as one of its members tells it.
type Cluster struct {
	ID      uint64
	Members []Member
}

// Member is one of its members.
type Member struct {
	ID         uint64   `json:"id"`
	PeerURLs   []string `json:"peerURLs"`
	Name       string   `json:"name"`
	ClientURLs []string `json:"clientURLs"`
	IsLearner  bool     `json:"isLearner"`
}

// started reports whether the member has published itself, as each does when it has started for the first time.
func (m Member) started() bool { return m.Name != "" || len(m.ClientURLs) > 0 }

func (c Cluster) find(id uint64) (Member, bool) {
	for _, m := range c.Members {
		if m.ID == id {
			return m, true
		}
	}
	return Member{}, false
}

// String is the cluster as it stands in messages that tools look for.
func (c Cluster) String() string {
	var b strings.Builder
	fmt.Fprintf(&b, "{ClusterID:%x Members:[", c.ID)
	for i, m := range c.Members {
		if i > 0 {
			b.WriteByte(' ')
		}
		fmt.Fprintf(&b, "&{ID:%x RaftAttributes:{PeerURLs:%v IsLearner:%t} Attributes:{Name:%s ClientURLs:%v}}",
			m.ID, m.PeerURLs, m.IsLearner, m.Name, m.ClientURLs)
	}
	b.WriteString("] RemovedMemberIDs:[]}")
	return b.String()
}

// Versions are what a member says it is.
type Versions struct {
	Server  string `json:"etcdserver"`
	Cluster string `json:"etcdcluster"` // that all members have agreed on
}

// Cluster asks the member behind a peer URL for the members of its cluster. A member that does not know any, as it has
// joined and not been given the state yet, is an error.
func (c *Client) Cluster(ctx context.Context, peerURL string) (Cluster, error) {
	var cluster Cluster
	header, err := c.get(ctx, peerURL, "/members", &cluster.Members)
	if err != nil {
		return Cluster{}, err
	}
	if cluster.ID, err = strconv.ParseUint(header.Get(clusterIDHeader), 16, 64); err != nil {
		return Cluster{}, fmt.Errorf("%s/members: cluster id %q", peerURL, header.Get(clusterIDHeader))
	}
	if len(cluster.Members) == 0 {
		return Cluster{}, fmt.Errorf("%s/members: failed to get raft cluster member(s) from the given URLs", peerURL)
	}
	return cluster, nil
}

// Versions asks the member behind a peer URL which version it is.
func (c *Client) Versions(ctx context.Context, peerURL string) (Versions, error) {
	var v Versions
	_, err := c.get(ctx, peerURL, "/version", &v)
	return v, err
}

// get reads a JSON value.
func (c *Client) get(ctx context.Context, peerURL, path string, value any) (http.Header, error) {
	u, err := url.Parse(peerURL)
	if err != nil {
		return nil, err
	}
	if file := config.SocketPath(*u); file != "" {
		ctx = context.WithValue(ctx, socketPath{}, file)
		peerURL = "http://localhost"
		if config.Secure(*u) {
			peerURL = "https://localhost"
		}
	}
	request, err := http.NewRequestWithContext(ctx, http.MethodGet, peerURL+path, nil)
	if err != nil {
		return nil, err
	}
	response, err := c.http.Do(request)
	if err != nil {
		return nil, err // which names the URL
	}
	defer response.Body.Close()
	body, err := io.ReadAll(io.LimitReader(response.Body, answerBytesMax))
	switch {
	case err != nil:
		return nil, fmt.Errorf("%s%s: %w", peerURL, path, err)
	case response.StatusCode != http.StatusOK:
		return nil, fmt.Errorf("%s%s: %s: %s", peerURL, path, response.Status, strings.TrimSpace(string(body[:min(len(body), 200)])))
	}
	if err := json.Unmarshal(body, value); err != nil {
		return nil, fmt.Errorf("%s%s: %w", peerURL, path, err)
	}
	return response.Header, nil
}

// answer is what became of one of several questions.
type answer[T any] struct {
	value T
	err   error
}

// clusters asks all peer URLs at once. The answers stand in the order of the URLs.
func (c *Client) clusters(ctx context.Context, peerURLs []string) []answer[Cluster] {
	return each(peerURLs, func(u string) (Cluster, error) { return c.Cluster(ctx, u) })
}

func each[S, T any](subjects []S, ask func(S) (T, error)) []answer[T] {
	answers := make([]answer[T], len(subjects))
	var asking sync.WaitGroup
	for i, s := range subjects {
		asking.Go(func() { answers[i].value, answers[i].err = ask(s) })
	}
	asking.Wait()
	return answers
}
