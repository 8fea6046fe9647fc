//go:build sim

package sim

import (
	"fmt"

	"keelson/internal/fault"
)

// Scripts is where scripts for this build are kept.
const Scripts = "testdata/hooks"

// These bugs live in the code under test.
func init() {
	Bugs = append(Bugs, []Bug{
		{"read-before-commit-in-term", 1, 9},    // a new leader answers reads at once
		{"propose-again-at-once", 3, 18},        // a proposal goes to the next leader before the fate of the first try is known
		{"take-links-again", 3, 1},              // a leader takes a forwarded proposal as often as it comes
		{"leader-commits-its-removal", 3, 1020}, // a leader does not hand over before it removes itself
		{"tell-of-changes-at-once", 2, 240},     // others hear of a change of members before the disk knows that it is committed
		{"install-before-applied", 3, 56},       // a state is installed with applies under way
		{"progress-overtakes-events", 1, 4},     // progress is told before the events that it speaks of
		{"forget-what-was-lost", 3, 19},         // watchers are not told of what a state brought
		{"lose-place-in-group", 3, 2},           // a watcher that has been told everything is not told again
		{"begin-before-the-future", 3, 1},       // a watcher of the future is told what comes before
		{"lower-the-future", 3, 32},             // a watcher of the future is told of it what a state brought that comes before
		{"drop-changes-at-floor", 1, 17},        // a compaction removes the changes at the floor itself
		{"remove-what-views-read", 1, 17},       // a compaction does not wait for those who still read
		{"reuse-read-context", 3, 97},           // the answer to an earlier question counts for a later one
		{"go-on-after-failed-read", 1, 2},       // a member goes on after its store could not be read
		{"forget-users-at-start", 1, 1},         // users and roles are not read when a member starts
		{"forget-users-of-install", 3, 1},       // users and roles stay what they were when a state is installed
		{"rights-of-before", 3, 3},              // who was admitted by rights that have changed since may still do it
		{"nested-txn-unchecked", 1, 12},         // what stands in a nested transaction may be done by anybody
		{"forget-deadlines", 1, 5},              // the v2 tree does not remember that there is an earlier deadline
		{"swap-whatever-index", 1, 2},           // a comparison in the v2 tree does not look at the index
	}...)
}

// installHooks takes the hooks in the code under test into the simulation: faults strike at their places, rare paths are
// taken, marks are counted.
func (w *world) installHooks() {
	fault.Install(fault.Plan{
		Bug:     w.o.Bug,
		Seen:    w.reached,
		Buggify: func(string) bool { return w.rng.IntN(10) == 0 },
		Here: func(place string) error {
			if w.faults.failLog > 0 && w.rng.IntN(1000) == 0 {
				return fmt.Errorf("%s: %w", place, errStruck)
			}
			return nil
		},
	})
}
