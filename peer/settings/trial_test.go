package settings

import (
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"keelson/peer/process"
)

// trial is one start of a program. In all its texts @client, @peer, @third and @fourth are free addresses, @dir is an empty
// working directory, @file is its configuration file, and @files is where the certificates are.
type trial struct {
	args []string
	env  []string
	file string // content of the configuration file; empty: there is none
	base string // of file: what it has besides what the trial is about
	// deep: it is watched until it serves, not only until it says that it starts.
	deep bool
}

func (r trial) String() string {
	s := strings.Join(r.args, " ")
	if len(r.env) > 0 {
		s = strings.Join(r.env, " ") + " etcd " + s
	}
	if r.file != "" {
		s += " with " + fmt.Sprintf("%q", strings.TrimPrefix(r.file, r.base))
	}
	return s
}

// base are the settings of a member alone that is soon ready; a trial gives those that it is about.
var base = [][2]string{
	{"name", "m1"}, {"data-dir", "@dir/data"},
	{"listen-client-urls", "http://@client"}, {"advertise-client-urls", "http://@client"},
	{"listen-peer-urls", "http://@peer"}, {"initial-advertise-peer-urls", "http://@peer"},
	{"initial-cluster", "m1=http://@peer"},
}

// commandLine is what the trial's program is called with.
func (r trial) commandLine() []string {
	var args []string
	for _, pair := range base {
		if r.file == "" && !r.gives(pair[0]) {
			args = append(args, "--"+pair[0]+"="+pair[1])
		}
	}
	return append(args, r.args...)
}

// gives reports whether the trial has a setting, by flag or variable.
func (r trial) gives(name string) bool {
	for _, arg := range r.args {
		if arg = strings.TrimLeft(arg, "-"); arg == name || strings.HasPrefix(arg, name+"=") {
			return true
		}
	}
	variable := variableOf(name) + "="
	return slices.ContainsFunc(r.env, func(entry string) bool { return strings.HasPrefix(entry, variable) })
}

func variableOf(name string) string {
	return "ETCD_" + strings.ToUpper(strings.ReplaceAll(name, "-", "_"))
}

// inFile is a trial whose configuration file has the base and, in YAML, more lines; without are keys of the base to leave out.
func inFile(lines string, without ...string) trial {
	var b strings.Builder
	for _, pair := range base {
		if !slices.Contains(without, pair[0]) {
			value := `"` + pair[1] + `"`
			if strings.Trim(pair[1], "0123456789") == "" {
				value = pair[1]
			}
			fmt.Fprintf(&b, "%s: %s\n", pair[0], value)
		}
	}
	return trial{args: []string{"--config-file=@file"}, file: b.String() + lines, base: b.String()}
}

// outcome is what became of a start.
type outcome struct {
	ready    bool
	code     int      // if it ended
	says     string   // the reason it gave for that
	warnings []string // what the log said of settings, sorted
	settings []string // name=value: those in effect, in the order of the log
	answers  []string // of a member that serves, about itself
}

func (o outcome) String() string {
	s := "starts"
	if !o.ready {
		s = fmt.Sprintf("ends with %d: %s", o.code, o.says)
	}
	if len(o.warnings) > 0 {
		s += "\n    says " + strings.Join(o.warnings, "\n    says ")
	}
	return s
}

const (
	startLine    = "starting an etcd server"
	readyLine    = "ready to serve client requests"
	trialTimeout = 30 * time.Second
)

// run starts program as the trial says, on these ports, and reports what becomes of it.
func (r trial) run(t *testing.T, program process.Program, ports []string) outcome {
	dir, err := os.MkdirTemp("", "trial-")
	if err != nil {
		t.Error(err)
		return outcome{}
	}
	defer os.RemoveAll(dir)
	filled := strings.NewReplacer(
		"@client", "127.0.0.1:"+ports[0], "@peer", "127.0.0.1:"+ports[1], "@third", "127.0.0.1:"+ports[2], "@fourth", "127.0.0.1:"+ports[3],
		"@files", files, "@file", filepath.Join(dir, "config"), "@dir", dir)
	fill := func(list []string) (l []string) {
		for _, s := range list {
			l = append(l, filled.Replace(s))
		}
		return l
	}
	if r.file != "" {
		if err := os.WriteFile(filepath.Join(dir, "config"), []byte(filled.Replace(r.file)), 0o600); err != nil {
			t.Error(err)
		}
	}
	p, err := program.Start(dir, fill(r.env), fill(r.commandLine())...)
	if err != nil {
		t.Error(err)
		return outcome{}
	}
	defer p.Kill()
	until := startLine
	if r.deep {
		until = readyLine
	}
	plain := strings.NewReplacer("127.0.0.1:"+ports[0], "@client", "127.0.0.1:"+ports[1], "@peer",
		"127.0.0.1:"+ports[2], "@third", "127.0.0.1:"+ports[3], "@fourth", files, "@files", dir, "@dir")
	deadline := time.After(trialTimeout)
	for {
		text, changed := p.Out.Text()
		if at := strings.Index(text, `"msg":"`+until); at >= 0 {
			if end := strings.IndexByte(text[at:], '\n'); end >= 0 {
				o := read(plain.Replace(text[:at+end]), true)
				if r.deep {
					for _, answer := range ask("127.0.0.1:" + ports[0]) {
						o.answers = append(o.answers, plain.Replace(answer))
					}
				}
				return o
			}
		}
		select {
		case <-changed:
		case <-p.Ended:
			text, _ := p.Out.Text()
			o := read(plain.Replace(text), false)
			o.code = p.Code
			return o
		case <-deadline:
			t.Errorf("%v: %s neither starts nor ends:\n%s", r, program.Name, text)
			return outcome{}
		}
	}
}

// told are messages about settings that are no warnings, toldLate those that may come after the first line.
var (
	told     = regexp.MustCompile(`ignor|increased to minimum|loaded server configuration|detected default host|recognized and used`)
	toldLate = regexp.MustCompile(`ignor|exceed|default bcrypt|generate certificates|revoked|recommended`)
)

// read makes an outcome of what a program wrote.
func read(text string, ready bool) outcome {
	o := outcome{ready: ready}
	for line := range strings.Lines(text) {
		var entry struct{ Level, Msg, Error string }
		if err := json.Unmarshal([]byte(line), &entry); err != nil {
			if o.says == "" {
				o.says = strings.TrimSpace(line)
			}
			continue
		}
		said := entry.Msg
		if entry.Error != "" {
			said += ": " + entry.Error
		}
		switch {
		case entry.Msg == startLine:
			o.settings = fieldsOf(line)
		case !ready && (entry.Level == "fatal" || entry.Level == "panic" || entry.Error != ""):
			o.says = said
		case o.settings != nil && !toldLate.MatchString(entry.Msg):
		case (entry.Level != "info" && entry.Level != "debug") || told.MatchString(entry.Msg):
			o.warnings = append(o.warnings, entry.Level+" "+said)
		}
	}
	slices.Sort(o.warnings)
	o.warnings = slices.Compact(o.warnings)
	return o
}

// ofTheBuild are fields of the first line that tell of the program, not of its settings.
var ofTheBuild = []string{"level", "ts", "caller", "msg", "git-sha", "keelson-version"}

// fieldsOf are the settings in the log's first line.
func fieldsOf(line string) (list []string) {
	decoder := json.NewDecoder(strings.NewReader(line))
	decoder.Token()
	for decoder.More() {
		name, _ := decoder.Token()
		var value json.RawMessage
		if decoder.Decode(&value) != nil {
			return append(list, "unreadable")
		}
		if !slices.Contains(ofTheBuild, name.(string)) {
			list = append(list, fmt.Sprintf("%s=%s", name, value))
		}
	}
	return list
}

// compare starts both programs as each trial says, two trials at a time, and reports those that end differently.
func compare(t *testing.T, trials []trial) {
	t.Helper()
	const together = 2
	begin := time.Now()
	next := make(chan trial)
	var workers sync.WaitGroup
	for range together {
		workers.Go(func() {
			for r := range next {
				a, b := r.runBoth(t)
				accept(r, &a, &b)
				for _, difference := range differences(a, b) {
					t.Errorf("%v\n%s", r, difference)
				}
			}
		})
	}
	for _, r := range trials {
		next <- r
	}
	close(next)
	workers.Wait()
	t.Logf("%d trials in %v", len(trials), time.Since(begin).Round(time.Millisecond))
}

// runBoth starts both programs on the same ports, and on others if somebody else took one meanwhile.
func (r trial) runBoth(t *testing.T) (a, b outcome) {
	for {
		ports := freePorts(t, 4)
		a, b = r.run(t, theirs, ports), r.run(t, ours, ports)
		if !strings.Contains(a.says+b.says, "address already in use") {
			return a, b
		}
	}
}

// differences tells in words where two outcomes differ.
func differences(a, b outcome) (list []string) {
	if a.String() != b.String() {
		list = append(list, fmt.Sprintf("--- etcd\n  %v\n--- ours\n  %v", a, b))
	}
	if a.ready && !slices.Equal(a.settings, b.settings) {
		list = append(list, fmt.Sprintf("settings in effect\n--- etcd\n  %s\n--- ours\n  %s",
			strings.Join(without(a.settings, b.settings), "\n  "), strings.Join(without(b.settings, a.settings), "\n  ")))
	}
	if a.ready && !slices.Equal(a.answers, b.answers) {
		list = append(list, fmt.Sprintf("answers\n--- etcd\n  %s\n--- ours\n  %s",
			strings.Join(without(a.answers, b.answers), "\n  "), strings.Join(without(b.answers, a.answers), "\n  ")))
	}
	return list
}

func without(list, others []string) (left []string) {
	for _, s := range list {
		if !slices.Contains(others, s) {
			left = append(left, s)
		}
	}
	return left
}
