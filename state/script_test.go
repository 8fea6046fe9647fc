package state

import (
	"fmt"
	"strconv"
	"strings"
	"testing"

	"github.com/cockroachdb/datadriven"

	"keelson/command"
	"keelson/state/alarm"
	"keelson/state/lease"
	"keelson/state/mvcc"
)

// Scripts in testdata/apply say what each command does. A script begins with a new cluster of three members.
//
//	apply [term=N] [one-by-one]      one entry with the commands below, or one entry for each
//	conf-change [term=N] [impossible] [useless]
//	                                 a change of the configuration with the commands below; raft can't carry it out, or it
//	                                 leads nowhere
//	read                             ranges and transactions on a view
//	empty                            an entry without commands
//	state                            position, revisions, members, alarms, leases
//	compact-all, flush, reopen, crash
func TestApplyScripts(t *testing.T) {
	datadriven.Walk(t, "testdata/apply", func(t *testing.T, path string) {
		x := newMember(t)
		datadriven.RunTest(t, path, func(t *testing.T, d *datadriven.TestData) string {
			x.t = t
			switch d.Cmd {
			case "apply":
				return x.scriptApply(d)
			case "read":
				return x.scriptRead(d)
			case "empty":
				at := x.m.Applied()
				return printOutcome(x.apply(Entry{Index: at.Index + 1, Term: at.Term + 1}))
			case "conf-change":
				return x.scriptConfChange(d)
			case "state":
				return x.printState()
			case "compact-all":
				x.compactAll()
			case "flush":
				x.flush()
			case "reopen":
				x.reopen()
			case "crash":
				x.crash(random(t))
			default:
				d.Fatalf(t, "unknown command %s", d.Cmd)
			}
			return ""
		})
	})
}

func (x *member) scriptApply(d *datadriven.TestData) string {
	p := parser{t: x.t, lines: strings.Split(strings.TrimRight(d.Input, "\n"), "\n")}
	ops := p.ops(0)
	at := x.m.Applied()
	if d.HasArg("term") {
		d.ScanArgs(x.t, "term", &at.Term)
	}
	if !d.HasArg("one-by-one") {
		return printOutcome(x.apply(entryAfter(at, ops...)))
	}
	var entries []Entry
	for _, op := range ops {
		entries = append(entries, entryAfter(at, op))
		at.Index++
	}
	return printOutcome(x.apply(entries...))
}

func (x *member) scriptConfChange(d *datadriven.TestData) string {
	p := parser{t: x.t, lines: strings.Split(strings.TrimRight(d.Input, "\n"), "\n")}
	ops := p.ops(0)
	at := x.m.Applied()
	if d.HasArg("term") {
		d.ScanArgs(x.t, "term", &at.Term)
	}
	e := entryAfter(at, ops...)
	e.ConfChange, e.ConfState = true, x.members().ConfState()
	if len(ops) == 1 && changesConfiguration(ops[0]) && !d.HasArg("useless") {
		e.ConfState = leadsTo(x.t, e.ConfState, ops[0])
	}
	if d.HasArg("impossible") {
		e.ConfState = nil
	}
	return printOutcome(x.apply(e))
}

func (x *member) scriptRead(d *datadriven.TestData) string {
	v := x.m.View()
	defer v.Close()
	p := parser{t: x.t, lines: strings.Split(strings.TrimRight(d.Input, "\n"), "\n")}
	var b strings.Builder
	for _, op := range p.ops(0) {
		o, ok := op.(*command.Txn)
		if !ok {
			o = &command.Txn{Success: []command.Op{op}}
		}
		res, err := v.Txn(o)
		if err != nil {
			fmt.Fprintf(&b, "error: %v\n", err)
			continue
		}
		printTxn(&b, res, "")
	}
	return b.String()
}

func (x *member) printState() string {
	var b strings.Builder
	v := x.m.View()
	defer v.Close()
	at := x.m.Applied()
	fmt.Fprintf(&b, "index %d, term %d, revision %d, compacted %d, keys %d\n", at.Index, at.Term, v.Revision(), v.Compacted(), x.m.LiveKeys())
	fmt.Fprintf(&b, "cluster %d, version %q, conf state %q\n", v.Members().ClusterID(), v.Members().Version(), v.Members().ConfState())
	for _, m := range v.Members().List() {
		fmt.Fprintf(&b, "member %d %q peers %v clients %v learner %v", m.ID, m.Name, m.PeerURLs, m.ClientURLs, m.IsLearner)
		if m.AutoPromote {
			b.WriteString(", to be promoted")
		}
		b.WriteString("\n")
	}
	for id := range uint64(10) {
		if v.Members().Removed(id) {
			fmt.Fprintf(&b, "removed %d\n", id)
		}
	}
	for _, a := range v.Alarms().List(alarm.None) {
		fmt.Fprintf(&b, "alarm %d of %d\n", a.Type, a.Member)
	}
	err := v.Leases(func(l lease.Lease) bool {
		l, keys, ok, err := v.LeaseWithKeys(l.ID)
		if err != nil || !ok {
			x.t.Fatal(ok, err)
		}
		fmt.Fprintf(&b, "lease %d: ttl %d, remaining %d, granted at %d.%d, keys %q", l.ID, l.TTLSeconds, l.RemainingSeconds, l.Grant.Index, l.Grant.Ordinal, keys)
		if l.CheckpointIndex != 0 {
			fmt.Fprintf(&b, ", checkpoint at %d", l.CheckpointIndex)
		}
		b.WriteString("\n")
		return true
	})
	if err != nil {
		x.t.Fatal(err)
	}
	x.checkLeases()
	return b.String()
}

func printOutcome(out Outcome) string {
	var b strings.Builder
	for _, batch := range out.Batches {
		for i := range batch.Results {
			printResult(&b, &batch.Results[i])
		}
	}
	for i := range out.Events {
		e := &out.Events[i]
		fmt.Fprintf(&b, "event %d.%d ", e.KV.ModRevision, e.Sub)
		if e.Kind == mvcc.Delete {
			fmt.Fprintf(&b, "delete %q", e.KV.Key)
		} else {
			fmt.Fprintf(&b, "put %s", printPair(&e.KV))
		}
		if e.Prev != nil {
			fmt.Fprintf(&b, " was %s", printPair(e.Prev))
		}
		b.WriteString("\n")
	}
	for _, l := range out.Leases {
		what := [...]string{LeaseGranted: "granted", LeaseRevoked: "revoked", LeaseCheckpointed: "checkpointed"}[l.Kind]
		fmt.Fprintf(&b, "lease %d %s, ttl %d, remaining %d\n", l.ID, what, l.TTLSeconds, l.RemainingSeconds)
	}
	for _, c := range out.Checks {
		fmt.Fprintf(&b, "check at %d of %d: known %v, equal %v\n", c.Index, c.From, c.Known, c.Ours == c.Theirs)
	}
	if out.Floor {
		b.WriteString("floor moved\n")
	}
	if out.Members {
		b.WriteString("members changed\n")
	}
	if out.Alarms {
		b.WriteString("alarms changed\n")
	}
	if out.ConfRefused {
		b.WriteString("configuration stays\n")
	}
	for _, id := range out.Removed {
		fmt.Fprintf(&b, "removed %d\n", id)
	}
	fmt.Fprintf(&b, "revision %d\n", out.Revision)
	return b.String()
}

func printResult(b *strings.Builder, res *Result) {
	fmt.Fprintf(b, "@%d", res.Revision)
	if res.Refusal != nil {
		fmt.Fprintf(b, " refused: %v\n", res.Refusal)
		return
	}
	if res.Prev != nil {
		fmt.Fprintf(b, " prev %s", printPair(res.Prev))
	}
	if res.Deleted != 0 {
		fmt.Fprintf(b, " deleted %d", res.Deleted)
	}
	for i := range res.Prevs {
		fmt.Fprintf(b, " prev %s", printPair(&res.Prevs[i]))
	}
	if res.Lease != 0 {
		fmt.Fprintf(b, " lease %d ttl %d", res.Lease, res.TTLSeconds)
	}
	if res.Alarm != nil {
		fmt.Fprintf(b, " alarm %d of %d", res.Alarm.Type, res.Alarm.Member)
	}
	b.WriteString("\n")
	if res.Txn != nil {
		printTxn(b, res.Txn, "  ")
	}
}

func printTxn(b *strings.Builder, t *TxnResult, indent string) {
	fmt.Fprintf(b, "%stxn %v @%d\n", indent, t.Succeeded, t.Revision)
	for i := range t.Responses {
		o := &t.Responses[i]
		switch o.Kind {
		case OpRange:
			fmt.Fprintf(b, "%s  range @%d count %d", indent, o.Revision, o.Count)
			if o.More {
				b.WriteString(" more")
			}
		case OpPut:
			fmt.Fprintf(b, "%s  put @%d", indent, o.Revision)
		case OpDeleteRange:
			fmt.Fprintf(b, "%s  deleted %d @%d", indent, o.Count, o.Revision)
		case OpTxn:
			printTxn(b, o.Txn, indent+"  ")
			continue
		}
		if o.Prev != nil {
			fmt.Fprintf(b, " prev %s", printPair(o.Prev))
		}
		for i := range o.KVs {
			fmt.Fprintf(b, " %s", printPair(&o.KVs[i]))
		}
		b.WriteString("\n")
	}
}

// printPair prints key=value[create mod version lease].
func printPair(kv *mvcc.KeyValue) string {
	return fmt.Sprintf("%q=%q[c%d m%d v%d l%d]", kv.Key, kv.Value, kv.CreateRevision, kv.ModRevision, kv.Version, kv.Lease)
}

// parser reads commands, one a line; what belongs to a txn is indented.
type parser struct {
	t     testing.TB
	lines []string
}

func indentOf(line string) int { return len(line) - len(strings.TrimLeft(line, " ")) }

// words takes the next line if it has this indent.
func (p *parser) words(indent int) []string {
	if len(p.lines) == 0 || indentOf(p.lines[0]) != indent || strings.TrimSpace(p.lines[0]) == "" {
		return nil
	}
	w := strings.Fields(p.lines[0])
	p.lines = p.lines[1:]
	return w
}

func (p *parser) ops(indent int) []command.Op {
	var ops []command.Op
	for w := p.words(indent); w != nil; w = p.words(indent) {
		ops = append(ops, p.op(w, indent))
	}
	return ops
}

func (p *parser) op(w []string, indent int) command.Op {
	a := p.args(w[1:])
	switch w[0] {
	case "put":
		return &command.Put{
			Key: a.key(0), Value: a.key(1), Lease: a.int("lease"), PrevKV: a.has("prev"),
			IgnoreValue: a.has("ignore-value"), IgnoreLease: a.has("ignore-lease"),
		}
	case "del":
		return &command.DeleteRange{Key: a.key(0), End: a.key(1), PrevKV: a.has("prev")}
	case "range":
		return &command.Range{
			Key: a.key(0), End: a.key(1), Limit: a.int("limit"), Revision: a.int("rev"),
			SortOrder: int32(a.int("order")), SortTarget: int32(a.int("target")),
			KeysOnly: a.has("keys-only"), CountOnly: a.has("count-only"), ModRevisionMin: a.int("min-mod"),
		}
	case "txn":
		return p.txn(indent + 2)
	case "compact":
		return &command.Compact{Revision: a.number(0)}
	case "grant":
		return &command.LeaseGrant{ID: a.number(0), TTLSeconds: a.int("ttl")}
	case "revoke":
		return &command.LeaseRevoke{
			ID: a.number(0), Term: uint64(a.int("term")), GrantIndex: uint64(a.int("index")), GrantOrdinal: uint32(a.int("ordinal")),
		}
	case "checkpoint":
		return &command.LeaseCheckpoint{Term: uint64(a.int("term")), Leases: []command.LeaseRemaining{{
			ID: a.number(0), RemainingSeconds: a.int("remaining"),
			GrantIndex: uint64(a.int("index")), GrantOrdinal: uint32(a.int("ordinal")), CheckpointIndex: uint64(a.int("after")),
		}}}
	case "publish":
		return &command.MemberPublish{ID: uint64(a.number(0)), Name: string(a.key(1)), ClientURLs: a.words[2:]}
	case "member-add":
		return &command.MemberAdd{
			ID: uint64(a.number(0)), PeerURLs: a.words[1:], IsLearner: a.has("learner"), LearnersMax: a.int("max"), AutoPromote: a.has("auto"),
		}
	case "member-remove":
		return &command.MemberRemove{ID: uint64(a.number(0))}
	case "member-update":
		return &command.MemberUpdate{ID: uint64(a.number(0)), PeerURLs: a.words[1:]}
	case "member-promote":
		return &command.MemberPromote{ID: uint64(a.number(0))}
	case "version":
		return &command.ClusterVersion{Version: string(a.key(0))}
	case "check":
		return &command.HashCheck{Index: uint64(a.number(0)), Hash: uint64(a.int("hash")), From: 2}
	case "raise", "clear":
		return &command.Alarm{Member: uint64(a.number(0)), Type: int32(a.number(1)), Raise: w[0] == "raise"}
	case "noop":
		return &command.Noop{}
	}
	p.t.Fatalf("unknown op %q", w)
	return nil
}

// txn reads the "if", "then" and "else" parts of a transaction.
func (p *parser) txn(indent int) *command.Txn {
	o := &command.Txn{}
	for w := p.words(indent); w != nil; w = p.words(indent) {
		switch w[0] {
		case "if":
			o.Compares = append(o.Compares, p.compare(w[1:]))
		case "then":
			o.Success = p.ops(indent + 2)
		case "else":
			o.Failure = p.ops(indent + 2)
		default:
			p.t.Fatalf("unknown part of a txn: %q", w)
		}
	}
	return o
}

// compare reads "target key [end] op operand".
func (p *parser) compare(w []string) command.Compare {
	a := p.args(w)
	c := command.Compare{Key: a.key(1)}
	c.Target = map[string]int32{"version": 0, "create": 1, "mod": 2, "value": 3, "lease": 4, "target9": 9}[w[0]]
	rest := a.words[2:]
	if len(rest) == 3 {
		c.End = a.key(2)
		rest = rest[1:]
	}
	c.Result = map[string]int32{"=": 0, ">": 1, "<": 2, "!=": 3, "op9": 9}[rest[0]]
	if c.Target == 3 {
		c.Value = unquote(rest[1])
	} else {
		c.Number, _ = strconv.ParseInt(rest[1], 10, 64)
	}
	return c
}

// args are the words of a line, apart from name=number, and flags, which begin with "+".
type args struct {
	words []string
	named map[string]int64
	flags map[string]bool
}

func (p *parser) args(w []string) args {
	a := args{named: map[string]int64{}, flags: map[string]bool{}}
	for _, s := range w {
		name, value, ok := strings.Cut(s, "=")
		n, err := strconv.ParseInt(value, 10, 64)
		switch {
		case strings.HasPrefix(s, "+"):
			a.flags[s[1:]] = true
		case ok && err == nil:
			a.named[name] = n
		default:
			a.words = append(a.words, s)
		}
	}
	return a
}

func (a args) int(name string) int64  { return a.named[name] }
func (a args) has(flag string) bool   { return a.flags[flag] }
func (a args) number(i int) (n int64) { n, _ = strconv.ParseInt(a.words[i], 10, 64); return n }

// key is a word, or bytes in quotes; nil if it is not there.
func (a args) key(i int) []byte {
	if i >= len(a.words) {
		return nil
	}
	return unquote(a.words[i])
}

func unquote(s string) []byte {
	if u, err := strconv.Unquote(s); err == nil {
		return []byte(u)
	}
	return []byte(s)
}
