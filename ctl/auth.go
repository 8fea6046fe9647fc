package ctl

import (
	"context"
	"errors"
	"fmt"

	"github.com/spf13/cobra"
	"go.etcd.io/etcd/api/v3/v3rpc/rpctypes"
	clientv3 "go.etcd.io/etcd/client/v3"

	"keelson/internal/cli"
)

// rootRole may do everything; so may rootUser, who has it.
const rootRole, rootUser = "root", "root"

func (s *session) authCommand() *cobra.Command {
	action := func(use, short string, run func(ctx context.Context, c *clientv3.Client) error) *cobra.Command {
		return &cobra.Command{Use: use, Short: short, RunE: func(cmd *cobra.Command, args []string) error {
			if len(args) != 0 {
				return cli.Fail(cli.ExitBadArgs, "auth %s command does not accept any arguments", use)
			}
			return s.withClient(run)
		}}
	}
	return s.family("auth", "Enable or disable authentication", groupAuth,
		action("enable", "Enables authentication", s.authEnable),
		action("disable", "Disables authentication", s.authDisable),
		action("status", "Returns authentication status", s.authStatus))
}

// authEnable gives root its role first if that is what is missing.
func (s *session) authEnable(ctx context.Context, c *clientv3.Client) error {
	_, err := c.AuthEnable(ctx)
	if errors.Is(err, rpctypes.ErrRootRoleNotExist) {
		if _, err := c.RoleAdd(ctx, rootRole); err != nil && !errors.Is(err, rpctypes.ErrRoleAlreadyExist) {
			return err
		}
		if _, err := c.UserGrantRole(ctx, rootUser, rootRole); err != nil {
			return err
		}
		_, err = c.AuthEnable(ctx)
	}
	if err != nil {
		return err
	}
	fmt.Fprintln(s.out, "Authentication Enabled")
	return nil
}

func (s *session) authDisable(ctx context.Context, c *clientv3.Client) error {
	if _, err := c.AuthDisable(ctx); err != nil {
		return err
	}
	fmt.Fprintln(s.out, "Authentication Disabled")
	return nil
}

func (s *session) authStatus(ctx context.Context, c *clientv3.Client) error {
	r, err := c.AuthStatus(ctx)
	if err != nil {
		return err
	}
	return s.print.authStatus(r)
}
