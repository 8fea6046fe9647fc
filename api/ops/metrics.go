package ops

import (
	"net/http"
	"strconv"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/collectors"
	"github.com/prometheus/client_golang/prometheus/promhttp"
)

// Metrics are one member's metrics: those below, which are told what happens, and those of Readings, which are looked
// up at each scrape. Every name that dashboards and alerts expect exists from the start.
type Metrics struct {
	GRPC *GRPC

	HealthSuccess, HealthFailures prometheus.Counter

	SlowApply         prometheus.Counter // applying took longer than the warning threshold
	HeartbeatFailures prometheus.Counter
	LearnersPromoted  prometheus.Counter

	Defragmenting prometheus.Gauge // defragmentations under way
	Installing    prometheus.Gauge // states of other members being put in the place of this one's

	// Seconds, except where the name says otherwise.
	LogFsync, LogWrite     prometheus.Observer // raft log: syncing, and writing with syncing
	Commit                 prometheus.Observer // applying and writing one storage batch
	Snapshot               prometheus.Observer // making a whole snapshot
	Defragment             prometheus.Observer // giving back disk space when asked to
	Hash, HashRevision     prometheus.Observer // computing Hash and HashKV
	LeaseTTL               prometheus.Observer // granted TTLs
	CompactionTotalMillis  prometheus.Observer // one compaction, from floor to last removal
	CompactionPauseMillis  prometheus.Observer // one step of it
	WatchSend              prometheus.Observer // sending one run of events to a watch stream
	WatchSendPerEvent      prometheus.Observer // the same, divided by the events
	WatchControl           prometheus.Observer // sending one answer to a control request
	WatchProgress          prometheus.Observer // sending one progress notification
	Save                   prometheus.Observer // putting the state on disk after a number of entries
	SaveSync               prometheus.Observer // the same: there is nothing but a flush to it
	ReceivedState          prometheus.Observer // receiving the state of another member, until it is on disk
	ReceivedStateSync      prometheus.Observer // one sync of a file of it
	own                    own
	transfers              transfers
	roundTrips             *prometheus.HistogramVec
	applies, ranges        resultTimers
	requests               map[string]resultTimers
	clientRequests         *prometheus.CounterVec
	healthcheck            *prometheus.GaugeVec
	healthchecks           *prometheus.CounterVec
	learnerPromoteFailures *prometheus.CounterVec
	streamFailures         *prometheus.CounterVec

	registry *prometheus.Registry
}

// resultTimers are the timers of one thing, by whether it succeeded.
type resultTimers struct{ failed, done prometheus.Observer }

func (t resultTimers) of(success bool) prometheus.Observer {
	if success {
		return t.done
	}
	return t.failed
}

// NewMetrics makes and registers all metrics of a member. read is called at each scrape, from any goroutine.
func NewMetrics(o Options, identity Identity, read func() Readings) *Metrics {
	registry := prometheus.NewRegistry()
	b := builder{registry}
	m := &Metrics{registry: registry, GRPC: newGRPC(o.Extensive())}
	registry.MustRegister(m.GRPC, newReadingsCollector(identity, read),
		collectors.NewGoCollector(), collectors.NewProcessCollector(collectors.ProcessCollectorOpts{}))
	b.server(m)
	b.storage(m)
	b.others(m)
	m.transfers = b.transfers()
	m.own = b.own()
	m.GRPC.refusals = b.refusals()
	return m
}

// Request times one request of the given kind (Put, Range, Txn, DeleteRange, Compact, LeaseGrant, LeaseRevoke), in
// seconds.
func (m *Metrics) Request(kind string, success bool) prometheus.Observer {
	timers, ok := m.requests[kind]
	if !ok {
		panic("ops: unknown kind of request " + kind)
	}
	return timers.of(success)
}

// Apply times the application of one run of entries, in seconds.
func (m *Metrics) Apply(success bool) prometheus.Observer { return m.applies.of(success) }

// RoundTrip times the answers of one other member, in seconds.
func (m *Metrics) RoundTrip(peer uint64) prometheus.Observer {
	return m.roundTrips.WithLabelValues(strconv.FormatUint(peer, 16))
}

// Range times one range, in seconds.
func (m *Metrics) Range(success bool) prometheus.Observer { return m.ranges.of(success) }

// ClientRequest counts a request of kind unary or stream by the API version that the client names.
func (m *Metrics) ClientRequest(kind, apiVersion string) prometheus.Counter {
	return m.clientRequests.WithLabelValues(kind, apiVersion)
}

// PromotionFailed counts a promotion of a learner that this member refused or that came to nothing.
func (m *Metrics) PromotionFailed(reason string) {
	m.learnerPromoteFailures.WithLabelValues(reason).Inc()
}

// StreamFailed counts a stream of the api that broke while something was received or else sent.
func (m *Metrics) StreamFailed(api string, receiving bool) {
	kind := "send"
	if receiving {
		kind = "receive"
	}
	m.streamFailures.WithLabelValues(kind, api).Inc()
}

// check counts one answered check of /livez or /readyz.
func (m *Metrics) check(kind, name string, ok bool) {
	status := "success"
	if !ok {
		status = "error"
	}
	m.healthcheck.WithLabelValues(kind, name).Set(number(ok))
	m.healthchecks.WithLabelValues(kind, name, status).Inc()
}

// handler answers scrapes, in the form that the Accept header asks for.
func (m *Metrics) handler() http.Handler {
	return promhttp.InstrumentMetricHandler(m.registry,
		promhttp.HandlerFor(m.registry, promhttp.HandlerOpts{EnableOpenMetrics: true}))
}

// builder makes and registers metrics.
type builder struct{ registry *prometheus.Registry }

func (b builder) counter(name, help string) prometheus.Counter {
	c := prometheus.NewCounter(prometheus.CounterOpts{Name: name, Help: help})
	b.registry.MustRegister(c)
	return c
}

func (b builder) counters(name, help string, labels ...string) *prometheus.CounterVec {
	c := prometheus.NewCounterVec(prometheus.CounterOpts{Name: name, Help: help}, labels)
	b.registry.MustRegister(c)
	return c
}

func (b builder) gauge(name, help string) prometheus.Gauge {
	g := prometheus.NewGauge(prometheus.GaugeOpts{Name: name, Help: help})
	b.registry.MustRegister(g)
	return g
}

// times makes a histogram of n buckets, the first up to start, each factor 2 wider than the one before.
func (b builder) times(name, help string, start float64, n int) prometheus.Observer {
	h := prometheus.NewHistogram(prometheus.HistogramOpts{Name: name, Help: help, Buckets: prometheus.ExponentialBuckets(start, 2, n)})
	b.registry.MustRegister(h)
	return h
}

func (b builder) timesBy(name, help string, start float64, n int, labels ...string) *prometheus.HistogramVec {
	h := prometheus.NewHistogramVec(prometheus.HistogramOpts{Name: name, Help: help,
		Buckets: prometheus.ExponentialBuckets(start, 2, n)}, labels)
	b.registry.MustRegister(h)
	return h
}

// requestKinds are the values of the label type of the request timers.
var requestKinds = []string{"Put", "Range", "Txn", "DeleteRange", "Compaction", "LeaseGrant", "LeaseRevoke"}

func (b builder) server(m *Metrics) {
	m.HealthSuccess = b.counter("etcd_server_health_success", "Health checks that succeeded.")
	m.HealthFailures = b.counter("etcd_server_health_failures", "Health checks that failed.")
	m.SlowApply = b.counter("etcd_server_slow_apply_total", "Applications slower than the warning threshold.")
	m.HeartbeatFailures = b.counter("etcd_server_heartbeat_send_failures_total", "Heartbeats sent late.")
	m.LearnersPromoted = b.counter("etcd_server_learner_promote_successes", "Learners promoted, as leader.")
	m.learnerPromoteFailures = b.counters("etcd_server_learner_promote_failures", "Promotions of learners refused, as leader.", "Reason")
	m.Installing = b.gauge("etcd_server_snapshot_apply_in_progress_total", "Snapshots being applied.")

	applies := b.timesBy("etcd_server_apply_duration_seconds", "Time to apply entries.", 0.0001, 20, "version", "op", "success")
	m.applies = resultTimers{applies.WithLabelValues("v3", "Apply", "false"), applies.WithLabelValues("v3", "Apply", "true")}
	ranges := b.timesBy("etcd_server_range_duration_seconds", "Time to answer ranges.", 0.0001, 20, "success")
	m.ranges = resultTimers{ranges.WithLabelValues("false"), ranges.WithLabelValues("true")}
	requests := b.timesBy("etcd_server_request_duration_seconds", "Time to answer requests.", 0.001, 14, "type", "success")
	m.requests = map[string]resultTimers{}
	for _, kind := range requestKinds {
		m.requests[kind] = resultTimers{requests.WithLabelValues(kind, "false"), requests.WithLabelValues(kind, "true")}
	}
	m.clientRequests = b.counters("etcd_server_client_requests_total", "Requests by the API version of the client.",
		"type", "client_api_version")
	m.clientRequests.WithLabelValues("unary", "unknown")
	m.clientRequests.WithLabelValues("stream", "unknown")
	m.healthcheck = b.gauges("etcd_server_healthcheck", "Outcome of the last check: 1 or 0.", "type", "name")
	m.healthchecks = b.counters("etcd_server_healthchecks_total", "Checks by outcome.", "type", "name", "status")
}

func (b builder) gauges(name, help string, labels ...string) *prometheus.GaugeVec {
	g := prometheus.NewGaugeVec(prometheus.GaugeOpts{Name: name, Help: help}, labels)
	b.registry.MustRegister(g)
	return g
}

func (b builder) storage(m *Metrics) {
	m.LogFsync = b.times("etcd_disk_wal_fsync_duration_seconds", "Time to sync the log.", 0.001, 14)
	m.LogWrite = b.times("etcd_disk_wal_write_duration_seconds", "Time to write and sync the log.", 0.001, 14)
	m.Commit = b.times("etcd_disk_backend_commit_duration_seconds", "Time to apply and write a batch.", 0.001, 14)
	m.Snapshot = b.times("etcd_disk_backend_snapshot_duration_seconds", "Time to make a snapshot.", 0.01, 17)
	m.Defragment = b.times("etcd_disk_backend_defrag_duration_seconds", "Time to give back disk space when asked to.", 0.1, 13)
	m.Defragmenting = b.gauge("etcd_disk_defrag_inflight", "Defragmentations under way.")
	m.Save = b.times("etcd_debugging_snap_save_total_duration_seconds", "Time to put the state on disk after --snapshot-count entries.", 0.001, 14)
	m.SaveSync = b.times("etcd_snap_fsync_duration_seconds", "The same: putting the state on disk is a flush.", 0.001, 14)
	m.ReceivedStateSync = b.times("etcd_snap_db_fsync_duration_seconds", "Time to sync a file of the state of another member.", 0.001, 14)
	m.ReceivedState = b.times("etcd_snap_db_save_total_duration_seconds", "Time to receive the state of another member onto the disk.", 0.1, 10)
	m.Hash = b.times("etcd_mvcc_hash_duration_seconds", "Time to hash the store.", 0.01, 15)
	m.HashRevision = b.times("etcd_mvcc_hash_rev_duration_seconds", "Time to hash the store at a revision.", 0.01, 15)
	m.CompactionTotalMillis = b.times("etcd_debugging_mvcc_db_compaction_total_duration_milliseconds", "Time of a compaction.", 100, 14)
	m.CompactionPauseMillis = b.times("etcd_debugging_mvcc_db_compaction_pause_duration_milliseconds", "Time of one step of a compaction.", 1, 13)
}

func (b builder) others(m *Metrics) {
	m.roundTrips = b.timesBy("etcd_network_peer_round_trip_time_seconds", "Time until other members answer.", 0.0001, 16, "To")
	m.LeaseTTL = b.times("etcd_debugging_lease_ttl_total", "Granted lease TTLs.", 1, 24)
	m.streamFailures = b.counters("etcd_network_server_stream_failures_total", "Streams that broke, not by their clients' going.", "Type", "API")
	const send = "etcd_debugging_server_watch_send_loop_"
	m.WatchSend = b.times(send+"watch_stream_duration_seconds", "Time to send a run of events.", 0.001, 14)
	m.WatchSendPerEvent = b.times(send+"watch_stream_duration_per_event_seconds", "The same for one event.", 0.001, 14)
	m.WatchControl = b.times(send+"control_stream_duration_seconds", "Time to send an answer to a control request.", 0.001, 14)
	m.WatchProgress = b.times(send+"progress_duration_seconds", "Time to send a progress notification.", 0.001, 14)
	b.foreign()
}

// foreign registers names that dashboards and checks look for and that have no meaning here: they stay 0.
func (b builder) foreign() {
	const help = "Always 0: there is no such thing here."
	for _, name := range []string{
		"etcd_grpc_proxy_cache_hits_total", "etcd_grpc_proxy_cache_misses_total", "etcd_grpc_proxy_cache_keys_total",
		"etcd_grpc_proxy_watchers_coalescing_total",
	} {
		b.gauge(name, help)
	}
	b.counter("etcd_grpc_proxy_events_coalescing_total", help)
	for _, h := range []struct {
		name  string
		start float64
		n     int
	}{
		{"etcd_debugging_mvcc_index_compaction_pause_duration_milliseconds", 0.5, 14},
		{"etcd_debugging_disk_backend_commit_rebalance_duration_seconds", 0.001, 14},
		{"etcd_debugging_disk_backend_commit_spill_duration_seconds", 0.001, 14},
		{"etcd_debugging_disk_backend_commit_write_duration_seconds", 0.001, 14},
		{"etcd_debugging_snap_save_marshalling_duration_seconds", 0.001, 14},
	} {
		b.times(h.name, help, h.start, h.n)
	}
}
