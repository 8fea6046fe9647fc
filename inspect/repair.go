package inspect

import (
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"time"

	"github.com/spf13/cobra"

	"keelson/env"
	"keelson/internal/cli"
	"keelson/raftlog"
	"keelson/server/datadir"
)

func (t *tool) repairCommand() *cobra.Command {
	var dryRun, accept bool
	cmd := &cobra.Command{
		Use: "repair DATA-DIR", Short: "Make a damaged data directory start again", Args: cobra.ExactArgs(1),
		Long: "Make a damaged data directory start again.\n\n" +
			"Damaged state, where there are other members: the next start fetches it from one of them, and applies the log behind it. A member that finds the damage itself does so unasked.\n\n" +
			"A damaged log of a lone member: it is put aside, and a new one begun behind the state that is on disk: " +
			"what was acknowledged after that state was flushed is lost, as far as the damaged log alone held it. The old log is kept under another name.\n\n" +
			"That is refused if the cluster has other voters: they hold everything, so this member is to be removed and added again. A directory that is whole is left as it is.",
		Example: "  keelson repair /var/lib/keelson --dry-run\n  keelson repair /var/lib/keelson --accept-data-loss",
		RunE:    func(cmd *cobra.Command, args []string) error { return t.repair(args[0], dryRun, accept) },
	}
	cmd.Flags().BoolVar(&dryRun, "dry-run", false, "say what would be done, and change nothing")
	cmd.Flags().BoolVar(&accept, "accept-data-loss", false, "say that what only the damaged log holds may be lost")
	return cmd
}

func (t *tool) repair(path string, dryRun, accept bool) error {
	verdicts, err := check(path)
	if err != nil {
		return err
	}
	logIsBad := false
	for _, v := range verdicts {
		switch {
		case v.fault == "":
		case v.what == "log":
			logIsBad = true
		case v.what == "state" && !logIsBad && hasPeers(path):
			return t.repairState(path, v.fault, dryRun)
		default:
			return cli.Fail(cli.ExitError, "%s: %s; this cannot be repaired from what is left in %s. Restore a snapshot, or add the member anew; nothing was changed", v.what, v.fault, path)
		}
	}
	if !logIsBad {
		fmt.Fprintf(t.out, "%s is whole: there is nothing to repair\n", path)
		return nil
	}
	at, identity, err := lonePosition(path)
	if err != nil {
		return err
	}
	aside := fmt.Sprintf("wal.damaged-%s", time.Now().UTC().Format("20060102T150405"))
	what := fmt.Sprintf("put the log of %s aside as member/%s and begin a new one at index %d; what was written after that and is only in the damaged log is lost", path, aside, at.Index)
	if dryRun || !accept {
		fmt.Fprintf(t.out, "would %s\n", what)
		if !dryRun {
			return cli.Fail(cli.ExitError, "nothing was changed; say --accept-data-loss to do it")
		}
		return nil
	}
	if err := beginLog(path, aside, at, identity); err != nil {
		return err
	}
	fmt.Fprintf(t.out, "did %s\n", what)
	return nil
}

// repairState has the next start fetch the state from another member.
func (t *tool) repairState(path, fault string, dryRun bool) (err error) {
	const what = "have the next start of the member fetch the state from another member and apply its own log behind it"
	if dryRun {
		fmt.Fprintf(t.out, "the state is damaged: %s\nwould %s\n", fault, what)
		return nil
	}
	dir, err := openDirectory(path, "")
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, dir.Close()) }()
	if err := dir.NoteDamage(datadir.Store, fault); err != nil {
		return err
	}
	fmt.Fprintf(t.out, "the state is damaged: %s\ndid %s\n", fault, what)
	return nil
}

// hasPeers reports whether a data directory names other members.
func hasPeers(path string) bool {
	text, err := os.ReadFile(filepath.Join(path, "member", "CONTACTS"))
	var others []any
	return err == nil && json.Unmarshal(text, &others) == nil && len(others) > 0
}

// lonePosition is where the state stands, if its member is the only voter.
func lonePosition(path string) (at raftlog.Position, id datadir.Identity, err error) {
	s, err := openStore(path)
	if err != nil {
		return at, id, err
	}
	defer func() { err = errors.Join(err, s.Close()) }()
	view := s.machine.View()
	defer view.Close()
	if voters := view.Members().Voters(); len(voters) != 1 || voters[0] != s.dir.Identity.MemberID {
		return at, id, cli.Fail(cli.ExitError, "the cluster has %d voters, and a member that has forgotten what it voted for could break their agreement: "+
			"keelson member remove %x, empty the directory, and add the member again; nothing was changed", len(voters), s.dir.Identity.MemberID)
	}
	return s.applied(), s.dir.Identity, nil
}

// beginLog replaces the log by an empty one. The old one is out of the way before the new one is made, so that a crash in
// between leaves a directory that is refused, not one that looks whole.
func beginLog(path, aside string, at raftlog.Position, id datadir.Identity) (err error) {
	dir, err := openDirectory(path, "")
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, dir.Close()) }()
	fs := env.SystemFS()
	if err := os.Rename(dir.Wal(), fs.PathJoin(dir.Member(), aside)); err != nil {
		return err
	}
	log, err := raftlog.Create(raftlog.Options{FS: fs, Dir: dir.Wal(), ClusterID: id.ClusterID, MemberID: id.MemberID}, at)
	if err != nil {
		return err
	}
	return log.Close()
}
