package ctl

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"slices"
	"strings"

	"github.com/spf13/cobra"
	"go.etcd.io/etcd/api/v3/v3rpc/rpctypes"

	"keelson/internal/cli"
)

// explain adds to an error what was tried and what to do next, in keelson's manner. etcdctl's errors stay as they are.
func (s *session) explain(cmd *cobra.Command, err error) error {
	var exit *cli.Exit
	if s.plain || errors.As(err, &exit) && exit.Err == nil || strings.Contains(err.Error(), "\n  next:") { // it is said already
		return err
	}
	next := advice(err)
	var file *fs.PathError
	if errors.As(err, &file) && slices.Contains([]string{s.flags.cacert, s.flags.cert, s.flags.key}, file.Path) {
		next = "see what --cacert, --cert and --key say, on the command line, in variables (ETCDCTL_CACERT and so on) or in the context"
	}
	switch {
	case next == "" && needsUsage(cmd, err):
		return cli.Fail(cli.ExitBadArgs, "%w\n  usage: %s\n  next:  %s --help says more, with examples", err, strings.TrimSuffix(cmd.UseLine(), " [flags]"), cmd.CommandPath())
	case next == "":
		return err
	}
	code := cli.ExitError
	if exit != nil {
		code = exit.Code
	}
	where := strings.Join(s.flags.endpoints, ",")
	if s.contextOf != "" {
		where += ", of context " + s.contextOf
	}
	return &cli.Exit{Code: code, Err: fmt.Errorf("%w\n  tried: %s, at %s\n  next:  %s", err, s.tried, where, next)}
}

// needsUsage recognises command lines that cannot be carried out, and of which nothing else says how they are to be.
func needsUsage(cmd *cobra.Command, err error) bool {
	var exit *cli.Exit
	text := err.Error()
	switch {
	case errors.As(err, &exit):
		saysIt := func(words string) bool { return strings.Contains(text, words) }
		return exit.Code == cli.ExitBadArgs && exit.Err != nil && !slices.ContainsFunc([]string{"keelson ", "; ", ": give ", "say "}, saysIt)
	default: // cobra finds it, or the reading of a number
		return strings.HasPrefix(text, "accepts ") || strings.HasPrefix(text, "requires at least ") || strings.HasPrefix(text, "strconv.")
	}
}

// remedies say what helps against the errors that people meet.
var remedies = []struct {
	err  error
	next string
}{
	{context.DeadlineExceeded, "nobody answered in time. See whether the endpoints are right and members run (keelson status); with TLS, use https:// endpoints and --cacert; " +
		"if the cluster is only slow, give more --command-timeout"},
	{errors.New("unsupported output format"), "--write-out can be simple, json, table, fields or protobuf"},
	{errors.New("not supported as output format"), "this answer has no such form; --write-out simple and json always work"},
	{errors.New("KeyFile and CertFile must both be present"), "give --cert and --key together, or neither; variables (ETCDCTL_CERT, ETCDCTL_KEY) and the context count, too"},
	{errors.New("unknown load option"), "--load can be s, m, l or xl"},
	{rpctypes.ErrNoLeader, "the members cannot elect a leader: more than half of them must run and reach each other. keelson status shows who does"},
	{rpctypes.ErrCompacted, "history before the compacted revision is gone; ask for a newer revision (keelson get KEY without --rev shows the present)"},
	{rpctypes.ErrFutureRev, "this revision does not exist yet; keelson endpoint status -w json shows the newest"},
	{rpctypes.ErrNoSpace, "the quota is used up. Compact (keelson compaction REVISION), see keelson du for what takes the room, then keelson alarm disarm"},
	{rpctypes.ErrPermissionDenied, "the user may not do this. keelson user get USER --detail shows what is permitted; root can grant more with keelson role grant-permission"},
	{rpctypes.ErrUserEmpty, "authentication is on: say who you are with --user NAME, or keep the name in a context"},
	{rpctypes.ErrAuthFailed, "the name or the password is wrong; root can set a new one with keelson user passwd NAME"},
	{rpctypes.ErrRootUserNotExist, "make the user root first: keelson user add root"},
	{rpctypes.ErrRequestTooLarge, "values may be 1.5 MiB unless the server's --max-request-bytes says otherwise; split the value or the transaction"},
	{rpctypes.ErrUnhealthy, "a change of members now could cost the quorum; bring the members that are down back first (keelson status)"},
	{rpctypes.ErrMemberLearnerNotReady, "the learner is still catching up; try again when its lag in keelson status is small"},
	{rpctypes.ErrMemberNotFound, "keelson member list shows the members and their ids"},
	{rpctypes.ErrLeaseNotFound, "the lease has expired or was revoked; make a new one with keelson lease grant TTL"},
	{rpctypes.ErrTooManyOps, "split the transaction, or raise the server's --max-txn-ops"},
	{rpctypes.ErrTooManyRequests, "the members are overloaded; slow down, then try again. keelson top shows who writes so much"},
	{rpctypes.ErrTimeout, "the write may have happened or not: read before you repeat it"},
	{rpctypes.ErrCorrupt, "a member's data differs from the others'. Do not write; keelson status names the member; remove it and add a fresh one"},
}

func advice(err error) string {
	for _, r := range remedies {
		if errors.Is(err, r.err) || strings.Contains(err.Error(), r.err.Error()) {
			return r.next
		}
	}
	return ""
}
