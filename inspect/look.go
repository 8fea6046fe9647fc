package inspect

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"

	"github.com/spf13/cobra"
	pb "go.etcd.io/etcd/api/v3/etcdserverpb"

	"keelson/env"
	"keelson/internal/cli"
	"keelson/raftlog"
	"keelson/state/alarm"
	"keelson/state/lease"
	"keelson/state/mvcc"
)

func (t *tool) inspectCommand() *cobra.Command {
	cmd := &cobra.Command{Use: "inspect", Short: "Look into the data directory of a stopped member: its log, its state, the history of a key"}
	withLog := false
	state := &cobra.Command{
		Use: "state DATA-DIR", Short: "Sum up the state: ids, position, revisions, members, alarms", Args: cobra.ExactArgs(1), Example: "  keelson inspect state /var/lib/keelson",
		RunE: func(cmd *cobra.Command, args []string) error { return t.inspectState(args[0], withLog) },
	}
	key := &cobra.Command{
		Use: "key DATA-DIR KEY", Short: "Print every version of a key that is kept", Args: cobra.ExactArgs(2), Example: "  keelson inspect key /var/lib/keelson greeting --with-log",
		RunE: func(cmd *cobra.Command, args []string) error { return t.inspectKey(args[0], args[1], withLog) },
	}
	for _, cmd := range []*cobra.Command{state, key} {
		cmd.Flags().BoolVar(&withLog, "with-log", false, "apply first, to a copy among the temporary files, what the raft log holds beyond the state on disk")
	}
	commands := false
	log := &cobra.Command{
		Use: "log DATA-DIR", Short: "Print every record of the raft log", Args: cobra.ExactArgs(1),
		Example: "  keelson inspect log /var/lib/keelson | less\n  keelson inspect log /var/lib/keelson --commands | jq 'select(.op.Put) | .op.Put.Key | @base64d'",
		RunE: func(cmd *cobra.Command, args []string) error {
			if commands {
				return t.inspectCommands(args[0])
			}
			return t.inspectLog(args[0])
		},
	}
	log.Flags().BoolVar(&commands, "commands", false, "print instead what the entries ask for: each command as a line of JSON, bytes in base64, hashes of passwords left out")
	cmd.AddCommand(state, key, log)
	return cmd
}

func (t *tool) inspectLog(path string) (err error) {
	dir, err := openDirectory(path, "")
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, dir.Close()) }()
	return raftlog.Dump(env.SystemFS(), dir.Wal(), t.out)
}

// look opens a state to be looked at. Without the log, it is said how much that holds besides.
func (t *tool) look(path string, withLog bool, f func(s *store) error) (err error) {
	if !withLog {
		s, err := openStore(path)
		if err != nil {
			return err
		}
		defer func() { err = errors.Join(err, s.Close()) }()
		if err := f(s); err != nil {
			return err
		}
		r := &logReader{}
		if err := raftlog.Dump(env.SystemFS(), s.dir.Wal(), r); err != nil {
			return err
		}
		if at := s.applied().Index; r.last > at {
			fmt.Fprintf(t.err, "the state on disk stands at index %d, the raft log ends at %d: what is between is not shown. To see it, too: --with-log\n", at, r.last)
		}
		return nil
	}
	scratch, err := os.MkdirTemp("", "keelson-inspect-*")
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, os.RemoveAll(scratch)) }()
	s, err := openWhole(path, "", filepath.Join(scratch, "state"))
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, s.Close()) }()
	return f(s)
}

func (t *tool) inspectState(path string, withLog bool) error {
	return t.look(path, withLog, t.showState)
}

func (t *tool) showState(s *store) error {
	m := s.machine
	view := m.View()
	defer view.Close()
	index, hash := m.StateHash()
	leases := 0
	if err := view.Leases(func(lease.Lease) bool { leases++; return true }); err != nil {
		return err
	}
	sizes := m.Sizes()
	rows := [][]string{
		{"cluster", fmt.Sprintf("%x", s.dir.Identity.ClusterID)},
		{"member", fmt.Sprintf("%x", s.dir.Identity.MemberID)},
		{"applied", fmt.Sprintf("index %d, term %d", s.applied().Index, s.applied().Term)},
		{"state hash", fmt.Sprintf("%016x at index %d", hash, index)},
		{"revision", fmt.Sprint(m.Revision())},
		{"compacted", fmt.Sprint(m.Compacted())},
		{"keys", fmt.Sprint(m.LiveKeys())},
		{"leases", fmt.Sprint(leases)},
		{"database", fmt.Sprintf("%d bytes in tables, %d of them in use", sizes.DiskBytes, sizes.LiveBytes)},
	}
	for _, member := range view.Members().List() {
		kind := "voter"
		if member.IsLearner {
			kind = "learner"
		}
		rows = append(rows, []string{"member", fmt.Sprintf("%x %s %s %s", member.ID, member.Name, kind, strings.Join(member.PeerURLs, ","))})
	}
	for _, raised := range view.Alarms().List(alarm.None) {
		rows = append(rows, []string{"alarm", fmt.Sprintf("%x %s", raised.Member, pb.AlarmType(raised.Type))})
	}
	return cli.Columns(t.out, rows, nil)
}

// changesBytes is how much of a history is read at a time.
const changesBytes = 1 << 20

func (t *tool) inspectKey(path, key string, withLog bool) error {
	return t.look(path, withLog, func(s *store) error { return t.showKey(s, key) })
}

func (t *tool) showKey(s *store, key string) error {
	rows := [][]string{{"REVISION", "CHANGE", "VERSION", "LEASE", "VALUE"}}
	from, to := max(s.machine.Compacted(), 1), s.machine.Revision()
	for from <= to {
		next, err := s.machine.Changes(from, to, []byte(key), []byte(key+"\x00"), changesBytes, func(e *mvcc.Event) error {
			rows = append(rows, eventRow(e))
			return nil
		})
		if err != nil {
			return err
		}
		if next <= from {
			break
		}
		from = next
	}
	return cli.Columns(t.out, rows, nil)
}

func eventRow(e *mvcc.Event) []string {
	row := []string{fmt.Sprint(e.KV.ModRevision), "put", fmt.Sprint(e.KV.Version), "-", fmt.Sprintf("%q", e.KV.Value)}
	switch {
	case e.Kind == mvcc.Delete:
		row[1], row[2], row[4] = "delete", "-", "-"
	case e.KV.Version == 1:
		row[1] = "create"
	}
	if e.KV.Lease != 0 {
		row[3] = fmt.Sprintf("%016x", e.KV.Lease)
	}
	return row
}
