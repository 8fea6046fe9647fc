package ctl

import (
	"context"
	"errors"

	"github.com/spf13/cobra"
	clientv3 "go.etcd.io/etcd/client/v3"

	"keelson/internal/cli"
)

// openEnd is the end of a range that has none.
const openEnd = "\x00"

func (s *session) roleCommand() *cobra.Command {
	return s.family("role", "Role related commands", groupAuth,
		s.roleNameCommand("add <role name>", "Adds a new role", "role add", func(ctx context.Context, c *clientv3.Client, role string) error {
			r, err := c.RoleAdd(ctx, role)
			if err != nil {
				return err
			}
			return s.print.roleAdd(role, r)
		}),
		s.roleNameCommand("delete <role name>", "Deletes a role", "role delete", func(ctx context.Context, c *clientv3.Client, role string) error {
			r, err := c.RoleDelete(ctx, role)
			if err != nil {
				return err
			}
			return s.print.roleDelete(role, r)
		}),
		s.roleNameCommand("get <role name>", "Gets detailed information of a role", "role get", func(ctx context.Context, c *clientv3.Client, role string) error {
			r, err := c.RoleGet(ctx, role)
			if err != nil {
				return err
			}
			return s.print.roleGet(role, r)
		}),
		s.roleListCommand(), s.roleGrantCommand(), s.roleRevokeCommand())
}

// roleNameCommand is a command that takes a role.
func (s *session) roleNameCommand(use, short, name string, run func(ctx context.Context, c *clientv3.Client, role string) error) *cobra.Command {
	return &cobra.Command{Use: use, Short: short, RunE: func(cmd *cobra.Command, args []string) error {
		if len(args) != 1 {
			return cli.Fail(cli.ExitBadArgs, "%s command requires role name as its argument", name)
		}
		return s.withClient(func(ctx context.Context, c *clientv3.Client) error { return run(ctx, c, args[0]) })
	}}
}

func (s *session) roleListCommand() *cobra.Command {
	return &cobra.Command{Use: "list", Short: "Lists all roles", RunE: func(cmd *cobra.Command, args []string) error {
		if len(args) != 0 {
			return cli.Fail(cli.ExitBadArgs, "role list command requires no arguments")
		}
		return s.withClient(func(ctx context.Context, c *clientv3.Client) error {
			r, err := c.RoleList(ctx)
			if err != nil {
				return err
			}
			return s.print.roleList(r)
		})
	}}
}

func (s *session) roleGrantCommand() *cobra.Command {
	var prefix, fromKey bool
	cmd := &cobra.Command{
		Use: "grant-permission [options] <role name> <permission type> <key> [endkey]", Short: "Grants a key to a role",
		RunE: func(cmd *cobra.Command, args []string) error {
			if len(args) < 3 {
				return cli.Fail(cli.ExitBadArgs, "role grant command requires role name, permission type, and key [endkey] as its argument")
			}
			kind, err := clientv3.StrToPermissionType(args[1])
			if err != nil {
				return cli.With(cli.ExitBadArgs, err)
			}
			key, end, err := permissionSpan(args[2:], prefix, fromKey)
			if err != nil {
				return err
			}
			return s.withClient(func(ctx context.Context, c *clientv3.Client) error {
				r, err := c.RoleGrantPermission(ctx, args[0], key, end, kind)
				if err != nil {
					return err
				}
				return s.print.roleGrant(args[0], r)
			})
		},
	}
	cmd.Flags().BoolVar(&prefix, "prefix", false, "grant a prefix permission")
	cmd.Flags().BoolVar(&fromKey, "from-key", false, "grant a permission of keys that are greater than or equal to the given key using byte compare")
	return cmd
}

func (s *session) roleRevokeCommand() *cobra.Command {
	var prefix, fromKey bool
	cmd := &cobra.Command{
		Use: "revoke-permission <role name> <key> [endkey]", Short: "Revokes a key from a role",
		RunE: func(cmd *cobra.Command, args []string) error {
			if len(args) < 2 {
				return cli.Fail(cli.ExitBadArgs, "role revoke-permission command requires role name and key [endkey] as its argument")
			}
			key, end, err := permissionSpan(args[1:], prefix, fromKey)
			if err != nil {
				return err
			}
			return s.withClient(func(ctx context.Context, c *clientv3.Client) error {
				r, err := c.RoleRevokePermission(ctx, args[0], key, end)
				if err != nil {
					return err
				}
				return s.print.roleRevoke(args[0], args[1], end, r)
			})
		},
	}
	cmd.Flags().BoolVar(&prefix, "prefix", false, "revoke a prefix permission")
	cmd.Flags().BoolVar(&fromKey, "from-key", false, "revoke a permission of keys that are greater than or equal to the given key using byte compare")
	return cmd
}

// permissionSpan says which keys KEY [END] --prefix --from-key means for a permission.
func permissionSpan(args []string, prefix, fromKey bool) (key, end string, err error) {
	key = args[0]
	switch {
	case prefix && fromKey:
		err = errors.New("--from-key and --prefix flags are mutually exclusive")
	case len(args) > 1 && prefix:
		err = errors.New("unexpected endkey argument with --prefix flag")
	case len(args) > 1 && fromKey:
		err = errors.New("unexpected endkey argument with --from-key flag")
	case len(args) > 1:
		end = args[1]
	case key == "" && (prefix || fromKey):
		key, end = openEnd, openEnd
	case prefix:
		end = clientv3.GetPrefixRangeEnd(key)
	case fromKey:
		end = openEnd
	}
	return key, end, cli.With(cli.ExitBadArgs, err)
}
