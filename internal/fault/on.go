//go:build sim

package fault

// Enabled tells whether this build can be made to fail.
const Enabled = true

// Plan decides what happens at the places. Nil functions: nothing.
type Plan struct {
	Here    func(place string) error
	Buggify func(path string) bool
	// Bug is the one deliberate bug that is switched on. Empty: none.
	Bug string
	// Seen counts the states marked by Sometimes; it may be nil.
	Seen map[string]int
}

var plan Plan

// Install makes p the plan, until the next Install. The zero Plan lets nothing happen.
func Install(p Plan) { plan = p }

// Here is a place where a simulation may strike: it returns the error that a disk or a network would have given.
func Here(place string) error {
	if plan.Here == nil {
		return nil
	}
	return plan.Here(place)
}

// Buggify reports whether to take a rare path although nothing asks for it.
func Buggify(path string) bool { return plan.Buggify != nil && plan.Buggify(path) }

// Mutant reports whether a deliberate bug is switched on.
func Mutant(bug string) bool { return bug != "" && bug == plan.Bug }

// Sometimes marks a state that the tests must have seen with cond true.
func Sometimes(state string, cond bool) {
	if plan.Seen == nil {
		return
	}
	n := plan.Seen[state]
	if cond {
		n++
	}
	plan.Seen[state] = n
}
