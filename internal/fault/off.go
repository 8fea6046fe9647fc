//go:build !sim

package fault

// Enabled tells whether this build can be made to fail.
const Enabled = false

// Here is a place where a simulation may strike: it returns the error that a disk or a network would have given.
// Every durable step has one before and one after it.
func Here(place string) error { return nil }

// Buggify reports whether to take a rare path (a batch of one, a queue of length one) although nothing asks for it.
func Buggify(path string) bool { return false }

// Mutant reports whether a deliberate bug is switched on.
func Mutant(bug string) bool { return false }

// Sometimes marks a state that the tests must have seen with cond true.
func Sometimes(state string, cond bool) {}
