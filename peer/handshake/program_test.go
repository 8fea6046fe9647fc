package handshake

import (
	"encoding/json"
	"flag"
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

var keelsonPath = process.BinaryFlag()

// Set by TestMain: the programs, who takes part, and the directory of the files that servers are started with.
var (
	theirs, ours process.Program
	actors       *cast
	files        string
)

func TestMain(m *testing.M) {
	flag.Parse()
	if f := flag.Lookup("test.parallel"); f.Value.String() == f.DefValue {
		f.Value.Set("4") // most of the time is spent waiting
	}
	os.Exit(func() int {
		dir, err := os.MkdirTemp("", "handshake-")
		if err != nil {
			fmt.Fprintln(os.Stderr, err)
			return 1
		}
		defer os.RemoveAll(dir)
		if theirs, ours, err = process.Programs(dir, *keelsonPath); err != nil {
			fmt.Fprintln(os.Stderr, err)
			return 1
		}
		files = filepath.Join(dir, "files")
		if err := os.Mkdir(files, 0o700); err != nil {
			fmt.Fprintln(os.Stderr, err)
			return 1
		}
		actors = newCast(files)
		code := m.Run()
		if code == 0 && flag.Lookup("test.run").Value.String() == "" {
			for _, row := range unusedRules() {
				fmt.Fprintf(os.Stderr, "nothing differs by %q: take it out, here and in docs/differences.md\n", row)
				code = 1
			}
		}
		return code
	}())
}

// situation is how a member is started, and what clients do then. In its texts @client, @peer, @http and @metrics are free
// addresses, @files is where the certificates are, @dir is a directory of the side's own.
type situation struct {
	args []string
	env  []string
	file string // content of a configuration file, which is used instead of arguments
	look func(*side)
	// prepare writes more into @dir before the start.
	prepare func(dir string)
	lax     bool // the log's lines about connections are not compared
	// apart are arguments that only one of the two is given.
	apart [2][]string
}

const (
	readyLine    = "ready to serve client requests"
	readyTimeout = time.Minute
)

// base are the arguments of a member alone; a situation gives those that it is about.
var base = []string{
	"--name=m1", "--data-dir=@dir/data", "--heartbeat-interval=50", "--election-timeout=500",
	"--listen-client-urls=https://@client", "--advertise-client-urls=https://@client",
	"--listen-peer-urls=http://@peer", "--initial-advertise-peer-urls=http://@peer", "--initial-cluster=m1=http://@peer",
	"--cert-file=@files/server.pem", "--key-file=@files/server.key",
}

// only are the arguments that only one of the two, theirs and ours, is given.
var only = [2][]string{1: {"--enable-v2=false"}}

// with is base, but for the arguments given, of which those that end with = are left out.
func with(args ...string) []string {
	name := func(arg string) string { arg, _, _ = strings.Cut(arg, "="); return arg }
	var list []string
	for _, b := range base {
		if !slices.ContainsFunc(args, func(arg string) bool { return name(arg) == name(b) }) {
			list = append(list, b)
		}
	}
	for _, arg := range args {
		if !strings.HasSuffix(arg, "=") {
			list = append(list, arg)
		}
	}
	return list
}

// side is one of the two programs in a situation.
type side struct {
	t         *testing.T
	program   process.Program
	dir       string
	addresses map[string]string // by their names in a situation
	runs      []*process.Run    // of the members
	seen      []observation

	mu    sync.Mutex
	ports map[string]bool // that connections have come from
}

// isNew reports whether no connection has come from an address yet.
func (s *side) isNew(from string) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	isNew := !s.ports[from]
	s.ports[from] = true
	return isNew
}

// observation is what a client saw, and what the log says of it.
type observation struct {
	where string // in which situation
	what  string // which client did what
	saw   string
	from  string   // the client's address, by which the log names it; empty: the log is not asked
	said  []string // by the log, about that address
}

var names = []string{"@client", "@peer", "@http", "@metrics", "@client2", "@peer2", "@client3", "@peer3", "@proxy", "@proxy2"}

func newSide(t *testing.T, program process.Program) *side {
	dir, err := os.MkdirTemp("", "side-")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { os.RemoveAll(dir) })
	s := &side{t: t, program: program, dir: dir, addresses: map[string]string{}, ports: map[string]bool{}}
	free, err := process.FreeAddresses(len(names))
	if err != nil {
		t.Fatal(err)
	}
	for i, name := range names {
		s.addresses[name] = free[i]
	}
	return s
}

// fill puts addresses and directories in place of their names.
func (s *side) fill(texts ...string) []string {
	pairs := []string{"@files", files, "@dir", s.dir}
	for i := len(names) - 1; i >= 0; i-- { // @client2 before @client
		pairs = append(pairs, names[i], s.addresses[names[i]])
	}
	r := strings.NewReplacer(pairs...)
	var list []string
	for _, text := range texts {
		list = append(list, r.Replace(text))
	}
	return list
}

// plain is the reverse of fill.
func (s *side) plain(text string) string {
	pairs := []string{files, "@files", s.dir, "@dir"}
	for _, name := range names {
		pairs = append(pairs, s.addresses[name], name)
	}
	return strings.NewReplacer(pairs...).Replace(text)
}

// start starts a process of the side's program.
func (s *side) start(env []string, args ...string) *process.Run {
	run, err := s.program.Start(s.dir, s.fill(env...), s.fill(args...)...)
	if err != nil {
		s.t.Error(err)
		return nil
	}
	s.runs = append(s.runs, run)
	return run
}

// ready reports whether a process has come to serve clients; it ended otherwise.
func (s *side) ready(run *process.Run) bool {
	ready, err := run.Await(readyLine, readyTimeout)
	if err != nil {
		s.t.Error(err)
	}
	return ready
}

// stop ends all processes and reads what they said of the clients.
func (s *side) stop() {
	for _, run := range s.runs {
		if err := run.Stop(); err != nil {
			s.t.Error(err)
		}
	}
	about := map[string][]string{}
	for _, run := range s.runs {
		written, _ := run.Out.Text()
		for line := range strings.Lines(written) {
			var entry struct {
				Level, Msg, Error string
				Remote            string   `json:"remote-addr"`
				Server            string   `json:"server-name"`
				Addresses         []string `json:"ip-addresses"`
				Names             []string `json:"dns-names"`
			}
			if json.Unmarshal([]byte(line), &entry) == nil && entry.Remote != "" {
				said := fmt.Sprintf("%s %s: %s; server %q, addresses %q, names %q", entry.Level, entry.Msg, entry.Error, entry.Server, entry.Addresses, entry.Names)
				about[entry.Remote] = append(about[entry.Remote], s.plain(sameEverywhere(strings.ReplaceAll(said, entry.Remote, "(client)"))))
			}
		}
	}
	for i := range s.seen {
		o := &s.seen[i]
		if o.from != "" {
			o.saw = strings.ReplaceAll(o.saw, o.from, "(client)")
			o.said = about[o.from]
		}
		o.saw = s.plain(sameEverywhere(o.saw))
	}
}

// dates are the times of day of answers.
var dates = regexp.MustCompile(`Date: [^\r]*GMT`)

var (
	// now is the time of day in reasons of refusals.
	now = regexp.MustCompile(`current time \S+`)
	// lookup is what came of asking for a name that nobody has: that there is none, or no answer.
	lookup = regexp.MustCompile(`\(lookup ([^\s:]+)[^()]*\)`)
)

// sameEverywhere takes out of a reason what depends on when and where the test runs.
func sameEverywhere(reason string) string {
	return lookup.ReplaceAllString(now.ReplaceAllString(reason, "now"), "(lookup $1 failed)")
}

// note keeps what was seen.
func (s *side) note(what, saw, from string) {
	s.seen = append(s.seen, observation{what: what, saw: saw, from: from})
}

// held runs a situation with one program, and again if somebody else took an address meanwhile.
func (r situation) held(t *testing.T, place int, program process.Program) *side {
	for {
		s := r.heldOnce(t, place, program)
		if len(s.seen) != 1 || s.seen[0].saw != "address already in use" {
			return s
		}
	}
}

func (r situation) heldOnce(t *testing.T, place int, program process.Program) *side {
	s := newSide(t, program)
	args := r.args
	if args == nil {
		args = base
	}
	if r.prepare != nil {
		r.prepare(s.dir)
	}
	if r.file != "" {
		put(s.dir, "config", []byte(s.fill(r.file)[0]))
		args = []string{"--config-file=@dir/config"}
	}
	run := s.start(r.env, slices.Concat(args, only[place], r.apart[place])...)
	if run != nil && s.ready(run) {
		r.look(s)
	} else if run != nil {
		written, _ := run.Out.Text()
		saw := fmt.Sprintf("ends with %d", run.Code)
		if strings.Contains(written, "address already in use") {
			saw = "address already in use"
		}
		s.note("start", saw, "")
		t.Logf("%s ends:\n%s", program.Name, written[max(0, len(written)-2000):])
	}
	s.stop()
	return s
}

// compare runs a situation with both programs at once and reports where they differ.
func (r situation) compare(t *testing.T) {
	t.Helper()
	var sides [2]*side
	var both sync.WaitGroup
	for i, program := range []process.Program{theirs, ours} {
		both.Go(func() { sides[i] = r.held(t, i, program) })
	}
	both.Wait()
	if t.Failed() {
		return
	}
	report(t, sides[0], sides[1], r.lax)
}

// report holds what was seen at both against each other.
func report(t *testing.T, a, b *side, lax bool) {
	t.Helper()
	if len(a.seen) != len(b.seen) {
		t.Errorf("etcd was seen %d times, ours %d", len(a.seen), len(b.seen))
		return
	}
	for i := range a.seen {
		x, y := a.seen[i], b.seen[i]
		x.where, y.where = t.Name(), t.Name()
		if lax {
			x.said, y.said = nil, nil
		}
		accept(&x, &y)
		if x.text() != y.text() {
			t.Errorf("%s: %s\n--- etcd\n%s\n--- ours\n%s", x.where, x.what, x.text(), y.text())
		}
	}
}

func (o observation) text() string { return strings.Join(append([]string{o.saw}, o.said...), "\n") }
