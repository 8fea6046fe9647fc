package v3

import (
	"context"
	"fmt"
	"strconv"
	"strings"

	pb "go.etcd.io/etcd/api/v3/etcdserverpb"
	"go.etcd.io/etcd/api/v3/v3rpc/rpctypes"

	"keelson/command"
	"keelson/state"
)

// Downgrade prepares the cluster for members of the previous minor version, or calls that off. The reply names the version
// that all members agree on.
func (m *maintenance) Downgrade(ctx context.Context, r *pb.DowngradeRequest) (*pb.DowngradeResponse, error) {
	var err error
	switch r.Action {
	case pb.DowngradeRequest_VALIDATE:
		_, err = m.validateDowngrade(ctx, r.Version)
	case pb.DowngradeRequest_ENABLE:
		err = m.enableDowngrade(ctx, r.Version)
	case pb.DowngradeRequest_CANCEL:
		m.cancelDowngrade(ctx)
	default:
		err = errUnknownMethod
	}
	if err != nil {
		return nil, err
	}
	v := m.s.o.Member.ReadLocal()
	defer v.Close()
	return &pb.DowngradeResponse{Header: m.s.header(v.Revision()).message(), Version: minorOf(v.Members().Version())}, nil
}

func (m *maintenance) enableDowngrade(ctx context.Context, version string) error {
	target, err := m.validateDowngrade(ctx, version)
	if err != nil {
		return err
	}
	_, err = m.s.propose(ctx, &command.Downgrade{Target: target})
	return err
}

// cancelDowngrade calls a downgrade off. As in etcd, whoever asks is told nothing of a failure: he sees it by Status.
func (m *maintenance) cancelDowngrade(ctx context.Context) {
	if _, err := m.s.propose(ctx, &command.Downgrade{}); err != nil && m.s.o.Observe.CancelFailed != nil {
		m.s.o.Observe.CancelFailed(err)
	}
}

// validateDowngrade returns the version to go to, in full, if that is possible.
func (m *maintenance) validateDowngrade(ctx context.Context, version string) (target string, err error) {
	major, minor, ok := parseTarget(version)
	if !ok {
		return "", rpctypes.ErrGRPCWrongDowngradeVersionFormat
	}
	if !m.hasVersion() {
		return "", rpctypes.ErrGRPCClusterVersionUnavailable
	}
	v, err := m.s.view(ctx, false)
	if err != nil {
		return "", err
	}
	defer v.Close()
	return checkTarget(v, major, minor)
}

func (m *maintenance) hasVersion() bool {
	v := m.s.o.Member.ReadLocal()
	defer v.Close()
	return v.Members().Version() != ""
}

// checkTarget holds a version against the one that the cluster has: it must be the one before.
func checkTarget(v *state.View, major, minor int) (target string, err error) {
	var hasMajor, hasMinor int
	if _, err := fmt.Sscanf(v.Members().Version(), "%d.%d", &hasMajor, &hasMinor); err != nil {
		return "", rpctypes.ErrGRPCClusterVersionUnavailable
	}
	switch {
	case major != hasMajor || minor != hasMinor-1:
		return "", rpctypes.ErrGRPCInvalidDowngradeTargetVersion
	case v.Members().Downgrade() != "":
		return "", rpctypes.ErrGRPCDowngradeInProcess
	}
	return fmt.Sprintf("%d.%d.0", major, minor), nil
}

// parseTarget reads major.minor or major.minor.patch.
func parseTarget(version string) (major, minor int, ok bool) {
	parts := strings.Split(version, ".")
	if len(parts) != 2 && len(parts) != 3 {
		return 0, 0, false
	}
	var numbers [3]int
	for i, p := range parts {
		n, err := strconv.ParseUint(p, 10, 16)
		if err != nil {
			return 0, 0, false
		}
		numbers[i] = int(n)
	}
	return numbers[0], numbers[1], true
}

// minorOf cuts a version to major.minor.
func minorOf(version string) string {
	if parts := strings.SplitN(version, ".", 3); len(parts) == 3 {
		return parts[0] + "." + parts[1]
	}
	return version
}
