package inspect

import (
	"bytes"
	"fmt"
	"strings"

	"github.com/spf13/cobra"

	"keelson/env"
	"keelson/internal/cli"
	"keelson/raftlog"
)

func (t *tool) verifyCommand() *cobra.Command {
	return &cobra.Command{
		Use: "verify DATA-DIR", Short: "Check that everything in the data directory of a stopped member is whole", Args: cobra.ExactArgs(1),
		Long: "Check that everything in the data directory of a stopped member is whole: who it belongs to, every record of the raft log, every block of the state, and that " +
			"the two fit together. Nothing is changed. The exit code is 1 if anything is wrong.",
		Example: "  keelson verify /var/lib/keelson",
		RunE:    func(cmd *cobra.Command, args []string) error { return t.verify(args[0]) },
	}
}

// verdict is what one check found; an empty fault is good.
type verdict struct {
	what, found string
	fault, next string
}

func (t *tool) verify(path string) error {
	verdicts, err := check(path)
	if err != nil {
		return err
	}
	bad := 0
	for _, v := range verdicts {
		if v.fault == "" {
			fmt.Fprintf(t.out, "ok   %s: %s\n", v.what, v.found)
			continue
		}
		bad++
		fmt.Fprintf(t.out, "BAD  %s: %s\n     next: %s\n", v.what, v.fault, v.next)
	}
	if bad > 0 {
		return cli.Fail(cli.ExitError, "%d of %d checks failed on %s; nothing was changed", bad, len(verdicts), path)
	}
	return nil
}

// What to do about a directory that is not whole.
const (
	replaceMember = "if the cluster has other members: keelson member remove this one, empty the directory, add it again; if it is alone: keelson repair, or restore a snapshot"
)

// check looks at all parts of a data directory. Its error is that there is none to look at.
func check(path string) (list []verdict, err error) {
	dir, err := openDirectory(path, "")
	if err != nil {
		return nil, err
	}
	id := dir.Identity
	list = append(list, verdict{what: "directory", found: fmt.Sprintf("cluster %x, member %x", id.ClusterID, id.MemberID)})
	log, last := checkLog(dir.Wal())
	list = append(list, log)
	if err := dir.Close(); err != nil {
		return nil, err
	}
	return append(list, checkState(path, last)...), nil
}

// checkLog reads every record. last is the index of the last entry that can be read.
func checkLog(dir string) (v verdict, last uint64) {
	v.what = "log"
	r := &logReader{}
	if err := raftlog.Dump(env.SystemFS(), dir, r); err != nil {
		v.fault, v.next = err.Error(), replaceMember
		return v, 0
	}
	switch {
	case r.damage != "" && strings.HasSuffix(r.damage, "; the shape of a torn write"):
		v.found = fmt.Sprintf("%d records, then an unfinished write, which the next start cuts off", r.records)
	case r.damage != "":
		v.fault, v.next = strings.TrimSpace(r.damage), replaceMember
	default:
		v.found = fmt.Sprintf("%d records in %d files", r.records, r.files)
	}
	return v, r.last
}

// logReader counts what a dump says, line by line.
type logReader struct {
	rest           []byte
	files, records int
	last           uint64
	damage         string
}

func (r *logReader) Write(b []byte) (int, error) {
	r.rest = append(r.rest, b...)
	for {
		line, rest, ok := bytes.Cut(r.rest, []byte("\n"))
		if !ok {
			return len(b), nil
		}
		r.line(string(line))
		r.rest = rest
	}
}

func (r *logReader) line(line string) {
	var offset, sequence int64
	if n, _ := fmt.Sscanf(line, " entry %d term", &r.last); n == 1 {
		return
	}
	switch {
	case strings.Contains(line, " no record #"), strings.Contains(line, ".log: ") && !strings.Contains(line, " bytes, segment "):
		r.damage = line
	case strings.Contains(line, " bytes, segment "):
		r.files++
		r.damage = "" // a log may go on in the next file; what ends the last one counts
	default:
		if n, _ := fmt.Sscanf(line, "%d #%d ", &offset, &sequence); n == 2 {
			r.records++
		}
	}
}

// checkState opens the state and reads all of it. last is where the log ends.
func checkState(path string, last uint64) []verdict {
	v := verdict{what: "state"}
	s, err := openStore(path)
	if err != nil {
		v.fault, v.next = err.Error(), replaceMember
		return []verdict{v}
	}
	defer s.Close()
	hash, revision, err := s.machine.Hash()
	if err == nil {
		_, err = s.machine.HashKV(0)
	}
	if err != nil {
		v.fault, v.next = err.Error(), replaceMember
		return []verdict{v}
	}
	v.found = fmt.Sprintf("%d keys at revision %d, hash %d, log applied up to %d", s.machine.LiveKeys(), revision, hash, s.applied().Index)
	if at := s.applied().Index; last > at {
		v.found += fmt.Sprintf(" of %d: the next start applies the rest", last)
	}
	whose := verdict{what: "members", found: "the state knows this member"}
	view := s.machine.View()
	defer view.Close()
	set := view.Members()
	if set.ClusterID() != s.dir.Identity.ClusterID {
		whose.fault = fmt.Sprintf("the state belongs to cluster %x, the directory to %x", set.ClusterID(), s.dir.Identity.ClusterID)
	} else if _, known := set.Get(s.dir.Identity.MemberID); !known && len(set.List()) > 0 {
		whose.fault = "the state does not know this member: it was removed, or the directory was put together from two"
	}
	if whose.fault != "" {
		whose.next = replaceMember
	}
	return []verdict{v, whose}
}
