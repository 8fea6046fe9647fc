package ctl

import (
	"context"
	"fmt"
	"strings"

	"github.com/spf13/cobra"
	clientv3 "go.etcd.io/etcd/client/v3"

	"keelson/internal/cli"
)

func (s *session) userCommand() *cobra.Command {
	return s.family("user", "User related commands", groupAuth,
		s.userAddCommand(), s.userDeleteCommand(), s.userGetCommand(), s.userListCommand(), s.userPasswordCommand(),
		s.userRoleCommand("grant-role <user name> <role name>", "Grants a role to a user", "user grant command requires user name and role name as its argument",
			func(ctx context.Context, c *clientv3.Client, user, role string) error {
				r, err := c.UserGrantRole(ctx, user, role)
				if err != nil {
					return err
				}
				return s.print.userGrant(user, role, r)
			}),
		s.userRoleCommand("revoke-role <user name> <role name>", "Revokes a role from a user", "user revoke-role requires user name and role name as its argument",
			func(ctx context.Context, c *clientv3.Client, user, role string) error {
				r, err := c.UserRevokeRole(ctx, user, role)
				if err != nil {
					return err
				}
				return s.print.userRevoke(user, role, r)
			}))
}

func (s *session) userAddCommand() *cobra.Command {
	var password string
	var none, interactive bool
	cmd := &cobra.Command{Use: "add <user name or user:password> [options]", Short: "Adds a new user", RunE: func(cmd *cobra.Command, args []string) error {
		if len(args) != 1 {
			return cli.Fail(cli.ExitBadArgs, "user add command requires user name as its argument")
		}
		name, secret := args[0], password
		if !none && password == "" {
			before, after, ok := strings.Cut(args[0], ":")
			if name, secret = before, after; name == "" {
				return cli.Fail(cli.ExitBadArgs, "empty user name is not allowed")
			}
			var err error
			if !ok {
				if secret, err = s.newPassword(name, interactive); err != nil {
					return err
				}
			}
		}
		return s.withClient(func(ctx context.Context, c *clientv3.Client) error {
			r, err := c.UserAddWithOptions(ctx, name, secret, &clientv3.UserAddOptions{NoPassword: none})
			if err != nil {
				return err
			}
			return s.print.userAdd(name, r)
		})
	}}
	cmd.Flags().BoolVar(&interactive, "interactive", true, "Read password from stdin instead of interactive terminal")
	cmd.Flags().StringVar(&password, "new-user-password", "", "Supply password from the command line flag")
	cmd.Flags().BoolVar(&none, "no-password", false, "Create a user without password (CN based auth only)")
	return cmd
}

// newPassword asks twice, or reads one line if nobody is there to be asked.
func (s *session) newPassword(name string, interactive bool) (string, error) {
	if !interactive {
		return s.readLine()
	}
	first, err := s.askPassword(fmt.Sprintf("Password of %s: ", name))
	if err != nil {
		return "", cli.Fail(cli.ExitBadArgs, "failed to ask password: %w", err)
	}
	second, err := s.askPassword(fmt.Sprintf("Type password of %s again for confirmation: ", name))
	if err != nil {
		return "", cli.Fail(cli.ExitBadArgs, "failed to ask password: %w", err)
	}
	if first != second {
		return "", cli.Fail(cli.ExitBadArgs, "given passwords are different")
	}
	return first, nil
}

func (s *session) userDeleteCommand() *cobra.Command {
	return &cobra.Command{Use: "delete <user name>", Short: "Deletes a user", RunE: func(cmd *cobra.Command, args []string) error {
		if len(args) != 1 {
			return cli.Fail(cli.ExitBadArgs, "user delete command requires user name as its argument")
		}
		return s.withClient(func(ctx context.Context, c *clientv3.Client) error {
			r, err := c.UserDelete(ctx, args[0])
			if err != nil {
				return err
			}
			return s.print.userDelete(args[0], r)
		})
	}}
}

func (s *session) userGetCommand() *cobra.Command {
	var detail bool
	cmd := &cobra.Command{Use: "get <user name> [options]", Short: "Gets detailed information of a user", RunE: func(cmd *cobra.Command, args []string) error {
		if len(args) != 1 {
			return cli.Fail(cli.ExitBadArgs, "user get command requires user name as its argument")
		}
		return s.withClient(func(ctx context.Context, c *clientv3.Client) error {
			r, err := c.UserGet(ctx, args[0])
			if err != nil {
				return err
			}
			if detail {
				return s.userDetail(ctx, c, args[0], r.Roles)
			}
			return s.print.userGet(args[0], r)
		})
	}}
	cmd.Flags().BoolVar(&detail, "detail", false, "Show permissions of roles granted to the user")
	return cmd
}

func (s *session) userDetail(ctx context.Context, c *clientv3.Client, user string, roles []string) error {
	fmt.Fprintf(s.out, "User: %s\n", user)
	for _, role := range roles {
		fmt.Fprintln(s.out)
		r, err := c.RoleGet(ctx, role)
		if err != nil {
			return err
		}
		if err := s.print.roleGet(role, r); err != nil {
			return err
		}
	}
	return nil
}

func (s *session) userListCommand() *cobra.Command {
	return &cobra.Command{Use: "list", Short: "Lists all users", RunE: func(cmd *cobra.Command, args []string) error {
		if len(args) != 0 {
			return cli.Fail(cli.ExitBadArgs, "user list command requires no arguments")
		}
		return s.withClient(func(ctx context.Context, c *clientv3.Client) error {
			r, err := c.UserList(ctx)
			if err != nil {
				return err
			}
			return s.print.userList(r)
		})
	}}
}

func (s *session) userPasswordCommand() *cobra.Command {
	var interactive bool
	cmd := &cobra.Command{Use: "passwd <user name> [options]", Short: "Changes password of user", RunE: func(cmd *cobra.Command, args []string) error {
		if len(args) != 1 {
			return cli.Fail(cli.ExitBadArgs, "user passwd command requires user name as its argument")
		}
		secret, err := s.newPassword(args[0], interactive)
		if err != nil {
			return err
		}
		return s.withClient(func(ctx context.Context, c *clientv3.Client) error {
			r, err := c.UserChangePassword(ctx, args[0], secret)
			if err != nil {
				return err
			}
			return s.print.userPassword(r)
		})
	}}
	cmd.Flags().BoolVar(&interactive, "interactive", true, "If true, read password from stdin instead of interactive terminal")
	return cmd
}

// userRoleCommand is a command that takes a user and a role.
func (s *session) userRoleCommand(use, short, usage string, run func(ctx context.Context, c *clientv3.Client, user, role string) error) *cobra.Command {
	return &cobra.Command{Use: use, Short: short, RunE: func(cmd *cobra.Command, args []string) error {
		if len(args) != 2 {
			return cli.Fail(cli.ExitBadArgs, "%s", usage)
		}
		return s.withClient(func(ctx context.Context, c *clientv3.Client) error { return run(ctx, c, args[0], args[1]) })
	}}
}
