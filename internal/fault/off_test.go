//go:build !sim

package fault

import "testing"

func TestNothingHappensWithoutTheTag(t *testing.T) {
	if Enabled || Here("x") != nil || Buggify("x") || Mutant("") {
		t.Error("a hook acts in a build without the tag sim")
	}
	Sometimes("x", true)
	if n := testing.AllocsPerRun(100, func() { _ = Here("x"); Sometimes("x", Buggify("y")) }); n != 0 {
		t.Errorf("hooks allocate %v times", n)
	}
}
