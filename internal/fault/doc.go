// Package fault is how tests reach into production code: named places where a fault may strike, rare paths that may be
// taken on purpose, deliberate bugs that the tests must find, and marks of rare states that the tests must have seen.
//
// All of it is compiled to nothing without the build tag sim. With the tag, nothing happens either until a simulation
// has called Install. The package holds one global plan: it belongs to the one goroutine that runs the simulation, and
// to what that goroutine waits for.
package fault
