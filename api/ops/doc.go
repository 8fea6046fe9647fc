// Package ops is what operators and their tools ask of a member over HTTP: /health, /livez, /readyz, /version, /metrics
// and /debug.
//
// It owns the bodies, status codes and metric names, which dashboards, probes and alert rules were written for. It
// knows nothing of the parts it reports on: health questions go to a Member, numbers come either from Readings, which
// are asked for at each scrape, or from the counters and histograms of Metrics, which package server hands to whoever
// observes something. So no package below server needs to know Prometheus.
//
// Handlers may be called from any goroutine, as may everything in Metrics.
//
// Sources: the operations specification, chapter 4; the v3 API specification, 9.4 to 9.7.
package ops
