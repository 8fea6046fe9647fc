package ctl

import (
	"context"
	"fmt"
	"strconv"
	"time"

	"github.com/spf13/cobra"
	clientv3 "go.etcd.io/etcd/client/v3"

	"keelson/internal/cli"
)

func (s *session) alarmCommand() *cobra.Command {
	list := &cobra.Command{Use: "list", Short: "Lists all alarms", RunE: func(cmd *cobra.Command, args []string) error {
		if len(args) != 0 {
			return cli.Fail(cli.ExitBadArgs, "alarm list command accepts no arguments")
		}
		return s.withClient(func(ctx context.Context, c *clientv3.Client) error {
			r, err := c.AlarmList(ctx)
			if err != nil {
				return err
			}
			return s.print.alarm(r)
		})
	}}
	disarm := &cobra.Command{Use: "disarm", Short: "Disarms all alarms", RunE: func(cmd *cobra.Command, args []string) error {
		if len(args) != 0 {
			return cli.Fail(cli.ExitBadArgs, "alarm disarm command accepts no arguments")
		}
		return s.withClient(func(ctx context.Context, c *clientv3.Client) error {
			r, err := c.AlarmDisarm(ctx, &clientv3.AlarmMember{})
			if err != nil {
				return err
			}
			return s.print.alarm(r)
		})
	}}
	return s.family("alarm", "Alarm related commands", groupCluster, list, disarm)
}

func (s *session) defragCommand() *cobra.Command {
	var all bool
	cmd := &cobra.Command{
		Use: "defrag", Short: "Defragments the storage of the etcd members with given endpoints", GroupID: groupCluster,
		RunE: func(cmd *cobra.Command, args []string) error { return s.defrag(all) },
	}
	cmd.Flags().BoolVar(&all, "cluster", false, "use all endpoints from the cluster member list")
	return cmd
}

func (s *session) defrag(all bool) error {
	failed, err := s.eachEndpoint(all, func(ctx context.Context, c *clientv3.Client, endpoint string) error {
		begun := time.Now()
		_, err := c.Defragment(ctx, endpoint)
		took := time.Since(begun)
		if err != nil {
			fmt.Fprintf(s.err, "Failed to defragment etcd member[%s]. took %s. (%v)\n", endpoint, took, err)
			return err
		}
		fmt.Fprintf(s.out, "Finished defragmenting etcd member[%s]. took %s\n", endpoint, took)
		return nil
	})
	if err == nil && failed != nil {
		err = cli.Silent(cli.ExitError)
	}
	return err
}

func (s *session) downgradeCommand() *cobra.Command {
	action := func(name, use, short string, action clientv3.DowngradeAction, needsVersion bool) *cobra.Command {
		return &cobra.Command{Use: use, Short: short, RunE: func(cmd *cobra.Command, args []string) error {
			target := ""
			if needsVersion {
				if len(args) < 1 {
					return cli.Fail(cli.ExitBadArgs, "TARGET_VERSION not provided")
				}
				target = args[0]
			}
			return s.withClient(func(ctx context.Context, c *clientv3.Client) error {
				r, err := c.Downgrade(ctx, action, target)
				if err != nil {
					return err
				}
				return s.print.downgrade(name, r)
			})
		}}
	}
	return s.family("downgrade", "Downgrade related commands", groupCluster,
		action("validate", "validate <TARGET_VERSION>", "Validate downgrade capability before starting downgrade", clientv3.DowngradeValidate, true),
		action("enable", "enable <TARGET_VERSION>", "Start a downgrade action to cluster", clientv3.DowngradeEnable, true),
		action("cancel", "cancel", "Cancel the ongoing downgrade action to cluster", clientv3.DowngradeCancel, false))
}

func (s *session) moveLeaderCommand() *cobra.Command {
	return &cobra.Command{
		Use: "move-leader <transferee-member-id>", Short: "Transfers leadership to another etcd cluster member.", GroupID: groupCluster,
		RunE: func(cmd *cobra.Command, args []string) error {
			if len(args) != 1 {
				return cli.Fail(cli.ExitBadArgs, "move-leader command needs 1 argument")
			}
			target, err := strconv.ParseUint(args[0], 16, 64)
			if !s.plain {
				target, err = s.memberID(args)
			}
			if err != nil {
				return cli.With(cli.ExitBadArgs, err)
			}
			return s.moveLeader(target)
		},
	}
}

// moveLeader looks for the leader among the endpoints: nobody else can give leadership away.
func (s *session) moveLeader(target uint64) error {
	spec, err := s.configure()
	if err != nil {
		return err
	}
	for _, endpoint := range spec.Endpoints {
		one := spec.Clone()
		one.Endpoints = []string{endpoint}
		done, err := s.moveLeaderFrom(one, target)
		if done || err != nil {
			return err
		}
	}
	return cli.Fail(cli.ExitBadArgs, "no leader endpoint given at %v", spec.Endpoints)
}

// moveLeaderFrom does it if the endpoint is the leader's.
func (s *session) moveLeaderFrom(spec *clientv3.ConfigSpec, target uint64) (done bool, err error) {
	c, err := s.dial(spec, nil)
	if err != nil {
		return false, err
	}
	defer c.Close()
	ctx, cancel := s.short()
	defer cancel()
	status, err := c.Status(ctx, spec.Endpoints[0])
	if err != nil {
		return false, err
	}
	leader := status.Header.MemberId
	if leader != status.Leader {
		return false, nil
	}
	r, err := c.MoveLeader(ctx, target)
	if err != nil {
		return false, err
	}
	return true, s.print.moveLeader(leader, target, r)
}
