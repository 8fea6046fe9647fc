package bench

import (
	"cmp"
	"fmt"
	"io"
	"maps"
	"slices"
	"strings"
	"time"
)

// Result is what a run measured. Durations are in nanoseconds when printed as JSON, sizes in bytes.
type Result struct {
	Op      Op
	Count   uint64        // requests answered, refused ones included
	Elapsed time.Duration // from the first request to the last answer
	PerSec  float64

	P50, P90, P99, P999, Max, Mean time.Duration

	Errors map[string]uint64 // by text, at most errorTextsMax different ones
	Behind uint64            // with a rate: requests that were due while every slot was taken, and not sent

	ReplyBytes uint64 // of reply data received
	Events     uint64 // watch: events delivered, over all watchers
	EventsPerS float64
	Watchers   int // watch, watch-idle: watchers that were created

	// What follows is zero unless Measured: the server's process could be looked at.
	Measured        bool
	ServerCPU       time.Duration // during the run
	CPUPerOp        time.Duration
	CPUPerEvent     time.Duration
	EventsPerCPUSec float64
	RSSBefore       int64
	RSSAfter        int64
	RSSPeak         int64
	RSSPerStream    int64 // watch-idle

	ClientCPU time.Duration // the load generator's own
}

const errorTextsMax = 16

// failures returns how many requests were refused or broke off.
func (r Result) failures() (n uint64) {
	for _, count := range r.Errors {
		n += count
	}
	return n
}

// write prints the result for people, one line a subject.
func (r Result) write(w io.Writer) {
	fmt.Fprintf(w, "%-12s %d requests in %v: %.0f/s\n", r.Op, r.Count, r.Elapsed.Round(time.Millisecond), r.PerSec)
	if r.Mean > 0 {
		fmt.Fprintf(w, "latency      p50 %v  p90 %v  p99 %v  p999 %v  max %v  mean %v\n", short(r.P50), short(r.P90), short(r.P99), short(r.P999), short(r.Max), short(r.Mean))
	}
	if r.Events > 0 {
		fmt.Fprintf(w, "events       %d to %d watchers: %.0f/s\n", r.Events, r.Watchers, r.EventsPerS)
	}
	switch {
	case !r.Measured:
		fmt.Fprintf(w, "server       n/a\n")
	case r.Op == OpWatch:
		fmt.Fprintf(w, "server       CPU %v, %.2f us per event, %.0f events per CPU second; RSS %s, was %s, peak %s\n", r.ServerCPU, micros(r.CPUPerEvent),
			r.EventsPerCPUSec, mib(r.RSSAfter), mib(r.RSSBefore), mib(r.RSSPeak))
	case r.Op == OpWatchIdle:
		fmt.Fprintf(w, "server       RSS %s, was %s: %d bytes per stream\n", mib(r.RSSAfter), mib(r.RSSBefore), r.RSSPerStream)
	default:
		fmt.Fprintf(w, "server       CPU %v, %.2f us per request; RSS %s, was %s, peak %s\n", r.ServerCPU, micros(r.CPUPerOp), mib(r.RSSAfter), mib(r.RSSBefore), mib(r.RSSPeak))
	}
	if r.Count > 0 {
		fmt.Fprintf(w, "client       CPU %v, %.2f us per request, %d reply bytes\n", r.ClientCPU.Round(time.Millisecond), micros(r.ClientCPU/time.Duration(r.Count)), r.ReplyBytes)
	}
	if r.Behind > 0 {
		fmt.Fprintf(w, "behind       %d requests were due and not sent\n", r.Behind)
	}
	fmt.Fprintf(w, "errors       %d\n", r.failures())
	for _, text := range slices.SortedFunc(maps.Keys(r.Errors), func(a, b string) int {
		return cmp.Or(cmp.Compare(r.Errors[b], r.Errors[a]), strings.Compare(a, b))
	}) {
		fmt.Fprintf(w, "  %8d   %s\n", r.Errors[text], text)
	}
}

func micros(d time.Duration) float64 { return float64(d) / float64(time.Microsecond) }

func mib(bytes int64) string { return fmt.Sprintf("%.1f MiB", float64(bytes)/(1<<20)) }

// short rounds to three digits or so.
func short(d time.Duration) time.Duration {
	switch {
	case d > 10*time.Second:
		return d.Round(100 * time.Millisecond)
	case d > 10*time.Millisecond:
		return d.Round(100 * time.Microsecond)
	case d > 100*time.Microsecond:
		return d.Round(time.Microsecond)
	}
	return d
}
