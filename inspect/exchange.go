package inspect

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"

	"github.com/spf13/cobra"

	"keelson/env"
	"keelson/internal/cli"
	"keelson/server"
	"keelson/snapshot/etcdfile"
	"keelson/state"
	"keelson/storage"
)

// Commands are the tools that keelson takes in. connection says how a cluster is reached.
func Commands(connection cli.Connector) []*cobra.Command {
	t := &tool{connection: connection, out: os.Stdout, err: os.Stderr, writeOut: "simple"}
	snapshot := t.snapshotCommand()
	snapshot.Commands()[0].Example = "  keelson snapshot restore backup.db --data-dir /var/lib/keelson --name m1"
	for _, cmd := range snapshot.Commands() {
		if cmd.Name() == "status" {
			cmd.Example = "  keelson snapshot status backup.db -w table"
		} else {
			cmd.Example = "  keelson snapshot restore backup.db --data-dir /var/lib/keelson --name m1 --initial-cluster m1=http://10.0.0.1:2380 --initial-advertise-peer-urls http://10.0.0.1:2380"
		}
		t.followFormat(cmd)
	}
	hash := t.hashKVCommand()
	hash.Example = "  keelson hashkv backup.db"
	t.followFormat(hash)
	return []*cobra.Command{t.inspectCommand(), t.verifyCommand(), t.repairCommand(), t.importCommand(), t.exportCommand(), hash, snapshot}
}

// followFormat lets a command take keelson's own --write-out.
func (t *tool) followFormat(cmd *cobra.Command) {
	run := cmd.RunE
	cmd.RunE = func(cmd *cobra.Command, args []string) error {
		if f := cmd.Flag("write-out"); f != nil {
			t.writeOut = f.Value.String()
		}
		return run(cmd, args)
	}
}

func (t *tool) importCommand() *cobra.Command {
	o := &foundingFlags{}
	var from server.Restoration
	etcd := &cobra.Command{
		Use: "etcd {--snapshot FILE | --data-dir DIR} --to DATA-DIR", Short: "Make a data directory out of an etcd's snapshot or stopped data directory", Args: cobra.NoArgs,
		Long: "Make the data directory of a member of a new cluster out of what an etcd holds: a snapshot that etcdctl saved, or the data directory of an etcd that does not run, however it ended. " +
			"Every revision, version, lease, user, role and alarm is kept, so HashKV says the same as etcd's. The source is only read.\n\n" +
			"From a directory, the raft log is read too, so that nothing is lost that etcd acknowledged and had not yet written to its database. " +
			"Of a cluster with several members, take the directory whose log ends last: --dry-run says where each one ends, and the higher term wins, then the higher index. " +
			"Make every member of the new cluster from that same directory.",
		Example: "  keelson import etcd --snapshot backup.db --to /var/lib/keelson\n  keelson import etcd --data-dir /var/lib/etcd --to /var/lib/keelson --name m1 --initial-cluster m1=http://10.0.0.1:2380 --initial-advertise-peer-urls http://10.0.0.1:2380",
		RunE: func(cmd *cobra.Command, args []string) error {
			switch {
			case (from.Snapshot == "") == (from.Directory == ""):
				return cli.Fail(cli.ExitBadArgs, "say where to import from: --snapshot FILE or --data-dir DIR, one of them")
			case from.Directory == "" && from.WAL != "":
				return cli.Fail(cli.ExitBadArgs, "--from-wal-dir is for --data-dir: a snapshot has no raft log")
			case o.dataDir == "":
				return cli.Fail(cli.ExitBadArgs, "say where to import to: --to DATA-DIR")
			}
			return t.restore(o, from)
		},
	}
	o.register(etcd, "to")
	etcd.Flags().StringVar(&from.Snapshot, "snapshot", "", "a snapshot `file` of etcd")
	etcd.Flags().StringVar(&from.Directory, "data-dir", "", "the data `directory` of an etcd that does not run")
	etcd.Flags().StringVar(&from.WAL, "from-wal-dir", "", "the `directory` that it had as --wal-dir, if it had one")
	etcd.Flags().BoolVar(&o.skipHashCheck, "skip-hash-check", false, "take a file without a sum behind it, such as a database that was copied from a data directory")
	etcd.Flags().BoolVar(&o.dryRun, "dry-run", false, "say what would be made, and write nothing")
	cmd := &cobra.Command{Use: "import", Short: "Take over data from etcd"}
	cmd.AddCommand(etcd, t.importV2Command())
	return cmd
}

func (t *tool) exportCommand() *cobra.Command {
	var dataDir, walDir string
	etcd := &cobra.Command{
		Use: "etcd FILE", Short: "Write a snapshot from which a real etcd restores", Args: cobra.ExactArgs(1),
		Long: "Write a snapshot from which a real etcd restores (etcdutl snapshot restore), with every revision, version, lease, user, role and alarm. " +
			"Without --data-dir it comes from the member that --endpoints names, as keelson snapshot save does it; with --data-dir, from a member that does not run, however it ended: " +
			"what its log holds beyond its state is applied to a copy first. The member's directory stays as it is.",
		Example: "  keelson export etcd backup.db --endpoints 10.0.0.1:2379\n  keelson export etcd backup.db --data-dir /var/lib/keelson",
		RunE: func(cmd *cobra.Command, args []string) error {
			if dataDir != "" {
				return t.export(dataDir, walDir, args[0])
			}
			save, _, err := cmd.Root().Find([]string{"snapshot", "save"})
			if err != nil {
				return err
			}
			return save.RunE(save, args)
		},
	}
	etcd.Flags().StringVar(&dataDir, "data-dir", "", "the data `directory` of a member that does not run")
	etcd.Flags().StringVar(&walDir, "wal-dir", "", "the `directory` of its raft log, if it has one of its own")
	cmd := &cobra.Command{Use: "export", Short: "Hand data over to etcd"}
	cmd.AddCommand(etcd, t.exportV2Command())
	return cmd
}

// export writes the state of a member that does not run, with everything that its log holds.
func (t *tool) export(dataDir, walDir, path string) (err error) {
	if _, err := os.Stat(path); err == nil {
		return cli.Fail(cli.ExitError, "%s exists; remove it, or choose another name", path)
	}
	scratch := path + ".scratch"
	if err := makeScratch(scratch); err != nil {
		return err
	}
	defer func() { err = errors.Join(err, os.RemoveAll(scratch)) }()
	s, err := openWhole(dataDir, walDir, filepath.Join(scratch, "state"))
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, s.Close()) }()
	if err := t.writeSnapshot(s, scratch, path); err != nil {
		return err
	}
	fmt.Fprintf(t.out, "exported %d keys at revision %d to %s\n", s.machine.LiveKeys(), s.machine.Revision(), path)
	if s.replayed > 0 {
		fmt.Fprintf(t.out, "the member had not been stopped in order: %d entries of its log were applied to a copy first\n", s.replayed)
	}
	return nil
}

// makeScratch makes a directory to work in, beside what is to be made.
func makeScratch(path string) error {
	err := os.Mkdir(path, 0o700)
	switch {
	case errors.Is(err, os.ErrNotExist):
		return fmt.Errorf("%w; make the directory %s first", err, filepath.Dir(path))
	case errors.Is(err, os.ErrExist):
		return fmt.Errorf("%w: it is needed to work in, and may be left from a run that was killed; remove it, or choose another name", err)
	}
	return err
}

// writeSnapshot writes a state as a snapshot file of etcd; scratch is a directory to work in.
func (t *tool) writeSnapshot(s *store, scratch, path string) (err error) {
	sorted, err := storage.Open(storage.Options{FS: env.SystemFS(), Dir: filepath.Join(scratch, "sorted")})
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, sorted.Close()) }()
	w, err := etcdfile.Create(filepath.Join(scratch, "db"))
	if err != nil {
		return err
	}
	if err := state.Export(context.Background(), s.db, sorted, w); err != nil {
		w.Abort()
		return err
	}
	image, err := w.Finish()
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, image.Close()) }()
	return image.Save(path)
}
