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
	"keelson/raftlog"
	"keelson/snapshot/etcdfile"
	"keelson/state"
	"keelson/storage"
)

// Commands are the tools that keelson takes in.
func Commands() []*cobra.Command {
	t := &tool{out: os.Stdout, err: os.Stderr, writeOut: "simple"}
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
	var snapshot, etcdDir string
	etcd := &cobra.Command{
		Use: "etcd {--snapshot FILE | --data-dir DIR} --to DATA-DIR", Short: "Make a data directory out of an etcd's snapshot or stopped data directory", Args: cobra.NoArgs,
		Long: "Make the data directory of a member of a new cluster out of what an etcd holds: a snapshot that etcdctl saved, or the data directory of an etcd that was stopped in order. " +
			"Every revision, version, lease, user, role and alarm is kept, so HashKV says the same as etcd's. The source is only read.",
		Example: "  keelson import etcd --snapshot backup.db --to /var/lib/keelson\n  keelson import etcd --data-dir /var/lib/etcd --to /var/lib/keelson --name m1 --initial-cluster m1=http://10.0.0.1:2380 --initial-advertise-peer-urls http://10.0.0.1:2380",
		RunE: func(cmd *cobra.Command, args []string) error {
			if (snapshot == "") == (etcdDir == "") {
				return cli.Fail(cli.ExitBadArgs, "say where to import from: --snapshot FILE or --data-dir DIR, one of them")
			}
			if o.dataDir == "" {
				return cli.Fail(cli.ExitBadArgs, "say where to import to: --to DATA-DIR")
			}
			from := snapshot
			if etcdDir != "" {
				from, o.skipHashCheck = filepath.Join(etcdDir, "member", "snap", "db"), true
			}
			if _, err := os.Stat(from); err != nil {
				return fmt.Errorf("nothing to import: %w", err)
			}
			return t.restore(o, from)
		},
	}
	o.register(etcd, "to")
	etcd.Flags().StringVar(&snapshot, "snapshot", "", "a snapshot `file` of etcd")
	etcd.Flags().StringVar(&etcdDir, "data-dir", "", "the data `directory` of an etcd that is stopped")
	etcd.Flags().BoolVar(&o.dryRun, "dry-run", false, "say what would be made, and write nothing")
	cmd := &cobra.Command{Use: "import", Short: "Take over data from etcd"}
	cmd.AddCommand(etcd)
	return cmd
}

func (t *tool) exportCommand() *cobra.Command {
	var dataDir string
	etcd := &cobra.Command{
		Use: "etcd FILE", Short: "Write a snapshot from which a real etcd restores", Args: cobra.ExactArgs(1),
		Long: "Write a snapshot from which a real etcd restores (etcdutl snapshot restore), with every revision, version, lease, user, role and alarm. " +
			"Without --data-dir it comes from the member that --endpoints names, as keelson snapshot save does it; with --data-dir, from a member that is stopped.",
		Example: "  keelson export etcd backup.db --endpoints 10.0.0.1:2379\n  keelson export etcd backup.db --data-dir /var/lib/keelson",
		RunE: func(cmd *cobra.Command, args []string) error {
			if dataDir != "" {
				return t.export(dataDir, args[0])
			}
			save, _, err := cmd.Root().Find([]string{"snapshot", "save"})
			if err != nil {
				return err
			}
			return save.RunE(save, args)
		},
	}
	etcd.Flags().StringVar(&dataDir, "data-dir", "", "the data `directory` of a stopped member")
	cmd := &cobra.Command{Use: "export", Short: "Hand data over to etcd"}
	cmd.AddCommand(etcd)
	return cmd
}

// export writes the state of a stopped member. It must hold everything that the log holds, as it does after an orderly stop.
func (t *tool) export(dataDir, path string) (err error) {
	if _, err := os.Stat(path); err == nil {
		return cli.Fail(cli.ExitError, "%s exists; remove it, or choose another name", path)
	}
	s, err := openStore(dataDir)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, s.Close()) }()
	if err := s.mustHoldLog(); err != nil {
		return err
	}
	scratch := path + ".scratch"
	defer func() { err = errors.Join(err, os.RemoveAll(scratch)) }()
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
	if err := image.Save(path); err != nil {
		return err
	}
	fmt.Fprintf(t.out, "exported %d keys at revision %d to %s\n", s.machine.LiveKeys(), s.machine.Revision(), path)
	return nil
}

// mustHoldLog refuses a state that is behind its log.
func (s *store) mustHoldLog() (err error) {
	log, _, err := raftlog.Open(raftlog.Options{
		FS: env.SystemFS(), Dir: s.dir.Wal(), ClusterID: s.dir.Identity.ClusterID, MemberID: s.dir.Identity.MemberID,
	}, s.applied())
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, log.Close()) }()
	last, err := log.LastIndex()
	if err != nil {
		return err
	}
	if at := s.applied().Index; last > at {
		return cli.Fail(cli.ExitError, "the member was not stopped in order: its state goes up to %d, its log to %d; start it once more, stop it with SIGTERM, and export again", at, last)
	}
	return nil
}
