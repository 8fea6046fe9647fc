package robustness

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"math/rand/v2"
	"net/http"
	"net/url"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"go.uber.org/zap"

	clientv3 "go.etcd.io/etcd/client/v3"
	"go.etcd.io/etcd/tests/v3/framework/e2e"
	"go.etcd.io/etcd/tests/v3/robustness/client"
	"go.etcd.io/etcd/tests/v3/robustness/failpoint"
	"go.etcd.io/etcd/tests/v3/robustness/identity"
	"go.etcd.io/etcd/tests/v3/robustness/report"
	"go.etcd.io/etcd/tests/v3/robustness/traffic"
)

// fault is a failpoint, and what it needs.
type fault struct {
	label     string
	failpoint failpoint.Failpoint
	lagging   bool // all members but keeper keep few entries, so that one that lags behind is sent a snapshot
}

// faultsFor are the faults of a cluster. Where etcd's suite stops a member at a place in etcd's code, these kill one in the midst of
// the same work.
func faultsFor(size int) []fault {
	list := []fault{
		{label: "Kill", failpoint: failpoint.KillFailpoint},
		{label: "KillAll", failpoint: ours{"KillAll", killAll}},
		{label: "Restart", failpoint: ours{"Restart", restart}},
		{label: "Halt", failpoint: ours{"Halt", halt}},
		{label: "Defragment", failpoint: ours{"Defragment", defragment}},
		{label: "KillWhileDefragmenting", failpoint: ours{"KillWhileDefragmenting", killWhile(defragment)}},
		{label: "KillWhileCompacting", failpoint: ours{"KillWhileCompacting", killWhile(compact)}},
	}
	if size == 1 {
		return list
	}
	return append(list,
		fault{label: "MemberReplace", failpoint: failpoint.MemberReplace},
		fault{label: "BlackholePeerNetwork", failpoint: failpoint.BlackholePeerNetwork},
		fault{label: "BlackholeUntilSnapshot", failpoint: failpoint.BlackholeUntilSnapshot, lagging: true},
		fault{label: "Snapshot", failpoint: ours{"Snapshot", snapshot}, lagging: true},
		fault{label: "KillWhileCatchingUp", failpoint: ours{"KillWhileCatchingUp", killWhileCatchingUp}, lagging: true},
		fault{label: "DelayPeerNetwork", failpoint: failpoint.DelayPeerNetwork},
		fault{label: "DropPeerNetwork", failpoint: failpoint.DropPeerNetwork},
		fault{label: "MoveLeader", failpoint: ours{"MoveLeader", moveLeader}},
	)
}

func pick[T any](list []T) T { return list[rand.IntN(len(list))] }

// place is where and when a fault is to happen.
type place struct {
	t       *testing.T
	cluster *e2e.EtcdProcessCluster
	member  e2e.EtcdProcess // any of them
	base    time.Time
	ids     identity.Provider
}

// ours is a failpoint that etcd's suite does not have.
type ours struct {
	name   string
	inject func(context.Context, place) ([]report.ClientReport, error)
}

func (o ours) Name() string { return o.name }

func (o ours) Available(e2e.EtcdProcessClusterConfig, e2e.EtcdProcess, traffic.Profile) bool {
	return true
}

func (o ours) Inject(ctx context.Context, t *testing.T, _ *zap.Logger, c *e2e.EtcdProcessCluster, base time.Time, ids identity.Provider) ([]report.ClientReport, error) {
	return o.inject(ctx, place{t: t, cluster: c, member: pick(c.Procs), base: base, ids: ids})
}

// restart stops a member in order and starts it again.
func restart(ctx context.Context, p place) ([]report.ClientReport, error) {
	return nil, p.member.Restart(ctx)
}

// halt keeps a member from running for longer than some of the members that are drawn may be silent. Of each second, a few dozen
// writes are left of which nobody knows whether they took place: too many of them, and the model comes to no end.
func halt(_ context.Context, p place) ([]report.ClientReport, error) {
	if err := p.member.Pause(); err != nil {
		return nil, err
	}
	time.Sleep(time.Second)
	return nil, p.member.Resume()
}

func killAll(ctx context.Context, p place) ([]report.ClientReport, error) {
	for _, member := range p.cluster.Procs {
		if err := kill(ctx, member); err != nil {
			return nil, err
		}
	}
	return nil, p.cluster.Start(ctx)
}

func kill(ctx context.Context, member e2e.EtcdProcess) error {
	if err := member.Kill(); err != nil {
		return err
	}
	if err := member.Wait(ctx); err != nil && !strings.Contains(err.Error(), "unexpected exit code") {
		return fmt.Errorf("kill %s: %w", member.Config().Name, err)
	}
	return nil
}

func defragment(ctx context.Context, p place) ([]report.ClientReport, error) {
	c, err := client.NewRecordingClient(p.member.EndpointsGRPC(), p.ids, p.base)
	if err != nil {
		return nil, err
	}
	_, err = c.Defragment(ctx)
	return nil, errors.Join(err, c.Close())
}

// compact removes all but the newest revision.
func compact(ctx context.Context, p place) ([]report.ClientReport, error) {
	c, err := client.NewRecordingClient(p.member.EndpointsGRPC(), p.ids, p.base)
	if err != nil {
		return nil, err
	}
	newest, err := c.Get(ctx, "/")
	if err == nil {
		_, err = c.Compact(ctx, newest.Header.Revision)
	}
	return []report.ClientReport{c.Report()}, errors.Join(err, c.Close())
}

// killWhile kills a member at any moment of some work, or shortly after it, and starts it again.
func killWhile(work func(context.Context, place) ([]report.ClientReport, error)) func(context.Context, place) ([]report.ClientReport, error) {
	return func(ctx context.Context, p place) (reports []report.ClientReport, err error) {
		working, cancel := context.WithCancel(ctx)
		ended := make(chan struct{})
		go func() {
			defer close(ended)
			reports, _ = work(working, p) // it fails if it is not quick
		}()
		time.Sleep(rand.N(30 * time.Millisecond))
		err = kill(ctx, p.member)
		cancel()
		<-ended
		return reports, errors.Join(err, p.member.Start(ctx))
	}
}

// Members of a cluster in which one is going to lag behind: who leads when it begins, who lags, and who keeps all of its log, for
// persistedRequests.
const leading, lagging, keeper = 0, 1, 2

// snapshot cuts a member off until it has to be sent a snapshot, and waits until it has received one.
func snapshot(ctx context.Context, p place) ([]report.ClientReport, error) {
	if err := fallBehind(ctx, p); err != nil {
		return nil, err
	}
	for {
		received, err := hasReceivedSnapshot(ctx, p.cluster.Procs[lagging])
		if received || err != nil {
			return nil, err
		}
		time.Sleep(100 * time.Millisecond)
	}
}

// killWhileCatchingUp cuts a member off until it has to be sent a snapshot, and kills it while it is sent one, or shortly after.
func killWhileCatchingUp(ctx context.Context, p place) ([]report.ClientReport, error) {
	if err := fallBehind(ctx, p); err != nil {
		return nil, err
	}
	time.Sleep(rand.N(time.Second))
	member := p.cluster.Procs[lagging]
	return nil, errors.Join(kill(ctx, member), member.Start(ctx))
}

// fallBehind cuts a member off until the leader has removed entries that it lacks. Logs are cut in large files; the v2 API fills
// them, with which the model has nothing to do.
func fallBehind(ctx context.Context, p place) error {
	proxy := p.cluster.Procs[lagging].PeerProxy()
	proxy.BlackholeTx()
	proxy.BlackholeRx()
	defer func() {
		proxy.UnblackholeTx()
		proxy.UnblackholeRx()
	}()
	leader := p.cluster.Procs[leading].Config()
	body := url.Values{"value": {strings.Repeat("x", 1<<20)}}.Encode()
	for {
		if _, err := os.Stat(filepath.Join(leader.DataDirPath, "member", "wal", "0000000000000001.raftlog")); errors.Is(err, fs.ErrNotExist) {
			return lead(ctx, p.cluster.Procs[leading], p.cluster.Procs[keeper])
		}
		if _, err := call(ctx, http.MethodPut, leader.ClientURL+"/v2/keys/fill", body); err != nil {
			return err
		}
	}
}

// hasReceivedSnapshot asks a member what it counts.
func hasReceivedSnapshot(ctx context.Context, member e2e.EtcdProcess) (bool, error) {
	metrics, err := call(ctx, http.MethodGet, member.Config().ClientURL+"/metrics", "")
	return strings.Contains(metrics, "\netcd_network_snapshot_receive_success{"), err
}

func call(ctx context.Context, method, url, form string) (string, error) {
	r, err := http.NewRequestWithContext(ctx, method, url, strings.NewReader(form))
	if err != nil {
		return "", err
	}
	r.Header.Set("Content-Type", "application/x-www-form-urlencoded")
	reply, err := http.DefaultClient.Do(r)
	if err != nil {
		return "", err
	}
	defer reply.Body.Close()
	text, err := io.ReadAll(reply.Body)
	if err == nil && reply.StatusCode >= 300 {
		err = fmt.Errorf("%s %s: %s: %.200s", method, url, reply.Status, text)
	}
	return string(text), err
}

// lead sees to it that a member leads, if another one does.
func lead(ctx context.Context, member, other e2e.EtcdProcess) error {
	c, err := clientv3.New(clientv3.Config{Endpoints: member.EndpointsGRPC(), Logger: zap.NewNop()})
	if err != nil {
		return err
	}
	defer c.Close()
	status, err := c.Status(ctx, c.Endpoints()[0])
	if err != nil || status.Leader == status.Header.MemberId {
		return err
	}
	leader, err := clientv3.New(clientv3.Config{Endpoints: other.EndpointsGRPC(), Logger: zap.NewNop()})
	if err != nil {
		return err
	}
	defer leader.Close()
	_, err = leader.MoveLeader(ctx, status.Header.MemberId)
	return err
}

// moveLeader hands the leadership to another member.
func moveLeader(ctx context.Context, p place) ([]report.ClientReport, error) {
	leader := p.cluster.WaitLeader(p.t)
	next := p.cluster.Procs[(leader+1)%len(p.cluster.Procs)]
	return nil, lead(ctx, next, p.cluster.Procs[leader])
}
