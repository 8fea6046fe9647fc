package bench

import "time"

// usage is what the operating system says about the server process at one moment.
type usage struct {
	cpu       time.Duration // user and system time since it began
	rssBytes  int64         // resident now
	peakBytes int64         // most resident since the peak was last reset
}
