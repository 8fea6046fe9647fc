// Package dashboards evaluates what dashboards and alerts ask for with Prometheus' own engine, on what members of a running cluster
// tell. It is a module of its own, so that the product does not depend on Prometheus' server.
package dashboards
