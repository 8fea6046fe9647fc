package main

import (
	"context"
	"fmt"
	"io"
	"slices"

	"keelson/peer/process"
)

// figure is one thing a scenario measured, on one server in one round.
type figure struct {
	name  string
	unit  string
	value float64
}

// row is one thing measured on both servers, in all rounds.
type row struct {
	name, unit string
	values     [2][]float64 // reference, candidate
}

// table is the outcome of a scenario, rows in the order of the scenario.
type table struct {
	title string
	names [2]string
	rows  []*row
}

// add takes a round of one server.
func (t *table) add(side int, figures []figure) {
	for _, f := range figures {
		i := slices.IndexFunc(t.rows, func(r *row) bool { return r.name == f.name })
		if i < 0 {
			i = len(t.rows)
			t.rows = append(t.rows, &row{name: f.name, unit: f.unit})
		}
		t.rows[i].values[side] = append(t.rows[i].values[side], f.value)
	}
}

func (t *table) write(w io.Writer) {
	fmt.Fprintf(w, "\n%s\n%-44s %14s %14s %10s\n", t.title, "", t.names[0], t.names[1], "ratio")
	for _, r := range t.rows {
		a, aok := median(r.values[0])
		b, bok := median(r.values[1])
		ratio := "-"
		if aok && bok && a != 0 {
			ratio = fmt.Sprintf("%.2f", b/a)
		}
		fmt.Fprintf(w, "  %-42s %14s %14s %10s\n", r.name+" ("+r.unit+")", number(a, aok), number(b, bok), ratio)
	}
}

// median returns the middle value, the lower one of two.
func median(values []float64) (m float64, ok bool) {
	if len(values) == 0 {
		return 0, false
	}
	sorted := slices.Sorted(slices.Values(values))
	return sorted[(len(sorted)-1)/2], true
}

func number(v float64, ok bool) string {
	switch {
	case !ok:
		return "-"
	case v >= 1000 || v <= -1000:
		return fmt.Sprintf("%.0f", v)
	case v >= 10 || v <= -10:
		return fmt.Sprintf("%.1f", v)
	}
	return fmt.Sprintf("%.3f", v)
}

// compare runs a scenario on both servers in turn, round by round, each time the other one first, because whoever comes
// second finds a warmer machine or a fuller disk.
func compare(ctx context.Context, s settings, scenario scenario) (*table, error) {
	kinds := [2]process.Kind{process.Etcd, s.against}
	t := &table{title: scenario.name + ": " + scenario.about, names: [2]string{kinds[0].String(), kinds[1].String()}}
	if scenario.isV2() {
		kinds[0], t.names[0] = process.EtcdV2, process.EtcdV2.String()
		var err error
		if s, err = s.withV2(); err != nil {
			return t, err
		}
	}
	for round := range s.rounds {
		for turn := range kinds {
			side := (round + turn) % 2
			if scenario.huge && side == 0 {
				continue
			}
			figures, err := once(ctx, s, scenario, kinds[side])
			t.add(side, figures)
			if err != nil {
				return t, fmt.Errorf("%v, round %d: %w", kinds[side], round+1, err)
			}
		}
	}
	return t, nil
}
