package ctl

import (
	"cmp"
	"context"
	"fmt"
	"slices"
	"strconv"
	"strings"
	"unicode"
	"unicode/utf8"

	"github.com/spf13/cobra"
	clientv3 "go.etcd.io/etcd/client/v3"

	"keelson/internal/cli"
)

// branch is what stands below a prefix: a key, or everything that shares the next segment of the path.
type branch struct {
	name string // the whole key, or the whole prefix with its slash
	kv   *keyValue
}

func (b branch) isPrefix() bool { return b.kv == nil }

// children finds the keys and prefixes right below a prefix. It costs a request for each prefix, not for each key.
func children(ctx context.Context, c *clientv3.Client, prefix string, visit func(branch) error) error {
	from, end := prefix, prefixEnd(prefix)
	for {
		page, err := c.Get(ctx, key(from), until(end), clientv3.WithLimit(pageKeys), clientv3.WithKeysOnly())
		if err != nil {
			return err
		}
		jumped := false
		for _, kv := range page.Kvs {
			name := string(kv.Key)
			segment, _, deeper := strings.Cut(strings.TrimPrefix(name, prefix), "/")
			if deeper && segment == "" && name == prefix+"/" && len(name) == len(prefix)+1 { // the slash itself
				deeper = false
			}
			if !deeper {
				if err := visit(branch{name: name, kv: kv}); err != nil {
					return err
				}
				from = name + "\x00"
				continue
			}
			folder := prefix + segment + "/"
			if err := visit(branch{name: folder}); err != nil {
				return err
			}
			if from, jumped = prefixEnd(folder), true; from == "" {
				return nil
			}
			break
		}
		if !jumped && !page.More {
			return nil
		}
	}
}

// prefixOf is the only argument, or everything.
func prefixOf(args []string) string {
	if len(args) == 0 {
		return ""
	}
	return args[0]
}

func (s *session) listCommand() *cobra.Command {
	var long bool
	cmd := &cobra.Command{
		Use: "ls [PREFIX]", Short: "List keys and prefixes right below a prefix, as a file system would", GroupID: groupLook, Args: cobra.MaximumNArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			return s.withClient(func(ctx context.Context, c *clientv3.Client) error { return s.list(ctx, c, prefixOf(args), long) })
		},
	}
	cmd.Flags().BoolVarP(&long, "long", "l", false, "show revision, version and lease of keys")
	return cmd
}

func (s *session) list(ctx context.Context, c *clientv3.Client, prefix string, long bool) error {
	var rows [][]string
	err := children(ctx, c, prefix, func(b branch) error {
		switch {
		case !long && b.isPrefix():
			fmt.Fprintln(s.out, s.paint.Paint(cli.Blue, s.listed(b.name)))
		case !long:
			fmt.Fprintln(s.out, s.listed(b.name))
		case b.isPrefix():
			rows = append(rows, []string{"-", "-", "-", shown(b.name)})
		default:
			lease := "-"
			if b.kv.Lease != 0 {
				lease = fmt.Sprintf("%016x", b.kv.Lease)
			}
			rows = append(rows, []string{fmt.Sprint(b.kv.ModRevision), fmt.Sprint(b.kv.Version), lease, shown(b.name)})
		}
		return nil
	})
	if err != nil || !long {
		return err
	}
	return cli.Columns(s.out, append([][]string{{"REVISION", "VERSION", "LEASE", "KEY"}}, rows...), s.boldTitles)
}

// listed is a name in a list that programs may read: on a terminal as people can read it, else as it is.
func (s *session) listed(name string) string {
	if cli.IsTerminal(s.out) {
		return shown(name)
	}
	return name
}

// shown is a key that nothing in it can make into more than one line, or into an order to the terminal: quoted if need be.
func shown(name string) string {
	if strings.ContainsFunc(name, func(r rune) bool { return !unicode.IsPrint(r) || r == utf8.RuneError }) {
		return strconv.Quote(name)
	}
	return name
}

// boldTitles paints the first row.
func (s *session) boldTitles(row, _ int, cell string) string {
	if row == 0 {
		return s.paint.Paint(cli.Bold, cell)
	}
	return cell
}

func (s *session) treeCommand() *cobra.Command {
	var depth int
	cmd := &cobra.Command{
		Use: "tree [PREFIX]", Short: "Draw the keys below a prefix as a tree", GroupID: groupLook, Args: cobra.MaximumNArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			return s.withClient(func(ctx context.Context, c *clientv3.Client) error {
				prefix := prefixOf(args)
				fmt.Fprintln(s.out, s.paint.Paint(cli.Blue, cmp.Or(shown(prefix), ".")))
				return s.tree(ctx, c, prefix, "", depth)
			})
		},
	}
	cmd.Flags().IntVar(&depth, "depth", 0, "how many levels to draw (0: all)")
	return cmd
}

// tree draws one level and those below; indent is what stands before each line. depth 0 has no end, 1 is the last level.
func (s *session) tree(ctx context.Context, c *clientv3.Client, prefix, indent string, depth int) error {
	var held *branch // until it is known whether it is the last one
	draw := func(b branch, joint, below string) error {
		name := shown(strings.TrimPrefix(b.name, prefix))
		if !b.isPrefix() {
			fmt.Fprintf(s.out, "%s%s%s\n", indent, joint, name)
			return nil
		}
		fmt.Fprintf(s.out, "%s%s%s\n", indent, joint, s.paint.Paint(cli.Blue, name))
		if depth == 1 {
			return nil
		}
		return s.tree(ctx, c, b.name, indent+below, max(depth-1, 0))
	}
	err := children(ctx, c, prefix, func(b branch) error {
		var err error
		if held != nil {
			err = draw(*held, "├── ", "│   ")
		}
		held = &b
		return err
	})
	if err != nil || held == nil {
		return err
	}
	return draw(*held, "└── ", "    ")
}

func (s *session) usageCommand() *cobra.Command {
	return &cobra.Command{
		Use: "du [PREFIX]", Short: "Show how many keys and bytes stand below each prefix, the largest first", GroupID: groupLook, Args: cobra.MaximumNArgs(1),
		Long: "Show how many keys and bytes stand below each prefix, the largest first. The bytes are those of the newest keys and values; " +
			"older revisions come on top until they are compacted.",
		RunE: func(cmd *cobra.Command, args []string) error {
			c, err := s.connectNow()
			if err != nil {
				return err
			}
			defer c.Close()
			ctx, cancel := interrupted()
			defer cancel()
			return s.usage(ctx, c, prefixOf(args))
		},
	}
}

// share is what one prefix takes.
type share struct {
	name        string
	keys, bytes int64
}

func (s *session) usage(ctx context.Context, c *clientv3.Client, prefix string) error {
	shares := map[string]*share{}
	total := share{name: "total"}
	for kv, err := range pairs(ctx, c, prefix, prefixEnd(prefix), 0) {
		if err != nil {
			return err
		}
		name := string(kv.Key)
		if segment, _, deeper := strings.Cut(strings.TrimPrefix(name, prefix), "/"); deeper {
			name = prefix + segment + "/"
		}
		if shares[name] == nil {
			shares[name] = &share{name: name}
		}
		for _, to := range []*share{shares[name], &total} {
			to.keys++
			to.bytes += int64(len(kv.Key) + len(kv.Value))
		}
	}
	rows := [][]string{{"BYTES", "KEYS", "PREFIX"}}
	sorted := slices.SortedFunc(func(yield func(*share) bool) {
		for _, one := range shares {
			if !yield(one) {
				return
			}
		}
	}, func(a, b *share) int {
		if a.bytes != b.bytes {
			return int(b.bytes - a.bytes)
		}
		return strings.Compare(a.name, b.name)
	})
	for _, one := range append(sorted, &total) {
		rows = append(rows, []string{s.size(one.bytes), fmt.Sprint(one.keys), shown(one.name)})
	}
	return cli.Columns(s.out, rows, s.boldTitles)
}
