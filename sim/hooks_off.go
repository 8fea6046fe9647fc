//go:build !sim

package sim

// installHooks does nothing: this build has no hooks in the code under test.
func (w *world) installHooks() {}
