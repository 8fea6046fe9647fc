package server

import (
	"context"
	"errors"
	"net/http"
	"sync/atomic"
	"testing"
	"time"

	"go.uber.org/zap"

	"keelson/command"
	"keelson/transport"
)

// An older membership that is told later does not count.
func TestPeersAreThoseOfTheNewestMembership(t *testing.T) {
	ctx := context.Background()
	s, err := Start(ctx, load(t), zap.NewNop())
	if err != nil {
		t.Fatal(err)
	}
	defer s.Stop()
	view := s.node.ReadLocal()
	before := view.Members()
	view.Close()
	const added = 99
	add := &command.MemberAdd{ID: added, PeerURLs: []string{freeURL(t)}, IsLearner: true, LearnersMax: 1}
	if result, err := s.node.ChangeMembers(ctx, add); err != nil || result.Refusal != nil {
		t.Fatal(err, result.Refusal)
	}
	s.peers.meet(before)
	if conn, err := s.peers.transport.OpenBulk(ctx, added); errors.Is(err, transport.ErrUnknownPeer) {
		t.Error(err)
	} else if err == nil {
		conn.Close()
	}
}

// What another member has asked for is answered, or given up, before the files are closed that it is read from.
func TestStopWaitsForThePeersRequests(t *testing.T) {
	c := load(t)
	s, err := Start(context.Background(), c, zap.NewNop())
	if err != nil {
		t.Fatal(err)
	}
	begun := make(chan struct{})
	var ended atomic.Bool
	mux := http.NewServeMux()
	mux.HandleFunc("/", func(_ http.ResponseWriter, r *http.Request) {
		close(begun)
		<-r.Context().Done()
		time.Sleep(50 * time.Millisecond) // it does not notice at once
		ended.Store(true)
	})
	s.peers.handler.Store(mux)
	asked := make(chan struct{})
	go func() {
		defer close(asked)
		if r, err := http.Get(c.Member.ListenPeerURLs.Strings()[0]); err == nil {
			r.Body.Close()
		}
	}()
	<-begun
	if err := s.Stop(); err != nil {
		t.Error(err)
	}
	if !ended.Load() {
		t.Error("stopped while a request was under way")
	}
	<-asked
}
