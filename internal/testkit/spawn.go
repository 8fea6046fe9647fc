package testkit

import (
	"os/exec"
	"runtime"
	"sync"
	"syscall"
)

var spawner = sync.OnceValue(func() chan<- spawning {
	queue := make(chan spawning)
	go func() {
		// Where the system kills children with their parent, it does so when the thread ends that started them.
		runtime.LockOSThread()
		for s := range queue {
			s.done <- s.cmd.Start()
		}
	}()
	return queue
})

type spawning struct {
	cmd  *exec.Cmd
	done chan error
}

// Spawn starts a process that does not outlive this one, even if this one is killed, where the system can see to that.
func Spawn(cmd *exec.Cmd) error {
	if cmd.SysProcAttr == nil {
		cmd.SysProcAttr = new(syscall.SysProcAttr)
	}
	endWithParent(cmd.SysProcAttr)
	s := spawning{cmd, make(chan error)}
	spawner() <- s
	return <-s.done
}
