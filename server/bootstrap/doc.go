// Package bootstrap decides how a member comes into being: which cluster it founds or joins, under which ids, and how one
// that has lost all others goes on alone.
//
//	no data ──► Begin ──┬─ new, members known ───────────► probe the peers ──────────► found
//	                    ├─ new, names in DNS ────────────► look up, probe the peers ─► found
//	                    ├─ new, members yet unknown ─────► meet at a discovery service► found
//	                    └─ existing ─────────────────────► ask the peers, compare ───► join, with an empty state
//	data ─────► (nothing to decide) ──► with --force-new-cluster: Force
//
// In flow the settings and what peers, DNS or the discovery service answer; out flows a Beginning, from which the caller
// writes the first files. Begin writes nothing itself, apart from this member's name at the discovery service. Force works
// on an opened log and store. The package leaves to others: settings and the derivation of ids (config), the data
// directory (server/datadir), the first state (state), and everything that happens once the member runs.
//
// # Invariants
//
//   - All members of a new cluster come to the same Beginning but for MemberID, or to an error.
//   - A member without data never begins under an id that a reachable peer has seen run: it has voted and acknowledged
//     what it no longer knows.
//   - Force changes what is on disk in one append: a crash leaves the cluster as it was, or the new one.
//
// Begin and Force are called once, at start, from one goroutine. The goroutines that Begin starts have ended when it
// returns. Client may be used by anybody at any time.
package bootstrap
