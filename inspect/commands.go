package inspect

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"reflect"
	"time"

	"go.etcd.io/raft/v3/raftpb"

	"keelson/command"
	"keelson/env"
	"keelson/raftlog"
	"keelson/state"
)

// loggedCommand is a line of what `inspect log --commands` prints. Bytes are in base64, as JSON has them.
type loggedCommand struct {
	Index     uint64         `json:"index"`
	Term      uint64         `json:"term"`
	Committed bool           `json:"committed"` // as far as this log tells: a later commit need not be in it
	Time      time.Time      `json:"time"`      // by the clock of who proposed
	User      string         `json:"user,omitempty"`
	Op        map[string]any `json:"op"`
}

// inspectCommands prints what the entries of a log ask for, one command a line.
func (t *tool) inspectCommands(path string) (err error) {
	dir, err := openDirectory(path, "")
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, dir.Close()) }()
	o := raftlog.Options{FS: env.SystemFS(), Dir: dir.Wal(), ClusterID: dir.Identity.ClusterID, MemberID: dir.Identity.MemberID}
	return raftlog.Walk(o, func(e *raftpb.Entry, committed bool) error {
		return writeCommands(t.out, e, committed)
	})
}

// writeCommands prints the commands of one entry. Raft's own entries have none.
func writeCommands(w io.Writer, e *raftpb.Entry, committed bool) error {
	data := state.AppendEntries(nil, []*raftpb.Entry{e}, nil)[0].Data
	if len(data) == 0 {
		return nil
	}
	batch, err := command.OpenBatch(data)
	if err != nil {
		return fmt.Errorf("entry %d: %w", e.GetIndex(), err)
	}
	lines := json.NewEncoder(w)
	for {
		c, ok, err := batch.Next()
		if err != nil {
			return fmt.Errorf("entry %d: %w", e.GetIndex(), err)
		}
		if !ok {
			return nil
		}
		if err := lines.Encode(loggedCommand{
			Index: e.GetIndex(), Term: e.GetTerm(), Committed: committed,
			Time: time.Unix(0, c.Time).UTC(), User: c.User, Op: opFields(c.Op),
		}); err != nil {
			return err
		}
	}
}

// opFields is an op by its name, without hashes of passwords: what is printed gets passed on.
func opFields(op command.Op) map[string]any {
	var fields any = op
	switch o := op.(type) {
	case *command.Txn:
		fields = map[string]any{"Compares": o.Compares, "Success": opsFields(o.Success), "Failure": opsFields(o.Failure)}
	case *command.UserAdd:
		fields = command.UserAdd{Name: o.Name, NoPassword: o.NoPassword}
	case *command.UserChangePassword:
		fields = command.UserChangePassword{Name: o.Name}
	case *command.TreeUser:
		shown := *o
		shown.Hash = nil
		fields = shown
	}
	return map[string]any{reflect.TypeOf(op).Elem().Name(): fields}
}

func opsFields(ops []command.Op) []map[string]any {
	list := make([]map[string]any, len(ops))
	for i, op := range ops {
		list[i] = opFields(op)
	}
	return list
}
