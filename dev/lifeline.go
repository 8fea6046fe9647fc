package dev

import (
	"io"
	"os"
	"syscall"
	"time"
)

// MemberWord is the word of the command line that calls Member. It is not for people.
const MemberWord = "dev-member"

// lifelineGrace is how long a member that has lost its parent may take to stop in order.
const lifelineGrace = 10 * time.Second

// Member runs one member of a cluster on one machine, by serve, and returns its exit code. When standard input ends, the
// process that started it has: the member then stops as it does on SIGTERM.
func Member(serve func(program string, args []string) int, args []string) int {
	go func() {
		io.Copy(io.Discard, os.Stdin)
		// A failure leaves the grace below to end the process.
		syscall.Kill(os.Getpid(), syscall.SIGTERM)
		time.Sleep(lifelineGrace)
		os.Exit(1)
	}()
	return serve("keelson serve", args)
}
