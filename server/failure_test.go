package server

import (
	"context"
	"errors"
	"path/filepath"
	"testing"

	"go.uber.org/goleak"
	"go.uber.org/zap"

	"keelson/config"
)

// load makes a configuration for a member on free ports of this machine.
func load(t *testing.T) *config.Config {
	t.Helper()
	client, peer := freeURL(t), freeURL(t)
	c, _, err := config.Load("keelson serve", []string{
		"--name=m1", "--data-dir=" + filepath.Join(t.TempDir(), "data"),
		"--listen-client-urls=" + client, "--advertise-client-urls=" + client,
		"--listen-peer-urls=" + peer, "--initial-advertise-peer-urls=" + peer, "--initial-cluster=m1=" + peer,
	}, config.Machine{})
	if err != nil {
		t.Fatal(err)
	}
	return c
}

func TestFirstFailureCounts(t *testing.T) {
	f := failure{happened: make(chan struct{})}
	if f.is() {
		t.Error("failed already")
	}
	first := errors.New("first")
	f.note(first)
	f.note(errors.New("second"))
	if !f.is() || f.err != first {
		t.Errorf("failed %v: %v", f.is(), f.err)
	}
}

// A member that is stopped leaves nothing running.
func TestStopLeavesNothing(t *testing.T) {
	defer goleak.VerifyNone(t, goleak.IgnoreCurrent()) // a failed member of another test leaves its own behind
	s, err := Start(context.Background(), load(t), zap.NewNop())
	if err != nil {
		t.Fatal(err)
	}
	if err := s.Stop(); err != nil {
		t.Error(err)
	}
	if err := s.Stop(); err != nil {
		t.Error("the second time:", err)
	}
}

// A start that is called off leaves nothing running, and says what it was.
func TestStartCalledOff(t *testing.T) {
	defer goleak.VerifyNone(t, goleak.IgnoreCurrent()) // a failed member of another test leaves its own behind
	ctx, cancel := context.WithCancel(context.Background())
	cancel()
	if s, err := Start(ctx, load(t), zap.NewNop()); err == nil {
		t.Error("started", s.Stop())
	}
}

// Stop does not wait for what a failed member may never end, and says what has failed, before or meanwhile.
func TestStopOfAFailedMember(t *testing.T) {
	s, err := Start(context.Background(), load(t), zap.NewNop())
	if err != nil {
		t.Fatal(err)
	}
	want := errors.New("disk failed")
	s.failed.note(want)
	<-s.Failed()
	if err := s.Stop(); err != want {
		t.Errorf("got %v, want %v", err, want)
	}
}

// A failure during the start ends the start, wherever that hangs, and is what the start returns: not that the member has
// stopped because of it.
func TestFailureDuringStart(t *testing.T) {
	s := newServer(load(t), zap.NewNop())
	want := errors.New("disk failed")
	s.failed.note(want)
	if err := s.giveUp(errors.New("publish member: member stopped")); err != want {
		t.Errorf("got %v, want %v", err, want)
	}
}

// A member that was removed ends as one, also if the start finds out first that nobody knows it.
func TestRemovalDuringStart(t *testing.T) {
	s := newServer(load(t), zap.NewNop())
	s.removed.note(errRemoved)
	if err := s.giveUp(errors.New("publish member: member not found")); !errors.Is(err, errRemoved) {
		t.Errorf("got %v, want %v", err, errRemoved)
	}
}
