package main

import (
	"fmt"
	"io"
)

// bar is what Keelson is to reach in one figure of a scenario: as a figure of its own, or as a ratio to etcd's in the same run.
type bar struct {
	scenario, figure string
	ratio            bool
	least            bool // at least limit; otherwise at most
	limit            float64
}

func atMost(scenario, figure string, limit float64) bar {
	return bar{scenario, figure, false, false, limit}
}
func atLeast(scenario, figure string, limit float64) bar {
	return bar{scenario, figure, false, true, limit}
}
func ratioAtMost(scenario, figure string, limit float64) bar {
	return bar{scenario, figure, true, false, limit}
}
func ratioAtLeast(scenario, figure string, limit float64) bar {
	return bar{scenario, figure, true, true, limit}
}

// bars are the project's goals, by scenario and figure as -quick=false names them. docs/performance.md explains each.
var bars = []bar{
	ratioAtLeast("get", "get per second", 4),
	atMost("get", "server CPU per get", 8),
	ratioAtLeast("get-serializable", "get per second", 4),
	atMost("get-serializable", "server CPU per get", 8),
	ratioAtLeast("put", "put per second", 3.5),
	atMost("put", "server CPU per put", 16),
	atMost("put-one", "put p50 beyond a sync of the disk", 0.1),
	atMost("txn", "server CPU per txn", 20),
	atMost("page", "page p50", 2),
	atMost("count", "count p50", 0.1),
	atMost("list", "server CPU per list", 80),
	atMost("watch-hot", "server CPU per event", 2),
	atMost("restart", "start to ready", 0.3),
	atMost("restart", "memory after", 200),
	atMost("compact", "put p50, with compaction against without", 1.1),
	atMost("compact", "put p99, with compaction against without", 1.1),
	atLeast("connections", "get, 16000 clients against the best", 0.8),
	atLeast("connections", "put, 16000 clients against the best", 0.8),
	atMost("overload", "put p99, beside a lister against quiet", 2),
	ratioAtLeast("cluster-put", "put per second", 2),
	atMost("cluster-put", "server CPU per put", 45),
	ratioAtMost("cluster-put", "put p99", 0.5),
	ratioAtMost("cluster-put-one", "put p50", 0.6),
	ratioAtMost("cluster-put-follower", "put p50", 0.6),
	ratioAtLeast("cluster-get", "get per second", 1.5),
	ratioAtLeast("v2-get", "get per second", 2),
	ratioAtLeast("v2-put", "put per second", 2),
}

// met says whether the two figures reach the bar.
func (b bar) met(etcd, keelson float64) bool {
	got := keelson
	if b.ratio {
		got = keelson / etcd
	}
	if b.least {
		return got >= b.limit
	}
	return got <= b.limit
}

func (b bar) String() string {
	text, unit := "<=", ""
	if b.least {
		text = ">="
	}
	if b.ratio {
		unit = " x etcd"
	}
	return fmt.Sprintf("%s %g%s", text, b.limit, unit)
}

// writeBars writes how the tables that were measured stand to the goals.
func writeBars(w io.Writer, tables map[string]*table) {
	title := false
	for _, b := range bars {
		r := tables[b.scenario].row(b.figure)
		if r == nil {
			continue
		}
		etcd, known := median(r.values[0])
		keelson, ok := median(r.values[1])
		if !ok || b.ratio && !known {
			continue
		}
		if !title {
			fmt.Fprintf(w, "\ngoals\n%-56s %10s %10s %14s\n", "", "etcd", "keelson", "goal")
			title = true
		}
		verdict := "missed"
		if b.met(etcd, keelson) {
			verdict = "met"
		}
		name := b.scenario + ": " + r.name + " (" + r.unit + ")"
		fmt.Fprintf(w, "  %-54s %10s %10s %14s  %s\n", name, number(etcd, known), number(keelson, ok), b, verdict)
	}
}

// row returns the row of a figure, nil if there is none.
func (t *table) row(name string) *row {
	if t == nil {
		return nil
	}
	for _, r := range t.rows {
		if r.name == name {
			return r
		}
	}
	return nil
}
