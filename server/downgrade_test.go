package server

import "testing"

func TestAgree(t *testing.T) {
	for _, c := range []struct {
		name, current, target string
		servers               []string
		want                  agreement
	}{
		{"nothing to do", "3.7.0", "", []string{"3.7.1", "3.7.2"}, agreement{}},
		{"one is behind", "3.6.0", "", []string{"3.7.1", "3.6.4"}, agreement{}},
		{"all have been upgraded", "3.6.0", "", []string{"3.7.1", "3.8.0"}, agreement{version: "3.7.0"}},
		{"never down without a job", "3.7.0", "", []string{"3.6.1", "3.6.1"}, agreement{}},
		{"job under way", "3.7.0", "3.6.0", []string{"3.7.1", "3.6.1"}, agreement{}},
		{"not begun", "3.7.0", "3.6.0", []string{"3.7.1", "3.7.1"}, agreement{}},
		{"all have been downgraded", "3.7.0", "3.6.0", []string{"3.6.1", "3.6.0"}, agreement{version: "3.6.0", ended: true}},
		{"ended before, and not said", "3.6.0", "3.6.0", []string{"3.6.1"}, agreement{ended: true}},
		{"not up during a job", "3.6.0", "3.6.0", []string{"3.7.1", "3.6.1"}, agreement{}},
		{"further than the target", "3.7.0", "3.6.0", []string{"3.5.1", "3.6.1"}, agreement{}},
		{"no version", "", "", []string{"3.7.1"}, agreement{}},
		{"nonsense", "3.6.0", "", []string{"new"}, agreement{}},
		{"nobody", "3.6.0", "", nil, agreement{}},
	} {
		if got := agree(c.current, c.target, c.servers); got != c.want {
			t.Errorf("%s: %+v, want %+v", c.name, got, c.want)
		}
	}
}
