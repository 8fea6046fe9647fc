//go:build !linux && !freebsd

package testkit

import "syscall"

func processAttributes() *syscall.SysProcAttr { return nil }
