// Package robustness runs the parts that etcd's robustness tests are made of against members that keep their data in another way:
// traffic, faults, what clients saw, and its validation by a model. In etcd's own suite the faults are mostly places in etcd's code
// at which a special build stops; here members are killed, halted, cut off and replaced instead (failpoints_test.go), and
// what was persisted comes from our log (persisted_test.go).
package robustness

import (
	"context"
	"errors"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"go.uber.org/zap"
	"go.uber.org/zap/zaptest"
	"golang.org/x/sync/errgroup"

	"go.etcd.io/etcd/tests/v3/framework"
	"go.etcd.io/etcd/tests/v3/framework/e2e"
	"go.etcd.io/etcd/tests/v3/robustness/client"
	"go.etcd.io/etcd/tests/v3/robustness/failpoint"
	"go.etcd.io/etcd/tests/v3/robustness/identity"
	"go.etcd.io/etcd/tests/v3/robustness/report"
	"go.etcd.io/etcd/tests/v3/robustness/scenarios"
	"go.etcd.io/etcd/tests/v3/robustness/traffic"
	"go.etcd.io/etcd/tests/v3/robustness/validate"
)

func TestMain(m *testing.M) { framework.E2eTestRunner.TestMain(m) }

func TestEtcdHighTrafficOfOne(t *testing.T)           { explore(t, "EtcdHighTraffic", 1) }
func TestEtcdHighTrafficOfThree(t *testing.T)         { explore(t, "EtcdHighTraffic", 3) }
func TestEtcdTrafficDeleteLeasesOfOne(t *testing.T)   { explore(t, "EtcdTrafficDeleteLeases", 1) }
func TestEtcdTrafficDeleteLeasesOfThree(t *testing.T) { explore(t, "EtcdTrafficDeleteLeases", 3) }
func TestKubernetesHighTrafficOfOne(t *testing.T)     { explore(t, "KubernetesHighTraffic", 1) }
func TestKubernetesHighTrafficOfThree(t *testing.T)   { explore(t, "KubernetesHighTraffic", 3) }
func TestKubernetesLowTrafficOfOne(t *testing.T)      { explore(t, "KubernetesLowTraffic", 1) }
func TestKubernetesLowTrafficOfThree(t *testing.T)    { explore(t, "KubernetesLowTraffic", 3) }

// TestOneOfEach has one fault for each traffic and size of a cluster, another one each time.
func TestOneOfEach(t *testing.T) {
	framework.E2eTestRunner.BeforeTest(t)
	for _, s := range scenarios.Exploratory(t) {
		size := s.Cluster.ClusterSize
		f := pick(faultsFor(size))
		t.Run(s.Name+"/"+f.label, func(t *testing.T) { f.run(t, s) })
	}
}

// TestRegression has the traffic in which etcd's bugs were found, and the faults if they can be had without a special build.
func TestRegression(t *testing.T) {
	framework.E2eTestRunner.BeforeTest(t)
	for _, s := range scenarios.Regression(t) {
		f := fault{label: s.Failpoint.Name(), failpoint: s.Failpoint}
		if s.Cluster.GoFailEnabled {
			f = pick(faultsFor(s.Cluster.ClusterSize))
		}
		t.Run(s.Name+"/"+f.label, func(t *testing.T) { f.run(t, s) })
	}
}

// explore runs all faults. Each time etcd's suite draws other settings of the members.
func explore(t *testing.T, name string, size int) {
	framework.E2eTestRunner.BeforeTest(t)
	for _, f := range faultsFor(size) {
		for _, s := range scenarios.Exploratory(t) {
			if s.Cluster.ClusterSize == size && strings.HasPrefix(s.Name, name+"/") {
				t.Run(f.label, func(t *testing.T) { f.run(t, s) })
			}
		}
	}
}

// run has clients at work while the fault happens, and judges what they saw. What a machine that does much else leaves without an
// answer can be too much for the model to come to an end with: that says nothing, and another history is made.
func (f fault) run(t *testing.T, s scenarios.TestScenario) {
	for range attemptsMax {
		if f.try(t, s) {
			return
		}
		t.Log("the model came to no end: once more")
	}
	t.Error("the model came to no end")
}

const (
	attemptsMax = 3
	// modelTimeout is how long the model may look for an order in which all that clients saw makes sense.
	modelTimeout = time.Minute
)

// try makes one history, and reports whether there is a verdict about it.
func (f fault) try(t *testing.T, s scenarios.TestScenario) (judged bool) {
	log := zaptest.NewLogger(t)
	s.Failpoint, s.Cluster.Logger, s.Cluster.GoFailEnabled = f.failpoint, log, false
	calls := *s.Profile.KeyValue
	calls.MinimalQPS = 10 // before the fault; how many there can be is up to a machine that does other things besides
	s.Profile.KeyValue = &calls
	c, err := f.cluster(t, &s.Cluster)
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	if err := failpoint.Validate(c, s.Failpoint, s.Profile); err != nil {
		t.Fatal(err)
	}
	saved, err := report.NewTestReport(log, filepath.Join(t.ArtifactDir(), "report"), report.ServerDataPaths(c),
		&report.TrafficDetail{ExpectUniqueRevision: s.Traffic.ExpectUniqueRevision()})
	if err != nil {
		t.Fatal(err)
	}
	defer func() {
		if err := saved.Finalize(t.Failed(), false); err != nil {
			t.Error(err)
		}
	}()
	seen := observe(t, s, log, c)
	saved.SetClientReports(seen)
	if t.Failed() { // judging what is much longer than it should be takes all of the machine's memory
		return true
	}
	var dirs []string
	for _, member := range c.Procs {
		dirs = append(dirs, member.Config().DataDirPath)
		if err := member.Stop(); err != nil {
			t.Error(err)
		}
	}
	check(t, dirs)
	persisted, err := persistedRequests(dirs)
	if err != nil {
		t.Fatal(err)
	}
	result := validate.ValidateAndReturnVisualize(log, validate.Config{ExpectRevisionUnique: s.Traffic.ExpectUniqueRevision()}, seen, persisted, modelTimeout)
	t.Logf("%d clients, %d persisted requests", len(seen), len(persisted))
	switch result.Linearization.Status {
	case validate.Timeout, validate.DeadlineExceeded:
		return false
	}
	if err := result.Error(); err != nil {
		t.Error(err)
		saved.SetVisualizer(result.Linearization.Visualize)
	}
	return true
}

// cluster starts a cluster in which the fault can happen.
func (f fault) cluster(t *testing.T, config *e2e.EtcdProcessClusterConfig) (*e2e.EtcdProcessCluster, error) {
	if f.lagging {
		config.ServerConfig.SnapshotCount, config.ServerConfig.SnapshotCatchUpEntries = 50, 100
		config.InitialLeaderIndex = leading
	}
	c, err := e2e.InitEtcdProcessCluster(t, config)
	if err != nil {
		return nil, err
	}
	if f.lagging {
		k := c.Procs[keeper].Config()
		k.Args = append(k.Args, "--snapshot-catchup-entries=1000000000")
	}
	return e2e.StartEtcdProcessCluster(t.Context(), t, c, config)
}

// observe returns what clients saw before, during and after the fault, and what watchers of everything saw at each member.
func observe(t *testing.T, s scenarios.TestScenario, log *zap.Logger, c *e2e.EtcdProcessCluster) []report.ClientReport {
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	var (
		group    errgroup.Group
		base     = time.Now()
		ids      = identity.NewIDProvider()
		working  = client.NewSet(ids, base)
		watching = client.NewSet(ids, base)
		injected = make(chan report.FailpointInjection, 1)
		last     = make(chan int64, 1)
		ofFault  []report.ClientReport
		members  []string
	)
	defer working.Close()
	defer watching.Close()
	for _, member := range c.Procs {
		members = append(members, member.EndpointsGRPC()[0])
	}
	group.Go(func() error {
		defer close(injected)
		time.Sleep(time.Second) // the traffic gets under way
		r, err := failpoint.Inject(ctx, t, log, c, s.Failpoint, base, ids)
		if err != nil {
			cancel()
			return err
		}
		time.Sleep(time.Second) // and goes on
		ofFault = r.Client
		injected <- r.FailpointInjection
		return nil
	})
	group.Go(func() error {
		defer close(last)
		last <- report.OperationsMaxRevision(traffic.SimulateTraffic(ctx, t, log, c, s.Profile, s.Traffic, injected, working))
		return nil
	})
	group.Go(func() error {
		return client.CollectClusterWatchEvents(ctx, client.CollectClusterWatchEventsParam{
			Lg: log, Endpoints: members, MaxRevisionChan: last, ClientSet: watching,
		})
	})
	err := errors.Join(group.Wait(), client.CheckEndOfTestHashKV(ctx, c))
	if err != nil {
		t.Error(err)
	}
	return append(append(working.Reports(), watching.Reports()...), ofFault...)
}

// check has our program verify that everything in the data directories of stopped members is whole.
func check(t *testing.T, dirs []string) {
	for _, dir := range dirs {
		if out, err := exec.Command(program(), "verify", dir).CombinedOutput(); err != nil {
			t.Errorf("verify: %v\n%s", err, out)
		}
	}
}

// program is ours under its own name.
func program() string { return filepath.Join(filepath.Dir(e2e.BinPath.Etcd), "keelson") }
