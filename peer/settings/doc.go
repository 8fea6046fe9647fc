// Package settings compares what two programs called etcd make of the same settings, ours and etcd's own: flags, variables,
// configuration files and certificates, good and bad. Each is started as a black box; compared are whether it starts, the
// exit code, what it says of the settings, and the settings in effect as the log's first line tells them.
//
// What the two may differ in are the rules in differences_test.go, each with its row in docs/differences.md.
package settings
