//go:build sim

package sim

import (
	"fmt"

	"keelson/internal/fault"
)

// These bugs live in the code under test.
func init() {
	Bugs = append(Bugs, Bug{"read-before-commit-in-term", 1, 39}) // a new leader answers reads at once
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
