package datadir

import (
	"errors"
	"fmt"
	"os"
	"slices"
	"strings"
	"testing"

	"github.com/cockroachdb/pebble/v2/vfs"
	"github.com/cockroachdb/pebble/v2/vfs/errorfs"
)

// receive makes what a received snapshot looks like: a directory with a file in it, all of it on the disk.
func receive(fs vfs.FS, d *Dir, content string) (string, error) {
	dir := fs.PathJoin(d.Incoming(), "0123")
	return dir, errors.Join(
		fs.MkdirAll(dir, 0o700),
		writeFile(fs, fs.PathJoin(dir, "content"), content),
		syncDirs(fs, dir, d.Incoming()),
	)
}

// content is what the store in use holds.
func content(fs vfs.FS, d *Dir) string {
	text, err := readFile(fs, fs.PathJoin(d.State(), "content"))
	if err != nil {
		return err.Error()
	}
	return text
}

// stores are the names of all stores there are.
func stores(t *testing.T, fs vfs.FS, d *Dir) (names []string) {
	t.Helper()
	all, err := fs.List(d.Member())
	if err != nil {
		t.Fatal(err)
	}
	for _, name := range all {
		if _, ok := storeNumber(name); ok {
			names = append(names, name)
		}
	}
	slices.Sort(names)
	return names
}

func mustNil(t *testing.T, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

// installOne takes one store through everything.
func installOne(t *testing.T, fs vfs.FS, d *Dir, text string, p Position) {
	t.Helper()
	dir, err := receive(fs, d, text)
	mustNil(t, err)
	dir, err = d.Adopt(dir)
	mustNil(t, err)
	old, err := d.Activate(dir, p)
	mustNil(t, err)
	mustNil(t, d.Settle())
	mustNil(t, d.Remove(old))
}

func TestStoreTakesAnothersPlace(t *testing.T) {
	fs, root := vfs.Default, t.TempDir()
	initialise(t, fs, root)
	d := mustOpen(t, fs, root)
	first := d.State()
	if _, ok := d.Installed(); ok {
		t.Fatal("the first store is no snapshot")
	}
	received, err := receive(fs, d, "one")
	mustNil(t, err)
	dir, err := d.Adopt(received)
	mustNil(t, err)
	if d.State() != first || fs.PathBase(dir) != "state-1" {
		t.Fatalf("%s is in use, %s adopted", d.State(), dir)
	}
	old, err := d.Activate(dir, Position{17, 3})
	mustNil(t, err)
	if p, ok := d.Installed(); old != first || d.State() != dir || content(fs, d) != "one" || !ok || p != (Position{17, 3}) {
		t.Fatalf("%s instead of %s, at %v %v", d.State(), old, p, ok)
	}
	if _, err := fs.Stat(old); err != nil {
		t.Errorf("somebody may still read from the old one: %v", err)
	}
	mustNil(t, d.Settle())
	mustNil(t, d.Remove(old))
	if got := stores(t, fs, d); !slices.Equal(got, []string{"state-1"}) {
		t.Errorf("stores %q", got)
	}
	for i := 2; i < 5; i++ {
		mustNil(t, d.Close())
		d = mustOpen(t, fs, root)
		if _, ok := d.Installed(); ok {
			t.Error("a settled store is not settled")
		}
		installOne(t, fs, d, fmt.Sprint(i), Position{uint64(i), 1})
		if want := fmt.Sprintf("state-%d", i); content(fs, d) != fmt.Sprint(i) || fs.PathBase(d.State()) != want {
			t.Errorf("%s holds %q", d.State(), content(fs, d))
		}
	}
	mustNil(t, d.Close())
}

// Two snapshots in short succession: the store of before the first is still being read when the second comes.
func TestStoresInShortSuccession(t *testing.T) {
	fs, root := vfs.Default, t.TempDir()
	initialise(t, fs, root)
	d := mustOpen(t, fs, root)
	defer d.Close()
	var olds []string
	for i := range 3 {
		dir, err := receive(fs, d, fmt.Sprint(i))
		mustNil(t, err)
		dir, err = d.Adopt(dir)
		mustNil(t, err)
		old, err := d.Activate(dir, Position{uint64(i) + 2, 1})
		mustNil(t, err)
		olds = append(olds, old)
	}
	if got := stores(t, fs, d); len(got) != 4 {
		t.Fatalf("stores %q", got)
	}
	unwanted, err := receive(fs, d, "unwanted")
	mustNil(t, err)
	unwanted, err = d.Adopt(unwanted)
	mustNil(t, err)
	for _, dir := range append(olds, unwanted) {
		mustNil(t, d.Remove(dir))
	}
	if got := stores(t, fs, d); len(got) != 1 || content(fs, d) != "2" {
		t.Errorf("stores %q, %q in use", got, content(fs, d))
	}
}

// What an earlier run left goes by its name; what may be of use, or is not ours, stays.
func TestStoreLeftovers(t *testing.T) {
	fs, root := vfs.Default, t.TempDir()
	initialise(t, fs, root)
	d := mustOpen(t, fs, root)
	installOne(t, fs, d, "one", Position{5, 1})
	mustNil(t, d.Close())
	gone := []string{"state", "state-2", "state-77", "ACTIVE.new", "outgoing/x"}
	kept := []string{"state-1/content", "state-01", "state-x", "states", "incoming/abc/000001.sst", "notes"}
	for _, name := range append(gone, kept[1:]...) {
		path := fs.PathJoin(d.Member(), name)
		if strings.HasPrefix(name, "ACTIVE") || strings.Contains(name, "000001") {
			mustNil(t, fs.MkdirAll(fs.PathDir(path), 0o700))
			mustNil(t, writeFile(fs, path, "half"))
		} else {
			mustNil(t, fs.MkdirAll(path, 0o700))
		}
	}
	d = mustOpen(t, fs, root)
	defer d.Close()
	for _, name := range gone {
		if _, err := fs.Stat(fs.PathJoin(d.Member(), name)); !errors.Is(err, os.ErrNotExist) {
			t.Errorf("%s is still there: %v", name, err)
		}
	}
	for _, name := range kept {
		if _, err := fs.Stat(fs.PathJoin(d.Member(), name)); err != nil {
			t.Errorf("%s is gone: %v", name, err)
		}
	}
	for _, dir := range []string{d.Incoming(), d.Outgoing()} {
		if _, err := fs.Stat(dir); err != nil {
			t.Error(err)
		}
	}
}

func TestPointerRefusals(t *testing.T) {
	good := pointer{store: "state-1"}.text()
	for _, c := range []struct {
		name, text string
		want       error
	}{
		{"flipped", strings.Replace(good, "state-1", "state-2", 1), ErrDamaged},
		{"cut", good[:len(good)-3], ErrDamaged},
		{"empty", "", ErrDamaged},
		{"more", good + "\n", ErrDamaged},
		{"elsewhere", pointer{store: "../state"}.text(), ErrDamaged},
		{"another name", pointer{store: "wal"}.text(), ErrDamaged},
		{"padded number", pointer{store: "state-01"}.text(), ErrDamaged},
		{"not there", pointer{store: "state-9"}.text(), ErrDamaged},
		{"newer", "active 2\nwhatever\n", ErrNewer},
	} {
		t.Run(c.name, func(t *testing.T) {
			fs, root := vfs.Default, t.TempDir()
			initialise(t, fs, root)
			d := mustOpen(t, fs, root)
			installOne(t, fs, d, "one", Position{5, 1})
			mustNil(t, d.Close())
			mustNil(t, writeFile(fs, fs.PathJoin(root, memberName, pointerName), c.text))
			if _, err := Open(fs, root); !errors.Is(err, c.want) {
				t.Errorf("got %v, want %v", err, c.want)
			}
			if text, err := readFile(fs, fs.PathJoin(root, memberName, "state-1", "content")); text != "one" {
				t.Errorf("a refusal has touched the store: %q, %v", text, err)
			}
		})
	}
}

// TestPointerGolden pins how the pointer file looks.
func TestPointerGolden(t *testing.T) {
	for name, p := range map[string]pointer{
		"settled":   {store: "state-12"},
		"unsettled": {store: "state-1", unsettled: true, installed: Position{1234567, 8}},
	} {
		text, err := os.ReadFile("testdata/pointer-" + name)
		mustNil(t, err)
		if got, err := parsePointer(string(text)); got != p || err != nil || p.text() != string(text) {
			t.Errorf("%s: %+v, %v; written as %q", name, got, err, p.text())
		}
	}
}

func FuzzPointer(f *testing.F) {
	f.Add(pointer{store: "state"}.text())
	f.Add(pointer{store: "state-3", unsettled: true, installed: Position{9, 2}}.text())
	f.Add("active 1\nstore state-1\ninstalled 1 2\nchecksum 00000000\n")
	f.Fuzz(func(t *testing.T, text string) {
		p, err := parsePointer(text)
		if err == nil && p.text() != text {
			t.Errorf("%q is read as %+v", text, p)
		}
		if err != nil && !errors.Is(err, ErrDamaged) && !errors.Is(err, ErrNewer) {
			t.Error(err)
		}
	})
}

// storeStep is how far installTwo has come.
type storeStep struct {
	before, after string // content of the store in use: the one or the other
	installed     uint64 // index that Installed may say; 0: it must not
	settled       bool   // it must not say anything
}

// installTwo has two stores take the place of the first. step is told, before each step, what a crash may leave.
func installTwo(fs vfs.FS, root string, step func(storeStep)) error {
	d, err := Open(fs, root)
	if err != nil {
		return err
	}
	was := "none"
	for i := uint64(1); i <= 2; i++ {
		is := fmt.Sprint("snapshot ", i)
		step(storeStep{before: was, after: was, settled: true})
		dir, err := receive(fs, d, is)
		if err != nil {
			return err
		}
		if dir, err = d.Adopt(dir); err != nil {
			return err
		}
		step(storeStep{before: was, after: is, installed: i + 10})
		old, err := d.Activate(dir, Position{i + 10, 4})
		if err != nil {
			return err
		}
		step(storeStep{before: is, after: is, installed: i + 10})
		if err := d.Settle(); err != nil {
			return err
		}
		step(storeStep{before: is, after: is, settled: true})
		if err := d.Remove(old); err != nil {
			return err
		}
		was = is
	}
	return d.Close()
}

// A crash at any operation of an installation leaves the old store or the new one in use, whole; the next start knows
// whether the log may have to follow, and clears up.
func TestCrashWhileInstalling(t *testing.T) {
	const root = "/data"
	disk := vfs.NewCrashableMem()
	initialise(t, disk, root)
	mustNil(t, writeFile(disk, "/data/member/state/content", "none"))
	mustNil(t, syncDirs(disk, "/data/member/state"))
	var at storeStep
	images, changed, unsettled := 0, 0, 0
	check := func(op string) {
		for unsynced := 0; unsynced <= 100; unsynced += 50 {
			images++
			fs := disk.CrashClone(vfs.CrashCloneCfg{UnsyncedDataPercent: unsynced, RNG: seeded(images)})
			d, err := Open(fs, root)
			if err != nil {
				t.Fatalf("image %d, at %s: %v", images, op, err)
			}
			got := content(fs, d)
			p, ok := d.Installed()
			if got != at.before && got != at.after || ok && (at.settled || p != Position{at.installed, 4} || got != at.after) {
				t.Fatalf("image %d, at %s: %s holds %q, installed %v %v; want %+v", images, op, d.State(), got, p, ok, at)
			}
			if at.before != at.after && got == at.after {
				changed++
				if !ok {
					t.Fatalf("image %d, at %s: the new store is in use and the log is not said to be behind", images, op)
				}
			}
			if ok {
				unsettled++
			}
			if names := stores(t, fs, d); len(names) != 1 {
				t.Fatalf("image %d, at %s: stores %q", images, op, names)
			}
			installOne(t, fs, d, "another", Position{99, 5}) // and it goes on
			if content(fs, d) != "another" {
				t.Fatalf("image %d: %q", images, content(fs, d))
			}
			mustNil(t, d.Close())
		}
	}
	at = storeStep{before: "none", after: "none", settled: true}
	fs := errorfs.Wrap(disk, errorfs.InjectorFunc(func(op errorfs.Op) error {
		if op.Kind.ReadOrWrite() == errorfs.OpIsWrite {
			check(fmt.Sprintf("%v %s", op.Kind, op.Path))
		}
		return nil
	}))
	mustNil(t, installTwo(fs, root, func(s storeStep) { at = s; check("step") }))
	if images < 150 || changed < 1 || unsettled < 10 {
		t.Errorf("%d images, %d with the new store before it was acknowledged, %d unsettled: the test does not see enough", images, changed, unsettled)
	}
	t.Logf("%d images, %d changed, %d unsettled", images, changed, unsettled)
}

// A failure of any operation is reported, and the next start finds the old store or the new one.
func TestFaultWhileInstalling(t *testing.T) {
	const root = "/data"
	for at := 0; ; at++ {
		disk := vfs.NewCrashableMem()
		initialise(t, disk, root)
		mustNil(t, writeFile(disk, "/data/member/state/content", "none"))
		mustNil(t, syncDirs(disk, "/data/member/state"))
		n, hit, opened := 0, false, false
		fs := errorfs.Wrap(disk, errorfs.InjectorFunc(func(op errorfs.Op) error {
			if opened {
				n++
			}
			hit = hit || n == at+1
			if n == at+1 {
				return errorfs.ErrInjected
			}
			return nil
		}))
		step := storeStep{before: "none", after: "none"}
		err := installTwo(fs, root, func(s storeStep) { step, opened = s, true })
		if !hit {
			mustNil(t, err)
			if at < 50 {
				t.Errorf("only %d operations", at)
			}
			return
		}
		if !errors.Is(err, errorfs.ErrInjected) {
			t.Fatalf("operation %d failed, the caller hears %v", at, err)
		}
		again := disk.CrashClone(vfs.CrashCloneCfg{}) // without the lock of the run that failed
		d, err := Open(again, root)
		if err != nil {
			t.Fatalf("operation %d failed, and then: %v", at, err)
		}
		if got := content(again, d); got != step.before && got != step.after {
			t.Fatalf("operation %d failed: %q is in use, want %+v", at, got, step)
		}
		mustNil(t, d.Close())
	}
}

// A store that could not be adopted, because some operation failed, does not lie about until the next start.
func TestFaultWhileAdopting(t *testing.T) {
	const root = "/data"
	for at := 0; ; at++ {
		disk := vfs.NewMem()
		initialise(t, disk, root)
		n, hit, adopting := 0, false, false
		fs := errorfs.Wrap(disk, errorfs.InjectorFunc(func(errorfs.Op) error {
			if adopting {
				n++
			}
			if n != at+1 || hit {
				return nil
			}
			hit = true
			return errorfs.ErrInjected
		}))
		d := mustOpen(t, fs, root)
		received, err := receive(fs, d, "one")
		mustNil(t, err)
		adopting = true
		dir, err := d.Adopt(received)
		if !hit {
			mustNil(t, err)
			if at < 8 {
				t.Errorf("only %d operations", at)
			}
			return
		}
		if got := stores(t, disk, d); !errors.Is(err, errorfs.ErrInjected) || dir != "" || !slices.Equal(got, []string{"state"}) {
			t.Errorf("operation %d failed: %q, %v; stores %q", at, dir, err, got)
		}
		mustNil(t, d.Close())
	}
}
