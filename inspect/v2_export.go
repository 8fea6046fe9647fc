package inspect

import (
	"context"
	"errors"
	"fmt"
	"net"
	"os"
	"path/filepath"

	"github.com/spf13/cobra"

	"keelson/env"
	"keelson/internal/cli"
	"keelson/snapshot/etcddir"
	"keelson/snapshot/etcdfile"
	"keelson/state"
	"keelson/storage"
)

func (t *tool) exportV2Command() *cobra.Command {
	o := &foundingFlags{}
	var snapshot, dataDir, walDir string
	cmd := &cobra.Command{
		Use: "etcd-v2 DIR {--snapshot FILE | --data-dir DATA-DIR}", Short: "Make a data directory on which a real etcd 3.4 serves the v2 API", Args: cobra.ExactArgs(1),
		Long: "Make the data directory of a member of a new cluster of etcd 3.4, which serves the v2 API with --enable-v2: with every key, hidden ones too, directories, indexes, " +
			"times to live, the newest thousand events, users and roles; pairs of the v3 API, their leases, users and roles come along. Start it with the same --name, " +
			"--initial-cluster and so on; make every member of the new cluster from the same source.\n\n" +
			"The source is a snapshot that keelson snapshot save wrote, or the data directory of a member that does not run, however it ended. It stays as it is.",
		Example: "  keelson snapshot save backup.db\n  keelson export etcd-v2 data --snapshot backup.db --name m1 --initial-cluster m1=http://10.0.0.1:2380 --initial-advertise-peer-urls http://10.0.0.1:2380\n" +
			"  etcd --enable-v2 --data-dir data --name m1 --initial-cluster m1=http://10.0.0.1:2380 --initial-advertise-peer-urls http://10.0.0.1:2380",
		RunE: func(cmd *cobra.Command, args []string) error {
			switch {
			case (snapshot == "") == (dataDir == ""):
				return cli.Fail(cli.ExitBadArgs, "say where to export from: --snapshot FILE or --data-dir DATA-DIR, one of them")
			case walDir != "" && dataDir == "":
				return cli.Fail(cli.ExitBadArgs, "--from-wal-dir is for --data-dir: a snapshot has no raft log")
			}
			o.dataDir = args[0]
			return t.explain(t.exportV2(o, snapshot, dataDir, walDir))
		},
	}
	o.registerCluster(cmd)
	cmd.Flags().StringVar(&snapshot, "snapshot", "", "a snapshot `file` that keelson wrote")
	cmd.Flags().StringVar(&dataDir, "data-dir", "", "the data `directory` of a member that does not run")
	cmd.Flags().StringVar(&walDir, "from-wal-dir", "", "the `directory` of its raft log, if it has one of its own")
	return cmd
}

// exportV2 makes the directory under another name first, so that it is whole or not there.
func (t *tool) exportV2(o *foundingFlags, snapshot, dataDir, walDir string) (err error) {
	to := filepath.Clean(o.dataDir)
	if _, err := os.Lstat(to); err == nil {
		return cli.Fail(cli.ExitError, "%s exists; remove it, or choose another name", to)
	}
	c, err := o.config()
	if err != nil {
		return err
	}
	founding, err := c.Founding(context.Background(), net.DefaultResolver, c.Cluster.Initial, c.Cluster.InitialToken)
	if err != nil {
		return err
	}
	f := etcddir.Founding{ClusterID: founding.ClusterID, LocalID: founding.LocalID}
	for _, m := range founding.Members {
		f.Members = append(f.Members, etcddir.FoundingMember{ID: m.ID, PeerURLs: m.PeerURLs})
	}
	scratch := to + ".scratch"
	if err := makeScratch(scratch); err != nil {
		return err
	}
	defer func() { err = errors.Join(err, os.RemoveAll(scratch)) }()
	db, closeDB, err := openExported(snapshot, dataDir, walDir, filepath.Join(scratch, "state"))
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, closeDB()) }()
	store, err := state.ExportStore(db)
	if err != nil {
		return err
	}
	nodes := 0
	if err := store.Nodes(func(etcddir.StoreNode) error { nodes++; return nil }); err != nil {
		return err
	}
	part := filepath.Join(scratch, "made")
	err = etcddir.Found(part, f, store, func(path string, at etcddir.Place, voters []uint64) error {
		return writeDatabase(db, filepath.Join(scratch, "sorted"), path, at, voters)
	})
	if err != nil {
		return err
	}
	if err := os.Rename(part, to); err != nil {
		return err
	}
	fmt.Fprintf(t.out, "made %s: member %s of the new cluster %s, with %d nodes of the v2 tree at index %d. Start it: etcd --enable-v2 --data-dir %[1]s --name %[2]s --initial-cluster %[3]s\n",
		to, o.name, o.cluster, nodes, store.Index)
	return nil
}

// openExported opens what is exported: the state of a stopped member with all that its log holds, or a database that a snapshot
// is taken into, at scratch.
func openExported(snapshot, dataDir, walDir, scratch string) (*storage.DB, func() error, error) {
	if dataDir != "" {
		s, err := openWhole(dataDir, walDir, scratch)
		if err != nil {
			return nil, nil, err
		}
		return s.db, s.Close, nil
	}
	r, err := etcdfile.Open(snapshot, false)
	if err != nil {
		return nil, nil, err
	}
	db, err := takeIn(r, scratch)
	if err = errors.Join(err, r.Close()); err != nil {
		return nil, nil, err
	}
	return db, db.Close, nil
}

// writeDatabase writes the pairs of a state as a database of etcd.
func writeDatabase(db *storage.DB, scratch, path string, at etcddir.Place, voters []uint64) (err error) {
	sorted, err := storage.Open(storage.Options{FS: env.SystemFS(), Dir: scratch})
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, sorted.Close()) }()
	w, err := etcdfile.Create(path)
	if err != nil {
		return err
	}
	if err := state.ExportPairs(context.Background(), db, sorted, w, at, voters); err != nil {
		w.Abort()
		return err
	}
	image, err := w.Finish()
	if err != nil {
		return err
	}
	if err := image.Close(); err != nil {
		return err
	}
	f, err := os.Open(path) // the writer syncs nothing
	if err != nil {
		return err
	}
	return errors.Join(f.Sync(), f.Close())
}
