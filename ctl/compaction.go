package ctl

import (
	"context"
	"fmt"
	"strconv"

	"github.com/spf13/cobra"
	clientv3 "go.etcd.io/etcd/client/v3"

	"keelson/internal/cli"
)

func (s *session) compactionCommand() *cobra.Command {
	var physical bool
	cmd := &cobra.Command{
		Use: "compaction [options] <revision>", Short: "Compacts the event history in etcd", GroupID: groupKV,
		RunE: func(cmd *cobra.Command, args []string) error { return s.compact(physical, args) },
	}
	cmd.Flags().BoolVar(&physical, "physical", false, "'true' to wait for compaction to physically remove all old revisions")
	return cmd
}

func (s *session) compact(physical bool, args []string) error {
	if len(args) != 1 {
		return cli.Fail(cli.ExitBadArgs, "compaction command needs 1 argument")
	}
	rev, err := strconv.ParseInt(args[0], 10, 64)
	if err != nil {
		return err
	}
	var opts []clientv3.CompactOption
	if physical {
		opts = append(opts, clientv3.WithCompactPhysical())
	}
	return s.withClient(func(ctx context.Context, c *clientv3.Client) error {
		if physical { // it may take as long as it takes
			ctx = context.Background()
		}
		if _, err := c.Compact(ctx, rev, opts...); err != nil {
			return err
		}
		fmt.Fprintln(s.out, "compacted revision", rev)
		return nil
	})
}
