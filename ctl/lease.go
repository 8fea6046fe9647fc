package ctl

import (
	"context"
	"fmt"
	"strconv"

	"github.com/spf13/cobra"
	clientv3 "go.etcd.io/etcd/client/v3"

	"keelson/internal/cli"
)

func (s *session) leaseCommand() *cobra.Command {
	return s.family("lease", "Lease related commands", groupKV,
		s.leaseGrantCommand(), s.leaseRevokeCommand(), s.leaseTimeToLiveCommand(), s.leaseListCommand(), s.leaseKeepAliveCommand())
}

// leaseID reads an id as it is printed.
func leaseID(text string) (clientv3.LeaseID, error) {
	id, err := strconv.ParseInt(text, 16, 64)
	if err != nil {
		return 0, cli.Fail(cli.ExitBadArgs, "bad lease ID arg (%w), expecting ID in Hex", err)
	}
	return clientv3.LeaseID(id), nil
}

func (s *session) leaseGrantCommand() *cobra.Command {
	return &cobra.Command{Use: "grant <ttl>", Short: "Creates leases", RunE: func(cmd *cobra.Command, args []string) error {
		if len(args) != 1 {
			return cli.Fail(cli.ExitBadArgs, "lease grant command needs TTL argument")
		}
		ttl, err := strconv.ParseInt(args[0], 10, 64)
		if err != nil {
			return cli.Fail(cli.ExitBadArgs, "bad TTL (%w)", err)
		}
		return s.withClient(func(ctx context.Context, c *clientv3.Client) error {
			r, err := c.Grant(ctx, ttl)
			if err != nil {
				return fmt.Errorf("failed to grant lease (%w)", err)
			}
			return s.print.grant(r)
		})
	}}
}

func (s *session) leaseRevokeCommand() *cobra.Command {
	return &cobra.Command{Use: "revoke <leaseID>", Short: "Revokes leases", RunE: func(cmd *cobra.Command, args []string) error {
		if len(args) != 1 {
			return cli.Fail(cli.ExitBadArgs, "lease revoke command needs 1 argument")
		}
		id, err := leaseID(args[0])
		if err != nil {
			return err
		}
		return s.withClient(func(ctx context.Context, c *clientv3.Client) error {
			r, err := c.Revoke(ctx, id)
			if err != nil {
				return fmt.Errorf("failed to revoke lease (%w)", err)
			}
			return s.print.revoke(id, r)
		})
	}}
}

func (s *session) leaseTimeToLiveCommand() *cobra.Command {
	var keys bool
	cmd := &cobra.Command{Use: "timetolive <leaseID> [options]", Short: "Get lease information", RunE: func(cmd *cobra.Command, args []string) error {
		if len(args) != 1 {
			return cli.Fail(cli.ExitBadArgs, "lease timetolive command needs lease ID as argument")
		}
		id, err := leaseID(args[0])
		if err != nil {
			return err
		}
		var opts []clientv3.LeaseOption
		if keys {
			opts = append(opts, clientv3.WithAttachedKeys())
		}
		return s.withClient(func(ctx context.Context, c *clientv3.Client) error {
			r, err := c.TimeToLive(ctx, id, opts...)
			if err != nil {
				return cli.With(cli.ExitBadConnection, err)
			}
			return s.print.timeToLive(r, keys)
		})
	}}
	cmd.Flags().BoolVar(&keys, "keys", false, "Get keys attached to this lease")
	return cmd
}

func (s *session) leaseListCommand() *cobra.Command {
	return &cobra.Command{Use: "list", Short: "List all active leases", RunE: func(cmd *cobra.Command, args []string) error {
		return s.withClient(func(ctx context.Context, c *clientv3.Client) error {
			r, err := c.Leases(ctx)
			if err != nil {
				return cli.With(cli.ExitBadConnection, err)
			}
			return s.print.leases(r)
		})
	}}
}

func (s *session) leaseKeepAliveCommand() *cobra.Command {
	var once bool
	cmd := &cobra.Command{Use: "keep-alive [options] <leaseID>", Short: "Keeps leases alive (renew)", RunE: func(cmd *cobra.Command, args []string) error {
		if len(args) != 1 {
			return cli.Fail(cli.ExitBadArgs, "lease keep-alive command needs lease ID as argument")
		}
		id, err := leaseID(args[0])
		if err != nil {
			return err
		}
		c, err := s.connect()
		if err != nil {
			return err
		}
		defer c.Close()
		if once {
			return s.keepAliveOnce(c, id)
		}
		return s.keepAlive(c, id)
	}}
	usage := "Resets the keep-alive time to its original value and cobrautl.Exits immediately"
	if !s.plain {
		usage = "Resets the keep-alive time to its original value and exits"
	}
	cmd.Flags().BoolVar(&once, "once", false, usage)
	return cmd
}

func (s *session) keepAliveOnce(c *clientv3.Client, id clientv3.LeaseID) error {
	ctx, cancel := s.short()
	defer cancel()
	r, err := c.KeepAliveOnce(ctx, id)
	if err != nil {
		return cli.With(cli.ExitBadConnection, err)
	}
	return s.print.keepAlive(r)
}

// keepAlive renews until the lease is gone.
func (s *session) keepAlive(c *clientv3.Client, id clientv3.LeaseID) error {
	beats, err := c.KeepAlive(context.Background(), id)
	if err != nil {
		return cli.With(cli.ExitBadConnection, err)
	}
	for r := range beats {
		if err := s.print.keepAlive(r); err != nil {
			return err
		}
	}
	if _, isSimple := s.print.(*simplePrinter); isSimple {
		fmt.Fprintf(s.out, "lease %016x expired or revoked.\n", id)
	}
	return nil
}
