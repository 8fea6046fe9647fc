// Package members is the one store of who belongs to the cluster: members and the ids that were removed, the
// configuration raft is to work with, the cluster's id, and the version that all members agree to behave as.
//
// It owns the table Members and a few names in Meta. All of it is small and is kept in memory as well, as an immutable
// Set: reading needs no disk and no lock. A change goes through a Tx, which writes to the batch of Apply and, when
// something has changed, leaves a new Set behind; package state publishes that Set once the batch is committed.
//
// A member added, removed or promoted and the configuration that raft works with from then on are one change: Add,
// Remove and Promote are given the configuration, and write both or refuse. So there is no second list to drift.
//
// It does not decide whether a change of members is wise (quorum, health, readiness of a learner): the proposer does. It
// only refuses what can't be: a taken id or URL, an id that was removed, a cluster without a voter.
//
// Invariants: an id is a member, or removed, or neither, and once removed stays so. No two members share a peer URL. The
// configuration's voters are the members that are no learners, its learners the learners, and it is not a joint one.
//
// The file identity.go derives ids of members and clusters; its functions are pure.
package members
