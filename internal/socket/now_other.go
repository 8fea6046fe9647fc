//go:build !unix

package socket

// WriteNow writes nothing where it is not known how not to wait.
func WriteNow(uintptr, []byte) (int, error) { return 0, nil }

// CanReadNow: ReadNow and WriteNow can't do it here.
const CanReadNow = false

// ReadNow reads nothing there.
func ReadNow(uintptr, []byte) (n int, ready bool, err error) { return 0, false, nil }

// HasInput can't tell.
func HasInput(uintptr) bool { return true }
