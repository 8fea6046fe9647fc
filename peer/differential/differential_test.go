package differential

import (
	"flag"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"google.golang.org/grpc"

	"keelson/peer/process"
)

var (
	keelsonPath = process.BinaryFlag()
	etcdPath    = flag.String("etcd", os.Getenv("ETCD_PEER"), "`path` of etcd-peer; empty: build it; also from $ETCD_PEER")
	against     = flag.String("against", "keelson", "the candidate: keelson, or etcd for the harness against itself")
	seeds       = flag.Int("seeds", 6, "how many seeds to run")
	firstSeed   = flag.Uint64("seed", 0, "the first seed; 0: from the clock")
	opsPerSeed  = flag.Int("ops", 4000, "operations per seed")
	without     = flag.String("without", "", "comma-separated `kinds` of operations to leave out")
	open        = flag.Bool("open-duplicates", false, "also transactions whose duplicate check the specification leaves open; etcd may crash on them")
	restarts    = flag.Bool("restarts", true, "stop and start the candidate in between")
	shrinkTries = flag.Int("shrink", 60, "replays spent on shortening a disagreement; 0: none")
	workers     = flag.Int("workers", 6, "how many seeds run at a time, each on servers of its own; most of a seed is waiting")
	dataParent  = flag.String("dir", memoryDir(), "`directory` for the servers' data; empty: the one for temporary files")
	serverArgs  = flag.String("keelson-args", "", "further `flags` for the binary under test, blank-separated")
)

// memoryDir is where files cost no disk, if there is such a place. What a killed process wrote is there all the same, and
// nothing here cuts the power.
func memoryDir() string {
	const dir = "/dev/shm"
	if info, err := os.Stat(dir); err != nil || !info.IsDir() {
		return ""
	}
	return dir
}

// etcdBinary is the path of etcd-peer, set by TestMain.
var etcdBinary string

func TestMain(m *testing.M) {
	flag.Parse()
	os.Exit(func() int {
		if etcdBinary = *etcdPath; etcdBinary != "" {
			return m.Run()
		}
		dir, err := os.MkdirTemp("", "differential-")
		if err != nil {
			fmt.Fprintln(os.Stderr, err)
			return 1
		}
		defer os.RemoveAll(dir)
		if etcdBinary, err = process.BuildEtcd(dir); err != nil {
			fmt.Fprintln(os.Stderr, err)
			return 1
		}
		return m.Run()
	}())
}

// servers starts a reference and a candidate on empty directories. end stops them and removes what they wrote; it is safe
// to call twice.
func servers(kind process.Kind, dial ...grpc.DialOption) (reference, candidate *Side, end func(), err error) {
	dir, err := os.MkdirTemp(*dataParent, "differential-")
	if err != nil {
		return nil, nil, nil, err
	}
	var started []*process.Server
	var sides []*Side
	end = func() {
		for _, s := range sides {
			s.Close()
		}
		for _, s := range started {
			s.Kill()
		}
		os.RemoveAll(dir)
	}
	binary, args := etcdBinary, []string(nil)
	if kind == process.Keelson {
		binary, args = *keelsonPath, strings.Fields(*serverArgs)
	}
	for i, part := range []struct {
		kind   process.Kind
		binary string
		name   string
		args   []string
		dial   []grpc.DialOption
	}{{process.Etcd, etcdBinary, "reference", nil, nil}, {kind, binary, "candidate", args, dial}} {
		server, err := process.New(part.kind, part.binary, filepath.Join(dir, fmt.Sprint(i)), part.args...)
		if err != nil {
			end()
			return nil, nil, nil, err
		}
		started = append(started, server)
		if _, err := server.Start(); err != nil {
			end()
			return nil, nil, nil, err
		}
		side, err := NewSide(part.name, server, part.dial...)
		if err != nil {
			end()
			return nil, nil, nil, err
		}
		sides = append(sides, side)
	}
	return sides[0], sides[1], end, nil
}

// TestAgreement runs random operations against etcd and Keelson (or, with -against=etcd, against etcd twice, which
// shows that the comparison has no false alarms) and fails where they differ.
func TestAgreement(t *testing.T) {
	t.Parallel()
	kind := process.Keelson
	if *against == "etcd" {
		kind = process.Etcd
	} else if _, err := os.Stat(*keelsonPath); err != nil {
		t.Fatalf("no binary to test: %v\nbuild it with `go build -o bin/keelson ./cmd/keelson`, or name one with -keelson=PATH", err)
	}
	seed := *firstSeed
	if seed == 0 {
		seed = uint64(time.Now().UnixNano()) % 1e9
	}
	options := Options{Ops: *opsPerSeed, Prologue: Prologue(), OpenDuplicates: *open, Restarts: *restarts, Without: map[Kind]bool{}}
	for _, kind := range strings.Split(*without, ",") {
		options.Without[Kind(kind)] = true
	}
	var next atomic.Int64
	sum := &totals{tally: map[string]int{}, spent: map[Kind]time.Duration{}}
	begin := time.Now()
	var all sync.WaitGroup
	for range min(*workers, *seeds) {
		all.Go(func() {
			for i := next.Add(1) - 1; i < int64(*seeds) && !t.Failed(); i = next.Add(1) - 1 {
				options := options
				options.Seed = seed + uint64(i)
				t.Logf("seed %d: replay with -seeds 1 -seed %d -ops %d", options.Seed, options.Seed, options.Ops)
				sum.add(agree(t, kind, options))
			}
		})
	}
	all.Wait()
	elapsed := time.Since(begin)
	t.Logf("answers: %v", sum.tally)
	t.Logf("time by kind: %v", sum.spent)
	t.Logf("%d operations and %d events in %v: %.0f operations/s", sum.ops, sum.events, elapsed.Round(time.Millisecond), float64(sum.ops)/elapsed.Seconds())
}

// totals adds up what the seeds did. Safe for concurrent use.
type totals struct {
	mu     sync.Mutex
	ops    int
	events int
	tally  map[string]int
	spent  map[Kind]time.Duration // over all workers
}

func (s *totals) add(r *Recording) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.ops += len(r.Ops)
	s.events += r.Events
	for name, n := range r.Tally {
		s.tally[name] += n
	}
	for kind, d := range r.Spent {
		s.spent[kind] += d
	}
}

// agree runs one seed on fresh servers and returns what it came to.
func agree(t *testing.T, kind process.Kind, options Options) *Recording {
	reference, candidate, end, err := servers(kind)
	if err != nil {
		t.Error(err)
		return &Recording{}
	}
	defer end()
	recording, err := Record(options, reference, candidate)
	if err != nil {
		t.Errorf("seed %d: %v", options.Seed, err)
		return recording
	}
	if recording.Disagreement == nil {
		t.Logf("seed %d: %d operations and %d events agree", options.Seed, len(recording.Ops), recording.Events)
		return recording
	}
	end()
	t.Errorf("seed %d: %v", options.Seed, recording.Disagreement)
	if *shrinkTries == 0 {
		return recording
	}
	shortest, err := Shrink(recording.Ops, *shrinkTries, time.Now().Add(2*time.Minute), func(ops []Op) (*Disagreement, error) {
		reference, candidate, end, err := servers(kind)
		if err != nil {
			return nil, err
		}
		defer end()
		return Replay(ops, reference, candidate)
	})
	if err != nil {
		t.Logf("shrinking stopped: %v", err)
	}
	if shortest == nil {
		t.Log("not seen again when replayed: it depends on timing")
		return recording
	}
	t.Logf("%d of %d operations suffice:", len(shortest.Ops), len(recording.Ops))
	for i, op := range shortest.Ops[max(0, len(shortest.Ops)-60):] {
		t.Logf("  %d %.700v", max(0, len(shortest.Ops)-60)+i, op)
	}
	t.Logf("end in %v", shortest.Disagreement)
	return recording
}
