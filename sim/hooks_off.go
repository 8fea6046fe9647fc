//go:build !sim

package sim

// Scripts is where scripts for this build are kept: hooks in the code under test let other things happen.
const Scripts = "testdata"

// installHooks does nothing: this build has no hooks in the code under test.
func (w *world) installHooks() {}
