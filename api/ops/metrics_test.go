package ops

import (
	"fmt"
	"io"
	"os"
	"strings"
	"testing"

	dto "github.com/prometheus/client_model/go"
	"go.etcd.io/etcd/api/v3/etcdserverpb"
	"google.golang.org/grpc"
	"google.golang.org/grpc/health"
	"google.golang.org/grpc/health/grpc_health_v1"
)

func gather(t *testing.T, m *Metrics) map[string]*dto.MetricFamily {
	t.Helper()
	families, err := m.registry.Gather()
	if err != nil {
		t.Fatal(err)
	}
	byName := map[string]*dto.MetricFamily{}
	for _, f := range families {
		byName[f.GetName()] = f
	}
	return byName
}

// services registers what a member serves, on a server that is never started.
func services() map[string]grpc.ServiceInfo {
	s := grpc.NewServer()
	etcdserverpb.RegisterKVServer(s, etcdserverpb.UnimplementedKVServer{})
	etcdserverpb.RegisterWatchServer(s, etcdserverpb.UnimplementedWatchServer{})
	etcdserverpb.RegisterLeaseServer(s, etcdserverpb.UnimplementedLeaseServer{})
	etcdserverpb.RegisterClusterServer(s, etcdserverpb.UnimplementedClusterServer{})
	etcdserverpb.RegisterAuthServer(s, etcdserverpb.UnimplementedAuthServer{})
	etcdserverpb.RegisterMaintenanceServer(s, etcdserverpb.UnimplementedMaintenanceServer{})
	grpc_health_v1.RegisterHealthServer(s, health.NewServer())
	return s.GetServiceInfo()
}

// Source: v3 API specification, Appendix B, and operations specification, 4.3 (those marked T).
func TestEveryNameExistsFromTheStart(t *testing.T) {
	data, err := os.ReadFile("testdata/names.txt")
	if err != nil {
		t.Fatal(err)
	}
	m := NewMetrics(Options{}, Identity{MemberID: 0xabc, Version: "3.7.1", Own: "0.1"},
		func() Readings { return Readings{ClusterVersion: "3.7"} })
	m.GRPC.Prepare(services())
	m.handler() // registers its own metrics
	families := gather(t, m)
	names := strings.Fields(string(data))
	for _, name := range names {
		if families[name] == nil {
			t.Errorf("%s is missing", name)
		}
	}
	if len(names) < 130 {
		t.Errorf("only %d names are asked for", len(names))
	}
}

func TestTypesAndBuckets(t *testing.T) {
	families := gather(t, NewMetrics(Options{}, Identity{}, func() Readings { return Readings{} }))
	types := map[string]dto.MetricType{
		"etcd_server_proposals_committed_total":                               dto.MetricType_GAUGE,
		"etcd_server_leader_changes_seen_total":                               dto.MetricType_COUNTER,
		"etcd_disk_wal_write_bytes_total":                                     dto.MetricType_GAUGE,
		"etcd_debugging_mvcc_keys_total":                                      dto.MetricType_GAUGE,
		"etcd_mvcc_put_total":                                                 dto.MetricType_COUNTER,
		"etcd_debugging_mvcc_total_put_size_in_bytes":                         dto.MetricType_GAUGE,
		"etcd_grpc_proxy_events_coalescing_total":                             dto.MetricType_COUNTER,
		"etcd_grpc_proxy_cache_hits_total":                                    dto.MetricType_GAUGE,
		"etcd_debugging_mvcc_db_compaction_keys_total":                        dto.MetricType_COUNTER,
		"go_gc_duration_seconds":                                              dto.MetricType_SUMMARY,
		"etcd_server_request_duration_seconds":                                dto.MetricType_HISTOGRAM,
		"etcd_server_snapshot_apply_in_progress_total":                        dto.MetricType_GAUGE,
		"etcd_network_client_grpc_received_bytes_total":                       dto.MetricType_COUNTER,
		"etcd_debugging_store_watchers":                                       dto.MetricType_GAUGE,
		"etcd_debugging_server_lease_expired_total":                           dto.MetricType_COUNTER,
		"etcd_debugging_mvcc_pending_events_total":                            dto.MetricType_GAUGE,
		"etcd_debugging_mvcc_events_total":                                    dto.MetricType_COUNTER,
		"etcd_mvcc_db_total_size_in_use_in_bytes":                             dto.MetricType_GAUGE,
		"etcd_server_quota_backend_bytes":                                     dto.MetricType_GAUGE,
		"etcd_server_health_success":                                          dto.MetricType_COUNTER,
		"etcd_disk_backend_commit_duration_seconds":                           dto.MetricType_HISTOGRAM,
		"etcd_debugging_server_watch_send_loop_watch_stream_duration_seconds": dto.MetricType_HISTOGRAM,
	}
	for name, want := range types {
		if f := families[name]; f == nil || f.GetType() != want {
			t.Errorf("%s: %v, want %v", name, f.GetType(), want)
		}
	}
	buckets := map[string]string{
		"etcd_disk_wal_fsync_duration_seconds":                             "14 0.001",
		"etcd_server_apply_duration_seconds":                               "20 0.0001",
		"etcd_mvcc_hash_duration_seconds":                                  "15 0.01",
		"etcd_disk_backend_snapshot_duration_seconds":                      "17 0.01",
		"etcd_snap_db_save_total_duration_seconds":                         "10 0.1",
		"etcd_debugging_mvcc_db_compaction_total_duration_milliseconds":    "14 100",
		"etcd_debugging_mvcc_db_compaction_pause_duration_milliseconds":    "13 1",
		"etcd_debugging_mvcc_index_compaction_pause_duration_milliseconds": "14 0.5",
		"etcd_debugging_lease_ttl_total":                                   "24 1",
		"etcd_server_request_duration_seconds":                             "14 0.001",
	}
	for name, want := range buckets {
		list := families[name].GetMetric()[0].GetHistogram().GetBucket()
		if got := fmt.Sprint(len(list), list[0].GetUpperBound()); got != want {
			t.Errorf("%s: buckets %s, want %s", name, got, want)
		}
	}
}

// The lines, and their order, that the metrics test of etcd's suite waits for.
func TestReadingsAreShown(t *testing.T) {
	m := NewMetrics(Options{}, Identity{MemberID: 0x8e9e05c52164694d, Version: "3.7.1",
		Gates: []GateState{{"PriorityRequest", "ALPHA", true}}}, func() Readings {
		return Readings{ClusterVersion: "3.7", QuotaBytes: -1, HasLeader: true, Puts: 2, Keys: 1, Deletes: 3, Alarms: []string{"NOSPACE"}, CompactRevision: -1}
	})
	server := newSurface(&member{}, Options{}, false)
	server.metrics = m
	s := NewSurface(Parts{Member: &member{}, Metrics: m, Versions: server.versions, Raft: server.raft, Log: server.log})
	body, _ := io.ReadAll(ask(s.Client(), "GET", "/metrics").Body)
	for _, want := range []string{
		"etcd_mvcc_put_total 2", "etcd_debugging_mvcc_keys_total 1", "etcd_mvcc_delete_total 3",
		`etcd_server_version{server_version="3.7.1"} 1`, `etcd_cluster_version{cluster_version="3.7"} 1`,
		`etcd_server_id{server_id="8e9e05c52164694d"} 1`, "etcd_server_has_leader 1", "etcd_server_is_leader 0",
		"etcd_server_quota_backend_bytes 0", `etcd_server_feature_enabled{name="PriorityRequest",stage="ALPHA"} 1`,
		`etcd_network_known_peers{Local="8e9e05c52164694d",Remote="8e9e05c52164694d"} 1`,
		`etcd_debugging_server_alarms{alarm_type="NOSPACE",server_id="8e9e05c52164694d"} 1`,
		"etcd_debugging_mvcc_compact_revision -1",
	} {
		if !strings.Contains(string(body), "\n"+want+"\n") {
			t.Errorf("metrics lack %s", want)
		}
	}
}

func TestTimers(t *testing.T) {
	m := NewMetrics(Options{}, Identity{}, func() Readings { return Readings{} })
	m.Request("Put", true).Observe(0.002)
	m.Request("Put", false).Observe(0.002)
	m.Apply(true).Observe(1)
	m.Range(false).Observe(1)
	m.ClientRequest("unary", "3.7").Inc()
	families := gather(t, m)
	var observed uint64
	for _, metric := range families["etcd_server_request_duration_seconds"].GetMetric() {
		observed += metric.GetHistogram().GetSampleCount()
	}
	if observed != 2 {
		t.Errorf("%d requests were observed, want 2", observed)
	}
	if n := len(families["etcd_server_client_requests_total"].GetMetric()); n != 3 {
		t.Errorf("%d series of client requests, want 3", n)
	}
	defer func() {
		if recover() == nil {
			t.Error("an unknown kind of request was accepted")
		}
	}()
	m.Request("Nothing", true)
}
