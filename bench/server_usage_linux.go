package bench

import (
	"bytes"
	"fmt"
	"os"
	"strconv"
	"time"
)

// ticksPerSecond is USER_HZ, the unit of /proc/PID/stat; it has been 100 on every Linux for decades.
const ticksPerSecond = 100

// usageOf reads CPU time from /proc/PID/stat and memory from smaps_rollup, or from status where that may not be read.
//
// Errors: no such process.
func usageOf(pid int) (usage, error) {
	var u usage
	stat, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", pid))
	if err != nil {
		return u, fmt.Errorf("bench: server usage: %w", err)
	}
	// The second field is the program's name in parentheses and may contain anything, so count from its end: utime and
	// stime are the 14th and 15th fields.
	fields := bytes.Fields(stat[bytes.LastIndexByte(stat, ')')+1:])
	if len(fields) < 13 {
		return u, fmt.Errorf("bench: server usage: /proc/%d/stat has %d fields after the name", pid, len(fields))
	}
	for _, field := range fields[11:13] {
		ticks, err := strconv.ParseInt(string(field), 10, 64)
		if err != nil {
			return u, fmt.Errorf("bench: server usage: %w", err)
		}
		u.cpu += time.Duration(ticks) * time.Second / ticksPerSecond
	}
	status, err := os.ReadFile(fmt.Sprintf("/proc/%d/status", pid))
	if err != nil {
		return u, fmt.Errorf("bench: server usage: %w", err)
	}
	u.rssBytes, u.peakBytes = kibField(status, "VmRSS:"), kibField(status, "VmHWM:")
	if rollup, err := os.ReadFile(fmt.Sprintf("/proc/%d/smaps_rollup", pid)); err == nil {
		if rss := kibField(rollup, "Rss:"); rss > 0 {
			u.rssBytes = rss // exact, where the counter of status may lag
		}
	}
	return u, nil
}

// resetPeak makes the present memory the peak. Without the right to do so the peak stays that of the whole life.
func resetPeak(pid int) {
	if f, err := os.OpenFile(fmt.Sprintf("/proc/%d/clear_refs", pid), os.O_WRONLY, 0); err == nil {
		f.WriteString("5")
		f.Close()
	}
}

// kibField returns the value of a line "name  123 kB" in bytes, 0 if there is none.
func kibField(lines []byte, name string) int64 {
	for line := range bytes.Lines(lines) {
		if rest, ok := bytes.CutPrefix(line, []byte(name)); ok {
			if fields := bytes.Fields(rest); len(fields) > 0 {
				if kib, err := strconv.ParseInt(string(fields[0]), 10, 64); err == nil {
					return kib << 10
				}
			}
		}
	}
	return 0
}
