package transport

import (
	"errors"
	"fmt"
	"net/http"
)

var (
	// ErrStopped refuses calls after Stop.
	ErrStopped = errors.New("transport: stopped")
	// ErrUnknownPeer refuses to reach a member that is not in the list of peers.
	ErrUnknownPeer = errors.New("transport: unknown peer")

	// errMalformed is in every error about bytes that no member writes.
	errMalformed = errors.New("malformed frame")
	errSilent    = errors.New("the other side is silent")
	errReplaced  = errors.New("replaced by a newer stream")
	errRemoved   = errors.New(reasonRemoved)
)

// RefusedError says that the other side was reached and refused a stream.
type RefusedError struct {
	Status int    // HTTP status, e.g. 412
	Reason string // as the other side put it
}

func (e *RefusedError) Error() string {
	return fmt.Sprintf("refused with status %d: %s", e.Status, e.Reason)
}

// Reasons for refusals, as they travel. The first two are etcd's words.
const (
	reasonOtherCluster = "cluster ID mismatch"
	reasonRemoved      = "the member has been permanently removed from the cluster"
	reasonOtherMember  = "member ID mismatch"
	reasonProtocol     = "protocol version not spoken"
	reasonKind         = "unknown kind of stream"
	reasonNoUpgrade    = "not an upgrade to " + upgradeName
	reasonHeaders      = "missing or malformed headers"
	reasonTooMany      = "too many streams from members unknown here"
	reasonStopping     = "the member is stopping"
)

// statusOf is the HTTP status of each reason.
var statusOf = map[string]int{
	reasonOtherCluster: http.StatusPreconditionFailed,
	reasonRemoved:      http.StatusGone,
	reasonOtherMember:  http.StatusPreconditionFailed,
	reasonProtocol:     http.StatusUpgradeRequired,
	reasonKind:         http.StatusBadRequest,
	reasonNoUpgrade:    http.StatusBadRequest,
	reasonHeaders:      http.StatusBadRequest,
	reasonTooMany:      http.StatusServiceUnavailable,
	reasonStopping:     http.StatusServiceUnavailable,
}
