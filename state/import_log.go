package state

import (
	"fmt"

	"github.com/cespare/xxhash/v2"
	pb "go.etcd.io/etcd/api/v3/etcdserverpb"
	"go.etcd.io/raft/v3/raftpb"
	"google.golang.org/protobuf/proto"

	"keelson/command"
	"keelson/command/wire"
	"keelson/snapshot/etcddir"
	"keelson/snapshot/etcdfile"
	"keelson/state/mvcc"
	"keelson/storage"
)

// replayBatchBytes is about how much of etcd's log is applied at a time.
const replayBatchBytes = 1 << 20

// replay carries out what etcd's raft log holds behind the file, as etcd does when it starts: the machine does with a command
// what etcd does with the request, refusals included. The entries become entries of this log, from the position on that a new
// state stands at.
func replay(db *storage.DB, entries []*raftpb.Entry, hash func(string) ([]byte, error)) error {
	m, err := Open(db, Options{})
	if err != nil {
		return err
	}
	p := replayer{m: m, batch: command.BeginBatch(nil, command.BatchID{})}
	for _, e := range entries {
		c, ok, err := etcdCommand(e, hash)
		if err == nil && ok {
			err = p.add(&c)
		}
		if err != nil {
			return fmt.Errorf("entry %d of etcd's log: %w", e.GetIndex(), err)
		}
	}
	return p.flush()
}

// etcdCommand is what an entry of etcd's log asks for; ok is false if that is nothing that is taken over.
//
// Errors: etcdfile.ErrDamaged; those of hash.
func etcdCommand(e *raftpb.Entry, hash func(string) ([]byte, error)) (c command.Command, ok bool, err error) {
	if e.GetType() != raftpb.EntryType_EntryNormal || len(e.GetData()) == 0 {
		return c, false, nil
	}
	if _, isTree := etcddir.DecodeTreeRequest(e.GetData()); isTree {
		return c, false, nil
	}
	r := new(pb.InternalRaftRequest)
	if err := proto.Unmarshal(e.GetData(), r); err != nil {
		return c, false, fmt.Errorf("%w: no request: %w", etcdfile.ErrDamaged, err)
	}
	return wire.Request(r, hash)
}

// replayer gathers commands into entries.
type replayer struct {
	m     *Machine
	batch []byte
	count int
	buf   []byte
}

func (p *replayer) add(c *command.Command) error {
	p.buf = c.Append(p.buf[:0])
	p.batch = command.AppendTo(p.batch, p.buf)
	if p.count++; len(p.batch) < replayBatchBytes {
		return nil
	}
	return p.flush()
}

func (p *replayer) flush() error {
	if p.count == 0 {
		return nil
	}
	at := p.m.Applied()
	_, err := p.m.Apply([]Entry{{Index: at.Index + 1, Term: at.Term, Data: p.batch}})
	p.batch, p.count = command.BeginBatch(nil, command.BatchID{Sequence: at.Index}), 0 // what came of the batch aliases it
	return err
}

// bump raises the revision and compacts everything before.
func bump(db *storage.DB, by int64) error {
	at, before, _, err := readApplied(db)
	if err != nil {
		return err
	}
	b := db.NewBatch()
	if err := mvcc.Raise(db, b, by); err != nil {
		b.Discard()
		return err
	}
	// Members that raised it by something else are to find each other out.
	b.Set(storage.Meta, metaApplied, appendApplied(nil, at, xxhash.Sum64(append64(append64(nil, before), uint64(by)))))
	return b.Commit()
}
