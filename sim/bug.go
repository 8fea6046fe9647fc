package sim

// Bug is a deliberate bug.
type Bug struct {
	Name string
	// Members is the size of the cluster to look for it in.
	Members int
	// Seed is where to begin looking: a seed that has seen it.
	Seed uint64
}

// Bugs are the deliberate bugs that simulations must find. With the build tag sim there are more.
var Bugs = []Bug{
	{"acknowledge-before-sync", 1, 1},     // the replica believes in writes as soon as it has handed them out
	{"acknowledge-before-sync", 3, 1},     //
	{"skip-log-sync", 1, 1},               // a sync of a log file does nothing
	{"skip-log-sync", 3, 1},               //
	{"retry-failed-sync", 1, 5},           // after a failed sync, the next one is believed
	{"skip-directory-sync", 1, 1},         // a sync of a directory does nothing
	{"applied-index-apart", 1, 1},         // the applied index lives apart from what it stands for
	{"truncate-to-applied", 1, 49},        // the log is cut up to what is applied, not up to what is flushed
	{"cut-at-first-bad-checksum", 1, 5},   // all damage is taken for the end of the log
	{"expiry-names-id-alone", 1, 6},       // an expiry ends whichever lease has the id by then
	{"read-before-applied", 1, 6},         // a read does not wait until its index is applied
	{"read-before-applied", 3, 3},         //
	{"vote-before-sync", 3, 1},            // votes are given, and asked for, before the disk holds them
	{"keep-conflicting-tail", 3, 4},       // entries that conflict with a new leader's stay in the log
	{"commit-by-counting", 3, 6},          // entries of earlier terms are committed by counting who has them
	{"accept-wrong-receiver", 5, 6},       // messages for another member are taken
	{"expire-on-follower", 3, 3},          // followers count the time of leases, too
	{"former-leader-expires", 3, 20},      // the revoke of an expired lease does not say whose term it is from
	{"renew-before-applied", 5, 31},       // a leader renews leases without waiting for what is committed
	{"renew-while-transferring", 3, 1445}, // a leader who gives leadership away renews leases without a quorum
	{"no-extension", 3, 3},                // a new leader adds no time for the time without a leader
	{"settle-before-reset", 3, 103},       // an installation counts as complete before the log has begun anew
	{"drop-log-when-fetched", 3, 2},       // the log is thrown away with a damaged store
	{"skip-state-sync", 3, 6},             // the files of a received state are not synced
	{"change-though-refused", 3, 40},      // raft carries out what the state has refused
	{"publish-twice", 1, 1},               // watchers get an event twice
	{"install-tells-no-watcher", 3, 6},    // watchers do not hear of an installation
	{"answer-from-kept-view", 3, 53},      // a linearizable read is answered from an earlier one's view
	{"reset-log-before-switch", 3, 240},   // the log begins anew before the received state is in use
	{"forget-configuration", 3, 1},        // a start goes by the members that the cluster was founded with
}

// RareStates are the states that simulations must get into now and then. There are more marks than these.
var RareStates = []string{
	"a change of members was refused",
	"a client gave up",
	"a compaction took several steps",
	"a conflicting tail was replaced",
	"a crash came between a state and its log",
	"a crash left the installed state",
	"a crash with an append under way",
	"a crash with applies under way",
	"a crash within a flush",
	"a crash within a start",
	"a crash within an installation",
	"a damaged store could not be fetched",
	"a damaged store was fetched anew",
	"a disk failed within a start",
	"a flaw in the log was refused",
	"a flaw in the store was refused",
	"a follower acknowledged a write",
	"a follower served a read",
	"a hash was made again",
	"a history of a register was explained",
	"a leader asks whether it still leads",
	"a leader crashed",
	"a leader is to remove itself",
	"a leader was paused for longer than an election",
	"a leader was replaced",
	"a lease ran out",
	"a lease was renewed",
	"a lease of an earlier leader ran out",
	"a log was begun anew by a start",
	"a log went on behind a state that was fetched",
	"a member that was removed has ended",
	"a member took the place of another one at its address",
	"a member was told that it is removed",
	"a message came twice",
	"a message went astray",
	"a renewal waits for a quorum",
	"a replaced state was removed",
	"a state was installed",
	"a state was not wanted",
	"a state was received",
	"a state was received in part",
	"a state was resumed",
	"a watcher fell behind a compaction",
	"a watcher waits for the future",
	"a watcher was told of progress",
	"a watcher was told of several revisions at once",
	"a watcher went on elsewhere",
	"a token was assigned",
	"a view of a replaced state was read",
	"a write was acknowledged in a later term",
	"an append that never returned is there",
	"an append was lost in a crash",
	"an append while an apply is under way",
	"an entry was applied again",
	"an entry was committed by one of a later term",
	"an entry was committed by the voters before a change",
	"an expiry met a later lease of the same id",
	"an old view was read",
	"damaged data were thrown away",
	"an unfinished append was cut off",
	"compacted versions were removed",
	"links are cut",
	"not all members had an entry when it was applied",
	"nobody gave a state that was wanted",
	"nodes of the v2 tree ran out",
	"reads were dropped",
	"several appends under one sync",
	"several applies at once",
	"somebody may not do what he asks for",
	"somebody was admitted by rights that had changed",
	"the disk of a leader stood still",
	"the log found a flaw while it was running",
	"the log was truncated",
	"the store found a flaw while it was running",
	"the store gave up",
	"the log's disk failed",
	"the state on disk is behind",
	"the v2 tree was changed",
	"users and roles were changed",
}
