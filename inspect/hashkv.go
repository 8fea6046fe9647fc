package inspect

import (
	"errors"
	"fmt"
	"os"

	"github.com/spf13/cobra"
	"go.etcd.io/raft/v3/raftpb"
	"google.golang.org/protobuf/proto"

	"keelson/env"
	"keelson/internal/cli"
	"keelson/snapshot/etcdfile"
	"keelson/state"
	"keelson/state/members"
	"keelson/state/mvcc"
	"keelson/storage"
)

// hashJSON is what hashkv says in JSON.
type hashJSON struct {
	Hash            uint32 `json:"hash"`
	HashRevision    int64  `json:"hashRevision"`
	CompactRevision int64  `json:"compactRevision"`
}

func (t *tool) hashKVCommand() *cobra.Command {
	var rev int64
	cmd := &cobra.Command{Use: "hashkv <filename>", Short: "Prints the KV history hash of a given file", Args: cobra.ExactArgs(1), RunE: func(cmd *cobra.Command, args []string) error {
		if err := t.checkFormat(); err != nil {
			return err
		}
		if _, err := os.Stat(args[0]); err != nil {
			return t.explain(err)
		}
		h, err := fileHash(args[0], rev)
		if t.plain && (errors.Is(err, mvcc.ErrCompacted) || errors.Is(err, mvcc.ErrFuture)) {
			return fmt.Errorf("mvcc: %w", err)
		}
		if err != nil {
			return t.explain(err)
		}
		return t.showHash(h)
	}}
	cmd.Flags().Int64Var(&rev, "rev", 0, "maximum revision to hash (default: latest revision)")
	return cmd
}

// nobody is cluster and member of a state that is only looked at.
const nobody = 1

// fileHash takes an etcd file into a database of its own, which is removed again, and hashes that. The file is not changed.
func fileHash(path string, rev int64) (h mvcc.Hash, err error) {
	dir, err := os.MkdirTemp("", "keelson-hashkv-")
	if err != nil {
		return h, err
	}
	defer func() { err = errors.Join(err, os.RemoveAll(dir)) }()
	r, err := etcdfile.Open(path, true)
	if err != nil {
		return h, err
	}
	defer func() { err = errors.Join(err, r.Close()) }()
	db, err := takeIn(r, dir)
	if err != nil {
		return h, err
	}
	defer func() { err = errors.Join(err, db.Close()) }()
	machine, err := state.Open(db, state.Options{})
	if err != nil {
		return h, err
	}
	return machine.HashKV(mvcc.Revision(rev))
}

// takeIn takes an etcd file into a database of its own, as the state of a cluster that nobody has.
func takeIn(r *etcdfile.Reader, dir string) (*storage.DB, error) {
	conf, err := proto.Marshal(&raftpb.ConfState{Voters: []uint64{nobody}})
	if err != nil {
		return nil, err
	}
	db, err := storage.Open(storage.Options{FS: env.SystemFS(), Dir: dir})
	if err != nil {
		return nil, err
	}
	id := state.Identity{ClusterID: nobody, Members: []members.Member{{ID: nobody}}, ConfState: conf}
	if err := state.Import(db, id, r, state.ImportOptions{}); err != nil {
		return nil, errors.Join(err, db.Close())
	}
	return db, nil
}

func (t *tool) showHash(h mvcc.Hash) error {
	row := []string{fmt.Sprint(h.Hash), fmt.Sprint(h.Revision), fmt.Sprint(h.Compacted)}
	switch t.writeOut {
	case "json":
		return t.json(hashJSON{h.Hash, int64(h.Revision), int64(h.Compacted)})
	case "table":
		return cli.Table(t.out, []string{"Hash", "Hash Revision", "Compact Revision"}, [][]string{row})
	case "fields":
		fmt.Fprintf(t.out, "\"Hash\" : %d\n\"Hash revision\" : %d\n\"Compact revision\" : %d\n", h.Hash, h.Revision, h.Compacted)
	default:
		fmt.Fprintf(t.out, "%s, %s, %s\n", row[0], row[1], row[2])
	}
	return nil
}
