package proxy

import (
	pb "go.etcd.io/etcd/api/v3/etcdserverpb"
	"google.golang.org/protobuf/encoding/protowire"
	"google.golang.org/protobuf/proto"
)

// position is how far a watcher at a member has come.
type position struct {
	created bool
	at      int64 // the member's revision when the watcher was created
	next    int64 // every event before this revision has been received
	stale   int   // so many replies about the stream's progress, of those to come, may have been made before the watcher was
}

// begin is called with the reply to the creation from a revision; 0: what comes next. So many questions for progress have not been
// answered then.
func (p *position) begin(start, revision int64, unanswered int) {
	p.created, p.at, p.next, p.stale = true, revision, start, unanswered
	if start <= 0 {
		p.next = revision + 1
	}
}

// advance takes note of a reply with events, or with progress of this watcher.
func (p *position) advance(r *pb.WatchResponse) {
	through := r.Header.GetRevision()
	if n := len(r.Events); n > 0 {
		// A watcher that catches up is told a newer revision in the header than it has got events of.
		through = r.Events[n-1].Kv.ModRevision
	}
	p.next = max(p.next, through+1)
}

// covers reports whether a reply about the progress of a whole stream, up to rev, speaks for this watcher as well. The reply
// may have been made before the watcher was, and have come later: then its revision is not above that of the creation, and its
// question had not been answered then.
func (p *position) covers(rev int64) bool {
	return p.created && (rev > p.at || rev == p.at && (p.next > p.at || p.stale <= 0))
}

// Field numbers of a watch response.
const fieldWatchID protowire.Number = 2

// withoutID is an encoded watch response without the watch id, which withID adds.
func withoutID(raw []byte) []byte {
	out := make([]byte, 0, len(raw))
	for len(raw) > 0 {
		number, _, n := protowire.ConsumeField(raw)
		if n < 0 {
			panic("proxy: a watch response that was decoded can't be walked through")
		}
		if number != fieldWatchID {
			out = append(out, raw[:n]...)
		}
		raw = raw[n:]
	}
	return out
}

func withID(rest []byte, id int64) frame {
	var tail []byte
	if id != 0 {
		tail = protowire.AppendVarint(protowire.AppendTag(nil, fieldWatchID, protowire.VarintType), uint64(id))
	}
	return frame{bytes: rest, tail: tail}
}

// since is an encoded response without the events before a revision; nil if that leaves none.
func since(r *pb.WatchResponse, revision int64) ([]byte, error) {
	part := &pb.WatchResponse{Header: r.Header}
	for _, e := range r.Events {
		if e.Kv.ModRevision >= revision {
			part.Events = append(part.Events, e)
		}
	}
	if len(part.Events) == 0 {
		return nil, nil
	}
	return proto.Marshal(part)
}

// reply is an encoded response of our own.
func reply(r *pb.WatchResponse) frame {
	raw, err := proto.Marshal(r)
	if err != nil {
		panic("proxy: watch response: " + err.Error()) // what it holds was decoded, or is a constant
	}
	return frame{bytes: raw}
}
