package watch

import "keelson/state/mvcc"

// Request asks for one watcher.
type Request struct {
	// WatchID is the id the client wants; 0 lets the stream pick the lowest number not used so far, from 0 on.
	WatchID int64
	// Key and End select the keys: End empty is Key alone, End a single zero byte is everything from Key on, anything
	// else is Key <= k < End. An empty Key stands for the lowest key, a single zero byte. Both are copied.
	Key, End []byte
	// Start is the first revision wanted, 0 everything that happens from now on.
	Start mvcc.Revision
	// NoPut and NoDelete leave out events of that kind.
	NoPut, NoDelete bool
	// PrevKV adds the pair as it was before the event.
	PrevKV bool
	// ProgressNotify asks for an empty response now and then while nothing happens.
	ProgressNotify bool
	// Fragment allows responses that are too large to be cut between events.
	Fragment bool
	// Authorize, if set, is asked between the checks that come before and after authorization in the API's order; the
	// key is as the watcher will use it, the end as sent. A reason other than "" refuses the watcher.
	Authorize func(key, end []byte) (reason string)
	// Permit, if set, is asked when the watcher is registered and whenever Hub.Review is called, and a reason other than ""
	// ends the watcher. It is called under locks, and must neither wait nor call this package.
	Permit func() (reason string)
}

// Reasons for refusing a watcher, as clients know them. Source: etcd v3 API, Watch.
const (
	ReasonCompacted   = "etcdserver: mvcc: required revision has been compacted"
	ReasonEmptyRange  = "mvcc: watcher range is empty"
	ReasonDuplicateID = "mvcc: duplicate watch ID provided on the WatchStream"
)

// NoWatcher is the watch id of responses that are about no watcher: refusals and stream-wide progress.
const NoWatcher int64 = -1

// Response is one message to a stream's client. The API adds cluster id, member id and term.
type Response struct {
	WatchID int64
	// Revision is the header's: of the last event when delivered live, else the store's current one; 0 in the
	// response that cancels a watcher because its next revision is compacted.
	Revision          mvcc.Revision
	Created, Canceled bool
	CompactRevision   mvcc.Revision
	CancelReason      string
	// Fragment: more pieces of the same response follow.
	Fragment bool
	// Events holds the encoded events, cut into pieces between events in any way: field 11 of
	// etcdserverpb.WatchResponse, repeated, tag and length included. The bytes are shared with other responses and
	// never change; they may be kept.
	Events [][]byte

	count int // of the events
}

// Count is the number of events in the response; of a fragment it is not known: 0.
func (r *Response) Count() int { return r.count }

// Sender carries responses to the client of one stream.
type Sender interface {
	// Send sends one response. It may wait for the client; no other stream waits with it. The response itself belongs
	// to the caller again after Send returns, its event bytes stay valid. After an error the stream is closed.
	//
	// Send is called by one goroutine at a time. It must return when the stream's transport ends.
	Send(r *Response) error
}

func (r *Request) variant() (v variant) {
	if r.PrevKV {
		v |= withPrev
	}
	if r.NoPut {
		v |= noPut
	}
	if r.NoDelete {
		v |= noDelete
	}
	return v
}

// span checks what can be checked of a request before its id, in the order in which the API refuses.
func (r *Request) span() (s span, reason string) {
	key := r.Key
	if len(key) == 0 {
		key = []byte{0}
	}
	if r.Start < 0 {
		return span{}, ReasonCompacted
	}
	if r.Authorize != nil {
		if reason := r.Authorize(key, r.End); reason != "" {
			return span{}, reason
		}
	}
	s, ok := newSpan(key, r.End)
	if !ok {
		return span{}, ReasonEmptyRange
	}
	return s, ""
}
