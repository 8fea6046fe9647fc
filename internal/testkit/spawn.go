package testkit

import (
	"os/exec"
	"runtime"
	"sync"
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

// spawn starts a process that does not outlive this one, even if this one is killed, where the system can see to that.
func spawn(cmd *exec.Cmd) error {
	cmd.SysProcAttr = processAttributes()
	s := spawning{cmd, make(chan error)}
	spawner() <- s
	return <-s.done
}
