package command

// Command is one change: an envelope around one Op.
type Command struct {
	// Time is the proposer's wall clock when it proposed, in nanoseconds since 1970.
	Time int64
	// User is the name the request was made under. Empty: nobody has said who asks, or the member itself does.
	User string
	// AuthRevision is the revision of users and roles that the request was admitted at. 0: it is the member's own, and may do
	// everything.
	AuthRevision uint64
	// Op says what changes.
	Op Op
}

// Op is one of the pointer types of this package, from Put to TokenAssign.
type Op interface{ kind() kind }

// Range reads, as part of a Txn. It never stands alone in the log.
type Range struct {
	Key, End                             []byte // a range selector: see Selector in package mvcc
	Limit                                int64  // <= 0: none
	Revision                             int64  // <= 0: the newest
	SortOrder, SortTarget                int32  // numbers of the v3 API's enums
	KeysOnly, CountOnly                  bool
	ModRevisionMin, ModRevisionMax       int64 // 0: unset
	CreateRevisionMin, CreateRevisionMax int64
}

// Put writes a pair.
type Put struct {
	Key, Value  []byte
	Lease       int64 // 0: none
	PrevKV      bool  // give back the pair it replaced
	IgnoreValue bool  // keep the value
	IgnoreLease bool  // keep the lease
}

// DeleteRange removes pairs.
type DeleteRange struct {
	Key, End []byte
	PrevKV   bool
}

// Txn compares, then carries out one of two lists of operations.
type Txn struct {
	Compares         []Compare
	Success, Failure []Op // of *Range, *Put, *DeleteRange, *Txn
}

// ReadOnly reports whether neither branch has anything but ranges in it. A transaction within makes it false.
func (t *Txn) ReadOnly() bool {
	return !anyOp(t.Success, isWrite) && !anyOp(t.Failure, isWrite)
}

// HasPut reports whether there is a put in either branch, at any depth.
func (t *Txn) HasPut() bool {
	return anyOp(t.Success, isPut) || anyOp(t.Failure, isPut)
}

func isWrite(op Op) bool {
	_, read := op.(*Range)
	return !read
}

func isPut(op Op) bool {
	switch o := op.(type) {
	case *Put:
		return true
	case *Txn:
		return o.HasPut()
	}
	return false
}

func anyOp(ops []Op, is func(Op) bool) bool {
	for _, op := range ops {
		if is(op) {
			return true
		}
	}
	return false
}

// Compare is a predicate over one pair or, with an End, over all pairs of a range.
type Compare struct {
	Key, End []byte
	Target   int32  // number of the v3 API's Compare.CompareTarget
	Result   int32  // number of the v3 API's Compare.CompareResult
	Number   int64  // operand of every target but VALUE
	Value    []byte // operand of VALUE
}

// Compact makes revisions below Revision unreadable.
type Compact struct{ Revision int64 }

// LeaseGrant makes a lease. The proposer chose the id (never 0) and clamped the TTL.
type LeaseGrant struct {
	ID         int64
	TTLSeconds int64
}

// LeaseRevoke ends a lease and removes its keys.
type LeaseRevoke struct {
	ID int64
	// Term is the term of the leader that saw the lease expire; a revoke from an older term than the entry's is
	// void. 0: a client asked for it, whatever the term.
	Term uint64
	// GrantIndex and GrantOrdinal say which grant of the id the leader saw expire (see lease.Grant): once that lease is
	// gone, a later one of the same id is not meant. GrantIndex 0: whichever lease has the id.
	GrantIndex   uint64
	GrantOrdinal uint32
}

// LeaseCheckpoint records how long leases still have to live.
type LeaseCheckpoint struct {
	// Term is the term of the leader that counts their time; a checkpoint from an older term than the entry's is void.
	// 0: whatever the term.
	Term   uint64
	Leases []LeaseRemaining
}

// LeaseRemaining is one lease of a LeaseCheckpoint.
type LeaseRemaining struct {
	ID               int64
	RemainingSeconds int64 // 0: forget the checkpoint, the full TTL counts
	// GrantIndex and GrantOrdinal say which grant of the id is meant; it is void for any other. GrantIndex 0: whichever
	// lease has the id, and CheckpointIndex does not count.
	GrantIndex   uint64
	GrantOrdinal uint32
	// CheckpointIndex is the index of the entry that was the last to record or forget what remains of the lease, as
	// the proposer knew it; 0: none. If there has been another since, this one is void.
	CheckpointIndex uint64
}

// MemberPublish tells the cluster a member's name and where clients reach it.
type MemberPublish struct {
	ID         uint64
	Name       string
	ClientURLs []string
}

// MemberAdd adds a member. It travels inside a change of raft's configuration, as MemberRemove and MemberPromote do.
type MemberAdd struct {
	ID        uint64
	PeerURLs  []string // sorted
	IsLearner bool
	// LearnersMax is how many learners there may be in all; it counts if this one is a learner. Each member has a setting of
	// its own for it, and the proposer's decides.
	LearnersMax int64
	// AutoPromote asks the leader to promote the learner by itself as soon as it has caught up.
	AutoPromote bool
}

// MemberRemove removes a member for ever.
type MemberRemove struct{ ID uint64 }

// MemberUpdate sets where the other members reach a member.
type MemberUpdate struct {
	ID       uint64
	PeerURLs []string // sorted
}

// MemberPromote makes a learner a voter.
type MemberPromote struct{ ID uint64 }

// ClusterVersion sets the version that all members agree to behave as, as "major.minor.patch".
type ClusterVersion struct{ Version string }

// Downgrade says that the cluster is on its way to an earlier version, "major.minor.patch", which its members are about to
// be replaced by; an empty Target that it is not any more.
type Downgrade struct{ Target string }

// HashCheck asks every member to compare its state hash at an index with the proposer's.
type HashCheck struct {
	Index uint64
	Hash  uint64
	From  uint64 // member id of the proposer
}

// Alarm raises or clears an alarm of a member.
type Alarm struct {
	Member uint64
	Type   int32 // number of the v3 API's AlarmType
	Raise  bool
}

// Noop changes nothing.
type Noop struct{}

type kind uint8

// Numbers of the ops on disk. A number, once used, keeps its meaning for ever.
const (
	kindRange           kind = 1
	kindPut             kind = 2
	kindDeleteRange     kind = 3
	kindTxn             kind = 4
	kindCompact         kind = 5
	kindLeaseGrant      kind = 6
	kindLeaseRevoke     kind = 7
	kindLeaseCheckpoint kind = 8
	kindMemberPublish   kind = 9
	kindClusterVersion  kind = 10
	kindHashCheck       kind = 11
	kindAlarm           kind = 12
	kindNoop            kind = 13
	kindMemberAdd       kind = 14
	kindMemberRemove    kind = 15
	kindMemberUpdate    kind = 16
	kindMemberPromote   kind = 17
	kindDowngrade       kind = 18
)

func (*Range) kind() kind           { return kindRange }
func (*Put) kind() kind             { return kindPut }
func (*DeleteRange) kind() kind     { return kindDeleteRange }
func (*Txn) kind() kind             { return kindTxn }
func (*Compact) kind() kind         { return kindCompact }
func (*LeaseGrant) kind() kind      { return kindLeaseGrant }
func (*LeaseRevoke) kind() kind     { return kindLeaseRevoke }
func (*LeaseCheckpoint) kind() kind { return kindLeaseCheckpoint }
func (*MemberPublish) kind() kind   { return kindMemberPublish }
func (*ClusterVersion) kind() kind  { return kindClusterVersion }
func (*Downgrade) kind() kind       { return kindDowngrade }
func (*HashCheck) kind() kind       { return kindHashCheck }
func (*Alarm) kind() kind           { return kindAlarm }
func (*Noop) kind() kind            { return kindNoop }
func (*MemberAdd) kind() kind       { return kindMemberAdd }
func (*MemberRemove) kind() kind    { return kindMemberRemove }
func (*MemberUpdate) kind() kind    { return kindMemberUpdate }
func (*MemberPromote) kind() kind   { return kindMemberPromote }
