package dev

import (
	"fmt"
	"strconv"
	"strings"
)

// row is what is shown of one member.
type row struct {
	name, state, log string
	pid              int  // 0: there is no process
	known            bool // status is that of this process
	status           status
	reason           string // of state down
}

func (m *member) row() row {
	r := row{name: m.name, state: m.state(), log: m.logPath, reason: m.reason}
	if m.child != nil {
		r.pid, r.known, r.status = m.child.pid(), m.answered, m.status
	}
	return r
}

// sentence is the row as a line of its own.
func (r row) sentence() string {
	var b strings.Builder
	fmt.Fprintf(&b, "%s: %s", r.name, r.state)
	if r.pid == 0 {
		if r.reason != "" {
			fmt.Fprintf(&b, " (%s)", r.reason)
		}
	} else {
		fmt.Fprintf(&b, ", pid %d", r.pid)
	}
	if r.known {
		fmt.Fprintf(&b, ", term %d, revision %d, applied %d, db %s", r.status.term, r.status.revision, r.status.applied, sizeText(r.status.dbBytes))
	}
	return b.String() + ", log " + r.log
}

// key is what has to change for the row to be worth a new line.
func (r row) key() string {
	return fmt.Sprintf("%s %d %d %s", r.state, r.pid, r.status.term, r.reason)
}

var columns = []string{"NAME", "PID", "STATE", "TERM", "REVISION", "APPLIED", "DB", "LOG"}

func (r row) cells() []string {
	cells := []string{r.name, "-", r.state, "-", "-", "-", "-", r.log}
	if r.pid != 0 {
		cells[1] = strconv.Itoa(r.pid)
	}
	if r.known {
		cells[3] = strconv.FormatUint(r.status.term, 10)
		cells[4] = strconv.FormatInt(r.status.revision, 10)
		cells[5] = strconv.FormatUint(r.status.applied, 10)
		cells[6] = sizeText(r.status.dbBytes)
	}
	return cells
}

// table lays the rows out under a heading. A reason follows behind the last column.
func table(rows []row) []string {
	cells := [][]string{columns}
	for _, r := range rows {
		cells = append(cells, r.cells())
	}
	widths := make([]int, len(columns))
	for _, line := range cells {
		for i, cell := range line {
			widths[i] = max(widths[i], len(cell))
		}
	}
	lines := make([]string, len(cells))
	for n, line := range cells {
		var b strings.Builder
		for i, cell := range line {
			fmt.Fprintf(&b, "%-*s  ", widths[i], cell)
		}
		if n > 0 && rows[n-1].state == "down" {
			b.WriteString(rows[n-1].reason)
		}
		lines[n] = strings.TrimRight(b.String(), " ")
	}
	return lines
}

// sizeText is a number of bytes for people.
func sizeText(n int64) string {
	const unit = 1024
	if n < unit {
		return fmt.Sprintf("%d B", n)
	}
	value, suffix := float64(n)/unit, 0
	for ; value >= unit && suffix < 3; suffix++ {
		value /= unit
	}
	return fmt.Sprintf("%.1f %ciB", value, "KMGT"[suffix])
}
