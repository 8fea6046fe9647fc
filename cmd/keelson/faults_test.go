package main

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"keelson/internal/testkit"
)

// TestSingleFaults damages, one after the other, every file that a member of three has, in every way that disks and people
// do. The member then either comes back by itself, with what the others have, or refuses to start, each time and without
// changing anything, and says what is wrong and what to do: then what it says is done. Meanwhile the other two serve.
func TestSingleFaults(t *testing.T) {
	r := newFaulty(t)
	for _, part := range parts {
		for _, f := range part.faults {
			if !t.Run(part.name+"/"+f.name, func(t *testing.T) { r.run(t, part, f) }) {
				t.FailNow() // what follows builds on it
			}
		}
	}
	t.Run("table/repaired by hand", r.repaired)
	t.Run("table/damaged while it serves", r.atRunTime)
	t.Run("directory/old copy put back", r.oldCopy)
	t.Run("directory/wiped", r.wiped)
}

// part is a sort of file, by a pattern below the member directory; with * where the name of the store in use goes.
type part struct {
	name, pattern string
	faults        []diskFault
	refuses       []string // what the refusal says; none: the member comes back by itself
}

// diskFault changes a file for the worse.
type diskFault struct {
	name   string
	strike func(t *testing.T, r *faulty, path string)
	// prepare, if there is one, is called before, while the member runs.
	prepare func(t *testing.T, r *faulty, pattern string)
}

var (
	flipStart = diskFault{name: "bit flip at the start", strike: func(t *testing.T, r *faulty, path string) { flip(t, path, 0) }}
	flipHalf  = diskFault{name: "bit flip in the middle", strike: func(t *testing.T, r *faulty, path string) { flip(t, path, used(t, path)/2) }}
	flipEnd   = diskFault{name: "bit flip at the end", strike: func(t *testing.T, r *faulty, path string) { flip(t, path, used(t, path)-2) }}
	cutShort  = diskFault{name: "truncated", strike: func(t *testing.T, r *faulty, path string) { truncate(t, path, used(t, path)/2) }}
	emptied   = diskFault{name: "emptied", strike: func(t *testing.T, r *faulty, path string) { truncate(t, path, 0) }}
	missing   = diskFault{name: "missing", strike: func(t *testing.T, r *faulty, path string) { remove(t, path) }}
	foreign   = diskFault{name: "a block of another file in it", strike: func(t *testing.T, r *faulty, path string) { r.swapBlock(t, path) }}
	oldFile   = diskFault{name: "an old copy of it", strike: func(t *testing.T, r *faulty, path string) { overwrite(t, path, r.kept) }, prepare: keepFile}
	swapped   = diskFault{name: "another of its sort in its place", strike: func(t *testing.T, r *faulty, path string) { r.swapFiles(t, path) }}
	renamed   = diskFault{name: "renamed", strike: func(t *testing.T, r *faulty, path string) {
		if err := os.Rename(path, path+"x"); err != nil {
			t.Fatal(err)
		}
	}}
)

var parts = []part{
	{"table", "*/*.sst", []diskFault{flipStart, flipHalf, flipEnd, cutShort, emptied, missing, foreign, swapped}, nil},
	{"manifest", "*/MANIFEST-*", []diskFault{flipStart, flipHalf, flipEnd, cutShort, emptied, missing, foreign}, nil},
	{"manifest marker", "*/marker.manifest.*", []diskFault{missing, renamed}, nil},
	{"format marker", "*/marker.format-version.*", []diskFault{missing, renamed}, nil},
	{"options", "*/OPTIONS-*", []diskFault{flipStart, flipHalf, flipEnd, cutShort, emptied, missing}, nil},
	{"lock", "../LOCK", []diskFault{missing}, nil},
	{"note", "snap/db", []diskFault{flipStart, missing}, nil},
	{"contacts", "CONTACTS", []diskFault{flipStart, flipHalf, cutShort, missing}, nil},
	{"active store", "ACTIVE", []diskFault{flipStart, flipHalf, flipEnd, cutShort, emptied},
		[]string{"damaged data directory", "ACTIVE", "restore the directory from a backup, or remove it and let the member join again"}},
	{"active store", "ACTIVE", []diskFault{missing}, []string{"damaged data directory", "state is missing", "let the member join again"}},
	{"format", "FORMAT", []diskFault{flipStart, flipHalf, cutShort, emptied},
		[]string{"damaged data directory", "FORMAT holds", "let the member join again"}},
	{"format", "FORMAT", []diskFault{missing}, []string{"has no FORMAT file", "choose another --data-dir"}},
	{"identity", "IDENTITY", []diskFault{flipStart, cutShort, emptied, missing},
		[]string{"damaged data directory", "IDENTITY does not say whose directory this is", "let the member join again"}},
	{"identity", "IDENTITY", []diskFault{{name: "another cluster's id", strike: otherDigit(8)}}, []string{"damaged data directory", "belongs to cluster", "let the member join again"}},
	{"identity", "IDENTITY", []diskFault{{name: "another member's id", strike: otherDigit(32)}}, []string{"log belongs to another member", "replace this member"}},
	{"log", "wal/*.raftlog", []diskFault{flipStart, flipHalf, flipEnd, cutShort, foreign},
		[]string{"at offset", "expected", "found", "the log is damaged and was not changed", "remove it, wipe its data directory, add it as a learner"}},
	{"log", "wal/*.raftlog", []diskFault{emptied}, []string{"at offset 0", "expected", "found", "remove it, wipe its data directory, add it as a learner"}},
	{"log", "wal/*.raftlog", []diskFault{missing}, []string{"no log in this directory", "replace this member"}},
	{"log", "wal/*.raftlog", []diskFault{oldFile}, []string{"the state holds entries up to", "remove it, wipe its data directory, add it as a learner"}},
}

// faulty is a cluster of which one member has a bad disk.
type faulty struct {
	*testkit.Cluster
	victim *testkit.Process
	old    string // a copy of what the victim's directory was long ago
	kept   []byte // what a file was before the victim's last run
	serial int
}

func newFaulty(t *testing.T) *faulty {
	r := &faulty{Cluster: started(t, 3), old: filepath.Join(t.TempDir(), "old")}
	r.victim = r.Others(r.Leader())[0]
	for i := range 3 { // several tables
		r.write(t)
		r.victim.Stop()
		if i == 0 {
			copyTree(t, r.victim.DataDir, r.old)
		}
		r.victim.Start()
	}
	return r
}

// write has the members that are up acknowledge some pairs.
func (r *faulty) write(t *testing.T) {
	t.Helper()
	client := r.Client()
	defer client.Close()
	for range 40 {
		r.serial++
		insist(t, func(ctx context.Context) error {
			_, err := client.Put(ctx, fmt.Sprintf("k/%04d", r.serial%100), fmt.Sprintf("%d/%s", r.serial, strings.Repeat("v", 2000)))
			return err
		})
	}
}

// insist repeats what may meet a change of leaders.
func insist(t *testing.T, f func(ctx context.Context) error) {
	t.Helper()
	var err error
	for deadline := time.Now().Add(time.Minute); time.Now().Before(deadline); {
		ctx, cancel := context.WithTimeout(context.Background(), 10*time.Second)
		err = f(ctx)
		cancel()
		if err == nil {
			return
		}
	}
	t.Fatal(err)
}

func (r *faulty) run(t *testing.T, p part, f diskFault) {
	if f.prepare != nil {
		f.prepare(t, r, p.pattern)
	}
	r.victim.Stop()
	path := r.file(t, p.pattern)
	before := content(t, r.victim.DataDir)
	f.strike(t, r, path)
	r.write(t)
	if p.refuses == nil {
		r.comesBack(t)
		return
	}
	r.refuses(t, p.refuses)
	giveBack(t, r.victim.DataDir, before) // nothing was acknowledged by it since
	r.victim.Start()
	r.Agree()
}

// file finds one of the files of the victim that match a pattern: the largest.
func (r *faulty) file(t *testing.T, pattern string) string {
	t.Helper()
	list := r.files(t, pattern)
	return slices.MaxFunc(list, func(a, b string) int { return int(size(t, a) - size(t, b)) })
}

func (r *faulty) files(t *testing.T, pattern string) []string {
	t.Helper()
	if rest, ok := strings.CutPrefix(pattern, "*"); ok {
		pattern = "state*" + rest
	}
	list, err := filepath.Glob(filepath.Join(r.victim.DataDir, "member", pattern))
	if err != nil || len(list) == 0 {
		t.Fatalf("no file %s: %v", pattern, err)
	}
	return list
}

// comesBack starts the victim as often as a supervisor would, and waits until it has what the others have.
func (r *faulty) comesBack(t *testing.T) {
	t.Helper()
	var told []string
	for range 3 {
		err := r.victim.TryStart()
		if err == nil {
			err = r.readAll()
		}
		if err == nil {
			r.Agree()
			t.Logf("started %d times; %q", len(told)+1, told)
			return
		}
		state := r.victim.AwaitExit()
		log := r.victim.Log()
		if state.ExitCode() != 1 || !strings.Contains(log, "is damaged") {
			t.Fatalf("ended with %v, %v and does not say why:\n%s", state, err, log)
		}
		told = append(told, lastLine(log))
	}
	t.Fatalf("does not come back: %q", told)
}

// readAll reads all that the victim has stored.
func (r *faulty) readAll() error {
	client := r.victim.Client()
	defer client.Close()
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	defer cancel()
	go func() {
		select {
		case <-r.victim.Exited():
			cancel()
		case <-ctx.Done():
		}
	}()
	_, err := client.HashKV(ctx, r.victim.Endpoint, 0)
	return err
}

func lastLine(log string) string {
	lines := strings.Split(strings.TrimSpace(log), "\n")
	for i := len(lines) - 1; i >= 0; i-- { // others may have had something to say after the last word
		if strings.Contains(lines[i], `"level":"fatal"`) {
			return lines[i]
		}
	}
	return lines[len(lines)-1]
}

// refuses starts the victim twice: it says the same both times, and changes nothing.
func (r *faulty) refuses(t *testing.T, says []string) {
	t.Helper()
	before := content(t, r.victim.DataDir)
	for range 2 {
		err := r.victim.TryStart()
		if err == nil {
			t.Fatal("it serves")
		}
		line := lastLine(r.victim.Log())
		for _, want := range append(says, "exit status 1") {
			if !strings.Contains(line+err.Error(), want) {
				t.Errorf("does not say %q: %s", want, line)
			}
		}
		if strings.Contains(err.Error(), "goroutine ") {
			t.Errorf("a panic: %v", err)
		}
	}
	for name, was := range before {
		if strings.HasPrefix(name, "member/state") {
			continue // opened to compare the log with; what it holds stays the same
		}
		if now, err := os.ReadFile(filepath.Join(r.victim.DataDir, name)); (err != nil || !bytes.Equal(now, was)) && filepath.Base(name) != "LOCK" {
			t.Errorf("%s was changed (%v)", name, err)
		}
	}
}

// repaired has the tools look at a damaged table, and do something about it.
func (r *faulty) repaired(t *testing.T) {
	r.victim.Stop()
	path := r.file(t, "*/*.sst")
	flip(t, path, used(t, path)/3)
	run := func(args ...string) (string, error) {
		out, err := exec.Command(testkit.Binary(t), args...).CombinedOutput()
		return string(out), err
	}
	out, err := run("verify", r.victim.DataDir)
	if err == nil || !strings.Contains(out, "BAD  state") || !strings.Contains(out, "next: ") || strings.Contains(out, "goroutine ") {
		t.Errorf("verify: %v\n%s", err, out)
	}
	out, err = run("repair", r.victim.DataDir, "--dry-run")
	if err != nil || !strings.Contains(out, "would have the next start of the member fetch the state from another member") {
		t.Errorf("repair --dry-run: %v\n%s", err, out)
	}
	out, err = run("repair", r.victim.DataDir)
	if err != nil || !strings.Contains(out, "did have the next start of the member fetch the state from another member") {
		t.Errorf("repair: %v\n%s", err, out)
	}
	r.victim.Start()
	r.Agree()
	if !r.victim.Says("put another member's state in the place of the damaged one") {
		t.Error("it has not fetched a state")
	}
	r.victim.Stop()
	if out, err = run("verify", r.victim.DataDir); err != nil {
		t.Errorf("verify, afterwards: %v\n%s", err, out)
	}
	r.victim.Start()
}

// atRunTime damages a table of a member that serves: it ends when somebody reads it, and comes back whole.
func (r *faulty) atRunTime(t *testing.T) {
	for _, path := range r.files(t, "*/*.sst") {
		for at := used(t, path) / 8; at < used(t, path); at += used(t, path) / 8 {
			flip(t, path, at)
		}
	}
	if err := r.readAll(); err == nil {
		t.Fatal("it has read what is damaged")
	}
	if state := r.victim.AwaitExit(); state.ExitCode() != 1 || !strings.Contains(lastLine(r.victim.Log()), ".sst is damaged") {
		t.Fatalf("ended with %v: %s", state, lastLine(r.victim.Log()))
	}
	r.write(t)
	r.comesBack(t)
}

// oldCopy puts back what the victim's directory was before it acknowledged what it has acknowledged.
func (r *faulty) oldCopy(t *testing.T) {
	r.victim.Stop()
	remove(t, r.victim.DataDir)
	copyTree(t, r.old, r.victim.DataDir)
	if err := r.victim.TryStart(); err == nil { // it may serve until the leader tells it something
		r.victim.AwaitExit()
	}
	r.refuses(t, []string{"old copy of it put back", "keelson member remove", "empty the directory", "keelson member add"})
	r.replace(t)
}

// wiped empties the victim's directory.
func (r *faulty) wiped(t *testing.T) {
	r.victim.Stop()
	remove(t, r.victim.DataDir)
	r.refuses(t, []string{"has run before"})
	r.replace(t)
}

// replace does what the refusals say: the victim is removed, and added anew without data.
func (r *faulty) replace(t *testing.T) {
	t.Helper()
	client := r.Others(r.victim)[0].Client()
	defer client.Close()
	insist(t, func(ctx context.Context) error {
		list, err := client.MemberList(ctx)
		if err != nil {
			return err
		}
		for _, m := range list.Members {
			if m.Name == r.victim.Name {
				_, err := client.MemberRemove(ctx, m.ID)
				return err
			}
		}
		return nil
	})
	r.Members = r.Others(r.victim)
	p, _ := r.Add(false)
	p.Start()
	r.victim = p
	r.Agree()
}

func flip(t *testing.T, path string, at int64) {
	t.Helper()
	b := readFile(t, path)
	b[at] ^= 0x10
	overwrite(t, path, b)
}

// used is where the zeros begin that a file ends with.
func used(t *testing.T, path string) int64 {
	t.Helper()
	return int64(len(bytes.TrimRight(readFile(t, path), "\x00")))
}

// otherDigit makes a digit of a number another one, from some place on.
func otherDigit(from int) func(t *testing.T, r *faulty, path string) {
	return func(t *testing.T, _ *faulty, path string) {
		b := readFile(t, path)
		for b[from] > '9' {
			from++
		}
		b[from] ^= 1
		overwrite(t, path, b)
	}
}

func truncate(t *testing.T, path string, size int64) {
	t.Helper()
	if err := os.Truncate(path, size); err != nil {
		t.Fatal(err)
	}
}

func remove(t *testing.T, path string) {
	t.Helper()
	if err := os.RemoveAll(path); err != nil {
		t.Fatal(err)
	}
}

// swapBlock puts a block of another file of the victim where one of this file was.
func (r *faulty) swapBlock(t *testing.T, path string) {
	t.Helper()
	b := readFile(t, path)
	other := readFile(t, r.file(t, "wal/*.raftlog"))
	if strings.HasSuffix(path, ".raftlog") {
		other = readFile(t, r.file(t, "*/*.sst"))
	}
	half := int(used(t, path) / 2)
	n := min(4096, half, len(other)/2)
	copy(b[half:half+n], other[len(other)/4:])
	if bytes.Equal(b, readFile(t, path)) {
		t.Fatal("nothing was changed")
	}
	overwrite(t, path, b)
}

// swapFiles exchanges a table with another one.
func (r *faulty) swapFiles(t *testing.T, path string) {
	t.Helper()
	for len(r.files(t, "*/*.sst")) < 2 {
		r.victim.Start()
		r.write(t)
		r.Agree()
		r.victim.Stop()
	}
	for _, other := range r.files(t, "*/*.sst") {
		if other != path {
			a, b := readFile(t, path), readFile(t, other)
			overwrite(t, path, b)
			overwrite(t, other, a)
			return
		}
	}
}

// keepFile keeps what a file is before the member's last run.
func keepFile(t *testing.T, r *faulty, pattern string) {
	t.Helper()
	r.victim.Stop()
	r.kept = readFile(t, r.file(t, pattern))
	r.victim.Start()
	r.write(t)
	r.Agree()
}

func readFile(t *testing.T, path string) []byte {
	t.Helper()
	b, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	return b
}

func overwrite(t *testing.T, path string, b []byte) {
	t.Helper()
	if err := os.MkdirAll(filepath.Dir(path), 0o700); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(path, b, 0o600); err != nil {
		t.Fatal(err)
	}
}

func size(t *testing.T, path string) int64 {
	t.Helper()
	info, err := os.Stat(path)
	if err != nil {
		t.Fatal(err)
	}
	return info.Size()
}

// content is all files below a directory.
func content(t *testing.T, dir string) map[string][]byte {
	t.Helper()
	files := map[string][]byte{}
	err := filepath.WalkDir(dir, func(path string, d fs.DirEntry, err error) error {
		if errors.Is(err, fs.ErrNotExist) || err == nil && d.IsDir() {
			return nil
		}
		if err != nil {
			return err
		}
		name, err := filepath.Rel(dir, path)
		if err != nil {
			return err
		}
		files[name] = readFile(t, path)
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	return files
}

// giveBack makes a directory what it was.
func giveBack(t *testing.T, dir string, files map[string][]byte) {
	t.Helper()
	for name := range content(t, dir) {
		if _, ok := files[name]; !ok {
			remove(t, filepath.Join(dir, name))
		}
	}
	for name, b := range files {
		overwrite(t, filepath.Join(dir, name), b)
	}
}

func copyTree(t *testing.T, from, to string) {
	t.Helper()
	if err := os.CopyFS(to, os.DirFS(from)); err != nil {
		t.Fatal(err)
	}
}
