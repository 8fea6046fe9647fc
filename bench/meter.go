package bench

import "time"

// meter looks at the server's process and our own before and after.
type meter struct {
	pid    int
	ok     bool
	before usage
	own    time.Duration
}

// newMeter takes the first look; pid 0 measures only ourselves.
func newMeter(pid int) *meter {
	m := &meter{pid: pid}
	if pid != 0 {
		resetPeak(pid)
	}
	m.restart()
	return m
}

// restart takes the first look again. The memory of the first one stays, so that what was built up in between counts.
func (m *meter) restart() {
	rss := m.before.rssBytes
	if m.pid != 0 {
		var err error
		m.before, err = usageOf(m.pid)
		m.ok = err == nil
	}
	if rss != 0 {
		m.before.rssBytes = rss
	}
	m.own = ownCPU()
}

// finish takes the last look and fills in what follows from the two.
func (m *meter) finish(r *Result) {
	r.ClientCPU = ownCPU() - m.own
	if !m.ok {
		return
	}
	after, err := usageOf(m.pid)
	if err != nil {
		return
	}
	r.Measured = true
	r.ServerCPU = after.cpu - m.before.cpu
	r.RSSBefore, r.RSSPeak = m.before.rssBytes, after.peakBytes
	if r.RSSAfter == 0 {
		r.RSSAfter = after.rssBytes
	}
	if r.Count > 0 {
		r.CPUPerOp = r.ServerCPU / time.Duration(r.Count)
	}
	if r.Events > 0 {
		r.CPUPerEvent = r.ServerCPU / time.Duration(r.Events)
		if r.ServerCPU > 0 {
			r.EventsPerCPUSec = float64(r.Events) / r.ServerCPU.Seconds()
		}
	}
	if r.Op == OpWatchIdle && r.Watchers > 0 {
		r.RSSPerStream = (r.RSSAfter - r.RSSBefore) / int64(r.Watchers)
	}
}
