package main

import (
	"encoding/json"
	"fmt"
	"strings"

	"keelson/internal/testkit"
)

// logLine is a line that tests of etcd's, runbooks or people wait for.
type logLine struct {
	message string // the beginning of it
	level   string
	fields  []string // keys that it has, beside those that every line has
}

// logLines are those that come of themselves, or of what TestEveryMetricAndLogLine does. Those that a flag or a wrong certificate
// brings forth are looked for where that is tested.
//
// Source: operations specification, 1.14, 1.15, 1.17 and 1.18.
var logLines = []logLine{
	{"starting an etcd server", "info", []string{
		"etcd-version", "git-sha", "go-version", "go-os", "go-arch", "max-cpu-set", "max-cpu-available", "member-initialized", "name",
		"data-dir", "wal-dir", "wal-dir-dedicated", "member-dir", "force-new-cluster", "heartbeat-interval", "election-timeout",
		"initial-election-tick-advance", "snapshot-count", "max-wals", "max-snapshots", "snapshot-catchup-entries",
		"initial-advertise-peer-urls", "listen-peer-urls", "advertise-client-urls", "listen-client-urls", "listen-metrics-urls",
		"local-address", "cors", "host-whitelist", "initial-cluster", "initial-cluster-state", "initial-cluster-token",
		"quota-backend-bytes", "max-request-bytes", "max-concurrent-streams", "pre-vote", "feature-gates", "initial-corrupt-check",
		"corrupt-check-time-interval", "compact-check-time-interval", "auto-compaction-mode", "auto-compaction-retention",
		"auto-compaction-interval", "downgrade-check-interval", "max-learners", "v2-deprecation",
	}},
	{"now serving peer/client/metrics", "info", nil},
	{"elected leader", "info", nil},
	{"published local member to cluster through raft", "info", nil},
	{"updated cluster version", "info", nil},
	{"enabled capabilities for version", "info", nil},
	{"ready to serve client requests", "info", nil},
	{"serving client traffic insecurely; this is strongly discouraged!", "info", []string{"traffic", "address"}},
	{"request stats", "warn", nil},
	{"apply request took too long", "warn", []string{"took", "expected-duration"}},
	{"finished scheduled compaction", "info", []string{"compact-revision", "took"}},
	{"starting defragment", "info", nil},
	{"defragmenting", "info", []string{
		"path", "current-db-size-bytes", "current-db-size", "current-db-size-in-use-bytes", "current-db-size-in-use",
	}},
	{"finished defragmenting directory", "info", []string{
		"path", "current-db-size-bytes-diff", "current-db-size-bytes", "current-db-size", "current-db-size-in-use-bytes",
		"current-db-size-in-use", "took",
	}},
	{"saved snapshot to disk", "info", nil},
	{"sent database snapshot", "info", nil},
	{"applySnapshot: opened snapshot backend", "info", nil},
	{"applied snapshot", "info", nil},
	{"leader failed to send out heartbeat on time; took too long, leader is overloaded likely from slow disk", "warn", nil},
	{"server error", "warn", []string{"error"}},
	{"data-dir used by this member must be removed", "warn", nil},
	{"received signal; shutting down", "info", []string{"signal"}},
	{"closing etcd server", "info", nil},
	{"closed etcd server", "info", nil},
}

// missing looks for the line in the logs of members; empty: it is there, as it should be.
func (l logLine) missing(members []*testkit.Process) (why string) {
	why = "is in no log"
	for _, p := range members {
		for text := range strings.Lines(p.Log()) {
			var line map[string]any
			if !strings.Contains(text, l.message) || json.Unmarshal([]byte(text), &line) != nil {
				continue
			}
			if message, _ := line["msg"].(string); !strings.HasPrefix(message, l.message) {
				continue
			}
			if why = l.faults(line); why == "" {
				return ""
			}
		}
	}
	return why
}

func (l logLine) faults(line map[string]any) string {
	if line["level"] != l.level {
		return fmt.Sprintf("is at level %v, want %s", line["level"], l.level)
	}
	for _, key := range append([]string{"ts", "caller"}, l.fields...) {
		if _, ok := line[key]; !ok {
			return fmt.Sprintf("lacks %q", key)
		}
	}
	return ""
}
