package etcdfile

import (
	"encoding/binary"
	"encoding/json"
	"errors"
	"fmt"
	"strconv"

	pb "go.etcd.io/etcd/api/v3/etcdserverpb"
	"go.etcd.io/etcd/api/v3/mvccpb"
	"google.golang.org/protobuf/encoding/protowire"
	"google.golang.org/protobuf/proto"
)

// Level is the level of etcd's storage format that Writer writes.
const Level = "3.7.0"

// Buckets, in the order in which bbolt keeps them.
var (
	bucketAlarm          = []byte("alarm")
	bucketAuth           = []byte("auth")
	bucketRoles          = []byte("authRoles")
	bucketUsers          = []byte("authUsers")
	bucketCluster        = []byte("cluster")
	bucketKey            = []byte("key")
	bucketLease          = []byte("lease")
	bucketMembers        = []byte("members")
	bucketMembersRemoved = []byte("members_removed")
	bucketMeta           = []byte("meta")

	// bucketTree is ours: the v2 tree, which etcd's file has no place for. etcd and its tools leave alone what they do not know. It
	// is there only if there is a tree.
	bucketTree = []byte("keelson.v2")
)

var buckets = [][]byte{
	bucketAlarm, bucketAuth, bucketRoles, bucketUsers, bucketCluster, bucketKey, bucketLease, bucketMembers,
	bucketMembersRemoved, bucketMeta,
}

// Keys of the bucket meta.
var (
	metaIndex     = []byte("consistent_index")    // 8 bytes, big endian
	metaTerm      = []byte("term")                // 8 bytes, big endian
	metaConfState = []byte("confState")           // JSON
	metaVersion   = []byte("storageVersion")      // text
	metaScheduled = []byte("scheduledCompactRev") // key of a revision
	metaFinished  = []byte("finishedCompactRev")  // key of a revision
)

// Keys of the bucket cluster.
var clusterVersion = []byte("clusterVersion") // text

// Keys of the bucket auth.
var (
	authEnabled  = []byte("authEnabled")  // 1 byte
	authRevision = []byte("authRevision") // 8 bytes, big endian
)

// Version is one entry of etcd's store of pairs.
type Version struct {
	Main, Sub int64
	// Tombstone: the key was deleted. Then KV holds nothing but the key.
	Tombstone bool
	// KV is the pair. A key that is empty marks a revision at which nothing was changed.
	KV *mvccpb.KeyValue
}

// Lease is one lease.
type Lease struct {
	ID, TTLSeconds int64
	// RemainingSeconds is what was left at the last checkpoint; 0: the full TTL.
	RemainingSeconds int64
}

// Member is one member of the cluster that the state is of.
type Member struct {
	ID         uint64   `json:"id"`
	PeerURLs   []string `json:"peerURLs"`
	IsLearner  bool     `json:"isLearner,omitempty"`
	Name       string   `json:"name,omitempty"`
	ClientURLs []string `json:"clientURLs,omitempty"`
}

// Meta is what there is once in a file.
type Meta struct {
	// Index and Term are the position in the raft log up to which the file goes.
	Index, Term uint64
	// Voters and Learners are raft's configuration.
	Voters, Learners []uint64
	// Scheduled is the revision below which nothing can be read, Finished the one below which nothing is left. -1: none.
	// Invariant: Finished <= Scheduled.
	Scheduled, Finished int64
	// ClusterVersion is what all members agreed to behave as, such as 3.7.0; empty: nothing yet.
	ClusterVersion string
	// Level is the level of the storage format; empty for files of etcd 3.5 and before.
	Level string
}

type confState struct {
	Voters    []uint64 `json:"voters,omitempty"`
	Learners  []uint64 `json:"learners,omitempty"`
	AutoLeave bool     `json:"auto_leave"`
}

// ErrDamaged is in the error of everything that is not what etcd writes.
var ErrDamaged = errors.New("damaged etcd file")

func damaged(what string, b []byte) error {
	return fmt.Errorf("%w: %s of %d bytes: %.40x", ErrDamaged, what, len(b), b)
}

// The key of a version:
//
//	main(8, big endian) | '_' | sub(8, big endian) [ | 't' for a tombstone ]
const (
	revisionSize  = 17
	tombstoneMark = 't'
)

func appendRevision(dst []byte, main, sub int64, tombstone bool) []byte {
	dst = binary.BigEndian.AppendUint64(dst, uint64(main))
	dst = append(dst, '_')
	dst = binary.BigEndian.AppendUint64(dst, uint64(sub))
	if tombstone {
		dst = append(dst, tombstoneMark)
	}
	return dst
}

func decodeRevision(b []byte) (main, sub int64, tombstone bool, err error) {
	marked := len(b) == revisionSize+1 && b[revisionSize] == tombstoneMark
	if len(b) != revisionSize && !marked || b[8] != '_' {
		return 0, 0, false, damaged("revision", b)
	}
	main, sub = int64(binary.BigEndian.Uint64(b)), int64(binary.BigEndian.Uint64(b[9:]))
	if main < 0 || sub < 0 {
		return 0, 0, false, damaged("revision", b)
	}
	return main, sub, marked, nil
}

func decodeVersion(key, value []byte) (v Version, err error) {
	if v.Main, v.Sub, v.Tombstone, err = decodeRevision(key); err != nil {
		return Version{}, err
	}
	v.KV = new(mvccpb.KeyValue)
	if err := proto.Unmarshal(value, v.KV); err != nil {
		return Version{}, fmt.Errorf("%w: pair at %d: %w", ErrDamaged, v.Main, err)
	}
	switch kv := v.KV; {
	case len(kv.Key) == 0: // whoever raised the revision left this
	case v.Tombstone:
	case kv.ModRevision != v.Main || kv.CreateRevision <= 0 || kv.CreateRevision > v.Main || kv.Version <= 0:
		return Version{}, fmt.Errorf("%w: pair at %d says %d, created at %d, version %d",
			ErrDamaged, v.Main, kv.ModRevision, kv.CreateRevision, kv.Version)
	}
	return v, nil
}

// Fields of leasepb.Lease, which is not published.
const (
	leaseFieldID        protowire.Number = 1
	leaseFieldTTL       protowire.Number = 2
	leaseFieldRemaining protowire.Number = 3
)

func appendLease(dst []byte, l Lease) []byte {
	for _, f := range []struct {
		number protowire.Number
		value  int64
	}{{leaseFieldID, l.ID}, {leaseFieldTTL, l.TTLSeconds}, {leaseFieldRemaining, l.RemainingSeconds}} {
		if f.value != 0 {
			dst = protowire.AppendVarint(protowire.AppendTag(dst, f.number, protowire.VarintType), uint64(f.value))
		}
	}
	return dst
}

func decodeLease(key, value []byte) (l Lease, err error) {
	for rest := value; len(rest) > 0; {
		number, kind, n := protowire.ConsumeTag(rest)
		if n < 0 || kind != protowire.VarintType {
			return Lease{}, damaged("lease", value)
		}
		x, m := protowire.ConsumeVarint(rest[n:])
		if m < 0 {
			return Lease{}, damaged("lease", value)
		}
		rest = rest[n+m:]
		switch number {
		case leaseFieldID:
			l.ID = int64(x)
		case leaseFieldTTL:
			l.TTLSeconds = int64(x)
		case leaseFieldRemaining:
			l.RemainingSeconds = int64(x)
		}
	}
	if len(key) != 8 || int64(binary.BigEndian.Uint64(key)) != l.ID || l.ID == 0 {
		return Lease{}, damaged("lease", value)
	}
	return l, nil
}

// memberKey is the key of a member: its id in hex.
func memberKey(id uint64) []byte { return strconv.AppendUint(nil, id, 16) }

func decodeMember(key, value []byte) (m Member, err error) {
	if err := json.Unmarshal(value, &m); err != nil || string(key) != string(memberKey(m.ID)) {
		return Member{}, fmt.Errorf("%w: member %q: %q (%v)", ErrDamaged, key, value, err)
	}
	return m, nil
}

// decodeAlarm reads an alarm, which is all key.
func decodeAlarm(key []byte) (*pb.AlarmMember, error) {
	a := new(pb.AlarmMember)
	if err := proto.Unmarshal(key, a); err != nil {
		return nil, fmt.Errorf("%w: alarm: %w", ErrDamaged, err)
	}
	return a, nil
}

func decodeUint64(what string, b []byte) (uint64, error) {
	if len(b) != 8 {
		return 0, damaged(what, b)
	}
	return binary.BigEndian.Uint64(b), nil
}
