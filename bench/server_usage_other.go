//go:build !linux

package bench

import "errors"

var errNoUsage = errors.New("bench: server usage: known on Linux only")

// usageOf is not known how to do here.
//
// Errors: always.
func usageOf(int) (usage, error) { return usage{}, errNoUsage }

func resetPeak(int) {}
