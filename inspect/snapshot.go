package inspect

import (
	"context"
	"crypto/sha256"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"syscall"

	"github.com/spf13/cobra"
	bbolterrors "go.etcd.io/bbolt/errors"

	"keelson/config"
	"keelson/internal/cli"
	"keelson/server"
	"keelson/snapshot/etcdfile"
	"keelson/state"
)

func (t *tool) snapshotCommand() *cobra.Command {
	cmd := &cobra.Command{Use: "snapshot", Short: "Manages etcd node snapshots"}
	cmd.AddCommand(t.statusCommand(), t.restoreCommand())
	return cmd
}

func (t *tool) statusCommand() *cobra.Command {
	return &cobra.Command{Use: "status <filename>", Short: "Gets backend snapshot status of a given file", RunE: func(cmd *cobra.Command, args []string) error {
		if len(args) != 1 {
			return cli.Fail(cli.ExitBadArgs, "snapshot status requires exactly one argument")
		}
		return t.explain(t.snapshotStatus(args[0]))
	}}
}

// statusJSON is what snapshot status says in JSON.
type statusJSON struct {
	Hash      uint32 `json:"hash"`
	Revision  int64  `json:"revision"`
	TotalKey  int    `json:"totalKey"`
	TotalSize int64  `json:"totalSize"`
	Version   string `json:"version"`
}

func (t *tool) snapshotStatus(path string) (err error) {
	if err := t.checkFormat(); err != nil {
		return err
	}
	if _, err := os.Stat(path); err != nil {
		return err
	}
	r, err := etcdfile.Open(path, true)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, r.Close()) }()
	if err := r.Check(); err != nil {
		return err
	}
	s, err := r.Status()
	if err != nil {
		return err
	}
	row := []string{fmt.Sprintf("%x", s.Hash), fmt.Sprint(s.Revision), fmt.Sprint(s.Keys), cli.Bytes(s.Bytes), s.Level}
	switch t.writeOut {
	case "json":
		return t.json(statusJSON{s.Hash, s.Revision, s.Keys, s.Bytes, s.Level})
	case "table":
		return cli.Table(t.out, []string{"Hash", "Revision", "Total Keys", "Total Size", "Version"}, [][]string{row})
	case "fields":
		fmt.Fprintf(t.out, "\"Hash\" : %d\n\"Revision\" : %d\n\"Keys\" : %d\n\"Size\" : %d\n\"Version\" : %s\n", s.Hash, s.Revision, s.Keys, s.Bytes, s.Level)
	default:
		fmt.Fprintln(t.out, strings.Join(row, ", "))
	}
	return nil
}

// checkFormat refuses a format that no command here has.
func (t *tool) checkFormat() error {
	switch t.writeOut {
	case "simple", "json", "fields", "table":
		return nil
	case "protobuf":
		return cli.Fail(cli.ExitBadFeature, "protobuf not supported as output format")
	}
	return cli.Fail(cli.ExitBadFeature, "unsupported output format")
}

func (t *tool) json(v any) error {
	b, err := json.Marshal(v)
	if err != nil {
		return err
	}
	_, err = fmt.Fprintln(t.out, string(b))
	return err
}

// foundingFlags say which member of which cluster a directory is made for.
type foundingFlags struct {
	name, dataDir, walDir                string
	cluster, token, peerURLs             string
	skipHashCheck, markCompacted, dryRun bool
	bump, mapBytes                       uint64
}

func (o *foundingFlags) register(cmd *cobra.Command, dataDirFlag string) {
	f := cmd.Flags()
	f.StringVar(&o.dataDir, dataDirFlag, "", "Path to the output data directory")
	f.StringVar(&o.walDir, "wal-dir", "", "Path to the WAL directory (use --data-dir if none given)")
	o.registerCluster(cmd)
	f.Uint64Var(&o.bump, "bump-revision", 0, "How much to increase the latest revision after restore")
	f.BoolVar(&o.markCompacted, "mark-compacted", false, "Mark the latest revision after restore as the point of scheduled compaction (required if --bump-revision > 0, disallowed otherwise)")
}

// registerCluster defines the flags that say which cluster is founded, and which of its members this is.
func (o *foundingFlags) registerCluster(cmd *cobra.Command) {
	f := cmd.Flags()
	f.StringVar(&o.cluster, "initial-cluster", "default=http://localhost:2380", "Initial cluster configuration for restore bootstrap")
	f.StringVar(&o.token, "initial-cluster-token", "etcd-cluster", "Initial cluster token for the etcd cluster during restore bootstrap")
	f.StringVar(&o.peerURLs, "initial-advertise-peer-urls", "http://localhost:2380", "List of this member's peer URLs to advertise to the rest of the cluster")
	f.StringVar(&o.name, "name", "default", "Human-readable name for this member")
}

func (t *tool) restoreCommand() *cobra.Command {
	o := &foundingFlags{}
	cmd := &cobra.Command{Use: "restore <filename> --data-dir {output dir} [options]", Short: "Restores an etcd member snapshot to an etcd directory", RunE: func(cmd *cobra.Command, args []string) error {
		if len(args) != 1 {
			return cli.Fail(cli.ExitBadArgs, "snapshot restore requires exactly one argument")
		}
		return t.restore(o, server.Restoration{Snapshot: args[0]})
	}}
	o.register(cmd, "data-dir")
	cmd.MarkFlagDirname("data-dir")
	cmd.MarkFlagDirname("wal-dir")
	cmd.Flags().BoolVar(&o.skipHashCheck, "skip-hash-check", false, "Ignore snapshot integrity hash value (required if copied from data directory)")
	cmd.Flags().Uint64Var(&o.mapBytes, "initial-memory-map-size", 10<<30, "Initial memory map size of the database in bytes. It uses the default value if not defined or defined to 0")
	if !t.plain {
		cmd.Flags().BoolVar(&o.dryRun, "dry-run", false, "say what would be made, and write nothing")
	}
	return cmd
}

func (t *tool) restore(o *foundingFlags, from server.Restoration) error {
	if (o.bump > 0) != o.markCompacted {
		return cli.Fail(cli.ExitBadArgs, "--mark-compacted required if --revision-bump > 0")
	}
	if o.dataDir == "" {
		o.dataDir = o.name + ".etcd"
	}
	c, err := o.config()
	if err != nil {
		if _, rest, found := strings.Cut(err.Error(), "for flag -initial-advertise-peer-urls: "); found && t.plain {
			return errors.New(rest)
		}
		return err
	}
	if err := t.checkSource(from.Snapshot); err != nil {
		return err
	}
	from.SkipHashCheck, from.BumpRevision = o.skipHashCheck, int64(o.bump)
	return t.explain(t.restoreFrom(o, c, from))
}

// checkSource finds, in etcdutl's manner, what it finds first: that a file is not there, or shorter than a sum.
func (t *tool) checkSource(path string) error {
	if !t.plain {
		return nil
	}
	f, err := os.Open(path)
	if err != nil {
		return err
	}
	defer f.Close()
	info, err := f.Stat()
	if err == nil && info.Size() < sha256.Size {
		err = &os.PathError{Op: "seek", Path: path, Err: syscall.EINVAL}
	}
	return err
}

func (t *tool) restoreFrom(o *foundingFlags, c *config.Config, from server.Restoration) error {
	if o.dryRun {
		return t.wouldRestore(o, from)
	}
	if err := os.MkdirAll(filepath.Dir(filepath.Clean(o.dataDir)), 0o700); err != nil {
		return err
	}
	logs := t.err
	if !t.plain {
		progress := cli.NewProgress(t.err, "restoring into "+o.dataDir, 0, func(n int64) string { return fmt.Sprintf("%d versions", n) })
		defer progress.Finish()
		from.Progress, from.Expect = func() { progress.Add(1) }, progress.Total
		logs = progress.Over(t.err)
	}
	return server.Restore(context.Background(), c, from, newLogger(logs))
}

// explain adds to an error what to do next, in keelson's manner. etcdutl's errors stay as they are.
func (t *tool) explain(err error) error {
	if err != nil && t.plain {
		return withoutContext(err)
	}
	if err == nil {
		return nil
	}
	next := ""
	switch text := err.Error(); {
	case errors.Is(err, os.ErrNotExist) && !strings.Contains(text, ": give "):
		next = "give the file that keelson snapshot save or etcdctl snapshot save wrote"
	case errors.Is(err, etcdfile.ErrNoSum):
		next = "this is no snapshot that was saved. If it was copied from a data directory, import that directory as it is (keelson import etcd --data-dir), " +
			"or take what the file alone holds with --skip-hash-check"
	case strings.HasPrefix(text, "expected sha256"):
		next = "the file is damaged or cut short: copy it again, or take another one"
	case strings.Contains(text, "not empty or could not be read"):
		next = "choose a directory that does not exist yet; nothing is written over"
	case errors.Is(err, bbolterrors.ErrTimeout):
		next = "an etcd runs on this directory: stop it first, or save a snapshot of it while it runs (keelson snapshot save)"
	case errors.Is(err, etcdfile.ErrDamaged):
		next = "this is no file of etcd's, or it has been damaged: take another backup, or the directory of another member"
	}
	if next == "" {
		return err
	}
	return fmt.Errorf("%w\n  next:  %s", err, next)
}

// withoutContext is a database that is none as etcdutl tells of it: in the library's own words.
func withoutContext(err error) error {
	if !errors.Is(err, etcdfile.ErrDamaged) {
		return err
	}
	var path *os.PathError
	for _, cause := range []error{bbolterrors.ErrInvalid, bbolterrors.ErrVersionMismatch, bbolterrors.ErrChecksum, bbolterrors.ErrTimeout} {
		if errors.Is(err, cause) {
			return cause
		}
	}
	if errors.As(err, &path) {
		return path
	}
	return err
}

// config is what a member of this name would be started with.
func (o *foundingFlags) config() (*config.Config, error) {
	c, _, err := config.Load("etcdutl", []string{
		"--name=" + o.name, "--data-dir=" + o.dataDir, "--wal-dir=" + o.walDir, "--initial-cluster=" + o.cluster, "--initial-cluster-token=" + o.token,
		"--initial-advertise-peer-urls=" + o.peerURLs,
	}, config.Machine{ReadFile: os.ReadFile, DefaultHost: func() (string, error) { return "", errors.New("not asked for") }})
	return c, err
}

func (t *tool) wouldRestore(o *foundingFlags, from server.Restoration) (err error) {
	r, err := from.Open()
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, r.Close()) }()
	s, err := r.Status()
	if err != nil {
		return err
	}
	fmt.Fprintf(t.out, "would make %s: member %s of the new cluster %s, with %d keys at revision %d (+%d) from %s", o.dataDir, o.name, o.cluster, s.Keys, s.Revision, o.bump, r.Path)
	if nodes, access, err := state.TreeNodes(r.Reader, r.Tree); err != nil {
		return err
	} else if nodes+access > 0 {
		fmt.Fprintf(t.out, ", %d nodes of the v2 tree and %d of its users and roles", nodes, access)
	}
	if from.Directory != "" {
		fmt.Fprintf(t.out, ", and then %d entries of the raft log, which ends at index %d of term %d", len(r.Log), r.Place.Index, r.Place.Term)
	}
	fmt.Fprintln(t.out, "; nothing was written")
	return nil
}
