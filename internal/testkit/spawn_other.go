//go:build !linux && !freebsd

package testkit

import "syscall"

func endWithParent(*syscall.SysProcAttr) {}
