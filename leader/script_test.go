package leader

import (
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/cockroachdb/datadriven"

	"keelson/state/lease"
)

// Scripts drive a Lessor. Times are in seconds since the start, as decimal numbers.
func TestLessorScripts(t *testing.T) {
	datadriven.Walk(t, "testdata/lessor", func(t *testing.T, path string) {
		l := NewLessor(LessorOptions{})
		granted := uint64(100) // entries, after those of the leases that Promote finds
		datadriven.RunTest(t, path, func(t *testing.T, d *datadriven.TestData) string {
			var now float64
			var id, ttl, term int64
			limit := 10
			d.MaybeScanArgs(t, "now", &now)
			d.MaybeScanArgs(t, "id", &id)
			d.MaybeScanArgs(t, "ttl", &ttl)
			d.MaybeScanArgs(t, "term", &term)
			d.MaybeScanArgs(t, "max", &limit)
			at := duration(now)
			switch d.Cmd {
			case "lessor":
				var extension, stall, retry, checkpoint float64
				var rate int
				d.MaybeScanArgs(t, "extension", &extension)
				d.MaybeScanArgs(t, "stall", &stall)
				d.MaybeScanArgs(t, "retry", &retry)
				d.MaybeScanArgs(t, "checkpoint", &checkpoint)
				d.MaybeScanArgs(t, "rate", &rate)
				l = NewLessor(LessorOptions{
					Extension: duration(extension), StallMax: duration(stall), RetryInterval: duration(retry),
					CheckpointInterval: duration(checkpoint), RevokesPerSecond: rate,
				})
				return ""
			case "promote":
				l.Promote(at, uint64(term), parseLeases(t, d.Input))
				return fmt.Sprintf("%d leases in term %d\n", l.Len(), l.Leading())
			case "demote":
				l.Demote()
				return fmt.Sprintf("%d leases in term %d\n", l.Len(), l.Leading())
			case "grant":
				granted++
				l.Granted(id, lease.Grant{Index: granted}, ttl, at)
				return ""
			case "revoked":
				l.Revoked(id)
				return ""
			case "renew":
				ttl, status := l.Renew(id, at)
				return fmt.Sprintf("%s ttl=%d\n", status, ttl)
			case "tick":
				l.Tick(at)
				return fmt.Sprintf("stalled=%v\n", l.Stalled(at))
			case "confirm":
				var asOf float64
				d.ScanArgs(t, "as-of", &asOf)
				l.Confirm(uint64(term), duration(asOf))
				return fmt.Sprintf("stalled=%v\n", l.Stalled(at))
			case "expired":
				var b strings.Builder
				for _, r := range l.Expired(at, limit) {
					fmt.Fprintf(&b, "revoke %d in term %d\n", r.ID, r.Term)
				}
				return b.String()
			case "next":
				next, ok := l.NextExpiry()
				return fmt.Sprintf("%v %v\n", next, ok)
			case "remaining":
				left, ok := l.Remaining(id, at)
				return fmt.Sprintf("%d of %d, %v\n", left.RemainingSeconds, left.TTLSeconds, ok)
			case "all":
				var b strings.Builder
				for _, s := range l.All(at) {
					fmt.Fprintf(&b, "%d: %d of %d\n", s.ID, s.RemainingSeconds, s.TTLSeconds)
				}
				return b.String()
			case "checkpoint":
				c := l.Checkpoint(at)
				if c == nil {
					return "none\n"
				}
				var b strings.Builder
				for _, r := range c.Leases {
					fmt.Fprintf(&b, "%d: %d in term %d, granted at %d.%d, after %d\n",
						r.ID, r.RemainingSeconds, c.Term, r.GrantIndex, r.GrantOrdinal, r.CheckpointIndex)
				}
				return b.String()
			case "checkpointed":
				var remaining int64
				var index uint64
				d.ScanArgs(t, "remaining", &remaining)
				d.ScanArgs(t, "index", &index)
				l.Checkpointed(id, remaining, index)
				return ""
			}
			d.Fatalf(t, "unknown command %s", d.Cmd)
			return ""
		})
	})
}

func duration(seconds float64) time.Duration { return time.Duration(seconds * float64(time.Second)) }

// parseLeases reads lines of "id ttl [remaining]", in the order of their grants.
func parseLeases(t *testing.T, input string) []lease.Lease {
	var list []lease.Lease
	for line := range strings.Lines(input) {
		l := lease.Lease{Grant: lease.Grant{Index: uint64(len(list))}}
		if n, err := fmt.Sscan(line, &l.ID, &l.TTLSeconds, &l.RemainingSeconds); n < 2 {
			t.Fatalf("%q: %v", line, err)
		}
		list = append(list, l)
	}
	return list
}

// Scripts drive a Compactor: each line of a run is a time and a revision.
func TestCompactorScripts(t *testing.T) {
	datadriven.Walk(t, "testdata/compactor", func(t *testing.T, path string) {
		var c *Compactor
		datadriven.RunTest(t, path, func(t *testing.T, d *datadriven.TestData) string {
			switch d.Cmd {
			case "periodic":
				c = NewCompactor(CompactorOptions{Mode: CompactPeriodic, Retention: minutes(t, d.CmdArgs[0].Key)})
				return ""
			case "by-revision":
				var n int64
				fmt.Sscan(d.CmdArgs[0].Key, &n)
				c = NewCompactor(CompactorOptions{Mode: CompactByRevision, Revisions: n})
				return ""
			case "run": // from to step: times; perMinute: revisions; done: compactions are carried out
				return runCompactor(t, c, d)
			case "compacted":
				var floor int64
				fmt.Sscan(d.CmdArgs[0].Key, &floor)
				c.Compacted(floor)
				return ""
			}
			d.Fatalf(t, "unknown command %s", d.Cmd)
			return ""
		})
	})
}

func minutes(t *testing.T, s string) time.Duration {
	d, err := time.ParseDuration(s)
	if err != nil {
		t.Fatal(err)
	}
	return d
}

// runCompactor ticks every second, with one more revision each, and prints what falls due.
func runCompactor(t *testing.T, c *Compactor, d *datadriven.TestData) string {
	var from, to string
	d.ScanArgs(t, "from", &from)
	d.ScanArgs(t, "to", &to)
	leading, done := !d.HasArg("follower"), !d.HasArg("lost")
	idle := d.HasArg("idle")
	var b strings.Builder
	end := minutes(t, to)
	for now := minutes(t, from); now <= end; now += time.Second {
		revision := 1 + int64(now/time.Second)
		if idle {
			revision = 1 + int64(minutes(t, from)/time.Second)
		}
		cmd := c.Tick(now, revision, leading)
		if cmd == nil {
			continue
		}
		fmt.Fprintf(&b, "%v: compact %d of %d\n", now, cmd.Revision, revision)
		if done {
			c.Compacted(cmd.Revision)
		}
	}
	return b.String()
}
