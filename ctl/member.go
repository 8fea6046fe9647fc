package ctl

import (
	"context"
	"fmt"
	"strconv"
	"strings"

	"github.com/spf13/cobra"
	pb "go.etcd.io/etcd/api/v3/etcdserverpb"
	"go.etcd.io/etcd/api/v3/v3rpc/rpctypes"
	clientv3 "go.etcd.io/etcd/client/v3"

	"keelson/internal/cli"
)

func (s *session) memberCommand() *cobra.Command {
	return s.family("member", "Membership related commands", groupCluster,
		s.memberAddCommand(), s.memberRemoveCommand(), s.memberUpdateCommand(), s.memberListCommand(), s.memberPromoteCommand())
}

func (s *session) memberAddCommand() *cobra.Command {
	var urls string
	var learner bool
	cmd := &cobra.Command{Use: "add <memberName> [options]", Short: "Adds a member into the cluster", RunE: func(cmd *cobra.Command, args []string) error {
		switch {
		case len(args) < 1:
			return cli.Fail(cli.ExitBadArgs, "member name not provided")
		case len(args) > 1:
			text := "too many arguments"
			if strings.HasPrefix(args[1], "http") {
				text += ", did you mean --peer-urls=" + args[1]
			}
			return cli.Fail(cli.ExitBadArgs, "%s", text)
		case urls == "":
			return cli.Fail(cli.ExitBadArgs, "member peer urls not provided")
		}
		return s.memberAdd(args[0], strings.Split(urls, ","), learner)
	}}
	cmd.Flags().StringVar(&urls, "peer-urls", "", "comma separated peer URLs for the new member.")
	cmd.Flags().BoolVar(&learner, "learner", false, "indicates if the new member is raft learner")
	return cmd
}

func (s *session) memberAdd(name string, urls []string, learner bool) error {
	return s.withClient(func(ctx context.Context, c *clientv3.Client) error {
		add := c.MemberAdd
		if learner {
			add = c.MemberAddAsLearner
		}
		r, err := add(ctx, urls)
		if err != nil {
			return err
		}
		if err := s.print.memberAdd(r); err != nil {
			return err
		}
		if _, isSimple := s.print.(*simplePrinter); isSimple {
			s.printStart(name, r)
		}
		return nil
	})
}

// printStart prints the settings with which the new member is to be started.
func (s *session) printStart(name string, added *clientv3.MemberAddResponse) {
	var initial []string
	for _, m := range added.Members {
		for _, u := range m.PeerURLs {
			known := m.Name
			if m.ID == added.Member.ID {
				known = name
			}
			initial = append(initial, known+"="+u)
		}
	}
	fmt.Fprintf(s.out, "\nETCD_NAME=%q\nETCD_INITIAL_CLUSTER=%q\nETCD_INITIAL_ADVERTISE_PEER_URLS=%q\nETCD_INITIAL_CLUSTER_STATE=%q\n",
		name, strings.Join(initial, ","), strings.Join(added.Member.PeerURLs, ","), "existing")
}

// memberWord is how usage texts call a member.
func (s *session) memberWord() string {
	if s.plain {
		return "<memberID>"
	}
	return "<memberID|name>"
}

// memberID is the id that an argument gives or, in keelson's manner, that of the member whose name it gives.
func (s *session) memberID(args []string) (id uint64, err error) {
	id, err = memberID(args)
	const idDigits = 15 // hardly any id has fewer
	if s.plain || len(args) != 1 || err == nil && len(args[0]) >= idDigits {
		return id, err
	}
	e := s.withClient(func(ctx context.Context, c *clientv3.Client) error {
		r, e := c.MemberList(ctx)
		if e == nil {
			id, err = memberNamed(r.Members, args[0])
		}
		return e
	})
	if e != nil {
		return 0, e
	}
	return id, err
}

// memberNamed finds a member by its id or its name.
func memberNamed(list []*pb.Member, word string) (uint64, error) {
	var named []uint64
	var known []string
	for _, m := range list {
		id := strconv.FormatUint(m.ID, 16)
		if id == strings.TrimLeft(strings.ToLower(word), "0") {
			return m.ID, nil
		}
		if m.Name == word {
			named = append(named, m.ID)
		}
		known = append(known, fmt.Sprintf("%s (%s)", orDash(m.Name), id))
	}
	switch len(named) {
	case 1:
		return named[0], nil
	case 0:
		return 0, cli.Fail(cli.ExitBadArgs, "no member has the name or the id %q; there are %s", word, strings.Join(known, ", "))
	}
	return 0, cli.Fail(cli.ExitBadArgs, "%d members have the name %q; give an id: there are %s", len(named), word, strings.Join(known, ", "))
}

// memberID reads the only argument.
func memberID(args []string) (uint64, error) {
	if len(args) != 1 {
		return 0, cli.Fail(cli.ExitBadArgs, "member ID is not provided")
	}
	id, err := strconv.ParseUint(args[0], 16, 64)
	if err != nil {
		return 0, cli.Fail(cli.ExitBadArgs, "bad member ID arg (%w), expecting ID in Hex", err)
	}
	return id, nil
}

func (s *session) memberRemoveCommand() *cobra.Command {
	var dryRun, yes bool
	cmd := &cobra.Command{Use: "remove " + s.memberWord(), Short: "Removes a member from the cluster", RunE: func(cmd *cobra.Command, args []string) error {
		id, err := s.memberID(args)
		if err != nil {
			return err
		}
		return s.withClient(func(ctx context.Context, c *clientv3.Client) error {
			if !s.plain {
				if stop, err := s.beforeRemoval(ctx, c, id, dryRun, yes); stop || err != nil {
					return err
				}
			}
			r, err := c.MemberRemove(ctx, id)
			if err != nil {
				return err
			}
			return s.print.memberRemove(id, r)
		})
	}}
	if !s.plain {
		cmd.Flags().BoolVar(&dryRun, "dry-run", false, "say what would happen, and change nothing")
		cmd.Flags().BoolVar(&yes, "yes", false, "do not ask on a terminal")
	}
	return cmd
}

// beforeRemoval says which member goes and what that does to the quorum. stop: no more than that was asked for.
func (s *session) beforeRemoval(ctx context.Context, c *clientv3.Client, id uint64, dryRun, yes bool) (stop bool, err error) {
	r, err := c.MemberList(ctx)
	if err != nil {
		return false, err
	}
	voters, removesVoter := 0, false
	what := ""
	for _, m := range r.Members {
		if !m.IsLearner {
			voters++
		}
		if m.ID == id {
			what = fmt.Sprintf("Member %x (%s, %s) leaves the cluster for good: its id cannot come back.", id, orDash(m.Name), strings.Join(m.PeerURLs, ","))
			removesVoter = !m.IsLearner
		}
	}
	if what == "" {
		return false, rpctypes.ErrMemberNotFound
	}
	switch left := voters - 1; {
	case removesVoter && left == 0:
		what += " It is the only voter, so the cluster will refuse."
	case removesVoter:
		what += fmt.Sprintf(" Of the %d voters that are left %d must work.", left, left/2+1)
	}
	if dryRun {
		fmt.Fprintln(s.out, what+" Nothing was changed.")
		return true, nil
	}
	return false, s.confirm(what, yes)
}

func (s *session) memberUpdateCommand() *cobra.Command {
	var urls string
	cmd := &cobra.Command{Use: "update " + s.memberWord() + " [options]", Short: "Updates a member in the cluster", RunE: func(cmd *cobra.Command, args []string) error {
		id, err := s.memberID(args)
		if err != nil {
			return err
		}
		if urls == "" {
			return cli.Fail(cli.ExitBadArgs, "member peer urls not provided")
		}
		return s.withClient(func(ctx context.Context, c *clientv3.Client) error {
			r, err := c.MemberUpdate(ctx, id, strings.Split(urls, ","))
			if err != nil {
				return err
			}
			return s.print.memberUpdate(id, r)
		})
	}}
	cmd.Flags().StringVar(&urls, "peer-urls", "", "comma separated peer URLs for the updated member.")
	return cmd
}

func (s *session) memberListCommand() *cobra.Command {
	var consistency string
	cmd := &cobra.Command{
		Use: "list", Short: "Lists all members in the cluster",
		Long: "When --write-out is set to simple, this command prints out comma-separated member lists for each endpoint.\n" +
			"The items in the lists are ID, Status, Name, Peer Addrs, Client Addrs, Is Learner.\n",
		RunE: func(cmd *cobra.Command, args []string) error {
			var opts []clientv3.OpOption
			switch consistency {
			case "s":
				opts = append(opts, clientv3.WithSerializable())
			case "l":
			default:
				shown := consistency
				if s.plain {
					shown = "l" // etcdctl says this whatever was given
				}
				return cli.Fail(cli.ExitBadFeature, "unknown consistency flag %q", shown)
			}
			return s.withClient(func(ctx context.Context, c *clientv3.Client) error {
				r, err := c.MemberList(ctx, opts...)
				if err != nil {
					return err
				}
				return s.print.memberList(r)
			})
		},
	}
	cmd.Flags().StringVar(&consistency, "consistency", "l", "Linearizable(l) or Serializable(s)")
	return cmd
}

func (s *session) memberPromoteCommand() *cobra.Command {
	return &cobra.Command{
		Use: "promote " + s.memberWord(), Short: "Promotes a non-voting member in the cluster",
		Long: "Promotes a non-voting learner member to a voting one in the cluster.\n",
		RunE: func(cmd *cobra.Command, args []string) error {
			id, err := s.memberID(args)
			if err != nil {
				return err
			}
			return s.withClient(func(ctx context.Context, c *clientv3.Client) error {
				r, err := c.MemberPromote(ctx, id)
				if err != nil {
					return err
				}
				return s.print.memberPromote(id, r)
			})
		},
	}
}
