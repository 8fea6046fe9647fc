//go:build !unix

package ops

func fileDescriptorLimit() uint64 { return 0 }
