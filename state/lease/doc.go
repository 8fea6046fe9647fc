// Package lease stores what leases were granted and which keys hang on them.
//
// It owns two tables. Leases holds one record for each lease; LeaseKeys holds one empty entry for each attached key, so
// that attaching and detaching cost the same however many keys a lease holds. There is no copy of either in memory, but
// for a bounded set of ids that are known to exist.
//
// It does not count time: that is the business of package leader, which proposes a revoke when a lease has run out. It
// does not touch pairs either: package state removes the keys of a lease that is revoked, and tells this package which
// lease each put and delete was about.
//
// Invariant, kept by package state: LeaseKeys has an entry (id, key) exactly if the newest version of key is live and
// has the lease id, and then Leases has a record of id.
//
// A Table and its Tx belong to the goroutine that applies. The functions that take a storage.Reader may be called from
// anywhere.
package lease
