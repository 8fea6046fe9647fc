// Package datadir lays out a member's data directory, keeps a second process out of it, and refuses directories that
// are not ours to open.
//
//	<data-dir>/
//	  member/            mode 0700; there is one if and only if the member has been initialised
//	    FORMAT           "keelson 1": who wrote this directory, and in which format
//	    IDENTITY         the ids of the cluster and of the member
//	    wal/             the raft log (package raftlog)
//	    state/           the state machine's database (package storage)
//	    snap/db          a note for people and tools that look for etcd's backend file here
//	  member.new/        a directory in the making: whatever a crash left of it is removed
//	  LOCK               held while a process has the directory open
//
// A member directory is made under another name and renamed when it is complete, so that a crash leaves either none
// or a whole one. Files that the package does not know are left alone.
//
// The package owns the layout and the lock; what is inside wal and state belongs to others. It is called once, at
// start, from one goroutine.
package datadir
