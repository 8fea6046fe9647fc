package sim

// Bug is a deliberate bug.
type Bug struct {
	Name string
	// Seed is where to begin looking: a seed that has seen it.
	Seed uint64
}

// Bugs are the deliberate bugs that simulations must find. With the build tag sim there are more.
var Bugs = []Bug{
	{"acknowledge-before-sync", 3},   // clients are told of what is handed to the log, not of what is on disk
	{"skip-log-sync", 11},            // a sync of a log file does nothing
	{"retry-failed-sync", 3},         // after a failed sync, the next one is believed
	{"skip-directory-sync", 19},      // a sync of a directory does nothing
	{"applied-index-apart", 19},      // the applied index lives apart from what it stands for
	{"truncate-to-applied", 13},      // the log is cut up to what is applied, not up to what is flushed
	{"cut-at-first-bad-checksum", 7}, // all damage is taken for the end of the log
	{"expiry-names-id-alone", 24},    // an expiry ends whichever lease has the id by then
	{"read-before-applied", 10},      // a read does not wait until its index is applied
}

// RareStates are the states that simulations must get into now and then. There are more marks than these: some states
// need more than one member.
var RareStates = []string{
	"a compaction took several steps",
	"a crash with an append under way",
	"a crash with applies under way",
	"a crash within a flush",
	"a crash within a start",
	"a flipped bit was refused",
	"a hash was made again",
	"a lease ran out",
	"a lease was renewed",
	"an append while an apply is under way",
	"an entry was applied again",
	"an expiry met a later lease of the same id",
	"an old view was read",
	"an unfinished append was cut off",
	"compacted versions were removed",
	"killed",
	"several appends under one sync",
	"several applies at once",
	"the log was truncated",
	"the log's disk failed",
	"the state on disk is behind",
}
