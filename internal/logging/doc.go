// Package logging makes the process's log: one JSON object (or console line) per event, with the keys, time layout and
// sampling that etcd's log parsers expect.
//
// It owns the log's settings, outputs and rotation. What is logged, and when, is decided by the callers; packages of
// the deterministic core never log. Settings come in (Options), a zap logger and a close function come out. New may be
// called from any goroutine; the logger it returns is safe for all of them.
package logging
