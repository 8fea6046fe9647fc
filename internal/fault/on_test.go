//go:build sim

package fault

import (
	"errors"
	"testing"
)

func TestHooksFollowThePlan(t *testing.T) {
	struck := errors.New("struck")
	seen := map[string]int{}
	Install(Plan{
		Here: func(place string) error {
			if place == "here" {
				return struck
			}
			return nil
		},
		Buggify: func(path string) bool { return path == "rare" },
		Bug:     "bug",
		Seen:    seen,
	})
	defer Install(Plan{})
	if Here("here") != struck || Here("there") != nil {
		t.Error("Here does not ask the plan")
	}
	if !Buggify("rare") || Buggify("common") {
		t.Error("Buggify does not ask the plan")
	}
	if !Mutant("bug") || Mutant("other") {
		t.Error("Mutant does not know the bug")
	}
	Sometimes("state", false)
	if n, ok := seen["state"]; !ok || n != 0 {
		t.Errorf("a state that was looked for: %d, %t", n, ok)
	}
	Sometimes("state", true)
	if seen["state"] != 1 {
		t.Errorf("a state that was met once: %d", seen["state"])
	}
}

func TestNothingHappensWithoutAPlan(t *testing.T) {
	Install(Plan{})
	if Here("x") != nil || Buggify("x") || Mutant("x") {
		t.Error("a hook acts without a plan")
	}
	Sometimes("x", true)
}
