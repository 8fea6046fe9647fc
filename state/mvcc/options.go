package mvcc

// Options opens a Store.
type Options struct {
	// NewestCacheBytes bounds the memory of the cache of newest versions. 0: 128 MiB. Negative: no cache.
	NewestCacheBytes int64

	fenceSpacing int // 0: fenceSpacing. Tests use small numbers
	birthsKept   int // 0: birthsKept
}

const newestCacheBytesDefault = 128 << 20

func (o Options) newestCacheBytes() int64 {
	if o.NewestCacheBytes == 0 {
		return newestCacheBytesDefault
	}
	return o.NewestCacheBytes
}
