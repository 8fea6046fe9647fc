// Package env declares the four doors to the outside world, clock, chance, files and network, as small interfaces,
// and holds the real ones.
//
// Everything above the doors is the same code in production and in simulation; a test replaces a door, never a layer.
// The package owns no state. It may be imported by every package of the project and imports none of them.
package env
