//go:build !linux

package hugepage

func back() bool { return false }
