package ops

import (
	"strings"

	"github.com/prometheus/client_golang/prometheus"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
)

// refusals count calls that did not get what they asked for, by what stood in the way. The codes that gRPC has for that
// say too little: most of what etcd's API refuses with shares two or three of them.
type refusals map[string]prometheus.Counter

// refusalReasons are the reasons by the texts of errors, the only thing by which they differ on the wire. The first that
// the text begins with counts.
var refusalReasons = []struct{ text, reason string }{
	{"etcdserver: too many requests", "too-many-requests"},
	{"etcdserver: mvcc: database space exceeded", "no-space"},
	{"etcdserver: corrupt cluster", "corrupt"},
	{"etcdserver: request timed out", "timeout"},
	{"etcdserver: no leader", "no-leader"},
	{"etcdserver: leader changed", "leader-changed"},
	{"raft proposal dropped", "dropped"},
	{"etcdserver: server stopped", "stopped"},
	{"etcdserver: request is too large", "too-large"},
	{"etcdserver: too many operations in txn request", "too-large"},
	{"etcdserver: rpc not supported for learner", "learner"},
	{"etcdserver: not leader", "not-leader"},
	{"not a primary lessor", "not-leader"},
	{"etcdserver: permission denied", "denied"},
	{"etcdserver: invalid auth token", "unauthenticated"},
	{"etcdserver: authentication failed", "unauthenticated"},
	{"etcdserver: user name is empty", "unauthenticated"},
	{"etcdserver: revision of auth store is old", "unauthenticated"},
	{"etcdserver: mvcc: required revision has been compacted", "compacted"},
	{"etcdserver: mvcc: required revision is a future revision", "future"},
	{"etcdserver: unhealthy cluster", "unhealthy"},
	{"etcdserver: re-configuration failed", "unhealthy"},
}

// Reasons that no text tells.
const (
	reasonGone  = "client-gone" // cancelled, or the client's time was over
	reasonOther = "other"
)

func (b builder) refusals() refusals {
	vec := b.counters("keelson_refusals_total", "gRPC calls that ended with an error, by what stood in the way.", "reason")
	r := refusals{reasonGone: vec.WithLabelValues(reasonGone), reasonOther: vec.WithLabelValues(reasonOther)}
	for _, known := range refusalReasons {
		r[known.reason] = vec.WithLabelValues(known.reason)
	}
	return r
}

// note counts the error of a call.
func (r refusals) note(err error) { r[reasonOf(err)].Inc() }

func reasonOf(err error) string {
	text := err.Error()
	if s, ok := status.FromError(err); ok {
		text = s.Message()
	}
	for _, known := range refusalReasons {
		if strings.HasPrefix(text, known.text) {
			return known.reason
		}
	}
	switch codeOf(err) {
	case codes.Canceled, codes.DeadlineExceeded:
		return reasonGone
	}
	return reasonOther
}
