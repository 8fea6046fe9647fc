package differential

import (
	"flag"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"google.golang.org/grpc"

	"keelson/peer/process"
)

var (
	keelsonPath = flag.String("keelson", envOr("KEELSON", "../../bin/keelson"), "`path` of the binary under test; also from $KEELSON")
	etcdPath    = flag.String("etcd", os.Getenv("ETCD_PEER"), "`path` of etcd-peer; empty: build it; also from $ETCD_PEER")
	against     = flag.String("against", "keelson", "the candidate: keelson, or etcd for the harness against itself")
	seeds       = flag.Int("seeds", 3, "how many seeds to run")
	firstSeed   = flag.Uint64("seed", 0, "the first seed; 0: from the clock")
	opsPerSeed  = flag.Int("ops", 2500, "operations per seed")
	without     = flag.String("without", "", "comma-separated `kinds` of operations to leave out")
	open        = flag.Bool("open-duplicates", false, "also transactions whose duplicate check the specification leaves open; etcd may crash on them")
	restarts    = flag.Bool("restarts", true, "stop and start the candidate in between")
	shrinkTries = flag.Int("shrink", 60, "replays spent on shortening a disagreement; 0: none")
	serverArgs  = flag.String("keelson-args", "", "further `flags` for the binary under test, blank-separated")
)

func envOr(name, otherwise string) string {
	if value := os.Getenv(name); value != "" {
		return value
	}
	return otherwise
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

// servers starts a reference and a candidate on empty directories. end stops them; it is safe to call twice.
func servers(dir string, kind process.Kind, dial ...grpc.DialOption) (reference, candidate *Side, end func(), err error) {
	var started []*process.Server
	var sides []*Side
	end = func() {
		for _, s := range sides {
			s.Close()
		}
		for _, s := range started {
			s.Kill()
		}
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
	total, begin := 0, time.Now()
	for i := range *seeds {
		options.Seed = seed + uint64(i)
		t.Logf("seed %d: replay with -seeds 1 -seed %d -ops %d", options.Seed, options.Seed, options.Ops)
		total += agree(t, kind, options)
		if t.Failed() {
			break
		}
	}
	elapsed := time.Since(begin)
	t.Logf("%d operations in %v: %.0f operations/s", total, elapsed.Round(time.Millisecond), float64(total)/elapsed.Seconds())
}

// agree runs one seed on fresh servers and returns how many operations it took.
func agree(t *testing.T, kind process.Kind, options Options) int {
	reference, candidate, end, err := servers(t.TempDir(), kind)
	if err != nil {
		t.Fatal(err)
	}
	defer end()
	recording, err := Record(options, reference, candidate)
	if err != nil {
		t.Fatalf("seed %d: %v", options.Seed, err)
	}
	if recording.Disagreement == nil {
		t.Logf("seed %d: %d events; %v", options.Seed, recording.Events, recording.Tally)
		return len(recording.Ops)
	}
	end()
	t.Errorf("seed %d: %v", options.Seed, recording.Disagreement)
	if *shrinkTries == 0 {
		return len(recording.Ops)
	}
	shortest, err := Shrink(recording.Ops, *shrinkTries, time.Now().Add(2*time.Minute), func(ops []Op) (*Disagreement, error) {
		reference, candidate, end, err := servers(t.TempDir(), kind)
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
		return len(recording.Ops)
	}
	t.Logf("%d of %d operations suffice:", len(shortest.Ops), len(recording.Ops))
	for i, op := range shortest.Ops[max(0, len(shortest.Ops)-60):] {
		t.Logf("  %d %.700v", max(0, len(shortest.Ops)-60)+i, op)
	}
	t.Logf("end in %v", shortest.Disagreement)
	return len(recording.Ops)
}
