package differential

import (
	"fmt"
	"strings"

	pb "go.etcd.io/etcd/api/v3/etcdserverpb"
	"google.golang.org/protobuf/encoding/prototext"
	"google.golang.org/protobuf/proto"
)

// Kind names an operation; -without takes these names.
type Kind string

// What an operation does. The first group is unary calls, answered by one message.
const (
	KindRange       Kind = "range"
	KindPut         Kind = "put"
	KindDelete      Kind = "delete"
	KindTxn         Kind = "txn"
	KindCompact     Kind = "compact"
	KindHashKV      Kind = "hashkv"
	KindLeaseGrant  Kind = "lease-grant"
	KindLeaseRevoke Kind = "lease-revoke"
	KindLeaseTTL    Kind = "lease-ttl"
	KindLeases      Kind = "leases"
	KindAlarm       Kind = "alarm"
	KindUnknown     Kind = "unknown-method"

	KindRangeStream Kind = "range-stream" // chunks, merged before they are compared
	KindKeepAlive   Kind = "keep-alive"   // one stream, a reply for each of Op.Leases, then its end

	KindWatch          Kind = "watch"            // one request on stream Op.Stream: create, cancel, progress or nothing
	KindWatchHalfClose Kind = "watch-half-close" // the stream's requests end, its events go on
	KindWatchClose     Kind = "watch-close"      // the stream ends, in the ordinary case after all events have come
	KindWatchEnd       Kind = "watch-end"        // all streams end after all events have come, and the history begins a new one
	KindSync           Kind = "sync"             // wait for all events, compare them

	KindShortGrant Kind = "short-grant" // a grant below the minimum TTL, revoked at once
	KindExpiry     Kind = "expiry"      // a short lease with keys, waited for until its keys are gone on both sides
	KindRestart    Kind = "restart"     // the candidate stops and starts again
)

// Op is one operation, complete in itself: a recorded list of them can be run again in full or in part.
type Op struct {
	Kind    Kind
	Request proto.Message // KindExpiry: the put that is repeated for each of Keys
	Meta    []string      // outgoing metadata: name, value, name, value
	Stream  int           // watch operations: which stream
	Leases  []int64       // KindKeepAlive
	Keys    [][]byte      // KindExpiry
	Slot    int64         // KindLeaseGrant with id 0: the name by which later operations call the lease
	Kill    bool          // KindRestart: SIGKILL in place of SIGTERM; KindWatchClose: before all events have come
	Both    bool          // KindRestart: the reference restarts too
}

// String prints the operation on one line.
func (o Op) String() string {
	var b strings.Builder
	b.WriteString(string(o.Kind))
	if strings.HasPrefix(string(o.Kind), "watch") {
		fmt.Fprintf(&b, " stream=%d", o.Stream)
	}
	if o.Request != nil {
		b.WriteString(" {" + printed(o.Request) + "}")
	}
	if o.Meta != nil {
		fmt.Fprintf(&b, " meta=%q", o.Meta)
	}
	if o.Leases != nil {
		fmt.Fprintf(&b, " leases=%d", o.Leases)
	}
	if o.Keys != nil {
		fmt.Fprintf(&b, " keys=%q", o.Keys)
	}
	if o.Slot != 0 {
		fmt.Fprintf(&b, " slot=%d", o.Slot)
	}
	if o.Kind == KindRestart || o.Kind == KindWatchClose {
		fmt.Fprintf(&b, " kill=%v both=%v", o.Kill, o.Both)
	}
	return b.String()
}

// call is how a unary kind travels.
type call struct {
	method string
	answer func() proto.Message
}

var calls = map[Kind]call{
	KindRange:       {"/etcdserverpb.KV/Range", func() proto.Message { return &pb.RangeResponse{} }},
	KindPut:         {"/etcdserverpb.KV/Put", func() proto.Message { return &pb.PutResponse{} }},
	KindDelete:      {"/etcdserverpb.KV/DeleteRange", func() proto.Message { return &pb.DeleteRangeResponse{} }},
	KindTxn:         {"/etcdserverpb.KV/Txn", func() proto.Message { return &pb.TxnResponse{} }},
	KindCompact:     {"/etcdserverpb.KV/Compact", func() proto.Message { return &pb.CompactionResponse{} }},
	KindHashKV:      {"/etcdserverpb.Maintenance/HashKV", func() proto.Message { return &pb.HashKVResponse{} }},
	KindLeaseGrant:  {"/etcdserverpb.Lease/LeaseGrant", func() proto.Message { return &pb.LeaseGrantResponse{} }},
	KindLeaseRevoke: {"/etcdserverpb.Lease/LeaseRevoke", func() proto.Message { return &pb.LeaseRevokeResponse{} }},
	KindLeaseTTL:    {"/etcdserverpb.Lease/LeaseTimeToLive", func() proto.Message { return &pb.LeaseTimeToLiveResponse{} }},
	KindLeases:      {"/etcdserverpb.Lease/LeaseLeases", func() proto.Message { return &pb.LeaseLeasesResponse{} }},
	KindAlarm:       {"/etcdserverpb.Maintenance/Alarm", func() proto.Message { return &pb.AlarmResponse{} }},
	KindUnknown:     {"/etcdserverpb.KV/Swap", func() proto.Message { return &pb.RangeResponse{} }},
}

// printedLimit bounds what one message takes in a report, in bytes.
const printedLimit = 6000

// rendered is the message on one line. The text form puts random blanks after colons to keep people from parsing it;
// they go, so that equal messages look equal.
func rendered(m proto.Message) string {
	s := strings.ReplaceAll(prototext.MarshalOptions{}.Format(m), ":  ", ": ")
	return strings.ReplaceAll(s, "  ", " ")
}

// printed is rendered, cut when it is long.
func printed(m proto.Message) string {
	s := rendered(m)
	if len(s) > printedLimit {
		s = fmt.Sprintf("%s ... (%d bytes in all)", s[:printedLimit], len(s))
	}
	return s
}
