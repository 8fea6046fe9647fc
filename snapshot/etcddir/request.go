package etcddir

import (
	"slices"

	"google.golang.org/protobuf/encoding/protowire"
)

// TreeRequest is a change of the v2 store, as it stands in the raft log.
type TreeRequest struct {
	Method             string // one of treeMethods
	Path               string // within the store: /1/... are clients' keys
	Value, PrevValue   string
	PrevIndex          uint64
	PrevExist, Refresh *bool
	Dir, Recursive     bool
	Expiration, Time   int64 // in nanoseconds since 1970; 0: none
}

// treeMethods are what the log may ask of a v2 store. Reads by quorum are there too.
var treeMethods = []string{"POST", "PUT", "DELETE", "QGET", "SYNC"}

// DecodeTreeRequest reads what an entry asks of the v2 store; ok is false if it is about something else. Both kinds of
// requests are messages that begin with a number; in second place this one has a word, and the other, if anything, a message.
func DecodeTreeRequest(data []byte) (r TreeRequest, ok bool) {
	ok = eachField(data, func(n protowire.Number, number uint64, text []byte) {
		is := number != 0
		switch n {
		case 2:
			r.Method = string(text)
		case 3:
			r.Path = string(text)
		case 4:
			r.Value = string(text)
		case 5:
			r.Dir = is
		case 6:
			r.PrevValue = string(text)
		case 7:
			r.PrevIndex = number
		case 8:
			r.PrevExist = &is
		case 9:
			r.Expiration = int64(number)
		case 12:
			r.Recursive = is
		case 15:
			r.Time = int64(number)
		case 17:
			r.Refresh = &is
		}
	})
	return r, ok && slices.Contains(treeMethods, r.Method)
}
