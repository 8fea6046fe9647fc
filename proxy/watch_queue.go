package proxy

import (
	"sync"

	pb "go.etcd.io/etcd/api/v3/etcdserverpb"
	"google.golang.org/grpc"
)

const (
	// replyQueueBytes bounds what waits for one client that reads slowly. A single message may be larger.
	replyQueueBytes = 8 << 20
	// requestQueueLen is how many requests may wait for a stream to a member before their client has to wait.
	requestQueueLen = 128
)

// replies are what waits to be sent to a client. Whoever may wait calls room first, and then put.
type replies struct {
	mu     sync.Mutex
	list   []frame
	bytes  int           // of all
	pushed int           // of those that nobody waited with
	wake   chan struct{} // there is something in the list; holds at most one value
	drawn  chan struct{} // something was taken out of it; holds at most one value
	ending <-chan struct{}
}

func newReplies(ending <-chan struct{}) *replies {
	return &replies{wake: make(chan struct{}, 1), drawn: make(chan struct{}, 1), ending: ending}
}

func (q *replies) put(f frame) {
	q.mu.Lock()
	q.add(f)
	q.mu.Unlock()
	nudge(q.wake)
}

// push is put for what can't wait. False: too much of that is there already.
func (q *replies) push(f frame) bool {
	q.mu.Lock()
	defer q.mu.Unlock()
	if q.pushed > replyQueueBytes {
		return false
	}
	f.pushed = true
	q.pushed += len(f.bytes)
	q.add(f)
	nudge(q.wake)
	return true
}

func (q *replies) add(f frame) {
	q.list = append(q.list, f)
	q.bytes += len(f.bytes)
}

func (q *replies) full() bool {
	q.mu.Lock()
	defer q.mu.Unlock()
	return q.bytes > replyQueueBytes
}

// room waits until the queue is not full. False: the call has ended.
func (q *replies) room() bool {
	for q.full() {
		select {
		case <-q.drawn:
		case <-q.ending:
			return false
		}
	}
	return true
}

// send sends what is put, until the call has ended or the client is gone.
func (q *replies) send(client grpc.ServerStream) error {
	for {
		q.mu.Lock()
		list := q.list
		q.list = nil
		q.mu.Unlock()
		for i := range list {
			if err := client.SendMsg(&list[i]); err != nil {
				return err
			}
			q.mu.Lock()
			q.bytes -= len(list[i].bytes)
			if list[i].pushed {
				q.pushed -= len(list[i].bytes)
			}
			list[i] = frame{}
			q.mu.Unlock()
			nudge(q.drawn)
		}
		if len(list) > 0 {
			continue
		}
		select {
		case <-q.wake:
		case <-q.ending:
			return nil
		}
	}
}

// requests are what waits to be sent to a member: creations and a client's cancellations, which wait for room; at most one cancellation
// of ours for each watcher; and at most one question for progress.
type requests struct {
	mu       sync.Mutex
	list     []*pb.WatchRequest
	progress bool
	asked    int // questions for progress, in total
	wake     chan struct{}
	drawn    chan struct{}
}

func newRequests() *requests {
	return &requests{wake: make(chan struct{}, 1), drawn: make(chan struct{}, 1)}
}

func (q *requests) create(c *pb.WatchCreateRequest) {
	q.put(&pb.WatchRequest{RequestUnion: &pb.WatchRequest_CreateRequest{CreateRequest: c}})
}

func (q *requests) cancel(id int64) {
	q.put(&pb.WatchRequest{RequestUnion: &pb.WatchRequest_CancelRequest{CancelRequest: &pb.WatchCancelRequest{WatchId: id}}})
}

func (q *requests) put(r *pb.WatchRequest) {
	q.mu.Lock()
	q.list = append(q.list, r)
	q.mu.Unlock()
	nudge(q.wake)
}

// ask asks for progress, behind everything that was put before.
func (q *requests) ask() {
	q.mu.Lock()
	if !q.progress {
		q.progress = true
		q.asked++
	}
	q.mu.Unlock()
	nudge(q.wake)
}

// questions is how many questions for progress there were.
func (q *requests) questions() int {
	q.mu.Lock()
	defer q.mu.Unlock()
	return q.asked
}

// room waits until another request may be put, or one of two things has ended.
func (q *requests) room(call, stream <-chan struct{}) {
	for {
		q.mu.Lock()
		full := len(q.list) >= requestQueueLen
		q.mu.Unlock()
		if !full {
			return
		}
		select {
		case <-q.drawn:
		case <-call:
			return
		case <-stream:
			return
		}
	}
}

// send sends what is put, until the stream has ended.
func (q *requests) send(member grpc.ClientStream) {
	for {
		q.mu.Lock()
		list := q.list
		q.list = nil
		if q.progress && len(list) == 0 {
			q.progress = false
			list = []*pb.WatchRequest{{RequestUnion: &pb.WatchRequest_ProgressRequest{ProgressRequest: &pb.WatchProgressRequest{}}}}
		}
		q.mu.Unlock()
		for _, r := range list {
			if member.SendMsg(r) != nil {
				return // whoever receives is told why
			}
		}
		nudge(q.drawn)
		if len(list) > 0 {
			continue
		}
		select {
		case <-q.wake:
		case <-member.Context().Done():
			return
		}
	}
}

func nudge(c chan struct{}) {
	select {
	case c <- struct{}{}:
	default:
	}
}
