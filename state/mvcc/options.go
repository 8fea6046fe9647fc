package mvcc

// Options opens a Store.
type Options struct {
	// NewestCacheBytes bounds the memory of the cache of newest versions. 0: 128 MiB. Negative: no cache.
	NewestCacheBytes int64

	// EventsKept bounds the bytes that the events of a run hold, previous pairs included (see Tx.Light). 0: 64 MiB.
	EventsKept int

	fenceSpacing int // 0: fenceSpacing. Tests use small numbers
	birthsKept   int // 0: birthsKept
}

const (
	newestCacheBytesDefault = 128 << 20
	eventsKeptDefault       = 64 << 20
	eventBytes              = 256 // what an event occupies beside its key and values, about
)

func (o Options) newestCacheBytes() int64 {
	if o.NewestCacheBytes == 0 {
		return newestCacheBytesDefault
	}
	return o.NewestCacheBytes
}

func (o Options) eventsKept() int {
	if o.EventsKept == 0 {
		return eventsKeptDefault
	}
	return o.EventsKept
}
