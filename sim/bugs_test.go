package sim_test

import (
	"fmt"
	"strings"
	"testing"

	"keelson/sim"
)

// TestBugsAreFound switches every deliberate bug on, one after the other: a simulation that does not see one of them has
// gone blind. Each search begins at a seed that is known to see it, so that it takes no time as long as the simulation
// stays as it is; after a change it may take some more.
//
// With the build tag sim there are more bugs, which live in the code under test: go run ./sim/mutants runs them all.
func TestBugsAreFound(t *testing.T) {
	const most, steps = 500, 1500
	for _, bug := range sim.Bugs {
		t.Run(fmt.Sprintf("%s/%d", bug.Name, bug.Members), func(t *testing.T) {
			if *anewFlag {
				bug.Seed = 1
			}
			for seed := bug.Seed; seed < bug.Seed+most; seed++ {
				r := simulate(t, sim.Options{Seed: seed, Members: bug.Members, Steps: steps, Bug: bug.Name})
				if r.Failure != nil {
					what, _, _ := strings.Cut(r.Failure.Error(), "\n")
					t.Logf("seed %d, after %v: %s", seed, r.Time, what)
					if *anewFlag {
						fmt.Printf("{%q, %d, %d},\n", bug.Name, bug.Members, seed)
					}
					return
				}
			}
			t.Errorf("%d seeds from %d on do not see it", most, bug.Seed)
		})
	}
}
