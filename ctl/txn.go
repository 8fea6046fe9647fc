package ctl

import (
	"bufio"
	"context"
	"fmt"
	"strconv"
	"strings"

	"github.com/spf13/cobra"
	clientv3 "go.etcd.io/etcd/client/v3"

	"keelson/internal/cli"
)

const txnHelp = `Txn reads multiple etcd requests from standard input and applies them as a single atomic transaction.

A transaction consists of three components:
1) a list of conditions,
2) a list of requests to apply if all the conditions are true,
3) a list of requests to apply if any condition is false.

Example interactive stdin usage:

---
PROGRAM txn -i
# compares:
mod("key1") > "0"

# success requests (get, put, delete):
put key1 "overwrote-key1"

# failure requests (get, put, delete):
put key1 "created-key1"
put key2 "some extra key"
---

Refer to https://github.com/etcd-io/etcd/blob/main/etcdctl/README.md#txn-options.`

func (s *session) txnCommand() *cobra.Command {
	var interactive bool
	cmd := &cobra.Command{
		Use: "txn [options]", Short: "Txn processes all the requests in one transaction", GroupID: groupKV,
		Long: strings.ReplaceAll(txnHelp, "PROGRAM", s.program),
		RunE: func(cmd *cobra.Command, args []string) error { return s.txn(interactive, args) },
	}
	cmd.Flags().BoolVarP(&interactive, "interactive", "i", false, "Input transaction in interactive mode")
	return cmd
}

func (s *session) txn(interactive bool, args []string) error {
	if len(args) != 0 {
		return cli.Fail(cli.ExitBadArgs, "txn command does not accept argument")
	}
	c, err := s.connect()
	if err != nil {
		return err
	}
	defer c.Close()
	lines := bufio.NewReader(s.in)
	prompt := func(text string) {
		if interactive {
			fmt.Fprintln(s.out, text)
		}
	}
	prompt("compares:")
	compares, err := readBlock(lines, parseCompare)
	if err != nil {
		return err
	}
	prompt("success requests (get, put, del):")
	then, err := readBlock(lines, s.parseRequest)
	if err != nil {
		return err
	}
	prompt("failure requests (get, put, del):")
	otherwise, err := readBlock(lines, s.parseRequest)
	if err != nil {
		return err
	}
	ctx, cancel := s.short()
	defer cancel()
	return s.commit(ctx, c, compares, then, otherwise)
}

func (s *session) commit(ctx context.Context, c *clientv3.Client, compares []clientv3.Cmp, then, otherwise []clientv3.Op) error {
	r, err := c.Txn(ctx).If(compares...).Then(then...).Else(otherwise...).Commit()
	if err != nil {
		return err
	}
	return s.print.txn(r)
}

// readBlock reads lines up to an empty one. The end of the input before that is an error.
func readBlock[T any](lines *bufio.Reader, parse func(line string) (T, error)) (block []T, err error) {
	for {
		line, err := lines.ReadString('\n')
		if err != nil {
			return nil, cli.With(cli.ExitInvalidInput, err)
		}
		line = strings.TrimRight(line, "\r\n")
		if line == "" {
			return block, nil
		}
		parsed, err := parse(line)
		if err != nil {
			return nil, cli.With(cli.ExitInvalidInput, err)
		}
		block = append(block, parsed)
	}
}

// parseCompare reads TARGET("KEY") OP "VALUE".
func parseCompare(line string) (clientv3.Cmp, error) {
	target, rest, ok := strings.Cut(strings.TrimSpace(line), "(")
	if !ok {
		return clientv3.Cmp{}, fmt.Errorf("malformed comparison: %s", line)
	}
	var key, op, value string
	if n, _ := fmt.Sscanf(rest, "%q) %s %q", &key, &op, &value); n != 3 {
		return clientv3.Cmp{}, fmt.Errorf("malformed comparison: %s; got %s(%q) %s %q", line, target, key, op, value)
	}
	base, subject := 10, clientv3.Cmp{}
	switch target {
	case "ver", "version":
		subject = clientv3.Version(key)
	case "c", "create":
		subject = clientv3.CreateRevision(key)
	case "m", "mod":
		subject = clientv3.ModRevision(key)
	case "lease":
		subject, base = clientv3.LeaseValue(key), 16
	case "val", "value":
		subject, base = clientv3.Value(key), 0
	default:
		return clientv3.Cmp{}, fmt.Errorf("malformed comparison: %s (unknown target %s)", line, target)
	}
	var wanted any = value
	if base != 0 {
		number, err := strconv.ParseInt(value, base, 64)
		if err != nil {
			return clientv3.Cmp{}, fmt.Errorf("invalid txn compare request: %s", line)
		}
		if wanted = number; target == "lease" {
			wanted = clientv3.LeaseID(number)
		}
	}
	if op != "=" && op != "!=" && op != "<" && op != ">" {
		return clientv3.Cmp{}, fmt.Errorf("malformed comparison: %s; got %s(%q) %s %q", line, target, key, op, value)
	}
	return clientv3.Compare(subject, op, wanted), nil
}

// parseRequest reads a get, put or del as it would stand on the command line.
func (s *session) parseRequest(line string) (clientv3.Op, error) {
	args := words(line)
	if len(args) < 2 {
		return clientv3.Op{}, fmt.Errorf("invalid txn compare request: %s", line)
	}
	get, getFlags := s.getCommand()
	put, putFlags := s.putCommand()
	del, delFlags := s.delCommand()
	parent := &cobra.Command{}
	parent.AddCommand(get, put, del)
	cmd, rest, err := parent.Find(args)
	if err != nil || cmd == parent {
		return clientv3.Op{}, fmt.Errorf("invalid txn request: %s", line)
	}
	cmd.InitDefaultHelpFlag()
	if err := cmd.ParseFlags(rest); err != nil {
		fmt.Fprintln(s.err, cmd.UsageString())
		return clientv3.Op{}, fmt.Errorf("invalid txn request: %s", line)
	}
	positional := cmd.Flags().Args()
	switch cmd {
	case get:
		key, opts, err := getFlags.op(positional)
		return clientv3.OpGet(key, opts...), err
	case put:
		key, value, opts, err := putFlags.op(positional, s.in)
		return clientv3.OpPut(key, value, opts...), err
	default:
		key, opts, err := s.delOp(delFlags, positional)
		return clientv3.OpDelete(key, opts...), err
	}
}
