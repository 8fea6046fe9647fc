package members

import (
	"crypto/sha1"
	"encoding/binary"
	"slices"
	"strconv"
)

// ID derives a member's id from its peer URLs (in any order) and the cluster's token. addedSeconds, in seconds since
// 1970, is when the member was added to a running cluster; 0 for a member the cluster starts with.
//
// Source: operations.md of the specification, Identity. Clients and tests compare the numbers.
func ID(peerURLs []string, token string, addedSeconds int64) uint64 {
	h := sha1.New()
	for _, u := range slices.Sorted(slices.Values(peerURLs)) {
		h.Write([]byte(u))
	}
	h.Write([]byte(token))
	if addedSeconds != 0 {
		h.Write(strconv.AppendInt(nil, addedSeconds, 10))
	}
	return binary.BigEndian.Uint64(h.Sum(nil))
}

// ClusterID derives a cluster's id from the ids (in any order) of the members it starts with.
func ClusterID(ids []uint64) uint64 {
	h := sha1.New()
	var b [8]byte
	for _, id := range slices.Sorted(slices.Values(ids)) {
		binary.BigEndian.PutUint64(b[:], id)
		h.Write(b[:])
	}
	return binary.BigEndian.Uint64(h.Sum(nil))
}
