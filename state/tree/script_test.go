package tree

import (
	"fmt"
	"strconv"
	"strings"
	"testing"

	"github.com/cockroachdb/datadriven"

	"keelson/command"
)

// Scripts in testdata/scripts say what each op does. The input of a command is one op in a line:
//
//	set|create|in-order|update|swap PATH [VALUE] [dir] [ttl=SECONDS] [at=SECONDS] [refresh] [prev=VALUE] [index=N]
//	delete|compare-delete PATH [dir] [recursive] [prev=VALUE] [index=N]
//	expire LIMIT
//
// Commands: do (each op is a batch of its own), batch (all in one), clock SECONDS (where time stands), get PATH, list PATH,
// walk PATH (recursively), events FROM, due, reopen.
func TestScripts(t *testing.T) {
	datadriven.Walk(t, "testdata/scripts", func(t *testing.T, path string) {
		f := newForest(t)
		datadriven.RunTest(t, path, func(t *testing.T, d *datadriven.TestData) string {
			f.t = t
			return f.script(d)
		})
	})
}

func (f *forest) script(d *datadriven.TestData) string {
	arg := func() string { return d.CmdArgs[0].Key }
	switch d.Cmd {
	case "do", "batch":
		return f.scriptOps(d.Input, d.Cmd == "batch")
	case "clock":
		s, err := strconv.ParseFloat(arg(), 64)
		f.check(err)
		f.now = epoch + int64(s*1e9)
		return ""
	case "get":
		v := f.view()
		defer v.Close()
		n, refusal, err := v.Get(arg())
		f.check(err)
		if refusal != nil {
			return printError(refusal)
		}
		return printNode(n, f.now) + "\n"
	case "list", "walk":
		return f.list(arg(), d.Cmd == "walk")
	case "events":
		return f.scriptEvents(arg())
	case "due":
		deadline, ok, err := f.table.earliestOf(f.db)
		f.check(err)
		return fmt.Sprintf("%+.3fs %v\n", float64(deadline-epoch)/1e9, ok)
	case "reopen":
		f.reopen()
		return ""
	}
	d.Fatalf(f.t, "unknown command %s", d.Cmd)
	return ""
}

func (f *forest) scriptOps(input string, together bool) string {
	var b strings.Builder
	var ops []command.Op
	for line := range strings.Lines(input) {
		op := f.parse(strings.Fields(line))
		if together {
			ops = append(ops, op)
			continue
		}
		_, refusal, events := f.apply(op)
		if refusal != nil {
			b.WriteString(printError(refusal))
		}
		for _, e := range events {
			b.WriteString(printEvent(e))
		}
	}
	if together {
		_, _, events := f.apply(ops...)
		for _, e := range events {
			b.WriteString(printEvent(e))
		}
	}
	return b.String()
}

func (f *forest) scriptEvents(from string) string {
	v := f.view()
	defer v.Close()
	n, err := strconv.ParseUint(from, 10, 64)
	f.check(err)
	var b strings.Builder
	refusal, err := v.Events(n, func(e *Event) bool { b.WriteString(printEvent(e)); return true })
	f.check(err)
	if refusal != nil {
		return printError(refusal)
	}
	return b.String()
}

var putModes = map[string]command.TreePutMode{
	"set": command.TreeSet, "create": command.TreeCreate, "in-order": command.TreeCreateInOrder,
	"update": command.TreeUpdate, "swap": command.TreeCompareAndSwap,
}

func (f *forest) parse(words []string) command.Op {
	f.t.Helper()
	verb, subject := words[0], words[1]
	if verb == "expire" {
		return &command.TreeExpire{Stamp: f.now, Limit: int64(f.number(subject))}
	}
	put := &command.TreePut{Path: subject}
	del := &command.TreeDelete{Path: subject, Compare: verb == "compare-delete"}
	for _, w := range words[2:] {
		key, value, _ := strings.Cut(w, "=")
		switch key {
		case "dir":
			put.Dir, del.Dir = true, true
		case "recursive":
			del.Recursive = true
		case "refresh":
			put.Refresh = true
		case "ttl":
			put.Deadline = f.now + int64(f.number(value))*second
		case "at":
			n, err := strconv.ParseInt(value, 10, 64)
			f.check(err)
			put.Deadline = n
		case "prev":
			put.PrevValue, del.PrevValue = []byte(value), []byte(value)
		case "index":
			put.PrevIndex = f.number(value)
			del.PrevIndex = put.PrevIndex
		default:
			put.Value = []byte(w)
		}
	}
	if verb == "delete" || verb == "compare-delete" {
		return del
	}
	mode, ok := putModes[verb]
	if !ok {
		f.t.Fatalf("unknown op %s", verb)
	}
	put.Mode = mode
	return put
}

func (f *forest) number(s string) uint64 {
	f.t.Helper()
	n, err := strconv.ParseUint(s, 10, 64)
	f.check(err)
	return n
}
