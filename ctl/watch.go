package ctl

import (
	"context"
	"fmt"
	"os"
	"os/exec"
	"slices"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"
	clientv3 "go.etcd.io/etcd/client/v3"

	"keelson/internal/cli"
)

// Variables that stand for watch's arguments.
const (
	watchKeyVariable = "ETCDCTL_WATCH_KEY"
	watchEndVariable = "ETCDCTL_WATCH_RANGE_END"
)

type watchOptions struct {
	rev                              int64
	prefix, prevKV, progress, typing bool
}

func (o *watchOptions) register(f *pflag.FlagSet) {
	f.BoolVarP(&o.typing, "interactive", "i", false, "Interactive mode")
	f.BoolVar(&o.prefix, "prefix", false, "Watch on a prefix if prefix is set")
	f.Int64Var(&o.rev, "rev", 0, "Revision to start watching")
	f.BoolVar(&o.prevKV, "prev-kv", false, "get the previous key-value pair before the event happens")
	f.BoolVar(&o.progress, "progress-notify", false, "get periodic watch progress notification from server")
}

func (s *session) watchCommand() *cobra.Command {
	o := &watchOptions{}
	cmd := &cobra.Command{
		Use:   "watch [options] [key or prefix] [range_end] [--] [exec-command arg1 arg2 ...]",
		Short: "Watches events stream on keys or prefixes", GroupID: groupKV,
		RunE: func(cmd *cobra.Command, args []string) error { return s.watch(o, args, cmd.ArgsLenAtDash()) },
	}
	o.register(cmd.Flags())
	return cmd
}

func (s *session) watch(o *watchOptions, args []string, dash int) error {
	if o.typing {
		return s.watchTyped()
	}
	target, err := s.watchTarget(args, dash)
	if err != nil {
		return err
	}
	c, err := s.connect()
	if err != nil {
		return err
	}
	defer c.Close()
	events, err := o.start(c, target)
	if err != nil {
		return err
	}
	if err := s.showEvents(events, target.command); err != nil {
		return err
	}
	return cli.Fail(cli.ExitInterrupted, "watch is canceled by the server")
}

// watchTarget is what is watched and what runs for each event.
type watchTarget struct {
	span    []string // the key, and the end of a range if there is one
	command []string
}

// watchTarget reads the arguments; dash is where -- stood among them, or negative. Variables may stand for the key.
func (s *session) watchTarget(args []string, dash int) (t watchTarget, err error) {
	if dash >= 0 {
		args, t.command = args[:dash], args[dash:]
		if len(t.command) == 0 {
			return t, cli.Fail(cli.ExitBadArgs, "bad number of arguments (found separator --, but no commands)")
		}
	}
	key, end := s.variable(watchKeyVariable), s.variable(watchEndVariable)
	switch {
	case key == "" && end != "":
		return t, cli.Fail(cli.ExitBadArgs, "%s is empty but got %s=%q", watchKeyVariable, watchEndVariable, end)
	case key != "" && len(args) > 0:
		return t, cli.Fail(cli.ExitBadArgs, "bad number of arguments (found conflicting environment key)")
	case key != "":
		t.span = []string{key}
		if end != "" {
			t.span = append(t.span, end)
		}
		return t, nil
	case len(args) == 0:
		return t, cli.Fail(cli.ExitBadArgs, "bad number of arguments")
	}
	t.span = args[:min(len(args), 2)]
	return t, nil
}

// variable is the value of an environment variable.
func (s *session) variable(name string) string {
	prefix := name + "="
	value := ""
	for _, pair := range s.environ() {
		if len(pair) > len(prefix) && pair[:len(prefix)] == prefix {
			value = pair[len(prefix):]
		}
	}
	return value
}

var errPrefixAndEnd = cli.Fail(cli.ExitBadArgs, "`range_end` and `--prefix` are mutually exclusive")

// start opens the watch.
func (o *watchOptions) start(c *clientv3.Client, t watchTarget) (clientv3.WatchChan, error) {
	opts := []clientv3.OpOption{clientv3.WithRev(o.rev)}
	if len(t.span) == 2 {
		if o.prefix {
			return nil, errPrefixAndEnd
		}
		opts = append(opts, clientv3.WithRange(t.span[1]))
	}
	if o.prefix {
		opts = append(opts, clientv3.WithPrefix())
	}
	if o.prevKV {
		opts = append(opts, clientv3.WithPrevKV())
	}
	if o.progress {
		opts = append(opts, clientv3.WithProgressNotify())
	}
	return c.Watch(clientv3.WithRequireLeader(context.Background()), t.span[0], opts...), nil
}

// showEvents prints what comes until the server ends it, and runs the command for each event.
func (s *session) showEvents(events clientv3.WatchChan, command []string) error {
	for r := range events {
		if r.Canceled {
			fmt.Fprintf(s.err, "watch was canceled (%v)\n", r.Err())
		}
		if err := s.print.watch(&r); err != nil {
			return err
		}
		if len(command) == 0 {
			continue
		}
		for _, e := range r.Events {
			if err := s.runForEvent(command, r.Header.Revision, e); err != nil {
				fmt.Fprintf(s.err, "command %q error (%v)\n", command, err)
				return cli.Silent(cli.ExitError)
			}
		}
	}
	return nil
}

func (s *session) runForEvent(command []string, revision int64, e *clientv3.Event) error {
	cmd := exec.Command(command[0], command[1:]...)
	cmd.Stdout, cmd.Stderr = s.out, s.err
	cmd.Env = append(slices.Clone(os.Environ()),
		fmt.Sprintf("ETCD_WATCH_REVISION=%d", revision), fmt.Sprintf("ETCD_WATCH_EVENT_TYPE=%q", e.Type),
		fmt.Sprintf("ETCD_WATCH_KEY=%q", e.Kv.Key), fmt.Sprintf("ETCD_WATCH_VALUE=%q", e.Kv.Value))
	return cmd.Run()
}
