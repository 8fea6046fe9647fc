package ops

import (
	"strconv"
	"time"

	"github.com/prometheus/client_golang/prometheus"
)

// own are the metrics that etcd has no name for. They are called keelson_...
type own struct {
	syncSeconds, syncBytes prometheus.Observer
	applyCommands          prometheus.Observer
}

func (b builder) own() own {
	histogram := func(name, help string, buckets []float64) prometheus.Observer {
		h := prometheus.NewHistogram(prometheus.HistogramOpts{Name: name, Help: help, Buckets: buckets})
		b.registry.MustRegister(h)
		return h
	}
	return own{
		syncSeconds: histogram("keelson_log_sync_duration_seconds", "Time of one sync of the raft log, in buckets fine enough for fast disks.",
			prometheus.ExponentialBuckets(0.00003, 2, 18)),
		syncBytes:     histogram("keelson_log_sync_bytes", "Bytes that one sync of the raft log made durable.", prometheus.ExponentialBuckets(128, 4, 10)),
		applyCommands: histogram("keelson_apply_entries", "Entries of the log that were applied in one storage batch.", prometheus.ExponentialBuckets(1, 2, 12)),
	}
}

// Sync observes one sync of the raft log.
func (m *Metrics) Sync(bytes int, took time.Duration) {
	m.LogFsync.Observe(took.Seconds())
	m.LogWrite.Observe(took.Seconds())
	m.own.syncSeconds.Observe(took.Seconds())
	m.own.syncBytes.Observe(float64(bytes))
}

// Applied observes a run of applied entries.
func (m *Metrics) Applied(entries int) { m.own.applyCommands.Observe(float64(entries)) }

// Internals are numbers of the member's parts, looked up at each scrape. Totals are since the start of the process, those
// of the store since it was opened.
type Internals struct {
	// Queues; ARCHITECTURE.md says what bounds them.
	ProposedBytes, ReceivedBytes, InboxBytes int64
	Events, Appends, Applies                 int
	Waited                                   time.Duration // for members that were behind

	NewestHits, NewestMisses uint64
	NewestBytes              int64
	BlockHits, BlockMisses   uint64
	BlockBytes               int64

	Levels              []LevelReading // of the store's tables
	ReadAmplification   int
	CompactionDebtBytes uint64
	Compactions         uint64
	Flushes             uint64
	UnsweptRevisions    int64

	LogBytes    int64
	LogSegments int

	RingBytes     int
	RingFrom      int64
	WatchGroups   int
	CatchUps      int
	ClientConns   int64
	ClientRefused uint64
}

// LevelReading is one level of the store's tables.
type LevelReading struct{ Tables, Bytes int64 }

// internal is one metric made of Internals.
type internal struct {
	name   string
	kind   prometheus.ValueType
	help   string
	labels []string
	get    func(in *Internals, add func(value float64, labels ...string))
}

// one is a metric without labels.
func one(get func(in *Internals) float64) func(*Internals, func(float64, ...string)) {
	return func(in *Internals, add func(float64, ...string)) { add(get(in)) }
}

var internals = []internal{
	{"keelson_queue_bytes", gauge, "Bytes in queues: commands without a result, messages from other members not looked at, events not dispatched to watchers.",
		[]string{"queue"}, func(in *Internals, add func(float64, ...string)) {
			add(float64(in.ProposedBytes), "proposals")
			add(float64(in.ReceivedBytes), "messages")
			add(float64(in.InboxBytes), "events")
		}},
	{"keelson_queue_length", gauge, "Items in the queues of the moves: what the mover is told, appends for the log, entries for the machine.",
		[]string{"queue"}, func(in *Internals, add func(float64, ...string)) {
			add(float64(in.Events), "step")
			add(float64(in.Appends), "append")
			add(float64(in.Applies), "apply")
		}},
	{"keelson_pace_seconds_total", counter, "Time in which this leader let no commands into the log because a member was behind with applying.", nil,
		one(func(in *Internals) float64 { return in.Waited.Seconds() })},
	{"keelson_cache_hits_total", counter, "What was found in a cache: newest versions of keys, blocks of tables.",
		[]string{"cache"}, func(in *Internals, add func(float64, ...string)) {
			add(float64(in.NewestHits), "newest")
			add(float64(in.BlockHits), "blocks")
		}},
	{"keelson_cache_misses_total", counter, "What was not found in a cache.",
		[]string{"cache"}, func(in *Internals, add func(float64, ...string)) {
			add(float64(in.NewestMisses), "newest")
			add(float64(in.BlockMisses), "blocks")
		}},
	{"keelson_cache_bytes", gauge, "Bytes in a cache.",
		[]string{"cache"}, func(in *Internals, add func(float64, ...string)) {
			add(float64(in.NewestBytes), "newest")
			add(float64(in.BlockBytes), "blocks")
		}},
	{"keelson_store_level_bytes", gauge, "Bytes of the store's tables, by level.",
		[]string{"level"}, func(in *Internals, add func(float64, ...string)) {
			for i, l := range in.Levels {
				add(float64(l.Bytes), strconv.Itoa(i))
			}
		}},
	{"keelson_store_level_tables", gauge, "The store's tables, by level.",
		[]string{"level"}, func(in *Internals, add func(float64, ...string)) {
			for i, l := range in.Levels {
				add(float64(l.Tables), strconv.Itoa(i))
			}
		}},
	{"keelson_store_read_amplification", gauge, "Tables and levels that a read of the store may have to look at.", nil,
		one(func(in *Internals) float64 { return float64(in.ReadAmplification) })},
	{"keelson_store_compaction_debt_bytes", gauge, "Estimate of what compactions of tables still have to rewrite.", nil,
		one(func(in *Internals) float64 { return float64(in.CompactionDebtBytes) })},
	{"keelson_store_compactions_total", counter, "Compactions of tables.", nil,
		one(func(in *Internals) float64 { return float64(in.Compactions) })},
	{"keelson_store_flushes_total", counter, "Times that memory was written to tables.", nil,
		one(func(in *Internals) float64 { return float64(in.Flushes) })},
	{"keelson_compaction_backlog_revisions", gauge, "Revisions below the compaction floor that are not yet known to be gone from the store.", nil,
		one(func(in *Internals) float64 { return float64(in.UnsweptRevisions) })},
	{"keelson_log_bytes", gauge, "Bytes of the raft log on disk.", nil,
		one(func(in *Internals) float64 { return float64(in.LogBytes) })},
	{"keelson_log_segments", gauge, "Files of the raft log.", nil,
		one(func(in *Internals) float64 { return float64(in.LogSegments) })},
	{"keelson_watch_ring_bytes", gauge, "Bytes of recent events that are kept for watchers.", nil,
		one(func(in *Internals) float64 { return float64(in.RingBytes) })},
	{"keelson_watch_ring_first_revision", gauge, "Watchers that are behind this revision read the history from the store.", nil,
		one(func(in *Internals) float64 { return float64(in.RingFrom) })},
	{"keelson_watch_groups", gauge, "Different ranges that are watched.", nil,
		one(func(in *Internals) float64 { return float64(in.WatchGroups) })},
	{"keelson_watch_catching_up_streams", gauge, "Watch streams that read the history.", nil,
		one(func(in *Internals) float64 { return float64(in.CatchUps) })},
	{"keelson_client_connections", gauge, "Connections of clients.", nil,
		one(func(in *Internals) float64 { return float64(in.ClientConns) })},
	{"keelson_client_connections_refused_total", counter, "Connections of clients closed at once: there are too many.", nil,
		one(func(in *Internals) float64 { return float64(in.ClientRefused) })},
}
