package main

import (
	"bytes"
	"regexp"
	"strings"
	"testing"
	"time"

	"keelson/peer/process"
)

func TestTable(t *testing.T) {
	table := &table{title: "put: puts", names: [2]string{"etcd", "keelson"}}
	for round := range 3 {
		table.add(0, []figure{{"put per second", "1/s", float64(10_000 + 1000*round)}, {"p99", "ms", 2}})
		table.add(1, []figure{{"put per second", "1/s", float64(50_000 - 5000*round)}})
	}
	var out bytes.Buffer
	table.write(&out)
	for _, want := range []string{`(?m)^put: puts$`, `put per second \(1/s\) +11000 +45000 +4\.09`, `p99 \(ms\) +2\.000 +- +-`} {
		if !regexp.MustCompile(want).MatchString(out.String()) {
			t.Errorf("no %s in\n%s", want, out.String())
		}
	}
	if m, ok := median([]float64{5, 1, 3, 4}); m != 3 || !ok {
		t.Errorf("median %v", m)
	}
	if _, ok := median(nil); ok {
		t.Error("a median of nothing")
	}
}

func TestParse(t *testing.T) {
	s, err := parse(strings.Fields("-keelson /x/keelson -run put -quick"))
	if err != nil || s.rounds != 1 || s.against != process.Keelson || strings.Join(s.bench, " ") != "/x/keelson bench" {
		t.Errorf("%+v, error %v", s, err)
	}
	if s, err = parse(strings.Fields("-against etcd -bench /x/bench")); err != nil || s.rounds != 3 || s.against != process.Etcd || len(s.bench) != 1 {
		t.Errorf("%+v, error %v", s, err)
	}
	for _, bad := range []string{"-against zookeeper", "-run (", "-rounds x", "-behind 0"} {
		if _, err := parse(strings.Fields(bad)); err == nil {
			t.Errorf("%s was accepted", bad)
		}
	}
}

// TestScenariosAreBounded looks at what every scenario must have.
func TestScenariosAreBounded(t *testing.T) {
	names := map[string]bool{}
	for _, scenario := range scenarios() {
		if names[scenario.name] || scenario.about == "" || scenario.run == nil {
			t.Errorf("scenario %q", scenario.name)
		}
		names[scenario.name] = true
		if limit := scenario.limit(settings{quick: true}); limit <= 0 || (limit > time.Minute && !scenario.huge) {
			t.Errorf("%s may take %v", scenario.name, limit)
		}
	}
}

func TestRepliesMustCarryPairs(t *testing.T) {
	if err := (load{Count: 10, ReplyBytes: 10 * 300}).carries(1); err != nil {
		t.Error(err)
	}
	if (load{Count: 10, ReplyBytes: 10 * 40}).carries(1) == nil {
		t.Error("empty replies were taken for pairs")
	}
}

func TestBars(t *testing.T) {
	put := &table{rows: []*row{
		{name: "put per second", unit: "1/s", values: [2][]float64{{10_000}, {36_000}}},
		{name: "server CPU per put", unit: "us", values: [2][]float64{{60}, {17}}},
	}}
	var out bytes.Buffer
	writeBars(&out, map[string]*table{"put": put})
	for _, want := range []string{
		`put: put per second \(1/s\) +10000 +36000 +>= 3\.5 x etcd  met`, `put: server CPU per put \(us\) +60\.0 +17\.0 +<= 16  missed`,
	} {
		if !regexp.MustCompile(want).MatchString(out.String()) {
			t.Errorf("no %s in\n%s", want, out.String())
		}
	}
	names := map[string]bool{}
	for _, sc := range scenarios() {
		names[sc.name] = true
	}
	for _, b := range bars {
		if !names[b.scenario] {
			t.Errorf("a goal for %q, which is no scenario", b.scenario)
		}
	}
}
