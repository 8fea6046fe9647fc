// Package gateway is the v3 API as JSON over HTTP, and the checks that stand before every HTTP request of a client.
//
// It owns the JSON form (field names, numbers, errors), the websocket bridge, CORS, the host whitelist and the rewriting
// of old paths. It leaves every decision about the API to the gRPC server: a Gateway is a client of it over one
// connection inside the process, made by a dialer that the caller gives, so that interceptors, limits and counters hold
// for JSON as they do for gRPC.
//
// Requests come in over HTTP, calls go out over gRPC. Handlers may be called from any goroutine. Close ends the
// connection, and with it all streams.
//
// Source: the v3 API specification, 9.1 to 9.3.
package gateway
