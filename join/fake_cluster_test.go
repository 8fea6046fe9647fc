package join

import (
	"context"
	"encoding/json"
	"net"
	"net/http"
	"net/http/httptest"
	"slices"
	"strconv"
	"sync"
	"testing"

	pb "go.etcd.io/etcd/api/v3/etcdserverpb"
	"go.etcd.io/etcd/api/v3/v3rpc/rpctypes"
	"google.golang.org/grpc"
	"google.golang.org/grpc/metadata"

	"keelson/internal/testkit"
	"keelson/server/bootstrap"
)

const clusterID = 0xc1

// fakeCluster is a running cluster as one who joins sees it: a list at a peer URL, and Cluster at a client URL.
type fakeCluster struct {
	pb.UnimplementedClusterServer
	peerURL, clientURL string

	mu        sync.Mutex
	members   []bootstrap.Member
	id        uint64  // that the client URL says
	refusals  []error // of the next calls of MemberAdd
	lost      int     // how many of the next answers of MemberAdd get lost on the way
	added     []*pb.MemberAddRequest
	promoting []string // what came with the metadata
}

func newFakeCluster(t *testing.T) *fakeCluster {
	t.Helper()
	f := &fakeCluster{id: clusterID}
	peer := httptest.NewServer(http.HandlerFunc(f.list))
	t.Cleanup(peer.Close)
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	s := grpc.NewServer()
	pb.RegisterClusterServer(s, f)
	served := make(chan struct{})
	go func() { defer close(served); s.Serve(l) }()
	t.Cleanup(func() { s.Stop(); <-served })
	f.peerURL, f.clientURL = peer.URL, "http://"+l.Addr().String()
	f.members = []bootstrap.Member{
		{ID: 0xb, Name: "second", PeerURLs: []string{"http://10.0.0.2:2380", "http://10.0.0.2:2390"}, ClientURLs: []string{closedURL(t)}},
		{ID: 0xa, Name: "first", PeerURLs: []string{f.peerURL}, ClientURLs: []string{f.clientURL}},
	}
	return f
}

// closedURL is one at which nobody listens, nor is given while the test runs.
func closedURL(t *testing.T) string {
	t.Helper()
	return "http://" + testkit.FreeAddress(t)
}

func (f *fakeCluster) list(w http.ResponseWriter, r *http.Request) {
	f.mu.Lock()
	defer f.mu.Unlock()
	if r.URL.Path != "/members" {
		http.NotFound(w, r)
		return
	}
	w.Header().Set("X-Etcd-Cluster-Id", strconv.FormatUint(clusterID, 16))
	json.NewEncoder(w).Encode(f.members)
}

func (f *fakeCluster) MemberList(context.Context, *pb.MemberListRequest) (*pb.MemberListResponse, error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	return &pb.MemberListResponse{Header: &pb.ResponseHeader{ClusterId: f.id}}, nil
}

func (f *fakeCluster) MemberAdd(ctx context.Context, r *pb.MemberAddRequest) (*pb.MemberAddResponse, error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	if len(f.refusals) > 0 {
		err := f.refusals[0]
		f.refusals = f.refusals[1:]
		return nil, err
	}
	for _, m := range f.members {
		if slices.ContainsFunc(m.PeerURLs, func(u string) bool { return slices.Contains(r.PeerURLs, u) }) {
			return nil, rpctypes.ErrGRPCPeerURLExist
		}
	}
	md, _ := metadata.FromIncomingContext(ctx)
	f.added, f.promoting = append(f.added, r), append(f.promoting, md.Get("keelson-auto-promote")...)
	f.members = append(f.members, bootstrap.Member{ID: 0x9, PeerURLs: r.PeerURLs, IsLearner: r.IsLearner})
	if f.lost > 0 {
		f.lost--
		return nil, rpctypes.ErrGRPCTimeout
	}
	reply := &pb.MemberAddResponse{Header: &pb.ResponseHeader{ClusterId: f.id}, Member: &pb.Member{ID: 0x9}}
	for _, m := range f.members {
		reply.Members = append(reply.Members, &pb.Member{ID: m.ID, Name: m.Name, PeerURLs: m.PeerURLs, ClientURLs: m.ClientURLs, IsLearner: m.IsLearner})
	}
	return reply, nil
}
