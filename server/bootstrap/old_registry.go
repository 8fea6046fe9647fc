package bootstrap

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"slices"
	"strconv"
	"strings"
	"time"

	"go.uber.org/zap"

	"keelson/config"
)

var (
	errInvalidURL   = errors.New("discovery: invalid URL")
	errBadEndpoint  = errors.New("discovery: bad discovery endpoint")
	errDuplicateID  = errors.New("discovery: found duplicate id")
	errDuplicateTag = errors.New("discovery: found duplicate name")
)

const (
	oldCallTimeout = 5 * time.Second // of a call that does not wait
	oldAnswerMax   = 1 << 20
)

// oldRegistry is a registry kept by a cluster that speaks the v2 API, below a URL that was made for one cluster:
//
//	<url>/_config/size  how many members the cluster starts with, decimal
//	<url>/<id, hex>     name=url[,name=url]; the first <size> by createdIndex are the cluster
//
// It belongs to one goroutine.
//
// Source: the v2 API specification, 14.
type oldRegistry struct {
	url    string
	client *http.Client
}

// newOldRegistry looks at the URL, and at nothing else.
func newOldRegistry(text string) (*oldRegistry, error) {
	u, err := url.Parse(text)
	if err != nil || u.Scheme != "http" && u.Scheme != "https" || u.Host == "" || u.RawQuery != "" || u.Fragment != "" {
		return nil, errInvalidURL
	}
	return &oldRegistry{url: strings.TrimRight(u.String(), "/"), client: &http.Client{Transport: &http.Transport{}}}, nil
}

func (r *oldRegistry) close() { r.client.CloseIdleConnections() }

// oldAnswer is what is used of an answer of the v2 API.
type oldAnswer struct {
	Code    int    `json:"errorCode"`
	Message string `json:"message"`
	Cause   string `json:"cause"`
	Node    struct {
		Value   string    `json:"value"`
		Created uint64    `json:"createdIndex"`
		Nodes   []oldNode `json:"nodes"`
	} `json:"node"`
	index uint64
}

type oldNode struct {
	Key     string `json:"key"`
	Value   string `json:"value"`
	Dir     bool   `json:"dir"`
	Created uint64 `json:"createdIndex"`
}

// Codes of the v2 API that are answers here.
const (
	oldKeyNotFound = 100
	oldKeyExists   = 105
)

// call makes a request below the URL. What the service refuses is in the answer.
//
// Errors: transient, if the service can't be reached or can't answer now; errBadEndpoint, if it is none.
func (r *oldRegistry) call(ctx context.Context, method, path string, form url.Values) (a oldAnswer, err error) {
	q, err := http.NewRequestWithContext(ctx, method, r.url+path, strings.NewReader(form.Encode()))
	if err != nil {
		return a, errInvalidURL
	}
	if form != nil {
		q.Header.Set("Content-Type", "application/x-www-form-urlencoded")
	}
	resp, err := r.client.Do(q)
	if err != nil {
		return a, transient{err}
	}
	defer resp.Body.Close()
	body, err := io.ReadAll(io.LimitReader(resp.Body, oldAnswerMax))
	switch {
	case err != nil:
		return a, transient{err}
	case resp.StatusCode >= http.StatusInternalServerError:
		return a, transient{fmt.Errorf("%s: %.200s", resp.Status, body)}
	case resp.StatusCode == http.StatusOK && len(body) == 0: // a wait that had to end
		return a, transient{io.ErrUnexpectedEOF}
	case json.Unmarshal(body, &a) != nil:
		return a, errBadEndpoint
	}
	a.index, _ = strconv.ParseUint(resp.Header.Get("X-Etcd-Index"), 10, 64)
	return a, nil
}

func (a oldAnswer) refusal() error {
	if a.Code == 0 {
		return nil
	}
	return fmt.Errorf("discovery: %d: %s (%s)", a.Code, a.Message, a.Cause)
}

// size is how many members the cluster starts with.
func (r *oldRegistry) size(ctx context.Context) (int, error) {
	a, err := r.call(ctx, http.MethodGet, "/_config/size", nil)
	switch {
	case err != nil:
		return 0, err
	case a.Code == oldKeyNotFound:
		return 0, errSizeNotFound
	case a.Code != 0:
		return 0, a.refusal()
	}
	size, err := strconv.ParseInt(a.Node.Value, 10, 32)
	if err != nil || size <= 0 {
		return 0, errBadSize
	}
	return int(size), nil
}

// list returns who is registered, in the order in which they came, as of an index.
func (r *oldRegistry) list(ctx context.Context) (there []oldNode, index uint64, err error) {
	a, err := r.call(ctx, http.MethodGet, "", nil)
	if err == nil {
		err = a.refusal()
	}
	for _, n := range a.Node.Nodes {
		if !n.Dir && !strings.HasSuffix(n.Key, "/_config") {
			there = append(there, n)
		}
	}
	slices.SortFunc(there, func(a, b oldNode) int { return int(min(max(int64(a.Created)-int64(b.Created), -1), 1)) })
	return there, a.index, err
}

// register registers a member, once.
func (r *oldRegistry) register(ctx context.Context, id, pairs string) (created uint64, err error) {
	a, err := r.call(ctx, http.MethodPut, "/"+id+"?prevExist=false", url.Values{"value": {pairs}})
	switch {
	case err != nil:
		return 0, err
	case a.Code == oldKeyExists:
		return 0, errDuplicateID
	}
	return a.Node.Created, a.refusal()
}

// await returns when something below a path has happened from an index on, or may have.
func (r *oldRegistry) await(ctx context.Context, path string, index uint64) error {
	_, err := r.call(ctx, http.MethodGet, fmt.Sprintf("%s?wait=true&recursive=true&waitIndex=%d", path, index), nil)
	if errors.Is(err, io.ErrUnexpectedEOF) {
		return nil // look again
	}
	return err // an index that is too old is an answer: look again
}

// oldMeeting is a member's way through a discovery of the v2 kind.
type oldMeeting struct {
	registry *oldRegistry
	meeting  meeting // how steps are tried
	own      string  // its id
}

// attend registers this member under its pairs, waits until all are there, and returns the pairs of all.
func (m *oldMeeting) attend(ctx context.Context, pairs string) ([]string, error) {
	if _, _, _, err := m.look(ctx); err != nil {
		return nil, err
	}
	var created uint64
	err := m.try(ctx, "registration", func(ctx context.Context) (err error) {
		created, err = m.registry.register(ctx, m.own, pairs)
		return err
	})
	if err == nil { // whoever can't show us our own registration won't show us the others
		err = m.wait(ctx, "own registration", "/"+m.own, created)
	}
	for err == nil {
		var there []oldNode
		var size int
		var index uint64
		there, size, index, err = m.look(ctx)
		switch {
		case err != nil:
		case len(there) >= size:
			return oldPairs(there[:size])
		default:
			m.meeting.logger.Info("waiting for peers at the discovery service", zap.Int("found-peers", len(there)), zap.Int("needed-peers", size))
			err = m.wait(ctx, "peers", "", index+1)
		}
	}
	return nil, err
}

// look tells who is there, of how many. If the cluster is complete without this member, that is an error.
func (m *oldMeeting) look(ctx context.Context) (there []oldNode, size int, index uint64, err error) {
	err = m.try(ctx, "cluster size", func(ctx context.Context) (err error) { size, err = m.registry.size(ctx); return err })
	if err != nil {
		return nil, 0, 0, err
	}
	err = m.try(ctx, "members", func(ctx context.Context) (err error) { there, index, err = m.registry.list(ctx); return err })
	if err != nil {
		return nil, 0, 0, err
	}
	isIn := slices.ContainsFunc(there[:min(size, len(there))], func(n oldNode) bool { return strings.HasSuffix(n.Key, "/"+m.own) })
	if len(there) >= size && !isIn {
		return nil, 0, 0, errClusterFull
	}
	return there, size, index, nil
}

// try does a step whose every call has its time.
func (m *oldMeeting) try(ctx context.Context, step string, f func(context.Context) error) error {
	return m.meeting.try(ctx, step, func(ctx context.Context) error {
		ctx, cancel := context.WithTimeout(ctx, oldCallTimeout)
		defer cancel()
		return f(ctx)
	})
}

func (m *oldMeeting) wait(ctx context.Context, step, path string, index uint64) error {
	return m.meeting.try(ctx, step, func(ctx context.Context) error { return m.registry.await(ctx, path, index) })
}

// oldPairs checks what the members have registered: others wrote it.
func oldPairs(there []oldNode) ([]string, error) {
	names := map[string]bool{}
	var pairs []string
	for _, n := range there {
		members, err := config.ParseInitialCluster(n.Value)
		if err != nil || len(members) != 1 {
			return nil, errInvalidPeerURL
		}
		for name := range members {
			if names[name] {
				return nil, errDuplicateTag
			}
			names[name] = true
		}
		pairs = append(pairs, n.Value)
	}
	return pairs, nil
}

// discoverByURL meets the other first members below a URL of the v2 API, and founds the cluster with them.
func (o Options) discoverByURL(ctx context.Context) (Beginning, error) {
	token := o.Config.Discovery.URL
	registry, err := newOldRegistry(token)
	if err != nil {
		return Beginning{}, err
	}
	defer registry.close()
	return o.foundWith(ctx, token, func(id, pairs string) ([]string, error) {
		m := oldMeeting{registry: registry, own: id, meeting: newMeeting(o)}
		m.meeting.pauseShiftMin = 1
		all, err := m.attend(ctx, pairs)
		if err != nil {
			o.warnUsed(ctx, token, err)
		}
		return all, err
	})
}
