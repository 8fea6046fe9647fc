// Package datadir lays out a member's data directory, keeps a second process out of it, and refuses directories that
// are not ours to open.
//
//	<data-dir>/
//	  member/            mode 0700; there is one if and only if the member has been initialised
//	    FORMAT           "keelson 1": who wrote this directory, and in which format
//	    IDENTITY         the ids of the cluster and of the member
//	    wal/             the raft log (package raftlog); empty if that has a directory of its own
//	    state/           the state machine's database (package storage), until a snapshot is installed
//	    state-<n>/       a database that came as a snapshot
//	    ACTIVE           which of the databases is in use; without it, state
//	    incoming/        snapshots being received (package snapshot); kept from one run to the next
//	    outgoing/        checkpoints being sent; emptied by every start
//	    snap/db          a note for people and tools that look for etcd's backend file here
//	  member.new/        a directory in the making: whatever a crash left of it is removed
//	  LOCK               held while a process has the directory open
//
// A member directory is made under another name and renamed when it is complete, so that a crash leaves either none
// or a whole one. Files that the package does not know are left alone.
//
// # How a database takes another's place
//
//	received ──Adopt──► state-<n>, to be opened and looked at ──Activate──► in use, the log still the old one
//	                          │ not wanted                                     │ log reset
//	                          ▼                                                ▼
//	                        Remove                           Settle; and Remove of the old one, once it is closed
//
// Activate is one rename, of the pointer file ACTIVE: a crash at any step leaves the old database or the new one in use,
// whole. Installed tells the next start that the log may not have followed yet. Databases that are not in use are removed
// by the next start.
//
// The package owns the layout and the lock; what is inside wal and the databases belongs to others. Open, Commit and
// Close belong to one goroutine; what databases go through may be called from any.
package datadir
