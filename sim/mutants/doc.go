// Command mutants checks that the simulation finds every deliberate bug, those in the code under test included: it runs
// the tests of package sim that switch them on, in a build that has the hooks. It owns nothing, and is run by hand or
// by CI from the top of the tree: go run ./sim/mutants.
package main
