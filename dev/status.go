package dev

import (
	"context"
	"crypto/tls"
	"time"

	pb "go.etcd.io/etcd/api/v3/etcdserverpb"
	"google.golang.org/grpc"
	"google.golang.org/grpc/backoff"
	"google.golang.org/grpc/credentials"
	"google.golang.org/grpc/credentials/insecure"
)

const (
	// askEvery is the time between two questions to a member, and between two looks at what is due.
	askEvery = 500 * time.Millisecond
	// answerTimeout is how long a member may take to answer before it counts as silent.
	answerTimeout = time.Second
)

// status is what a member says about itself.
type status struct {
	role     string // leader, follower, learner or "no leader"
	term     uint64
	revision int64
	applied  uint64 // index of the last entry applied
	dbBytes  int64
}

// report is an answer, or why there is none.
type report struct {
	member *member
	run    int // of the member's process when it was asked
	status status
	err    error
}

// dial prepares questions to a member. It does not connect yet, and connects again by itself, soon, when the member has
// been away.
func dial(at place) (*grpc.ClientConn, error) {
	soon := grpc.ConnectParams{
		Backoff:           backoff.Config{BaseDelay: 100 * time.Millisecond, Multiplier: 1.5, Jitter: 0.2, MaxDelay: askEvery},
		MinConnectTimeout: answerTimeout,
	}
	security := insecure.NewCredentials()
	if at.secure {
		security = credentials.NewTLS(&tls.Config{InsecureSkipVerify: true}) // the members' certificates are their own
	}
	return grpc.NewClient("passthrough:///"+at.client, grpc.WithTransportCredentials(security),
		grpc.WithConnectParams(soon), grpc.WithNoProxy())
}

func ask(ctx context.Context, conn *grpc.ClientConn) (status, error) {
	ctx, cancel := context.WithTimeout(ctx, answerTimeout)
	defer cancel()
	r, err := pb.NewMaintenanceClient(conn).Status(ctx, &pb.StatusRequest{})
	if err != nil {
		return status{}, err
	}
	s := status{role: "follower", term: r.RaftTerm, applied: r.RaftAppliedIndex, dbBytes: r.DbSize}
	if r.Header != nil {
		s.revision = r.Header.Revision
	}
	switch {
	case r.IsLearner:
		s.role = "learner"
	case r.Leader == 0:
		s.role = "no leader"
	case r.Leader == r.Header.GetMemberId():
		s.role = "leader"
	}
	return s, nil
}
