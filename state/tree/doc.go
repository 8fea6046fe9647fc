// Package tree is the directory tree of the v2 API: files with a value and directories, both with an optional deadline,
// an index of its own that counts the changes, and the window of the newest events. It owns the table Tree.
//
//	TreePut, TreeDelete, TreeExpire ──► Tx ──► the batch of Apply: nodes, deadlines, events, index
//	                                     │
//	                                     └──► results and events, for those who wait and those who watch
//	View ◄── the store, as it stood at one moment: nodes, listings, events, the next deadline
//
// It has no clock: a deadline is a moment that the proposer wrote into the command, what has run out is what the leader's
// stamp says (Tx.Expire), and how much time is left is counted from a moment that the caller names. It knows nothing of
// forms, JSON and statuses; but causes of errors are worded here, because they are part of what members must agree on.
//
// # Invariants
//
//   - Every ancestor of a node is a directory. The root is not stored: it is always there.
//   - The index grows by one with every change that is carried out, and never otherwise. Two events never share an index.
//     Node.Modified of an event is its index.
//   - Every node with a deadline has an entry among the deadlines. An entry whose node is gone, or has another deadline, is
//     left from a large directory that was removed in one go, means nothing, and goes when its time comes.
//   - Of indexes below Position.Oldest no event is stored. Of those from there on every event is, unless it was nobody's
//     business: changes of users and roles.
//   - What is refused has written nothing.
//
// What is held in memory is the position, a lower bound of the deadlines, and a bounded cache of the newest nodes, so that
// replacing one need not look for it (newest). So neither start-up nor memory depends on the size of the tree. Removing a
// directory costs what is in it up to a bound, and no more beyond that.
//
// A Tx belongs to the goroutine that applies, a View to the one that opened it. The rest may be called from anywhere.
package tree
