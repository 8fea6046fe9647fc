package main

import (
	"context"
	"encoding/json"
	"fmt"
	"os"
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"

	"keelson/internal/testkit"
)

// sample is one line of a scrape, with the labels that the scraper adds.
type sample struct {
	name   string
	labels map[string]string
}

var (
	sampleLine = regexp.MustCompile(`^([a-zA-Z_:][a-zA-Z0-9_:]*)(?:\{(.*)\})? \S+$`)
	labelPair  = regexp.MustCompile(`([a-zA-Z_][a-zA-Z0-9_]*)(=~|!~|!=|=)"((?:[^"\\]|\\.)*)"`)
	// selector is a metric with its matchers, as all queries of ours write it; what has no braces is a function or a number.
	selector = regexp.MustCompile(`([a-zA-Z_:][a-zA-Z0-9_:]*)\{([^}]*)\}`)
)

func scrape(t *testing.T, p *testkit.Process) (list []sample) {
	t.Helper()
	body, code := curl(t, p, "/metrics")
	if code != "200" {
		t.Fatalf("/metrics: %s", code)
	}
	for line := range strings.Lines(body) {
		m := sampleLine.FindStringSubmatch(strings.TrimSpace(line))
		if m == nil {
			continue
		}
		s := sample{m[1], map[string]string{"job": "etcd", "instance": p.Endpoint}}
		for _, l := range labelPair.FindAllStringSubmatch(m[2], -1) {
			s.labels[l[1]] = l[3]
		}
		list = append(list, s)
	}
	return append(list, sample{"up", map[string]string{"job": "etcd", "instance": p.Endpoint}})
}

// matches reports whether a sample is one that a selector means.
func (s sample) matches(name, matchers string) bool {
	if s.name != name {
		return false
	}
	for _, m := range labelPair.FindAllStringSubmatch(matchers, -1) {
		value, wanted := s.labels[m[1]], m[3]
		var is bool
		switch m[2] {
		case "=", "!=":
			is = value == wanted
		default:
			is = regexp.MustCompile(`^(?:` + wanted + `)$`).MatchString(value)
		}
		if is == strings.HasPrefix(m[2], "!") {
			return false
		}
	}
	return true
}

// queries are those of a list and of our dashboard.
func queries(t *testing.T) (list []string) {
	t.Helper()
	text, err := os.ReadFile("testdata/etcd-mixin.txt")
	if err != nil {
		t.Fatal(err)
	}
	for line := range strings.Lines(string(text)) {
		if !strings.HasPrefix(line, "#") {
			list = append(list, strings.ReplaceAll(line, "JOB", `job=~".*etcd.*"`))
		}
	}
	text, err = os.ReadFile("../../deploy/grafana/keelson.json")
	if err != nil {
		t.Fatal(err)
	}
	var dashboard struct {
		Panels []struct {
			Type    string
			Targets []struct{ Expr string }
		}
	}
	if err := json.Unmarshal(text, &dashboard); err != nil {
		t.Fatal(err)
	}
	variables := strings.NewReplacer("$job", "etcd", "$instance", ".*")
	for _, p := range dashboard.Panels {
		if len(p.Targets) == 0 && p.Type != "row" {
			t.Error("a panel without a query")
		}
		for _, target := range p.Targets {
			list = append(list, variables.Replace(target.Expr))
		}
	}
	return list
}

// TestDashboardsHaveData runs a cluster with some traffic and holds what dashboards and alerts ask for against what its members
// tell: whatever a query selects has to be there on every member, so that no panel is empty and no alert blind.
func TestDashboardsHaveData(t *testing.T) {
	testkit.Need(t, "curl")
	c := testkit.NewCluster(t, 3, append([]string{"--metrics=extensive"}, testkit.FastArgs...)...)
	c.Start()
	ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
	defer cancel()
	client := c.Client()
	for i := range 3 {
		if _, err := client.Put(ctx, fmt.Sprint("k", i), "v"); err != nil {
			t.Fatal(err)
		}
		if _, err := client.Get(ctx, "k0"); err != nil {
			t.Fatal(err)
		}
	}
	list := queries(t)
	if len(list) < 60 {
		t.Fatalf("only %d queries were found", len(list))
	}
	alarms := "etcd_debugging_server_alarms" // there is one only while it is raised
	for _, p := range c.Members {
		var missing []string
		await(ctx, t, p.Name+" tells "+strings.Join(missing, ", "), func() bool { // pings come once a second
			samples := scrape(t, p)
			missing = nil
			for _, q := range list {
				selectors := selector.FindAllStringSubmatch(q, -1)
				if len(selectors) == 0 {
					t.Fatalf("no metric in %s", q)
				}
				for _, s := range selectors {
					if s[1] != alarms && !slices.ContainsFunc(samples, func(x sample) bool { return x.matches(s[1], s[2]) }) {
						missing = append(missing, s[0])
					}
				}
			}
			if len(missing) > 0 && ctx.Err() != nil {
				t.Errorf("%s does not tell %q", p.Name, missing)
			}
			return len(missing) == 0
		})
	}
}
