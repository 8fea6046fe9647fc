package watch

// fifo is a queue. Its zero value is empty.
type fifo[T any] struct {
	items []T
	head  int
	taken uint64 // ever
}

const fifoKeep = 16 // slots an empty queue keeps

func (q *fifo[T]) len() int { return len(q.items) - q.head }

// tail is the number, counted from 0 over the queue's life, that the next item to be pushed will have.
func (q *fifo[T]) tail() uint64 { return q.taken + uint64(q.len()) }

func (q *fifo[T]) push(v T) {
	if q.head > 32 && q.head > len(q.items)/2 {
		n := copy(q.items, q.items[q.head:])
		clear(q.items[n:])
		q.items = q.items[:n]
		q.head = 0
	}
	q.items = append(q.items, v)
}

// front is the oldest item, valid until the next call. The queue must not be empty.
func (q *fifo[T]) front() *T { return &q.items[q.head] }

// pop takes out the oldest item. The queue must not be empty.
func (q *fifo[T]) pop() T {
	var none T
	v := q.items[q.head]
	q.items[q.head] = none
	q.head++
	q.taken++
	if q.head == len(q.items) {
		q.items, q.head = q.items[:0], 0
		if cap(q.items) > fifoKeep {
			q.items = nil
		}
	}
	return v
}

// rest is what is in the queue, oldest first.
func (q *fifo[T]) rest() []T { return q.items[q.head:] }
