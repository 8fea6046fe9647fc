package ops

import (
	"strconv"
	"time"

	"github.com/prometheus/client_golang/prometheus"
)

// transfers are the metrics of whole states on their way between members.
type transfers struct {
	sending, receiving direction
	bytes              *prometheus.CounterVec
}

// direction is one of sending and receiving; each metric has the other member as its label.
type direction struct {
	inflight       *prometheus.GaugeVec
	done, failures *prometheus.CounterVec
	seconds        *prometheus.HistogramVec
}

func (b builder) transfers() transfers {
	return transfers{
		sending:   b.direction("etcd_network_snapshot_send_", "sent to another member", "To"),
		receiving: b.direction("etcd_network_snapshot_receive_", "received from another member", "From"),
		bytes:     b.counters("keelson_snapshot_bytes_total", "Bytes of states sent to, or received from, other members.", "direction"),
	}
}

func (b builder) direction(prefix, what, label string) direction {
	return direction{
		inflight: b.gauges(prefix+"inflights_total", "States being "+what+".", label),
		done:     b.counters(prefix+"success", "States "+what+".", label),
		failures: b.counters(prefix+"failures", "States not "+what+": it failed.", label),
		seconds:  b.timesBy(prefix+"total_duration_seconds", "Time until a state was "+what+".", 0.1, 10, label),
	}
}

// begin counts a transfer that begins; the result is called when it ends.
func (d direction) begin(member uint64) (end func(err error)) {
	id, start := strconv.FormatUint(member, 16), time.Now()
	d.inflight.WithLabelValues(id).Inc()
	d.done.WithLabelValues(id)
	d.failures.WithLabelValues(id)
	return func(err error) {
		d.inflight.WithLabelValues(id).Dec()
		if err != nil {
			d.failures.WithLabelValues(id).Inc()
			return
		}
		d.done.WithLabelValues(id).Inc()
		d.seconds.WithLabelValues(id).Observe(time.Since(start).Seconds())
	}
}

// SendState counts a state that is sent to a member: end is called when that has ended, well or not.
func (m *Metrics) SendState(to uint64) (end func(bytes int64, err error)) {
	return m.transfer(m.transfers.sending.begin(to), "sent")
}

// ReceiveState is SendState for a state that comes from a member.
func (m *Metrics) ReceiveState(from uint64) (end func(bytes int64, err error)) {
	return m.transfer(m.transfers.receiving.begin(from), "received")
}

func (m *Metrics) transfer(ended func(error), direction string) func(int64, error) {
	return func(bytes int64, err error) {
		ended(err)
		m.transfers.bytes.WithLabelValues(direction).Add(float64(bytes))
	}
}
