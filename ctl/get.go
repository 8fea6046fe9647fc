package ctl

import (
	"context"
	"strings"

	"github.com/spf13/cobra"
	clientv3 "go.etcd.io/etcd/client/v3"

	"keelson/internal/cli"
)

// getOptions are the flags of get.
type getOptions struct {
	consistency, order, sortBy           string
	limit, rev                           int64
	modRevMin, modRevMax                 int64
	createRevMin, createRevMax           int64
	prefix, fromKey, keysOnly, countOnly bool
	valueOnly, stream                    bool
}

func (s *session) getCommand() (*cobra.Command, *getOptions) {
	o := &getOptions{}
	cmd := &cobra.Command{
		Use: "get [options] <key> [range_end]", Short: "Gets the key or a range of keys", GroupID: groupKV,
		RunE: func(cmd *cobra.Command, args []string) error { return s.get(o, args) },
	}
	f := cmd.Flags()
	f.StringVar(&o.consistency, "consistency", "l", "Linearizable(l) or Serializable(s)")
	f.StringVar(&o.order, "order", "", "Order of results; ASCEND or DESCEND (ASCEND by default)")
	f.StringVar(&o.sortBy, "sort-by", "", "Sort target; CREATE, KEY, MODIFY, VALUE, or VERSION")
	f.Int64Var(&o.limit, "limit", 0, "Maximum number of results")
	f.BoolVar(&o.prefix, "prefix", false, "Get keys with matching prefix")
	f.BoolVar(&o.fromKey, "from-key", false, "Get keys that are greater than or equal to the given key using byte compare")
	f.Int64Var(&o.rev, "rev", 0, "Specify the kv revision")
	f.BoolVar(&o.keysOnly, "keys-only", false, "Get only the keys")
	f.BoolVar(&o.countOnly, "count-only", false, "Get only the count")
	f.BoolVar(&o.valueOnly, "print-value-only", false, `Only write values when using the "simple" output format`)
	f.Int64Var(&o.createRevMin, "min-create-rev", 0, "Minimum create revision")
	f.Int64Var(&o.createRevMax, "max-create-rev", 0, "Maximum create revision")
	f.Int64Var(&o.modRevMin, "min-mod-rev", 0, "Minimum modification revision")
	f.Int64Var(&o.modRevMax, "max-mod-rev", 0, "Maximum modification revision")
	f.BoolVar(&o.stream, "stream", false, "Use the RangeStream RPC")
	return cmd, o
}

func (s *session) get(o *getOptions, args []string) error {
	key, opts, err := o.op(args)
	if err != nil {
		return err
	}
	return s.withClient(func(ctx context.Context, c *clientv3.Client) error {
		if err := s.checkShape(o); err != nil {
			return err
		}
		r, err := read(ctx, c, o, key, opts)
		if err != nil {
			return err
		}
		return s.print.get(r)
	})
}

// read asks for a range, at once or in pieces.
func read(ctx context.Context, c *clientv3.Client, o *getOptions, key string, opts []clientv3.OpOption) (*clientv3.GetResponse, error) {
	if !o.stream {
		return c.Get(ctx, key, opts...)
	}
	stream, err := c.GetStream(ctx, key, opts...)
	if err != nil {
		return nil, err
	}
	return clientv3.GetStreamToGetResponse(stream)
}

// checkShape refuses what a format cannot show.
func (s *session) checkShape(o *getOptions) error {
	simple, isSimple := s.print.(*simplePrinter)
	_, isFields := s.print.(*fieldsPrinter)
	if o.countOnly && !isFields && s.plain {
		return cli.Fail(cli.ExitBadArgs, "--count-only is only for `--write-out=fields`")
	}
	if o.valueOnly {
		if !isSimple {
			return cli.Fail(cli.ExitBadArgs, "print-value-only is only for `--write-out=simple`")
		}
		simple.valueOnly = true
	}
	if o.countOnly && isSimple {
		s.print = &countPrinter{simple}
	}
	return nil
}

// op makes a read of the arguments and flags.
func (o *getOptions) op(args []string) (key string, opts []clientv3.OpOption, err error) {
	if len(args) == 0 {
		return "", nil, cli.Fail(cli.ExitBadArgs, "get command needs one argument as key and an optional argument as range_end")
	}
	if err := exclusive(o.prefix, o.fromKey, "--prefix", "--from-key"); err != nil {
		return "", nil, err
	}
	if err := exclusive(o.keysOnly, o.countOnly, "--keys-only", "--count-only"); err != nil {
		return "", nil, err
	}
	switch o.consistency {
	case "s":
		opts = append(opts, clientv3.WithSerializable())
	case "l":
	default:
		return "", nil, cli.Fail(cli.ExitBadFeature, "unknown consistency flag %q", o.consistency)
	}
	key = args[0]
	span, err := spanOptions(args, o.prefix, o.fromKey)
	if err != nil {
		return "", nil, err
	}
	opts = append(opts, span...)
	sorted, err := o.sort()
	if err != nil {
		return "", nil, err
	}
	opts = append(opts, clientv3.WithLimit(o.limit), sorted,
		clientv3.WithMinModRev(o.modRevMin), clientv3.WithMaxModRev(o.modRevMax),
		clientv3.WithMinCreateRev(o.createRevMin), clientv3.WithMaxCreateRev(o.createRevMax))
	if o.rev > 0 {
		opts = append(opts, clientv3.WithRev(o.rev))
	}
	if o.keysOnly {
		opts = append(opts, clientv3.WithKeysOnly())
	}
	if o.countOnly {
		opts = append(opts, clientv3.WithCountOnly())
	}
	return key, opts, nil
}

// spanOptions says which keys KEY [END] --prefix --from-key means.
func spanOptions(args []string, prefix, fromKey bool) ([]clientv3.OpOption, error) {
	switch {
	case len(args) > 1 && (prefix || fromKey):
		return nil, cli.Fail(cli.ExitBadArgs, "too many arguments, only accept one argument when `--prefix` or `--from-key` is set")
	case len(args) > 1:
		return []clientv3.OpOption{clientv3.WithRange(args[1])}, nil
	case prefix:
		return []clientv3.OpOption{clientv3.WithPrefix()}, nil
	case fromKey:
		return []clientv3.OpOption{clientv3.WithFromKey()}, nil
	}
	return nil, nil
}

func exclusive(a, b bool, nameA, nameB string) error {
	if a && b {
		return cli.Fail(cli.ExitBadArgs, "`%s` and `%s` cannot be set at the same time, choose one", nameA, nameB)
	}
	return nil
}

func (o *getOptions) sort() (clientv3.OpOption, error) {
	order := clientv3.SortNone
	switch strings.ToUpper(o.order) {
	case "":
	case "ASCEND":
		order = clientv3.SortAscend
	case "DESCEND":
		order = clientv3.SortDescend
	default:
		return nil, cli.Fail(cli.ExitBadFeature, "bad sort order %v", o.order)
	}
	target := clientv3.SortByKey
	switch strings.ToUpper(o.sortBy) {
	case "", "KEY":
	case "CREATE":
		target = clientv3.SortByCreateRevision
	case "MODIFY":
		target = clientv3.SortByModRevision
	case "VALUE":
		target = clientv3.SortByValue
	case "VERSION":
		target = clientv3.SortByVersion
	default:
		return nil, cli.Fail(cli.ExitBadFeature, "bad sort target %v", o.sortBy)
	}
	return clientv3.WithSort(target, order), nil
}

// countPrinter prints the number of keys alone, which etcdctl refuses to do in its simple format.
type countPrinter struct{ *simplePrinter }

func (p *countPrinter) get(r *clientv3.GetResponse) error { return p.printf("%d\n", r.Count) }
