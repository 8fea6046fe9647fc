package ctl

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"slices"
	"strings"

	"github.com/spf13/pflag"
	clientv3 "go.etcd.io/etcd/client/v3"

	"keelson/internal/cli"
)

// watchTyped reads watches from stdin, one a line, and shows the events of all of them. What cannot be understood is said
// on stderr, and the next line is read.
func (s *session) watchTyped() error {
	c, err := s.connect()
	if err != nil {
		return err
	}
	defer c.Close()
	s.out = &lockedWriter{w: s.out}
	if s.print, err = newPrinter(s); err != nil {
		return err
	}
	lines := bufio.NewReader(s.in)
	for {
		line, err := lines.ReadString('\n')
		if err != nil {
			return cli.Fail(cli.ExitInvalidInput, "error reading watch request line: %w", err)
		}
		if err := s.watchLine(c, strings.TrimSuffix(line, "\n")); err != nil {
			return err
		}
	}
}

func (s *session) watchLine(c *clientv3.Client, line string) error {
	args := words(line)
	switch {
	case len(args) == 0:
		fmt.Fprintf(s.err, "Invalid command: %s (watch and progress supported)\n", line)
		return nil
	case args[0] == "progress":
		if err := c.RequestProgress(clientv3.WithRequireLeader(context.Background())); err != nil {
			fmt.Fprintf(s.err, "%v failed to request progress\n", err)
		}
		return nil
	case args[0] != "watch":
		fmt.Fprintf(s.err, "Invalid command %s (only support watch)\n", line)
		return nil
	case len(args) == 1:
		fmt.Fprintf(s.err, "Invalid command %s (command type or key is not provided)\n", line)
		return nil
	}
	o := &watchOptions{}
	flags := pflag.NewFlagSet("watch", pflag.ContinueOnError)
	flags.SetOutput(io.Discard)
	o.register(flags)
	if err := flags.Parse(args[1:]); err != nil {
		return cli.With(cli.ExitBadArgs, err)
	}
	dash := flags.ArgsLenAtDash()
	if dash < 0 && slices.Contains(args, "--") { // behind everything else
		dash = flags.NArg()
	}
	target, err := s.watchTarget(flags.Args(), dash)
	if err != nil {
		return err
	}
	events, err := o.start(c, target)
	if errors.Is(err, errPrefixAndEnd) {
		fmt.Fprintf(s.err, "Invalid command %s (%v)\n", line, err)
		return nil
	}
	go s.showEvents(events, target.command)
	return nil
}
