package ops

import (
	"runtime"
	"strconv"

	"github.com/prometheus/client_golang/prometheus"
)

// Readings are the numbers that are looked up at each scrape. The zero value is a member that has just begun.
type Readings struct {
	ClusterVersion string // as major.minor; empty: not decided yet

	HasLeader, IsLeader, IsLearner bool

	LeaderChanges      uint64 // elections seen; the first counts
	ProposalsCommitted uint64
	ProposalsApplied   uint64
	ProposalsPending   uint64
	ProposalsFailed    uint64

	Keys            int64 // live keys
	Revision        int64 // newest
	CompactRevision int64 // -1: never compacted
	SizeBytes       int64 // on disk
	SizeInUseBytes  int64 // without what compaction will free
	QuotaBytes      int64 // at which writes are refused; below 0: never, shown as 0
	OpenViews       int64

	SlowReadRounds, FailedReadRounds uint64 // questions after an index for linearizable reads

	Puts, Deletes, Ranges, Txns uint64 // operations applied or answered; Deletes counts keys
	PutBytes                    uint64 // keys and values of all puts

	WatchStreams, Watchers, SlowWatchers, PendingEvents int64
	Events                                              uint64 // delivered to watchers

	LeasesGranted, LeasesRenewed, LeasesRevoked, LeasesExpired uint64

	CompactedRecords   uint64 // removed by compaction
	CompactionLastUnix int64  // seconds; 0: never

	ClientReceivedBytes, ClientSentBytes uint64 // over gRPC connections
	LogWrittenBytes                      uint64 // appended to the raft log

	AuthRevision uint64 // of users and roles

	Alarms []string // names of raised alarms
	Peers  []PeerReading
	Tree   TreeReading

	Internals Internals
}

// TreeReading is what the v2 API did. Writes and expiries are counted as this member applies them.
type TreeReading struct {
	Reads, ReadsFailed uint64
	Writes             []TreeAction
	Expired            uint64 // nodes
	Waits              uint64 // requests that waited for an event
	Waiting            uint64 // at the moment
}

// TreeAction counts the writes of one kind.
type TreeAction struct {
	Action        string // as the v2 API calls it
	Done, Refused uint64
}

// PeerReading is how it goes with one other member.
type PeerReading struct {
	ID uint64
	// Active: all connections with it are up.
	Active bool
	// Counted since the peer is known.
	SentBytes, ReceivedBytes, SendFailures, ReceiveFailures, Disconnects uint64
	// QueuedBytes wait to be sent.
	QueuedBytes int
}

// reading is one metric made of a Reading.
type reading struct {
	name string
	kind prometheus.ValueType
	help string
	get  func(r *Readings) float64
}

const (
	gauge   = prometheus.GaugeValue
	counter = prometheus.CounterValue
)

// readings are the metrics without labels that a scrape looks up, under the names and types that etcd gives them.
var readings = []reading{
	{"etcd_debugging_auth_revision", gauge, "Changes of users and roles.", func(r *Readings) float64 { return float64(r.AuthRevision) }},
	{"etcd_server_has_leader", gauge, "Whether a leader is known: 1 or 0.", func(r *Readings) float64 { return number(r.HasLeader) }},
	{"etcd_server_is_leader", gauge, "Whether this member leads: 1 or 0.", func(r *Readings) float64 { return number(r.IsLeader) }},
	{"etcd_server_is_learner", gauge, "Whether this member has no vote: 1 or 0.", func(r *Readings) float64 { return number(r.IsLearner) }},
	{"etcd_server_leader_changes_seen_total", counter, "Leader changes seen.", func(r *Readings) float64 { return float64(r.LeaderChanges) }},
	{"etcd_server_proposals_committed_total", gauge, "Index of the last committed entry.", func(r *Readings) float64 { return float64(r.ProposalsCommitted) }},
	{"etcd_server_proposals_applied_total", gauge, "Index of the last applied entry.", func(r *Readings) float64 { return float64(r.ProposalsApplied) }},
	{"etcd_server_proposals_pending", gauge, "Proposals waiting for their result.", func(r *Readings) float64 { return float64(r.ProposalsPending) }},
	{"etcd_server_proposals_failed_total", counter, "Proposals that got no result.", func(r *Readings) float64 { return float64(r.ProposalsFailed) }},

	{"etcd_server_slow_read_indexes_total", counter, "Questions after an index for linearizable reads that took longer than half a second.", func(r *Readings) float64 { return float64(r.SlowReadRounds) }},
	{"etcd_server_read_indexes_failed_total", counter, "Questions after an index for linearizable reads that got no answer.", func(r *Readings) float64 { return float64(r.FailedReadRounds) }},

	{"etcd_mvcc_db_total_size_in_bytes", gauge, "Size of the store on disk.", func(r *Readings) float64 { return float64(r.SizeBytes) }},
	{"etcd_mvcc_db_total_size_in_use_in_bytes", gauge, "Size of what the store holds.", func(r *Readings) float64 { return float64(r.SizeInUseBytes) }},
	{"etcd_mvcc_db_open_read_transactions", gauge, "Views that are open.", func(r *Readings) float64 { return float64(r.OpenViews) }},
	{"etcd_mvcc_put_total", counter, "Puts applied.", func(r *Readings) float64 { return float64(r.Puts) }},
	{"etcd_mvcc_delete_total", counter, "Keys deleted.", func(r *Readings) float64 { return float64(r.Deletes) }},
	{"etcd_mvcc_range_total", counter, "Ranges read.", func(r *Readings) float64 { return float64(r.Ranges) }},
	{"etcd_mvcc_txn_total", counter, "Transactions executed.", func(r *Readings) float64 { return float64(r.Txns) }},

	{"etcd_debugging_mvcc_keys_total", gauge, "Live keys.", func(r *Readings) float64 { return float64(r.Keys) }},
	{"etcd_debugging_mvcc_current_revision", gauge, "Newest revision.", func(r *Readings) float64 { return float64(r.Revision) }},
	{"etcd_debugging_mvcc_compact_revision", gauge, "Revision of the last compaction.", func(r *Readings) float64 { return float64(r.CompactRevision) }},
	{"etcd_debugging_mvcc_total_put_size_in_bytes", gauge, "Bytes of keys and values put.", func(r *Readings) float64 { return float64(r.PutBytes) }},
	{"etcd_debugging_mvcc_watch_stream_total", gauge, "Watch streams.", func(r *Readings) float64 { return float64(r.WatchStreams) }},
	{"etcd_debugging_mvcc_watcher_total", gauge, "Watchers.", func(r *Readings) float64 { return float64(r.Watchers) }},
	{"etcd_debugging_mvcc_slow_watcher_total", gauge, "Watchers that are catching up.", func(r *Readings) float64 { return float64(r.SlowWatchers) }},
	{"etcd_debugging_mvcc_pending_events_total", gauge, "Events waiting to be sent.", func(r *Readings) float64 { return float64(r.PendingEvents) }},
	{"etcd_debugging_mvcc_events_total", counter, "Events sent.", func(r *Readings) float64 { return float64(r.Events) }},
	{"etcd_debugging_mvcc_db_compaction_keys_total", counter, "Records removed by compaction.", func(r *Readings) float64 { return float64(r.CompactedRecords) }},
	{"etcd_debugging_mvcc_db_compaction_last", gauge, "Unix time of the last compaction.", func(r *Readings) float64 { return float64(r.CompactionLastUnix) }},

	{"etcd_debugging_lease_granted_total", counter, "Leases granted.", func(r *Readings) float64 { return float64(r.LeasesGranted) }},
	{"etcd_debugging_lease_renewed_total", counter, "Leases renewed by this member as leader.", func(r *Readings) float64 { return float64(r.LeasesRenewed) }},
	{"etcd_debugging_lease_revoked_total", counter, "Leases revoked.", func(r *Readings) float64 { return float64(r.LeasesRevoked) }},
	{"etcd_debugging_server_lease_expired_total", counter, "Leases that ran out.", func(r *Readings) float64 { return float64(r.LeasesExpired) }},

	{"etcd_network_client_grpc_received_bytes_total", counter, "Bytes received from gRPC clients.", func(r *Readings) float64 { return float64(r.ClientReceivedBytes) }},
	{"etcd_network_client_grpc_sent_bytes_total", counter, "Bytes sent to gRPC clients.", func(r *Readings) float64 { return float64(r.ClientSentBytes) }},
	{"etcd_disk_wal_write_bytes_total", gauge, "Bytes appended to the log.", func(r *Readings) float64 { return float64(r.LogWrittenBytes) }},

	{"etcd_debugging_store_expires_total", counter, "Nodes of the v2 tree that ran out.", func(r *Readings) float64 { return float64(r.Tree.Expired) }},
	{"etcd_debugging_store_watch_requests_total", counter, "Requests of the v2 API that waited for an event.", func(r *Readings) float64 { return float64(r.Tree.Waits) }},
	{"etcd_debugging_store_watchers", gauge, "Requests of the v2 API that wait for an event.", func(r *Readings) float64 { return float64(r.Tree.Waiting) }},

	{"os_fd_used", gauge, "Open file descriptors.", func(*Readings) float64 { used, _ := FileDescriptors(); return float64(used) }},
	{"os_fd_limit", gauge, "File descriptors that may be open.", func(*Readings) float64 { return float64(fileDescriptorLimit()) }},
}

func number(b bool) float64 {
	if b {
		return 1
	}
	return 0
}

// Identity is what stays the same for the life of a member, shown as labels and gauges.
type Identity struct {
	MemberID uint64
	Version  string // API level
	Own      string // our own version
	Gates    []GateState
}

// GateState is one feature gate as it was switched.
type GateState struct {
	Name, Stage string
	On          bool
}

// readingsCollector turns Readings into metrics, all from one moment.
type readingsCollector struct {
	read     func() Readings
	identity Identity
	descs    []*prometheus.Desc

	clusterVersion, serverVersion, goVersion, ownVersion, serverID, quota, gate, knownPeers, alarm *prometheus.Desc

	activePeers, disconnected, sent, received, sendFailures, receiveFailures, queued *prometheus.Desc

	treeReads, treeReadsFailed, treeWrites, treeWritesFailed *prometheus.Desc

	internals []*prometheus.Desc
}

func newReadingsCollector(identity Identity, read func() Readings) *readingsCollector {
	c := &readingsCollector{
		read: read, identity: identity,
		clusterVersion: prometheus.NewDesc("etcd_cluster_version", "Version that all members agree on, as label.", []string{"cluster_version"}, nil),
		serverVersion:  prometheus.NewDesc("etcd_server_version", "API level of this member, as label.", []string{"server_version"}, nil),
		goVersion:      prometheus.NewDesc("etcd_server_go_version", "Version of the Go runtime, as label.", []string{"server_go_version"}, nil),
		ownVersion:     prometheus.NewDesc("keelson_build_info", "Version of Keelson, as label.", []string{"version"}, nil),
		serverID:       prometheus.NewDesc("etcd_server_id", "Id of this member, as label.", []string{"server_id"}, nil),
		quota:          prometheus.NewDesc("etcd_server_quota_backend_bytes", "Size at which writes are refused.", nil, nil),
		gate:           prometheus.NewDesc("etcd_server_feature_enabled", "Whether a feature gate is open: 1 or 0.", []string{"name", "stage"}, nil),
		knownPeers:     prometheus.NewDesc("etcd_network_known_peers", "Members known, this one included.", []string{"Local", "Remote"}, nil),
		alarm:          prometheus.NewDesc("etcd_debugging_server_alarms", "Alarms that are raised.", []string{"server_id", "alarm_type"}, nil),
	}
	const network = "etcd_network_"
	ends := []string{"Local", "Remote"}
	c.activePeers = prometheus.NewDesc(network+"active_peers", "Members that this one is connected with: 1 or 0.", ends, nil)
	c.disconnected = prometheus.NewDesc(network+"disconnected_peers_total", "Times that a member ceased to be connected.", ends, nil)
	c.sent = prometheus.NewDesc(network+"peer_sent_bytes_total", "Bytes sent to other members.", []string{"To"}, nil)
	c.received = prometheus.NewDesc(network+"peer_received_bytes_total", "Bytes received from other members.", []string{"From"}, nil)
	c.sendFailures = prometheus.NewDesc(network+"peer_sent_failures_total", "Messages to other members that were dropped.", []string{"To"}, nil)
	c.receiveFailures = prometheus.NewDesc(network+"peer_received_failures_total", "Messages from other members that broke off.", []string{"From"}, nil)
	c.queued = prometheus.NewDesc("keelson_peer_queued_bytes", "Bytes waiting to be sent to other members.", []string{"To"}, nil)
	const store = "etcd_debugging_store_"
	actions := []string{"action"}
	c.treeReads = prometheus.NewDesc(store+"reads_total", "Reads of the v2 tree.", actions, nil)
	c.treeReadsFailed = prometheus.NewDesc(store+"reads_failed_total", "Reads of the v2 tree that were refused.", actions, nil)
	c.treeWrites = prometheus.NewDesc(store+"writes_total", "Writes of the v2 tree.", actions, nil)
	c.treeWritesFailed = prometheus.NewDesc(store+"writes_failed_total", "Writes of the v2 tree that were refused.", actions, nil)
	for _, m := range internals {
		c.internals = append(c.internals, prometheus.NewDesc(m.name, m.help, m.labels, nil))
	}
	for _, r := range readings {
		c.descs = append(c.descs, prometheus.NewDesc(r.name, r.help, nil, nil))
	}
	return c
}

// Describe lists every metric.
func (c *readingsCollector) Describe(ch chan<- *prometheus.Desc) {
	for _, d := range append(c.descs[:len(c.descs):len(c.descs)], c.internals...) {
		ch <- d
	}
	for _, d := range []*prometheus.Desc{c.clusterVersion, c.serverVersion, c.goVersion, c.ownVersion, c.serverID,
		c.quota, c.gate, c.knownPeers, c.alarm, c.activePeers, c.disconnected, c.sent, c.received, c.sendFailures, c.receiveFailures, c.queued,
		c.treeReads, c.treeReadsFailed, c.treeWrites, c.treeWritesFailed} {
		ch <- d
	}
}

// Collect looks everything up once.
func (c *readingsCollector) Collect(ch chan<- prometheus.Metric) {
	r := c.read()
	for i, reading := range readings {
		ch <- prometheus.MustNewConstMetric(c.descs[i], reading.kind, reading.get(&r))
	}
	set := func(d *prometheus.Desc, value float64, labels ...string) {
		ch <- prometheus.MustNewConstMetric(d, prometheus.GaugeValue, value, labels...)
	}
	id := strconv.FormatUint(c.identity.MemberID, 16)
	if r.ClusterVersion != "" {
		set(c.clusterVersion, 1, r.ClusterVersion)
	}
	set(c.serverVersion, 1, c.identity.Version)
	set(c.goVersion, 1, runtime.Version())
	set(c.ownVersion, 1, c.identity.Own)
	set(c.serverID, 1, id)
	set(c.quota, float64(max(r.QuotaBytes, 0)))
	set(c.knownPeers, 1, id, id)
	for _, g := range c.identity.Gates {
		set(c.gate, number(g.On), g.Name, g.Stage)
	}
	for _, alarm := range r.Alarms {
		set(c.alarm, 1, id, alarm)
	}
	count := func(d *prometheus.Desc, value uint64, labels ...string) {
		ch <- prometheus.MustNewConstMetric(d, prometheus.CounterValue, float64(value), labels...)
	}
	for _, p := range r.Peers {
		peer := strconv.FormatUint(p.ID, 16)
		set(c.knownPeers, 1, id, peer)
		set(c.activePeers, number(p.Active), id, peer)
		count(c.disconnected, p.Disconnects, id, peer)
		count(c.sent, p.SentBytes, peer)
		count(c.received, p.ReceivedBytes, peer)
		count(c.sendFailures, p.SendFailures, peer)
		count(c.receiveFailures, p.ReceiveFailures, peer)
		set(c.queued, float64(p.QueuedBytes), peer)
	}
	count(c.treeReads, r.Tree.Reads+r.Tree.ReadsFailed, "get")
	count(c.treeReadsFailed, r.Tree.ReadsFailed, "get")
	for _, a := range r.Tree.Writes {
		count(c.treeWrites, a.Done+a.Refused, a.Action)
		count(c.treeWritesFailed, a.Refused, a.Action)
	}
	for i, m := range internals {
		m.get(&r.Internals, func(value float64, labels ...string) {
			ch <- prometheus.MustNewConstMetric(c.internals[i], m.kind, value, labels...)
		})
	}
}
