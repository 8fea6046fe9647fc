package proxy

import "github.com/prometheus/client_golang/prometheus"

// watchMetrics count what joining watchers saves, under etcd's names.
type watchMetrics struct {
	events   prometheus.Counter
	watchers prometheus.Gauge
}

func newWatchMetrics(r prometheus.Registerer) *watchMetrics {
	m := &watchMetrics{
		events: prometheus.NewCounter(prometheus.CounterOpts{
			Name: "etcd_grpc_proxy_events_coalescing_total", Help: "Events that clients got without a member sending them once more.",
		}),
		watchers: prometheus.NewGauge(prometheus.GaugeOpts{
			Name: "etcd_grpc_proxy_watchers_coalescing_total", Help: "Watchers of clients that are joined into groups.",
		}),
	}
	r.MustRegister(m.events, m.watchers)
	return m
}
