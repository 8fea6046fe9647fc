package v3

import (
	"testing"

	pb "go.etcd.io/etcd/api/v3/etcdserverpb"
	"go.etcd.io/etcd/api/v3/v3rpc/rpctypes"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	"keelson/command"
	"keelson/node"
)

func TestDowngrade(t *testing.T) {
	failed := 0
	s := serve(t, func(o *Options) { o.Observe.CancelFailed = func(error) { failed++ } })
	validate, enable, cancel := pb.DowngradeRequest_VALIDATE, pb.DowngradeRequest_ENABLE, pb.DowngradeRequest_CANCEL
	downgrade := func(what string, action pb.DowngradeRequest_DowngradeAction, version string, want error) {
		t.Helper()
		r, err := s.upkeep.Downgrade(ctx(t), &pb.DowngradeRequest{Action: action, Version: version})
		if want != nil {
			wantError(t, what, err, want)
			return
		}
		if err != nil {
			t.Fatalf("%s: %v", what, err)
		}
		if r.Version != "3.7" {
			t.Errorf("%s: %v", what, r)
		}
		wantHeader(t, what, r.Header, 1)
	}
	info := func(enabled bool, target, storage string) {
		t.Helper()
		r, err := s.upkeep.Status(ctx(t), &pb.StatusRequest{})
		if err != nil {
			t.Fatal(err)
		}
		if i := r.DowngradeInfo; i == nil || i.Enabled != enabled || i.TargetVersion != target || r.StorageVersion != storage {
			t.Errorf("downgrade %v, storage %q", i, r.StorageVersion)
		}
	}
	for _, version := range []string{"", "x", "3", "3.x", "3.6.0.0", "-3.6", "3.99999999999"} {
		downgrade("format "+version, validate, version, rpctypes.ErrGRPCWrongDowngradeVersionFormat)
	}
	downgrade("no version yet", validate, "3.6", rpctypes.ErrGRPCClusterVersionUnavailable)
	info(false, "", "")
	s.propose(t, &command.ClusterVersion{Version: "3.7.0"})
	for _, version := range []string{"3.5", "3.7", "3.7.1", "3.8", "2.6", "4.6.0"} {
		downgrade("target "+version, validate, version, rpctypes.ErrGRPCInvalidDowngradeTargetVersion)
		downgrade("target "+version, enable, version, rpctypes.ErrGRPCInvalidDowngradeTargetVersion)
	}
	downgrade("cancel without a job", cancel, "", nil)
	downgrade("validate", validate, "3.6", nil)
	downgrade("validate in full", validate, "3.6.0", nil)
	info(false, "", "3.7.0")
	downgrade("enable", enable, "3.6", nil)
	info(true, "3.6.0", "3.6.0")
	downgrade("validate again", validate, "3.6", rpctypes.ErrGRPCDowngradeInProcess)
	downgrade("enable again", enable, "3.6", rpctypes.ErrGRPCDowngradeInProcess)
	downgrade("another target comes first", enable, "3.5", rpctypes.ErrGRPCInvalidDowngradeTargetVersion)
	downgrade("cancel", cancel, "", nil)
	info(false, "", "3.7.0")
	downgrade("cancel again", cancel, "", nil)
	failure := node.ErrTimeout
	s.proposeErr.Store(&failure)
	downgrade("cancel, which fails", cancel, "", nil)
	s.proposeErr.Store(nil)
	if failed != 3 { // without a job, again without one, and that
		t.Errorf("%d failures were reported, want 3", failed)
	}
	downgrade("unknown", 9, "3.6", status.Error(codes.Unknown, "etcdserver: unknown method"))
}
