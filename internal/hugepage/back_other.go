//go:build !linux

package hugepage

func back() {}
