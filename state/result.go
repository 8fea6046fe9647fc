package state

import (
	"keelson/command"
	"keelson/state/alarm"
	"keelson/state/auth"
	"keelson/state/lease"
	"keelson/state/mvcc"
	"keelson/state/tree"
)

// Outcome is everything that applying a run of entries led to, for whoever waits for it or watches it.
type Outcome struct {
	// Batches holds one result list for each entry that carried a batch of commands, in order.
	Batches []BatchResult
	// Events are all changes of pairs, in order. Immutable. If they are Light, some lack the previous pair: whoever needs that
	// reads the changes from the machine.
	Events []mvcc.Event
	Light  bool
	// Revision is the newest revision after the run.
	Revision mvcc.Revision
	// Tree are all changes of the v2 tree, in order, and TreeIndex is its index after the run. Immutable.
	Tree      []*tree.Event
	TreeIndex uint64
	// Leases are all changes of leases, in order.
	Leases []LeaseChange
	// Checks are the hash comparisons that the log asked for, as this member finds them.
	Checks []HashCheck
	// Floor reports that the compaction floor has moved.
	Floor bool
	// Members reports that the member list, the cluster version or the configuration has changed.
	Members bool
	// ConfRefused reports that the last entry is a change of raft's configuration that was not carried out: raft's
	// configuration stays as it was.
	ConfRefused bool
	// Removed are the ids of members that were removed.
	Removed []uint64
	// Alarms reports that the set of alarms has changed.
	Alarms bool
	// Users reports that users and roles have changed, or whether they have to say who they are.
	Users bool
	// Tokens are what has happened to tokens, in order.
	Tokens []auth.TokenChange
	// Counts are for metrics.
	Counts Counts
}

// BatchResult holds the results of one batch, one for each command in it, in order.
type BatchResult struct {
	ID      command.BatchID
	Results []Result
}

// Result is what became of one command. If Refusal is set, the command has changed nothing, on every member alike.
type Result struct {
	// Refusal is one of the sentinels listed in errors.go, or nil.
	Refusal error
	// Revision is the revision after the command: its own, if it changed a pair.
	Revision mvcc.Revision
	// Prev is the pair that a Put with PrevKV replaced; nil if there was none.
	Prev *mvcc.KeyValue
	// Deleted is the number of pairs that a DeleteRange or a LeaseRevoke removed.
	Deleted int64
	// Prevs are the pairs that a DeleteRange with PrevKV removed, in key order.
	Prevs []mvcc.KeyValue
	// Txn is the result of a Txn.
	Txn *TxnResult
	// Cut reports that there was more to tell than fits into a reply: Prevs, or the pairs in Txn, are not all. The command was
	// carried out.
	Cut bool
	// Lease is the id that a LeaseGrant or a LeaseRevoke was about.
	Lease lease.ID
	// TTLSeconds is what a LeaseGrant granted.
	TTLSeconds int64
	// Alarm is the alarm that an Alarm command left raised, or ended; nil if it was neither.
	Alarm *alarm.Alarm
	// Tree is what an op of the v2 tree did, TreeRefusal why it was refused; an expiry has neither.
	Tree        *tree.Event
	TreeRefusal *tree.Error
	// Index is the index of the entry that an op about users and roles was in: a part of the token that a TokenAssign made
	// known.
	Index uint64
	// TreeUser and TreeRole are what a change of the v2 API's users and roles has left, Made whether the user is new.
	TreeUser *tree.User
	TreeRole *tree.Role
	Made     bool
}

// TxnResult is what became of a transaction.
type TxnResult struct {
	// Succeeded tells which branch was carried out.
	Succeeded bool
	// Revision is the revision after the transaction.
	Revision mvcc.Revision
	// Responses has one element for each op of that branch, in order.
	Responses []OpResult
}

// OpKind tells the ops of a transaction apart.
type OpKind uint8

// The ops that a transaction is made of.
const (
	OpRange OpKind = iota + 1
	OpPut
	OpDeleteRange
	OpTxn
)

// OpResult is what became of one op of a transaction.
type OpResult struct {
	// Kind says which op this answers, and so which of the other fields count.
	Kind OpKind
	// Revision is the store's revision as the op left it: one up as soon as the transaction has changed anything.
	Revision mvcc.Revision
	// Count is the number of pairs in a Range's range, or of those that a DeleteRange removed.
	Count int64
	// More reports that a Range's limit cut off pairs.
	More bool
	// KVs are a Range's pairs, or those that a DeleteRange with PrevKV removed. The bytes are the receiver's.
	KVs []mvcc.KeyValue
	// Prev is the pair that a Put with PrevKV replaced; nil if there was none.
	Prev *mvcc.KeyValue
	// Txn is the result of a nested transaction.
	Txn *TxnResult
}

// LeaseChangeKind tells what happened to a lease.
type LeaseChangeKind uint8

// What can happen to a lease.
const (
	LeaseGranted LeaseChangeKind = iota + 1
	LeaseRevoked
	LeaseCheckpointed
)

// LeaseChange is one change of a lease, for the one who counts its time.
type LeaseChange struct {
	Kind LeaseChangeKind
	ID   lease.ID
	// TTLSeconds and Grant are of a lease that was granted.
	TTLSeconds int64
	Grant      lease.Grant
	// RemainingSeconds is the checkpointed remainder; 0: the full TTL counts.
	RemainingSeconds int64
	// CheckpointIndex is the index of the entry that checkpointed.
	CheckpointIndex uint64
}

// HashCheck is a comparison of state hashes that the log asked for.
type HashCheck struct {
	// Index is the entry at which the hashes are compared.
	Index uint64
	// From is the member that gave Theirs.
	From         uint64
	Theirs, Ours uint64
	// Known reports that this member still had its own hash at Index; otherwise nothing was compared.
	Known bool
}

// Counts counts what a run of entries did.
type Counts struct {
	Entries, Commands, Refusals                       int
	Puts, Deletes, Ranges, Txns                       int // operations carried out, those inside transactions included
	PutBytes                                          int // keys and values written
	LeasesGranted, LeasesRevoked, LeasesRevokedByTime int
	Tree                                              TreeCounts
}
