package sim_test

import (
	"flag"
	"fmt"
	"maps"
	"os"
	"slices"
	"testing"
	"testing/cryptotest"
	"testing/synctest"
	"time"

	"keelson/sim"
)

var (
	seedFlag     = flag.Uint64("seed", 0, "first seed; 0: a new one each time")
	seedsFlag    = flag.Int("seeds", 3, "number of seeds, counted up from -seed")
	stepsFlag    = flag.Int("steps", 1000, "events per seed and member before the faults end")
	membersFlag  = flag.Int("members", 0, "size of the cluster; 0: each of 1, 3, 5 and 7")
	calmFlag     = flag.Uint64("calm", 0, "one in so many seeds is a calm run; 0: none, 1: all")
	forFlag      = flag.Duration("for", 0, "go on with further seeds for so long")
	bugFlag      = flag.String("bug", "", "deliberate bug to switch on; see sim.Bugs")
	eventsFlag   = flag.Bool("events", false, "print every event")
	summaryFlag  = flag.String("summary", "", "file for the sums of all runs, written now and then")
	minimiseFlag = flag.String("minimise", "", "name of a script for what fails, or for what -reaches names; see TestMinimise")
	reachesFlag  = flag.String("reaches", "", "states that a script is to reach, with | between them")
	triesFlag    = flag.Int("tries", 200, "runs to spend on a script")
	anewFlag     = flag.Bool("anew", false, "look for deliberate bugs from seed 1 on, and print where they are seen first")
)

// simulate runs one seed in a bubble of its own.
func simulate(t *testing.T, o sim.Options) (r sim.Report) {
	t.Helper()
	cryptotest.SetGlobalRandom(t, o.Seed) // raft draws its election timeouts there
	defer func() {
		if p := recover(); p != nil { // the bubble's: something was left open, which is worth less than why
			panic(fmt.Sprintf("%v; the run: %v\n%s", p, r.Failure, replay(o)))
		}
	}()
	synctest.Test(t, func(*testing.T) { r = sim.Run(o) })
	r.Judge(30 * time.Second)
	return r
}

// replay says how to see a run again.
func replay(o sim.Options) string {
	calm := ""
	if o.Calm {
		calm = " -calm=1"
	}
	return fmt.Sprintf("replay: go test ./sim -run 'TestSim$' -seed=%d -seeds=1 -members=%d -steps=%d%s -bug=%q -events",
		o.Seed, o.Members, o.Steps, calm, o.Bug)
}

// sizes are the clusters to simulate.
func sizes() []int {
	if *membersFlag > 0 {
		return []int{*membersFlag}
	}
	return []int{1, 3, 5, 7}
}

// TestSim runs seeds, with clusters of each size.
func TestSim(t *testing.T) {
	first := *seedFlag
	if first == 0 {
		first = uint64(time.Now().UnixNano())
	}
	begun := time.Now()
	sum := summary{reached: map[string]int{}}
	defer sum.write(t)
	for i := uint64(0); i < uint64(*seedsFlag) || time.Since(begun) < *forFlag; i++ {
		for _, members := range sizes() {
			o := sim.Options{Seed: first + i, Members: members, Steps: *stepsFlag, Bug: *bugFlag}
			o.Calm = *calmFlag > 0 && o.Seed%*calmFlag == 0
			t.Run(fmt.Sprintf("%d/%d", o.Seed, members), func(t *testing.T) {
				if *eventsFlag {
					o.Log = func(line string) { fmt.Println(o.Seed, line) }
				}
				r := simulate(t, o)
				sum.add(t, r)
				t.Logf("seed %d: trace %016x after %v", o.Seed, r.Trace, r.Time)
				if r.Failure != nil {
					t.Errorf("after %v: %v\n%s", r.Time, r.Failure, replay(o))
				}
			})
		}
	}
}

// summary adds up what runs have met.
type summary struct {
	runs, events, failures int
	time                   time.Duration
	reached                map[string]int
	written                time.Time
}

func (s *summary) add(t *testing.T, r sim.Report) {
	s.runs++
	s.events += r.Events
	s.time += r.Time
	if r.Failure != nil {
		s.failures++
	}
	for state, n := range r.Reached {
		s.reached[state] += n
	}
	if time.Since(s.written) > 10*time.Second {
		s.write(t)
	}
}

func (s *summary) write(t *testing.T) {
	if *summaryFlag == "" {
		return
	}
	s.written = time.Now()
	text := fmt.Sprintf("%d runs, %d failures, %d events, %.1f simulated hours\n", s.runs, s.failures, s.events, s.time.Hours())
	for _, state := range slices.Sorted(maps.Keys(s.reached)) {
		text += fmt.Sprintf("%10d %s\n", s.reached[state], state)
	}
	if err := os.WriteFile(*summaryFlag, []byte(text), 0o644); err != nil {
		t.Error(err)
	}
}

// TestSameSeedSameTrace runs seeds twice, the second time in another order: a seed must decide everything.
func TestSameSeedSameTrace(t *testing.T) {
	var runs []sim.Options
	for _, seed := range []uint64{3, 7} {
		for _, members := range []int{1, 3, 5, 7} {
			runs = append(runs, sim.Options{Seed: seed, Members: members, Steps: 600})
		}
	}
	seen := map[uint64]bool{}
	runs = append(runs, sim.Options{Seed: 11, Members: 3, Steps: 300, Calm: true})
	first := make([]sim.Report, len(runs))
	for i, o := range runs {
		first[i] = simulate(t, o)
		seen[first[i].Trace] = true
	}
	for i, o := range slices.Backward(runs) {
		before, again := first[i], simulate(t, o)
		if again.Trace != before.Trace || again.Reads != before.Reads || again.Time != before.Time || !maps.Equal(again.Reached, before.Reached) {
			t.Errorf("seed %d with %d members: trace %016x and reads %016x after %v, then %016x and %016x after %v",
				o.Seed, o.Members, before.Trace, before.Reads, before.Time, again.Trace, again.Reads, again.Time)
		}
	}
	if len(seen) != len(runs) {
		t.Errorf("%d different runs give %d traces", len(runs), len(seen))
	}
}

// TestRareStates checks that the simulation gets into the corners it was made for.
func TestRareStates(t *testing.T) {
	const most, steps = 240, 3000
	reached := map[string]int{}
	var missing []string
	for seed := uint64(1); seed <= most; seed++ {
		o := sim.Options{Seed: seed, Members: []int{3, 1, 5, 7}[seed%4], Steps: steps}
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
