package ctl

import (
	"context"
	"io"
	"strconv"

	"github.com/spf13/cobra"
	clientv3 "go.etcd.io/etcd/client/v3"

	"keelson/internal/cli"
)

type putOptions struct {
	lease                            string
	prevKV, ignoreValue, ignoreLease bool
}

const putHelp = `
Puts the given key into the store.

When <value> begins with '-', <value> is interpreted as a flag.
Insert '--' for workaround:

$ put <key> -- <value>
$ put -- <key> <value>

If <value> isn't given as a command line argument and '--ignore-value' is not specified,
this command tries to read the value from standard input.

If <lease> isn't given as a command line argument and '--ignore-lease' is not specified,
this command tries to read the value from standard input.

For example,
$ cat file | put <key>
will store the content of the file to <key>.
`

func (s *session) putCommand() (*cobra.Command, *putOptions) {
	o := &putOptions{}
	cmd := &cobra.Command{
		Use: "put [options] <key> <value> (<value> can also be given from stdin)", Short: "Puts the given key into the store",
		Long: putHelp, GroupID: groupKV,
		RunE: func(cmd *cobra.Command, args []string) error { return s.put(o, args) },
	}
	f := cmd.Flags()
	f.StringVar(&o.lease, "lease", "0", "lease ID (in hexadecimal) to attach to the key")
	f.BoolVar(&o.prevKV, "prev-kv", false, "return the previous key-value pair before modification")
	f.BoolVar(&o.ignoreValue, "ignore-value", false, "updates the key using its current value")
	f.BoolVar(&o.ignoreLease, "ignore-lease", false, "updates the key using its current lease")
	return cmd, o
}

func (s *session) put(o *putOptions, args []string) error {
	key, value, opts, err := o.op(args, s.in)
	if err != nil {
		return err
	}
	return s.withClient(func(ctx context.Context, c *clientv3.Client) error {
		r, err := c.Put(ctx, key, value, opts...)
		if err != nil {
			return err
		}
		return s.print.put(r)
	})
}

// op makes a put of the arguments and flags; a missing value is all of stdin.
func (o *putOptions) op(args []string, stdin io.Reader) (key, value string, opts []clientv3.OpOption, err error) {
	if len(args) == 0 {
		return "", "", nil, cli.Fail(cli.ExitBadArgs, "put command needs 1 argument and input from stdin or 2 arguments")
	}
	key = args[0]
	switch {
	case o.ignoreValue && len(args) > 1:
		return "", "", nil, cli.Fail(cli.ExitBadArgs, "put command needs only 1 argument when 'ignore-value' is set")
	case o.ignoreValue:
	case len(args) > 1:
		value = args[1]
	default:
		b, err := io.ReadAll(stdin)
		if err != nil || len(b) == 0 {
			return "", "", nil, cli.Fail(cli.ExitBadArgs, "put command needs 1 argument and input from stdin or 2 arguments")
		}
		value = string(b)
	}
	id, err := strconv.ParseInt(o.lease, 16, 64)
	if err != nil {
		return "", "", nil, cli.Fail(cli.ExitBadArgs, "bad lease ID (%w), expecting ID in Hex", err)
	}
	if id != 0 {
		opts = append(opts, clientv3.WithLease(clientv3.LeaseID(id)))
	}
	if o.prevKV {
		opts = append(opts, clientv3.WithPrevKV())
	}
	if o.ignoreValue {
		opts = append(opts, clientv3.WithIgnoreValue())
	}
	if o.ignoreLease {
		opts = append(opts, clientv3.WithIgnoreLease())
	}
	return key, value, opts, nil
}
