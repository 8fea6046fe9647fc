//go:build linux && (amd64 || arm64) && !race

package socket

import (
	"syscall"
	"unsafe"
)

// promptBytes is how much is sent without a word to the Go scheduler. It takes the processor away from whoever is long in a system call,
// and asks for another on the way back; to copy a few bytes and to be told that there are none is over before that is worth it.
const promptBytes = 16 << 10

// receive and send are the calls for sockets, which spare what the kernel does for files.

func receive(fd uintptr, b []byte) (int, error) {
	n, _, errno := syscall.RawSyscall6(syscall.SYS_RECVFROM, fd, uintptr(unsafe.Pointer(unsafe.SliceData(b))), uintptr(len(b)), syscall.MSG_DONTWAIT, 0, 0)
	if errno != 0 {
		return -1, errno
	}
	return int(n), nil
}

func send(fd uintptr, b []byte) (int, error) {
	if len(b) > promptBytes {
		return syscall.Write(int(fd), b)
	}
	const flags = syscall.MSG_DONTWAIT | syscall.MSG_NOSIGNAL
	n, _, errno := syscall.RawSyscall6(syscall.SYS_SENDTO, fd, uintptr(unsafe.Pointer(unsafe.SliceData(b))), uintptr(len(b)), flags, 0, 0)
	if errno != 0 {
		return -1, errno
	}
	return int(n), nil
}

func peek(fd uintptr) error {
	var b [1]byte
	const flags = syscall.MSG_PEEK | syscall.MSG_DONTWAIT
	_, _, errno := syscall.RawSyscall6(syscall.SYS_RECVFROM, fd, uintptr(unsafe.Pointer(&b)), 1, flags, 0, 0)
	if errno != 0 {
		return errno
	}
	return nil
}
