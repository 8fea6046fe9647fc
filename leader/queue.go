package leader

import "time"

// queue is a binary heap of leases by (due, grant). Each knows its place, so that it can be moved and removed in
// logarithmic time.
type queue struct{ heap []*running }

func less(a, b *running) bool {
	return a.due < b.due || a.due == b.due && a.grant.Less(b.grant)
}

// init fills an empty queue, each lease due at its expiry.
func (q *queue) init(all []*running) {
	q.heap = all
	for i, r := range all {
		r.due, r.queueIndex = r.expiry, i
	}
	for i := len(all)/2 - 1; i >= 0; i-- {
		q.down(i)
	}
}

func (q *queue) first() *running {
	if len(q.heap) == 0 {
		return nil
	}
	return q.heap[0]
}

func (q *queue) push(r *running, due time.Duration) {
	r.due, r.queueIndex = due, len(q.heap)
	q.heap = append(q.heap, r)
	q.up(r.queueIndex)
}

func (q *queue) move(r *running, due time.Duration) {
	r.due = due
	q.up(r.queueIndex)
	q.down(r.queueIndex)
}

func (q *queue) remove(r *running) {
	i, last := r.queueIndex, len(q.heap)-1
	q.swap(i, last)
	q.heap[last] = nil
	q.heap = q.heap[:last]
	r.queueIndex = -1
	if i < last {
		q.up(i)
		q.down(i)
	}
}

func (q *queue) swap(i, j int) {
	q.heap[i], q.heap[j] = q.heap[j], q.heap[i]
	q.heap[i].queueIndex, q.heap[j].queueIndex = i, j
}

func (q *queue) up(i int) {
	for i > 0 {
		parent := (i - 1) / 2
		if !less(q.heap[i], q.heap[parent]) {
			return
		}
		q.swap(i, parent)
		i = parent
	}
}

func (q *queue) down(i int) {
	for {
		child := 2*i + 1
		if child >= len(q.heap) {
			return
		}
		if child+1 < len(q.heap) && less(q.heap[child+1], q.heap[child]) {
			child++
		}
		if !less(q.heap[child], q.heap[i]) {
			return
		}
		q.swap(i, child)
		i = child
	}
}
