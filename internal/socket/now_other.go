//go:build !unix

package socket

// writeNow writes nothing where it is not known how not to wait.
func writeNow(uintptr, []byte) (int, error) { return 0, nil }
