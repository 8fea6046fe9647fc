package bootstrap

import (
	"context"
	"errors"
	"fmt"
	"math"
	"slices"
	"strconv"
	"strings"
	"time"

	"go.uber.org/zap"

	"keelson/config"
	"keelson/env"
)

var (
	errSizeNotFound   = errors.New("discovery: size key not found")
	errBadSize        = errors.New("discovery: size key is bad")
	errClusterFull    = errors.New("discovery: cluster is full")
	errInvalidPeerURL = errors.New("discovery: invalid peer URL")
	errTooManyRetries = errors.New("discovery: too many retries")
	errDuplicatePeer  = errors.New("found duplicate peer from discovery service")
)

// discover meets the other first members at the discovery service, and founds the cluster with them.
func (o Options) discover(ctx context.Context) (Beginning, error) {
	token := o.Config.Discovery.Token
	return o.foundWith(ctx, token, func(id, pairs string) ([]string, error) {
		registry, err := dialRegistry(o.Config.Discovery)
		if err != nil {
			return nil, fmt.Errorf("discovery: %w", err)
		}
		defer registry.Close()
		m := newMeeting(o)
		m.registry, m.token, m.own = registry, token, id
		all, err := m.attend(ctx, pairs)
		if err != nil {
			o.warnUsed(ctx, token, err)
		}
		return all, err
	})
}

// foundWith founds the cluster with those whom meet finds: it is given this member's id and its name and URLs as a pair, and returns
// the pairs of all.
func (o Options) foundWith(ctx context.Context, token string, meet func(id, pairs string) ([]string, error)) (Beginning, error) {
	c := o.Config
	own := config.InitialClusterOf(c.Member.Name, c.Cluster.AdvertisePeerURLs)
	alone, err := c.Founding(ctx, o.Resolver, own, token)
	if err != nil {
		return Beginning{}, err
	}
	pairs, err := meet(fmt.Sprintf("%x", alone.LocalID), own)
	if err != nil {
		return Beginning{}, err
	}
	f, err := c.Founding(ctx, o.Resolver, strings.Join(pairs, ","), token)
	if err != nil {
		return Beginning{}, err
	}
	return o.found(ctx, f)
}

// warnUsed says what to do about a token that led nowhere.
func (o Options) warnUsed(ctx context.Context, token string, err error) {
	if ctx.Err() != nil {
		return
	}
	o.Logger.Warn("failed to bootstrap; discovery token was already used",
		zap.String("discovery-token", token), zap.Error(err))
	o.Logger.Warn("do not reuse discovery token; generate a new one to bootstrap a cluster")
}

// registry is the part of the discovery service's API that a meeting needs. Errors that a later try may not meet again
// are marked by transient.
type registry interface {
	// Get reads a key.
	Get(ctx context.Context, key string) (value string, ok bool, err error)
	// List reads the first limit pairs of a prefix by create revision, all as of rev.
	List(ctx context.Context, prefix string, limit int64) (pairs []pair, rev int64, err error)
	Put(ctx context.Context, key, value string) error
	// Await returns when something under a prefix has changed after rev, or may have.
	Await(ctx context.Context, prefix string, rev int64) error
}

type pair struct{ key, value string }

// transient marks an error that may have passed at the next try.
type transient struct{ error }

func (t transient) Unwrap() error { return t.error }

// meeting is one member's way through a discovery. The keys, below /_etcd/registry/<token>/:
//
//	_config/size       how many members the cluster starts with, decimal
//	members/<id, hex>  name=url[,name=url]; the first <size> by create revision are the cluster
type meeting struct {
	registry   registry
	clock      env.Clock
	logger     *zap.Logger
	token, own string
	retriesMax int // of one step
	// pauseShiftMin makes the first pause 1 << pauseShiftMin seconds.
	pauseShiftMin int
}

func newMeeting(o Options) meeting {
	return meeting{clock: o.Clock, logger: o.Logger, retriesMax: math.MaxUint32}
}

func (m *meeting) prefix() string { return "/_etcd/registry/" + m.token + "/members/" }

// attend registers this member under its pair, waits until all are there, and returns the pairs of all.
func (m *meeting) attend(ctx context.Context, own string) ([]string, error) {
	var size int64
	if err := m.try(ctx, "cluster size", func(ctx context.Context) (err error) { size, err = m.size(ctx); return err }); err != nil {
		return nil, err
	}
	registered := false
	for {
		var there []pair
		var rev int64
		err := m.try(ctx, "members", func(ctx context.Context) (err error) {
			there, rev, err = m.registry.List(ctx, m.prefix(), size)
			return err
		})
		if err != nil {
			return nil, err
		}
		complete := int64(len(there)) >= size
		isIn := slices.ContainsFunc(there, func(p pair) bool { return p.key == m.prefix()+m.own })
		switch {
		case complete && !isIn:
			return nil, errClusterFull
		case !registered:
			registered = true
			err = m.try(ctx, "registration", func(ctx context.Context) error { return m.registry.Put(ctx, m.prefix()+m.own, own) })
		case complete:
			return membersOf(there)
		default:
			m.logger.Info("waiting for peers at the discovery service", zap.Int("found-peers", len(there)), zap.Int64("needed-peers", size))
			err = m.try(ctx, "peers", func(ctx context.Context) error { return m.registry.Await(ctx, m.prefix(), rev) })
		}
		if err != nil {
			return nil, err
		}
	}
}

func (m *meeting) size(ctx context.Context) (int64, error) {
	text, ok, err := m.registry.Get(ctx, "/_etcd/registry/"+m.token+"/_config/size")
	switch {
	case err != nil:
		return 0, err
	case !ok:
		return 0, errSizeNotFound
	}
	size, err := strconv.ParseInt(text, 10, 32)
	if err != nil || size <= 0 {
		return 0, errBadSize
	}
	return size, nil
}

// membersOf checks what the members have registered: others wrote it.
func membersOf(there []pair) ([]string, error) {
	names, urls := map[string]bool{}, map[string]bool{}
	var pairs []string
	for _, p := range there {
		members, err := config.ParseInitialCluster(p.value)
		if err != nil || len(members) != 1 {
			return nil, errInvalidPeerURL
		}
		for name, list := range members {
			if names[name] {
				return nil, errDuplicatePeer
			}
			names[name] = true
			for _, u := range list.Strings() {
				if urls[u] {
					return nil, errDuplicatePeer
				}
				urls[u] = true
			}
		}
		pairs = append(pairs, p.value)
	}
	return pairs, nil
}

// pauseShiftMax makes the longest pause 256 seconds.
const pauseShiftMax = 8

// try does a step, again after 1, 2, 4 and so on up to 256 seconds, until it has succeeded or failed for good.
func (m *meeting) try(ctx context.Context, step string, f func(context.Context) error) error {
	for n := 0; ; n++ {
		err := f(ctx)
		if ctx.Err() != nil {
			return ctx.Err()
		}
		var t transient
		if !errors.As(err, &t) {
			return err
		}
		if n >= m.retriesMax {
			return errTooManyRetries
		}
		pause := time.Second << min(n+m.pauseShiftMin, pauseShiftMax)
		m.logger.Warn("retry with the discovery service", zap.String("step", step), zap.Duration("pause", pause), zap.Error(t.error))
		if err := m.sleep(ctx, pause); err != nil {
			return err
		}
	}
}

func (m *meeting) sleep(ctx context.Context, d time.Duration) error {
	timer := m.clock.NewTimer(d)
	defer timer.Stop()
	select {
	case <-timer.C():
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}
