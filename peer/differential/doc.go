// Package differential sends the same random operations to etcd and to Keelson, both real processes reached over gRPC,
// and demands the same answers.
//
// It owns the operations and their generator, the two sides, the comparison, the table of accepted differences
// (docs/differences.md, with its rules in accepted.go) and the shrinking of a failure. It leaves running the processes to
// package process, and says nothing about speed.
//
//	seed ─► generator ─op─┬─► reference (etcd) ──answer──┐
//	           ▲          └─► candidate (Keelson) ─answer┴─► normalise ─► accept ─► equal?
//	           └────────────── model: revision, floor, leases, watchers ◄─┘
//
// Operations run one after the other, each on both sides at once, so answers are determined: codes and texts, header
// revisions, pairs, counts, transaction trees, lease ids, hashes. Only what the protocol leaves open is made equal before
// comparing: cluster and member ids, terms, ids the server chose, remaining seconds of a lease, attachment order.
//
// Watch events arrive whenever they like; they are compared at sync points. A watcher on everything, from revision 1 and
// over restarts, records the reference's history. From it follows how many events each watcher must have had by now; a
// sync point waits for them and then compares the two sequences, previous pairs included. Each side is also checked by
// itself: revisions in order, none split over responses unless fragmented, nothing after a cancel, progress never ahead
// of events. How much a watcher was told before its client cancelled it is chance; that much is compared with the history.
// Not everything is waited for (a progress request that was repeated has one reply or two), so a stream is looked at once
// more when it has ended.
//
// Questions about members go to a cluster of three of each kind (TestClusterAgreement), and name members by their place.
//
// A seed runs on one goroutine but for the receivers of its watch streams, one each, which end with their stream's
// context. Most of a seed is waiting: for the other process, for a lease to expire, for a restart. So several seeds run at
// a time (-workers), each on two processes of its own, with their files in memory if there is a place for that.
package differential
