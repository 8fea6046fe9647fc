//go:build linux || freebsd

package dev

import "syscall"

// processAttributes puts a child into a process group of its own, so that Ctrl-C reaches this process alone, and has the
// system kill it when this process ends in whatever way.
func processAttributes() *syscall.SysProcAttr {
	return &syscall.SysProcAttr{Setpgid: true, Pdeathsig: syscall.SIGKILL}
}
