package bench

import (
	"math/bits"
	"time"
)

// subBits is how many bits below the leading one a bucket distinguishes: 32 buckets for each power of two, so that a
// percentile is at most 3 % above the truth.
const subBits = 5

// histogram counts durations in buckets whose width grows with the duration. It is not safe for concurrent use: each
// connection has its own, merged at the end.
type histogram struct {
	buckets [64 << subBits]uint64
	count   uint64
	sum     time.Duration
	longest time.Duration
}

// bucketOf returns the bucket of a duration; negative ones count as none.
func bucketOf(d time.Duration) int {
	n := uint64(max(d, 0))
	if n < 1<<subBits {
		return int(n)
	}
	shift := bits.Len64(n) - 1 - subBits
	return (shift+1)<<subBits | int(n>>shift&(1<<subBits-1))
}

// upperBound returns the longest duration that falls into a bucket.
func upperBound(bucket int) time.Duration {
	if bucket < 1<<subBits {
		return time.Duration(bucket)
	}
	shift := bucket>>subBits - 1
	return time.Duration(uint64(1<<subBits|bucket&(1<<subBits-1)+1)<<shift - 1)
}

func (h *histogram) record(d time.Duration) {
	h.buckets[bucketOf(d)]++
	h.count++
	h.sum += d
	h.longest = max(h.longest, d)
}

func (h *histogram) merge(other *histogram) {
	for i, n := range other.buckets {
		h.buckets[i] += n
	}
	h.count += other.count
	h.sum += other.sum
	h.longest = max(h.longest, other.longest)
}

// percentile returns a duration that the given share (0..1) of the recorded ones do not exceed; 0 if there are none.
func (h *histogram) percentile(share float64) time.Duration {
	rank := max(uint64(share*float64(h.count)+0.5), 1)
	seen := uint64(0)
	for i, n := range h.buckets {
		if seen += n; seen >= rank {
			return min(upperBound(i), h.longest)
		}
	}
	return h.longest
}

func (h *histogram) mean() time.Duration {
	if h.count == 0 {
		return 0
	}
	return h.sum / time.Duration(h.count)
}
