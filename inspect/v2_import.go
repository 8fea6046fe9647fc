package inspect

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"os/signal"
	"strings"
	"syscall"

	"github.com/spf13/cobra"

	"keelson/internal/cli"
	"keelson/server"
	"keelson/state"
)

func (t *tool) importV2Command() *cobra.Command {
	o := &foundingFlags{}
	var from server.Restoration
	var hidden []string
	var noUsers bool
	cmd := &cobra.Command{
		Use: "etcd-v2 {--backup-dir DIR | --snapshot FILE | --endpoints URL} --to DATA-DIR", Short: "Make a data directory out of what an etcd holds in its v2 API", Args: cobra.NoArgs,
		Long: "Make the data directory of a member of a new cluster out of what an etcd 2 or 3 holds in its v2 API: a backup that etcdctl backup made, the data directory of an etcd that does not run, " +
			"or what an etcd that runs answers. The source is only read.\n\n" +
			"From a directory come keys, directories, indexes, times to live, the newest thousand events, users and roles, so that clients go on where they were. " +
			"What keelson snapshot save and keelson export etcd write holds the v2 data too, and is taken again with --snapshot. Pairs of the v3 API that the source holds come along.\n\n" +
			"From an etcd that runs (--endpoints, with --user, --cacert and so on) come keys, directories, indexes and times to live as of one index, users and roles. It does not tell everything: " +
			"keys that are hidden (with _ before their names) have to be named with --hidden; nobody can read passwords, so that users need new ones, except the one who asks; " +
			"events are left behind, and who waits for an older index is told to read again. Stop writing first: what is written later is not in it.",
		Example: "  ETCDCTL_API=2 etcdctl backup --data-dir /var/lib/etcd --backup-dir backup\n" +
			"  keelson import etcd-v2 --backup-dir backup --to /var/lib/keelson --name m1 --initial-cluster m1=http://10.0.0.1:2380 --initial-advertise-peer-urls http://10.0.0.1:2380\n" +
			"  keelson import etcd-v2 --endpoints http://10.0.0.9:2379 --user root --hidden /_etcd/registry --to /var/lib/keelson",
		RunE: func(cmd *cobra.Command, args []string) error {
			sources := 0
			for _, name := range []string{"backup-dir", "snapshot", "endpoints"} {
				if cmd.Flag(name) != nil && cmd.Flag(name).Changed {
					sources++
				}
			}
			files := from.Snapshot != "" || from.Directory != ""
			switch {
			case sources > 1:
				return cli.Fail(cli.ExitBadArgs, "say where to import from: --backup-dir DIR, --snapshot FILE or --endpoints URL, one of them")
			case files && (len(hidden) > 0 || noUsers):
				return cli.Fail(cli.ExitBadArgs, "--hidden and --without-users are for --endpoints: files hold everything, and everything is taken")
			case from.Directory == "" && from.WAL != "":
				return cli.Fail(cli.ExitBadArgs, "--from-wal-dir is for --backup-dir: there is no other raft log")
			case o.dataDir == "":
				return cli.Fail(cli.ExitBadArgs, "say where to import to: --to DATA-DIR")
			}
			if files {
				if err := t.mustHoldTree(from); err != nil {
					return t.explain(err)
				}
				return t.restore(o, from)
			}
			return t.importLive(o, hidden, noUsers)
		},
	}
	o.register(cmd, "to")
	cmd.Flags().StringVar(&from.Directory, "backup-dir", "", "the `directory` of a backup, or of an etcd that does not run")
	cmd.Flags().StringVar(&from.WAL, "from-wal-dir", "", "the `directory` that it had as --wal-dir, if it had one")
	cmd.Flags().StringVar(&from.Snapshot, "snapshot", "", "a snapshot `file` that keelson wrote")
	cmd.Flags().StringSliceVar(&hidden, "hidden", nil, "with --endpoints, a `path` with _ before a name, to take along with all that is not hidden within it")
	cmd.Flags().BoolVar(&noUsers, "without-users", false, "with --endpoints, take no users and roles: whoever reaches the new cluster may do everything")
	cmd.Flags().BoolVar(&o.dryRun, "dry-run", false, "say what would be made, and write nothing")
	return cmd
}

// mustHoldTree refuses a source without v2 data, which somebody has mistaken for another.
func (t *tool) mustHoldTree(from server.Restoration) (err error) {
	r, err := from.Open()
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, r.Close()) }()
	nodes, access, err := state.TreeNodes(r.Reader, r.Tree)
	if err == nil && nodes+access == 0 {
		err = cli.Fail(cli.ExitError, "%s holds nothing of the v2 API; nothing was written. For pairs of the v3 API: keelson import etcd", cmp.Or(from.Snapshot, from.Directory))
	}
	return err
}

// importLive takes over from an etcd that runs.
func (t *tool) importLive(o *foundingFlags, hidden []string, noUsers bool) error {
	for _, p := range hidden {
		if len(hiddenWays([]string{p})) == 0 {
			return cli.Fail(cli.ExitBadArgs, "--hidden %s: no part of it begins with _, so it is not hidden, and comes along anyway", p)
		}
	}
	c, err := t.connection()
	if err != nil {
		return err
	}
	if !c.EndpointsWereGiven {
		return cli.Fail(cli.ExitBadArgs, "say where to import from: --backup-dir DIR, --snapshot FILE or --endpoints URL")
	}
	if err := server.MustBeEmpty(o.dataDir); err != nil { // before minutes of reading
		return t.explain(err)
	}
	live, err := newV2Live(c)
	if err != nil {
		return err
	}
	live.hidden, live.noUsers = hidden, noUsers
	progress := cli.NewProgress(t.err, "reading "+strings.Join(live.bases, ","), 0, func(n int64) string { return fmt.Sprintf("%d nodes", n) })
	live.progress = func() { progress.Add(1) }
	ctx, stop := signal.NotifyContext(context.Background(), syscall.SIGINT, syscall.SIGTERM)
	found, err := live.read(ctx)
	stop()
	progress.Finish()
	if err != nil {
		return fmt.Errorf("reading the v2 API: %w", err)
	}
	if found.nodes == 0 && len(found.locked) == 0 {
		return cli.Fail(cli.ExitError, "%s holds nothing of the v2 API that can be seen; nothing was written. "+
			"For pairs of the v3 API: keelson snapshot save, then keelson import etcd --snapshot", found.base)
	}
	if err := t.restore(o, server.Restoration{Store: found.store, StoreFrom: found.base}); err != nil {
		return err
	}
	t.sayFound(found, o.dryRun)
	return nil
}

// sayFound says what has come, and what is left to do by hand.
func (t *tool) sayFound(f *v2Found, dryRun bool) {
	if !dryRun {
		fmt.Fprintf(t.out, "took %d nodes of the v2 tree as of index %d from %s\n", f.nodes, f.store.Index, f.base)
	}
	if f.earlier > 0 {
		fmt.Fprintf(t.out, "somebody is writing there: users, roles and what is hidden are up to %d changes older than the other keys. Stop the writers and import again\n", f.earlier)
	}
	if len(f.locked) > 0 {
		fmt.Fprintf(t.out, "nobody can read passwords; these users cannot log in before they are given new ones: %s\n", strings.Join(f.locked, ", "))
		fmt.Fprintf(t.out, "  for each, once the cluster runs: curl -XPUT http://ENDPOINT/v2/auth/users/%s -d '{\"user\":\"%[1]s\",\"password\":\"...\"}'", f.locked[0])
		if f.enabled {
			fmt.Fprint(t.out, ", as root")
		}
		fmt.Fprintln(t.out)
	}
}
