//go:build !linux && !freebsd

package dev

import "syscall"

// processAttributes puts a child into a process group of its own, so that Ctrl-C reaches this process alone. That this
// process has ended, the child sees at the end of its standard input.
func processAttributes() *syscall.SysProcAttr {
	return &syscall.SysProcAttr{Setpgid: true}
}
