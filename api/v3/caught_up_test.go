package v3

import (
	"context"
	"testing"
	"time"

	pb "go.etcd.io/etcd/api/v3/etcdserverpb"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
)

// TestNothingIsToldBeforeTheStateHasCaughtUp: a member that was started again answers nothing about pairs from a state older
// than what it has told before, nor how far that has come, but it does tell of the cluster.
func TestNothingIsToldBeforeTheStateHasCaughtUp(t *testing.T) {
	opened := make(chan struct{})
	s := serve(t, func(o *Options) { o.CaughtUp = opened })
	local := &pb.RangeRequest{Key: []byte("k"), Serializable: true}

	impatient, cancel := context.WithTimeout(t.Context(), 50*time.Millisecond)
	defer cancel()
	if _, err := s.kv.Range(impatient, local); status.Code(err) != codes.DeadlineExceeded {
		t.Fatalf("a read of a state that may be old: %v", err)
	}
	if _, err := s.cluster.MemberList(t.Context(), &pb.MemberListRequest{}); err != nil {
		t.Fatal("members:", err)
	}

	answered := make(chan error, 4)
	go func() {
		_, err := s.kv.Range(t.Context(), local)
		answered <- err
	}()
	go func() {
		_, err := s.upkeep.Status(t.Context(), &pb.StatusRequest{})
		answered <- err
	}()
	go func() {
		_, err := s.upkeep.HashKV(t.Context(), &pb.HashKVRequest{})
		answered <- err
	}()
	go func() {
		w, err := s.watch.Watch(t.Context())
		if err == nil {
			err = w.Send(&pb.WatchRequest{RequestUnion: &pb.WatchRequest_CreateRequest{CreateRequest: &pb.WatchCreateRequest{Key: []byte("k")}}})
		}
		if err == nil {
			_, err = w.Recv()
		}
		answered <- err
	}()
	select {
	case err := <-answered:
		t.Fatalf("answered before: %v", err)
	case <-time.After(50 * time.Millisecond):
	}
	close(opened)
	for range cap(answered) {
		if err := <-answered; err != nil {
			t.Error(err)
		}
	}
}
