//go:build unix

package bench

import (
	"time"

	"golang.org/x/sys/unix"
)

// ownCPU returns the user and system time of this process; 0 where it cannot be asked.
func ownCPU() time.Duration {
	var usage unix.Rusage
	if unix.Getrusage(unix.RUSAGE_SELF, &usage) != nil {
		return 0
	}
	return time.Duration(usage.Utime.Nano() + usage.Stime.Nano())
}
