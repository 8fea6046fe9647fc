package ctl

import (
	"errors"

	"github.com/spf13/cobra"
	clientv3 "go.etcd.io/etcd/client/v3"
	"go.etcd.io/etcd/client/v3/concurrency"

	"keelson/internal/cli"
)

func (s *session) electCommand() *cobra.Command {
	var listen bool
	cmd := &cobra.Command{
		Use: "elect <election-name> [proposal]", Short: "Observes and participates in leader election", GroupID: groupConcurrency,
		RunE: func(cmd *cobra.Command, args []string) error {
			switch {
			case len(args) != 1 && len(args) != 2:
				return cli.Fail(cli.ExitBadArgs, "elect takes one election name argument and an optional proposal argument")
			case listen && len(args) == 2:
				return cli.Fail(cli.ExitBadArgs, "proposal given but -l is set")
			case !listen && len(args) == 1:
				return cli.Fail(cli.ExitBadArgs, "no proposal argument but -l not set")
			}
			c, err := s.connect()
			if err != nil {
				return err
			}
			defer c.Close()
			if listen {
				return s.observe(c, args[0])
			}
			return s.campaign(c, args[0], args[1])
		},
	}
	cmd.Flags().BoolVarP(&listen, "listen", "l", false, "observation mode")
	return cmd
}

// observe prints each leader that an election brings.
func (s *session) observe(c *clientv3.Client, election string) error {
	stopped, cancel := interrupted()
	defer cancel()
	watching, err := concurrency.NewSession(c)
	if err != nil {
		return err
	}
	defer watching.Close()
	leaders := concurrency.NewElection(watching, election).Observe(stopped)
	for {
		select {
		case r, ok := <-leaders:
			if !ok && stopped.Err() != nil {
				return nil
			}
			if !ok {
				return errors.New("elect: observer lost")
			}
			if err := s.print.get(r); err != nil {
				return err
			}
		case <-watching.Done():
			return errors.New("elect: session expired")
		}
	}
}

// campaign waits to be elected and holds the office until a signal.
func (s *session) campaign(c *clientv3.Client, election, proposal string) error {
	stopped, cancel := interrupted()
	defer cancel()
	held, err := concurrency.NewSession(c)
	if err != nil {
		return err
	}
	defer held.Close()
	office := concurrency.NewElection(held, election)
	if err := office.Campaign(stopped, proposal); err != nil {
		return firstOf(stopped.Err(), err)
	}
	if err := s.showKey(stopped, c, office.Key()); err != nil {
		return err
	}
	select {
	case <-stopped.Done():
		ctx, cancel := closeSoon()
		defer cancel()
		return office.Resign(ctx)
	case <-held.Done():
		return errors.New("elect: session expired")
	}
}
