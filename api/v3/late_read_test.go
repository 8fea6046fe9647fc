package v3

import (
	"context"
	"slices"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	pb "go.etcd.io/etcd/api/v3/etcdserverpb"
	"go.etcd.io/etcd/api/v3/v3rpc/rpctypes"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	"keelson/node"
	"keelson/state"
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

// heldMember reads nothing of a quorum until it is let go.
type heldMember struct {
	Member
	held atomic.Pointer[chan struct{}]
}

func (m *heldMember) Read(ctx context.Context) (*state.View, error) {
	if held := m.held.Load(); held != nil {
		select {
		case <-*held:
		case <-ctx.Done():
			return nil, ctx.Err()
		}
	}
	return m.Member.Read(ctx)
}

// Who is refused is refused by what a quorum knows. Calls of the same connection, of whoever may have what he asks for, do not wait
// for that.
func TestRefusalsHoldNobodyUp(t *testing.T) {
	held := &heldMember{}
	s := serve(t, func(o *Options) { held.Member, o.Member = o.Member, held })
	rootToken, otherToken := s.secure(t)
	letGo := make(chan struct{})
	held.held.Store(&letGo)

	refused := make(chan error, 2)
	go func() {
		_, err := s.kv.Put(as(t, otherToken), &pb.PutRequest{Key: []byte("k")})
		refused <- err
	}()
	go func() {
		_, err := s.kv.Range(as(t, "abcdefghijklmnop.99999999"), &pb.RangeRequest{Key: []byte("k"), Serializable: true})
		refused <- err
	}()
	s.must(t, rootToken,
		"/etcdserverpb.KV/Put", `{"key":"aw=="}`,
		"/etcdserverpb.KV/Range", `{"key":"aw==","serializable":true}`,
		"/etcdserverpb.KV/Txn", `{"success":[{"request_put":{"key":"aw=="}}]}`,
		"/etcdserverpb.KV/DeleteRange", `{"key":"ay8x"}`)
	select {
	case err := <-refused:
		t.Fatalf("refused by one member alone: %v", err)
	default:
	}
	close(letGo)
	var texts []string
	for range cap(refused) {
		texts = append(texts, text(<-refused))
	}
	slices.Sort(texts)
	if want := []string{text(rpctypes.ErrGRPCInvalidAuthToken), text(rpctypes.ErrGRPCPermissionDenied)}; !slices.Equal(texts, want) {
		t.Errorf("refused with %q, want %q", texts, want)
	}
}

// A right that goes while a quorum is asked is gone when the answer is given, of a pair in memory or not; one that stays does not go
// with another user's.
func TestRightsThatGoMeanwhile(t *testing.T) {
	if transportName != "keelson" {
		return // nobody answers later there
	}
	for _, c := range []struct{ name, change, want string }{
		{"his own", `{"role":"reader","key":"Yw==","range_end":"ZQ=="}`, text(rpctypes.ErrGRPCPermissionDenied)},
		{"others'", `{"role":"reader","key":"eA=="}`, ""},
	} {
		t.Run(c.name, func(t *testing.T) {
			s := serve(t, nil)
			rootToken, otherToken := s.limited(t)
			s.must(t, rootToken, "/etcdserverpb.KV/Put", `{"key":"Yw=="}`,
				"/etcdserverpb.Auth/RoleGrantPermission", `{"name":"reader","perm":{"key":"eA=="}}`)
			hold := make(chan struct{})
			s.holdReads.Store(&hold)
			answers := make(chan error, 2)
			for _, key := range []string{"c", "cc"} {
				s.laterReads.Store(0)
				go func() {
					_, err := s.kv.Range(as(t, otherToken), &pb.RangeRequest{Key: []byte(key)})
					answers <- err
				}()
				for s.laterReads.Load() == 0 {
					time.Sleep(time.Millisecond)
				}
			}
			s.must(t, rootToken, "/etcdserverpb.Auth/RoleRevokePermission", c.change)
			close(hold)
			for range cap(answers) {
				if err := <-answers; text(err) != c.want {
					t.Errorf("%v, want %q", err, c.want)
				}
			}
		})
	}
}
