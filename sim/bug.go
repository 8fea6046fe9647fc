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
	{"acknowledge-before-sync", 1, 3},    // the replica believes in writes as soon as it has handed them out
	{"acknowledge-before-sync", 3, 1},    //
	{"skip-log-sync", 1, 12},             // a sync of a log file does nothing
	{"skip-log-sync", 3, 1},              //
	{"retry-failed-sync", 1, 8},          // after a failed sync, the next one is believed
	{"skip-directory-sync", 1, 19},       // a sync of a directory does nothing
	{"applied-index-apart", 1, 19},       // the applied index lives apart from what it stands for
	{"truncate-to-applied", 1, 18},       // the log is cut up to what is applied, not up to what is flushed
	{"cut-at-first-bad-checksum", 1, 17}, // all damage is taken for the end of the log
	{"expiry-names-id-alone", 1, 41},     // an expiry ends whichever lease has the id by then
	{"read-before-applied", 1, 10},       // a read does not wait until its index is applied
	{"read-before-applied", 3, 1},        //
	{"vote-before-sync", 3, 1},           // votes are given, and asked for, before the disk holds them
	{"keep-conflicting-tail", 3, 6},      // entries that conflict with a new leader's stay in the log
	{"commit-by-counting", 3, 2},         // entries of earlier terms are committed by counting who has them
	{"accept-wrong-receiver", 5, 6},      // messages for another member are taken
	{"expire-on-follower", 3, 16},        // followers count the time of leases, too
	{"former-leader-expires", 3, 21},     // the revoke of an expired lease does not say whose term it is from
	{"renew-before-applied", 5, 20},      // a leader renews leases without waiting for what is committed
}

// RareStates are the states that simulations must get into now and then. There are more marks than these.
var RareStates = []string{
	"a client gave up",
	"a compaction took several steps",
	"a conflicting tail was replaced",
	"a crash with an append under way",
	"a crash with applies under way",
	"a crash within a flush",
	"a crash came between a state and its log",
	"a crash left the installed state",
	"a crash within a start",
	"a crash within an installation",
	"a flipped bit was refused",
	"a follower acknowledged a write",
	"a follower served a read",
	"a hash was made again",
	"a leader asks whether it still leads",
	"a leader crashed",
	"a leader was paused for longer than an election",
	"a leader was replaced",
	"a lease ran out",
	"a lease was renewed",
	"a message came twice",
	"a message went astray",
	"a log was begun anew by a start",
	"a replaced state was removed",
	"a state was installed",
	"a state was not wanted",
	"a state was received",
	"a state was received in part",
	"a state was resumed",
	"a write was acknowledged in a later term",
	"an append that never returned is there",
	"an append was lost in a crash",
	"an append while an apply is under way",
	"an entry was applied again",
	"an entry was committed by one of a later term",
	"an expiry met a later lease of the same id",
	"an old view was read",
	"an unfinished append was cut off",
	"compacted versions were removed",
	"killed",
	"links are cut",
	"not all members had an entry when it was applied",
	"reads were dropped",
	"several appends under one sync",
	"several applies at once",
	"the log was truncated",
	"the log's disk failed",
	"the state on disk is behind",
}
