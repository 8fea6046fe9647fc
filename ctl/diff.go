package ctl

import (
	"bytes"
	"context"
	"fmt"
	"iter"
	"strconv"

	"github.com/spf13/cobra"
	clientv3 "go.etcd.io/etcd/client/v3"

	"keelson/internal/cli"
)

func (s *session) diffCommand() *cobra.Command {
	var keysOnly bool
	cmd := &cobra.Command{
		Use: "diff REV1 REV2 [PREFIX]", Short: "Show what changed below a prefix between two revisions", GroupID: groupLook, Args: cobra.RangeArgs(2, 3),
		Long: "Show what changed below a prefix between two revisions: + came, - went, ~ has another value. Revision 0 is the newest. " +
			"The exit code is 0 also if something changed.",
		RunE: func(cmd *cobra.Command, args []string) error {
			var revs [2]int64
			for i := range revs {
				rev, err := strconv.ParseInt(args[i], 10, 64)
				if err != nil || rev < 0 {
					return cli.Fail(cli.ExitBadArgs, "%q is no revision: give a number, 0 for the newest", args[i])
				}
				revs[i] = rev
			}
			c, err := s.connectNow()
			if err != nil {
				return err
			}
			defer c.Close()
			ctx, cancel := interrupted()
			defer cancel()
			return s.diff(ctx, c, revs, prefixOf(args[2:]), keysOnly)
		},
	}
	cmd.Flags().BoolVar(&keysOnly, "keys-only", false, "show keys and not values")
	return cmd
}

// diff walks both revisions side by side.
func (s *session) diff(ctx context.Context, c *clientv3.Client, revs [2]int64, prefix string, keysOnly bool) error {
	before, stopBefore := iter.Pull2(pairs(ctx, c, prefix, prefixEnd(prefix), revs[0]))
	defer stopBefore()
	after, stopAfter := iter.Pull2(pairs(ctx, c, prefix, prefixEnd(prefix), revs[1]))
	defer stopAfter()
	old, err, inOld := before()
	fresh, err2, inFresh := after()
	for inOld || inFresh {
		if err != nil {
			return err
		}
		if err2 != nil {
			return err2
		}
		order := 0
		switch {
		case !inFresh:
			order = -1
		case !inOld:
			order = 1
		default:
			order = bytes.Compare(old.Key, fresh.Key)
		}
		switch {
		case order < 0:
			s.showDifference(cli.Red, "-", old.Key, keysOnly, old.Value)
		case order > 0:
			s.showDifference(cli.Green, "+", fresh.Key, keysOnly, fresh.Value)
		case old.ModRevision != fresh.ModRevision:
			s.showDifference(cli.Yellow, "~", fresh.Key, keysOnly, old.Value, fresh.Value)
		}
		if order <= 0 {
			old, err, inOld = before()
		}
		if order >= 0 {
			fresh, err2, inFresh = after()
		}
	}
	return nil
}

func (s *session) showDifference(c cli.Colour, mark string, key []byte, keysOnly bool, values ...[]byte) {
	line := mark + " " + shown(string(key))
	for i, value := range values {
		switch {
		case keysOnly:
		case i == 0:
			line += "  " + s.oneLine(value)
		default:
			line += " -> " + s.oneLine(value)
		}
	}
	fmt.Fprintln(s.out, s.paint.Paint(c, line))
}
