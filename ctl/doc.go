// Package ctl is what people type: etcdctl's commands, flag for flag and byte for byte when it is called by that name, and
// the same and more as keelson.
//
// It owns the command line of clients and nothing of the server: everything goes over the wire, through the official
// client. Each command is a file. A session is one invocation: it knows the streams, the global flags and the printer, and
// makes connections. Commands return errors; a cli.Exit says which exit code one has. What is printed is decided by the
// printers (print.go): a command makes a response and says which kind it is.
//
// Only cmd/keelson calls it, through Etcdctl and Keelson.
package ctl
