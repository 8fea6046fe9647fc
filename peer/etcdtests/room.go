package main

import (
	"context"
	"os/exec"
)

// room is what keeps a running test apart from others: a command line in front of its own. Empty: nothing does.
type room []string

// prepare is run in new namespaces before the test: they have a loopback device that is down, and one test wants the address
// with which this machine would speak to the world.
const prepare = `ip link set lo up && ip addr add 192.0.2.1/24 dev lo && ip route add default dev lo src 192.0.2.1 && exec "$0" "$@"`

// findRoom finds out what the system allows: namespaces for anybody, for root only, or none. With the process that begins a
// process namespace, all the others in it end.
func findRoom(ctx context.Context) room {
	for _, user := range [][]string{{"--user", "--map-root-user"}, nil} {
		r := append(room{"unshare"}, user...)
		r = append(r, "--net", "--pid", "--fork", "--mount-proc", "--kill-child", "sh", "-c", prepare)
		if r.command(ctx, "true").Run() == nil {
			return r
		}
	}
	return nil
}

func (r room) isolated() bool { return len(r) > 0 }

func (r room) command(ctx context.Context, words ...string) *exec.Cmd {
	line := append(append([]string{}, r...), words...)
	return exec.CommandContext(ctx, line[0], line[1:]...)
}
