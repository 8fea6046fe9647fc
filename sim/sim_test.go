package sim_test

import (
	"flag"
	"fmt"
	"maps"
	"testing"
	"testing/cryptotest"
	"testing/synctest"
	"time"

	"keelson/sim"
)

var (
	seedFlag   = flag.Uint64("seed", 0, "first seed; 0: a new one each time")
	seedsFlag  = flag.Int("seeds", 3, "number of seeds, counted up from -seed")
	stepsFlag  = flag.Int("steps", 1000, "events per seed before the faults end")
	bugFlag    = flag.String("bug", "", "deliberate bug to switch on; see sim.Bugs")
	eventsFlag = flag.Bool("events", false, "print every event")
)

// simulate runs one seed in a bubble of its own.
func simulate(t *testing.T, o sim.Options) (r sim.Report) {
	t.Helper()
	cryptotest.SetGlobalRandom(t, o.Seed) // raft draws its election timeouts there
	synctest.Test(t, func(*testing.T) { r = sim.Run(o) })
	return r
}

// replay says how to see a run again.
func replay(o sim.Options) string {
	return fmt.Sprintf("replay: go test ./sim -run 'TestSim$' -seed=%d -seeds=1 -steps=%d -bug=%q -events", o.Seed, o.Steps, o.Bug)
}

// TestSim runs seeds.
func TestSim(t *testing.T) {
	first := *seedFlag
	if first == 0 {
		first = uint64(time.Now().UnixNano())
	}
	for i := range *seedsFlag {
		o := sim.Options{Seed: first + uint64(i), Steps: *stepsFlag, Bug: *bugFlag}
		t.Run(fmt.Sprint(o.Seed), func(t *testing.T) {
			if *eventsFlag {
				o.Log = func(line string) { fmt.Println(o.Seed, line) }
			}
			r := simulate(t, o)
			t.Logf("seed %d: trace %016x", o.Seed, r.Trace)
			if r.Failure != nil {
				t.Errorf("after %v: %v\n%s", r.Time, r.Failure, replay(o))
			}
		})
	}
}

// TestSameSeedSameTrace runs seeds twice, the second time in another order: a seed must decide everything.
func TestSameSeedSameTrace(t *testing.T) {
	const steps = 600
	first := map[uint64]sim.Report{}
	seeds := []uint64{3, 7}
	for _, seed := range seeds {
		first[seed] = simulate(t, sim.Options{Seed: seed, Steps: steps})
	}
	for i := range seeds {
		seed := seeds[len(seeds)-1-i]
		again := simulate(t, sim.Options{Seed: seed, Steps: steps})
		if again.Trace != first[seed].Trace || again.Time != first[seed].Time || !maps.Equal(again.Reached, first[seed].Reached) {
			t.Errorf("seed %d: trace %016x after %v, then %016x after %v", seed,
				first[seed].Trace, first[seed].Time, again.Trace, again.Time)
		}
	}
	if first[3].Trace == first[7].Trace {
		t.Error("different seeds give the same trace")
	}
}

// TestRareStates checks that the simulation gets into the corners it was made for.
func TestRareStates(t *testing.T) {
	const most, steps = 60, 2000
	reached := map[string]int{}
	var missing []string
	for seed := uint64(1); seed <= most; seed++ {
		o := sim.Options{Seed: seed, Steps: steps}
		r := simulate(t, o)
		if r.Failure != nil {
			t.Fatalf("seed %d: %v\n%s", seed, r.Failure, replay(o))
		}
		for s, n := range r.Reached {
			reached[s] += n
		}
		missing = missing[:0]
		for _, s := range sim.RareStates {
			if reached[s] == 0 {
				missing = append(missing, s)
			}
		}
		if len(missing) == 0 {
			t.Logf("all %d reached after %d seeds", len(sim.RareStates), seed)
			return
		}
	}
	t.Errorf("never reached in %d seeds: %q", most, missing)
}
