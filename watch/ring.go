package watch

import (
	"sort"

	"keelson/state/mvcc"
)

// ring holds the newest chunks, without a gap, up to a number of bytes. Guarded by hub.mu.
type ring struct {
	limit  int
	chunks []*chunk
	bytes  int
	// from is the first revision the ring reaches back to: every event from there to the newest dispatched one is in it.
	from mvcc.Revision
}

// add appends a chunk and drops the oldest ones that no longer fit, even the new one.
func (r *ring) add(c *chunk) {
	r.chunks = append(r.chunks, c)
	r.bytes += c.bytes
	for r.bytes > r.limit {
		r.drop()
	}
}

func (r *ring) drop() {
	c := r.chunks[0]
	r.chunks[0] = nil
	r.chunks = r.chunks[1:]
	r.bytes -= c.bytes
	r.from = c.last + 1
	for _, b := range c.batches {
		b.group.forget(b)
	}
	c.batches = nil
}

// clear drops everything; the ring begins anew at from.
func (r *ring) clear(from mvcc.Revision) {
	for len(r.chunks) > 0 {
		r.drop()
	}
	r.chunks = nil
	r.from = from
}

// since returns chunks with the events from next on, about limit bytes of them and at least one; all reports whether
// they reach the ring's end. ok is false if the ring does not reach back to next.
func (r *ring) since(next mvcc.Revision, limit int) (chunks []*chunk, all, ok bool) {
	if next < r.from {
		return nil, false, false
	}
	i := sort.Search(len(r.chunks), func(i int) bool { return r.chunks[i].last >= next })
	for ; i < len(r.chunks); i++ {
		if limit -= r.chunks[i].bytes; limit < 0 && len(chunks) > 0 {
			return chunks, false, true
		}
		chunks = append(chunks, r.chunks[i])
	}
	return chunks, true, true
}
