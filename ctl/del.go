package ctl

import (
	"context"
	"fmt"
	"time"

	"github.com/spf13/cobra"
	clientv3 "go.etcd.io/etcd/client/v3"

	"keelson/internal/cli"
)

type delOptions struct{ prefix, fromKey, prevKV, ranged, dryRun, yes bool }

// delPause is how long somebody who may have mistaken a second key for a range's end can think again.
const delPause = 2 * time.Second

func (s *session) delCommand() (*cobra.Command, *delOptions) {
	o := &delOptions{}
	cmd := &cobra.Command{
		Use: "del [options] <key> [range_end]", Short: "Removes the specified key or range of keys [key, range_end)", GroupID: groupKV,
		RunE: func(cmd *cobra.Command, args []string) error { return s.del(o, args) },
	}
	f := cmd.Flags()
	f.BoolVar(&o.prefix, "prefix", false, "delete keys with matching prefix")
	f.BoolVar(&o.prevKV, "prev-kv", false, "return deleted key-value pairs")
	f.BoolVar(&o.fromKey, "from-key", false, "delete keys that are greater than or equal to the given key using byte compare")
	f.BoolVar(&o.ranged, "range", false, "delete range of keys")
	if !s.plain {
		f.BoolVar(&o.dryRun, "dry-run", false, "say which keys would be deleted, and delete none")
		f.BoolVar(&o.yes, "yes", false, "do not ask on a terminal before ranges are deleted")
	}
	return cmd, o
}

func (s *session) del(o *delOptions, args []string) error {
	key, opts, err := s.delOp(o, args)
	if err != nil {
		return err
	}
	return s.withClient(func(ctx context.Context, c *clientv3.Client) error {
		if o.dryRun {
			return s.wouldDelete(ctx, c, o, args)
		}
		if !s.plain && (o.prefix || o.fromKey || len(args) > 1) {
			if err := s.confirmDeletion(ctx, c, o, args); err != nil {
				return err
			}
			var cancel context.CancelFunc // the question took its time
			ctx, cancel = s.short()
			defer cancel()
		}
		r, err := c.Delete(ctx, key, opts...)
		if err != nil {
			return err
		}
		return s.print.del(r)
	})
}

// delOp makes a deletion of the arguments and flags. Two keys without --range wait a moment.
func (s *session) delOp(o *delOptions, args []string) (key string, opts []clientv3.OpOption, err error) {
	if len(args) == 0 || len(args) > 2 {
		return "", nil, cli.Fail(cli.ExitBadArgs, "del command needs one argument as key and an optional argument as range_end")
	}
	if err := exclusive(o.prefix, o.fromKey, "--prefix", "--from-key"); err != nil {
		return "", nil, err
	}
	if opts, err = spanOptions(args, o.prefix, o.fromKey); err != nil {
		return "", nil, err
	}
	if len(args) == 2 && !o.ranged && !o.dryRun && s.plain {
		fmt.Fprintf(s.err, "Warning: Keys between %q and %q will be deleted. Please interrupt the command within next 2 seconds to cancel. "+
			"You can provide `--range` flag to avoid the delay.\n", args[0], args[1])
		time.Sleep(delPause)
	}
	if o.prevKV {
		opts = append(opts, clientv3.WithPrevKV())
	}
	return args[0], opts, nil
}

// wouldDelete names the keys that a deletion would take.
func (s *session) wouldDelete(ctx context.Context, c *clientv3.Client, o *delOptions, args []string) error {
	opts, err := spanOptions(args, o.prefix, o.fromKey)
	if err != nil {
		return err
	}
	r, err := c.Get(ctx, args[0], append(opts, clientv3.WithKeysOnly())...)
	if err != nil {
		return err
	}
	for _, kv := range r.Kvs {
		fmt.Fprintf(s.out, "would delete %s\n", kv.Key)
	}
	fmt.Fprintf(s.out, "%d keys would be deleted; nothing was changed\n", len(r.Kvs))
	return nil
}

// confirmDeletion counts what would go.
func (s *session) confirmDeletion(ctx context.Context, c *clientv3.Client, o *delOptions, args []string) error {
	opts, err := spanOptions(args, o.prefix, o.fromKey)
	if err != nil {
		return err
	}
	r, err := c.Get(ctx, args[0], append(opts, clientv3.WithCountOnly())...)
	if err != nil {
		return err
	}
	return s.confirm(fmt.Sprintf("%d keys will be deleted, from %q on.", r.Count, args[0]), o.yes)
}
