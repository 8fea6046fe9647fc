// Package lint keeps conventions: its tests read the tree and say which of them a change broke, and why it matters.
//
// It owns no code that runs anywhere else. What is checked: which package may import which, that the deterministic core
// has no door of its own to clock, chance, files, network or concurrency, that every package introduces itself, that
// documents name files that exist, that files are formatted, and that nothing unfinished or foreign to the project is
// left behind.
package lint
