package ctl

import (
	"context"
	"fmt"
	"strings"
	"time"

	"github.com/spf13/cobra"
	clientv3 "go.etcd.io/etcd/client/v3"
)

// completeWithin is how long a shell may wait for the cluster.
const completeWithin = time.Second

// completions are for how many keys one asks.
const completedKeys = 200

type completer = func(cmd *cobra.Command, args []string, typed string) ([]string, cobra.ShellCompDirective)

// completeArguments lets the shell ask the cluster: keys for commands that take keys, names with ids for those that take
// members, users and roles likewise, contexts from their file.
func (s *session) completeArguments(root *cobra.Command) {
	kinds := map[string]completer{
		"get": s.completeKeys, "put": s.completeKeys, "del": s.completeKeys, "watch": s.completeKeys, "history": s.completeKeys, "edit": s.completeKeys,
		"ls": s.completeKeys, "tree": s.completeKeys, "du": s.completeKeys, "top": s.completeKeys,
		"member remove": s.completeMembers, "member update": s.completeMembers, "member promote": s.completeMembers, "move-leader": s.completeMembers,
		"user get": s.completeUsers, "user delete": s.completeUsers, "user passwd": s.completeUsers, "user grant-role": s.completeUsers, "user revoke-role": s.completeUsers,
		"role get": s.completeRoles, "role delete": s.completeRoles, "role grant-permission": s.completeRoles, "role revoke-permission": s.completeRoles,
		"lease revoke": s.completeLeases, "lease timetolive": s.completeLeases, "lease keep-alive": s.completeLeases,
		"context use": s.completeContexts, "context show": s.completeContexts, "context remove": s.completeContexts, "context set": s.completeContexts,
	}
	eachCommand(root, func(cmd *cobra.Command) {
		if complete := kinds[strings.TrimPrefix(cmd.CommandPath(), "keelson ")]; complete != nil {
			cmd.ValidArgsFunction = complete
		}
	})
	root.RegisterFlagCompletionFunc("context", s.completeContexts)
	root.RegisterFlagCompletionFunc("write-out", cobra.FixedCompletions([]string{"simple", "json", "table", "fields", "protobuf"}, cobra.ShellCompDirectiveNoFileComp))
}

// ask connects for a moment; whatever goes wrong, there is nothing to complete.
func (s *session) ask(f func(ctx context.Context, c *clientv3.Client) ([]string, error)) ([]string, cobra.ShellCompDirective) {
	c, err := s.connect()
	if err != nil {
		return nil, cobra.ShellCompDirectiveNoFileComp
	}
	defer c.Close()
	ctx, cancel := context.WithTimeout(context.Background(), completeWithin)
	defer cancel()
	list, err := f(ctx, c)
	if err != nil {
		return nil, cobra.ShellCompDirectiveNoFileComp
	}
	return list, cobra.ShellCompDirectiveNoFileComp
}

// completeKeys offers the next segments below what is typed.
func (s *session) completeKeys(cmd *cobra.Command, args []string, typed string) ([]string, cobra.ShellCompDirective) {
	list, directive := s.ask(func(ctx context.Context, c *clientv3.Client) (list []string, err error) {
		folder := typed[:strings.LastIndexByte(typed, '/')+1]
		err = children(ctx, c, folder, func(b branch) error {
			if strings.HasPrefix(b.name, typed) && shown(b.name) == b.name { // others cannot be typed
				list = append(list, b.name)
			}
			if len(list) >= completedKeys {
				return errEnough
			}
			return nil
		})
		if err == errEnough {
			err = nil
		}
		return list, err
	})
	return list, directive | cobra.ShellCompDirectiveNoSpace
}

var errEnough = fmt.Errorf("enough")

func (s *session) completeMembers(cmd *cobra.Command, args []string, typed string) ([]string, cobra.ShellCompDirective) {
	if len(args) > 0 {
		return nil, cobra.ShellCompDirectiveNoFileComp
	}
	return s.ask(func(ctx context.Context, c *clientv3.Client) (list []string, err error) {
		r, err := c.MemberList(ctx, clientv3.WithSerializable())
		if err != nil {
			return nil, err
		}
		for _, m := range r.Members {
			if m.Name == "" { // it has not started yet
				list = append(list, fmt.Sprintf("%x\t%s", m.ID, strings.Join(m.PeerURLs, ",")))
				continue
			}
			list = append(list, fmt.Sprintf("%s\t%x", m.Name, m.ID))
		}
		return list, nil
	})
}

func (s *session) completeUsers(cmd *cobra.Command, args []string, typed string) ([]string, cobra.ShellCompDirective) {
	if len(args) == 1 && strings.HasSuffix(cmd.Name(), "-role") {
		return s.completeRoles(cmd, nil, typed)
	}
	if len(args) > 0 {
		return nil, cobra.ShellCompDirectiveNoFileComp
	}
	return s.ask(func(ctx context.Context, c *clientv3.Client) ([]string, error) {
		r, err := c.UserList(ctx)
		if err != nil {
			return nil, err
		}
		return r.Users, nil
	})
}

func (s *session) completeRoles(cmd *cobra.Command, args []string, typed string) ([]string, cobra.ShellCompDirective) {
	if len(args) > 0 {
		return nil, cobra.ShellCompDirectiveNoFileComp
	}
	return s.ask(func(ctx context.Context, c *clientv3.Client) ([]string, error) {
		r, err := c.RoleList(ctx)
		if err != nil {
			return nil, err
		}
		return r.Roles, nil
	})
}

func (s *session) completeLeases(cmd *cobra.Command, args []string, typed string) ([]string, cobra.ShellCompDirective) {
	if len(args) > 0 {
		return nil, cobra.ShellCompDirectiveNoFileComp
	}
	return s.ask(func(ctx context.Context, c *clientv3.Client) (list []string, err error) {
		r, err := c.Leases(ctx)
		if err != nil {
			return nil, err
		}
		for _, l := range r.Leases[:min(len(r.Leases), completedKeys)] {
			list = append(list, fmt.Sprintf("%016x", l.ID))
		}
		return list, nil
	})
}

func (s *session) completeContexts(cmd *cobra.Command, args []string, typed string) ([]string, cobra.ShellCompDirective) {
	all, _, err := s.loadContexts()
	if err != nil || len(args) > 0 {
		return nil, cobra.ShellCompDirectiveNoFileComp
	}
	return all.names(), cobra.ShellCompDirectiveNoFileComp
}
