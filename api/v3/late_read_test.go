package v3

import (
	"context"
	"strings"
	"testing"
	"time"

	pb "go.etcd.io/etcd/api/v3/etcdserverpb"
	"go.etcd.io/etcd/api/v3/v3rpc/rpctypes"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	"keelson/node"
)

// Reads give the same answers whether their pairs are in memory or not, whether a quorum has to be asked or not, and whether
// anybody waits for that.
func TestLateReads(t *testing.T) {
	s := serve(t, nil)
	small, large := "small", strings.Repeat("x", 2*lateBytesMax)
	for range 3 {
		s.put(t, "k", small)
		s.put(t, "large", large)
	}
	for round := range 4 { // rounds take turns at having to wait
		serializable := round >= 2
		for key, want := range map[string]string{"k": small, "large": large, "none": ""} {
			r, err := s.kv.Range(ctx(t), &pb.RangeRequest{Key: []byte(key), Serializable: serializable})
			if err != nil || r.Header.Revision != 7 || r.More || len(r.Kvs) != int(r.Count) || (want != "") != (r.Count == 1) {
				t.Fatalf("%s: %v, %v", key, r, err)
			}
			if want != "" && (string(r.Kvs[0].Value) != want || r.Kvs[0].Version != 3) {
				t.Errorf("%s: %.100v", key, r.Kvs[0])
			}
		}
		old, err := s.kv.Range(ctx(t), &pb.RangeRequest{Key: []byte("k"), Revision: 3, Serializable: serializable})
		if err != nil || old.Kvs[0].Version != 1 || old.Header.Revision != 7 {
			t.Errorf("an older one: %v, %v", old, err)
		}
		list, err := s.kv.Range(ctx(t), &pb.RangeRequest{Key: []byte("k"), RangeEnd: []byte("m"), Serializable: serializable})
		if err != nil || list.Count != 2 || len(list.Kvs) != 2 {
			t.Errorf("a list: %v, %v", list.GetCount(), err)
		}
		_, err = s.kv.Range(ctx(t), &pb.RangeRequest{Key: []byte("k"), Revision: 8, Serializable: serializable})
		wantError(t, "a future revision", err, rpctypes.ErrGRPCFutureRev)
	}
	if transportName == "keelson" && s.laterReads.Load() == 0 {
		t.Error("no read was deferred")
	}
}

// A read that waits for a quorum ends when its client gives up, and when the member says that there is none.
func TestLateReadsEnd(t *testing.T) {
	s := serve(t, nil)
	hold := make(chan struct{})
	s.holdReads.Store(&hold)
	get := &pb.RangeRequest{Key: []byte("k")}
	s.laterReads.Store(0)
	impatient, cancel := context.WithTimeout(ctx(t), 50*time.Millisecond)
	defer cancel()
	if _, err := s.kv.Range(impatient, get); transportName == "keelson" && status.Code(err) != codes.DeadlineExceeded {
		t.Errorf("out of time: %v", err)
	}
	close(hold)
	failed := error(node.ErrTimeout)
	s.readErr.Store(&failed)
	_, err := s.kv.Range(ctx(t), get)
	wantError(t, "no quorum", err, rpctypes.ErrGRPCTimeout)
}
