package ctl

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"

	"github.com/spf13/cobra"
	clientv3 "go.etcd.io/etcd/client/v3"
	"go.etcd.io/etcd/client/v3/concurrency"

	"keelson/internal/cli"
)

func (s *session) lockCommand() *cobra.Command {
	var ttl int
	cmd := &cobra.Command{
		Use: "lock <lockname> [exec-command arg1 arg2 ...]", Short: "Acquires a named lock", GroupID: groupConcurrency,
		RunE: func(cmd *cobra.Command, args []string) error {
			if len(args) == 0 {
				return cli.Fail(cli.ExitBadArgs, "lock takes a lock name argument and an optional command to execute")
			}
			return s.lock(args[0], args[1:], ttl)
		},
	}
	cmd.Flags().IntVar(&ttl, "ttl", 10, "timeout for session")
	return cmd
}

// lock holds a lock until a signal, the end of the command, or the loss of the session.
func (s *session) lock(name string, command []string, ttlSeconds int) error {
	c, err := s.connect()
	if err != nil {
		return err
	}
	defer c.Close()
	stopped, cancel := interrupted()
	defer cancel()
	held, err := concurrency.NewSession(c, concurrency.WithTTL(ttlSeconds))
	if err != nil {
		return err
	}
	defer held.Close()
	mutex := concurrency.NewMutex(held, name)
	if err := mutex.Lock(stopped); err != nil {
		return firstOf(stopped.Err(), err)
	}
	unlock := func() error {
		ctx, cancel := closeSoon()
		defer cancel()
		return mutex.Unlock(ctx)
	}
	if len(command) > 0 {
		err := s.runLocked(command, mutex)
		if unlocked := unlock(); err == nil {
			err = unlocked
		}
		return err
	}
	if err := s.showKey(stopped, c, mutex.Key()); err != nil {
		return err
	}
	select {
	case <-stopped.Done():
		return unlock()
	case <-held.Done():
		return errors.New("session expired")
	}
}

// firstOf is the signal that ended a wait, if one did, rather than what the wait made of it.
func firstOf(stopped, err error) error {
	if stopped != nil {
		return stopped
	}
	return err
}

// showKey prints what a lock or an election stands for.
func (s *session) showKey(ctx context.Context, c *clientv3.Client, key string) error {
	r, err := c.Get(ctx, key)
	if err != nil {
		return err
	}
	if len(r.Kvs) == 0 {
		return errors.New("lock lost on init")
	}
	return s.print.get(r)
}

// runLocked runs a command that learns about its lock from the environment. The program ends as the command did.
func (s *session) runLocked(command []string, mutex *concurrency.Mutex) error {
	cmd := exec.Command(command[0], command[1:]...)
	cmd.Env = append(os.Environ(), "ETCD_LOCK_KEY="+mutex.Key(), fmt.Sprintf("ETCD_LOCK_REV=%d", mutex.Header().Revision))
	cmd.Stdin, cmd.Stdout, cmd.Stderr = s.in, s.out, s.err
	err := cmd.Run()
	var ended *exec.ExitError
	if errors.As(err, &ended) && ended.ExitCode() > 0 {
		return cli.With(ended.ExitCode(), err)
	}
	return err
}
