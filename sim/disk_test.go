package sim

import (
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"strings"
	"syscall"
	"testing"

	"github.com/cockroachdb/pebble/v2/vfs"
)

func testDisk(keepPercent int) *disk {
	return newDisk(rand.New(rand.NewPCG(1, 1)), crashStyle{keepPercent: keepPercent, sectorBytes: 512})
}

func must(t *testing.T, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

func create(t *testing.T, d *disk, name, content string) vfs.File {
	t.Helper()
	f, err := d.Create(name, vfs.WriteCategoryUnspecified)
	must(t, err)
	_, err = f.Write([]byte(content))
	must(t, err)
	return f
}

func syncDir(t *testing.T, d *disk, name string) {
	t.Helper()
	f, err := d.OpenDir(name)
	must(t, err)
	must(t, f.Sync())
	must(t, f.Close())
}

// content returns what a file holds; "absent" if there is none.
func content(t *testing.T, d *disk, name string) string {
	t.Helper()
	f, err := d.Open(name)
	if err != nil {
		return "absent"
	}
	b, err := io.ReadAll(f)
	must(t, err)
	return string(b)
}

func TestDiskCrashKeepsWhatWasSynced(t *testing.T) {
	for _, keep := range []int{0, 50, 100} {
		d := testDisk(keep)
		f := create(t, d, "/synced", "old")
		must(t, f.Sync())
		syncDir(t, d, "/")
		_, err := f.WriteAt([]byte("new"), 0)
		must(t, err)
		create(t, d, "/unsynced", "x")
		after := d.crash()
		switch got := content(t, after, "/synced"); {
		case keep == 0 && got != "old", keep == 100 && got != "new", got != "old" && got != "new":
			t.Errorf("keep %d%%: the synced file holds %q", keep, got)
		}
		switch got := content(t, after, "/unsynced"); {
		case keep == 0 && got != "absent", keep == 100 && got != "x":
			t.Errorf("keep %d%%: the unsynced file holds %q", keep, got)
		}
	}
}

func TestDiskCrashWithoutDirectorySyncLosesTheName(t *testing.T) {
	d := testDisk(0)
	must(t, create(t, d, "/a", "a").Sync())
	if got := content(t, d.crash(), "/a"); got != "absent" {
		t.Errorf("the file holds %q", got)
	}
}

func TestDiskRenameIsAtomic(t *testing.T) {
	olds, news := 0, 0
	for seed := range uint64(100) {
		d := testDisk(50)
		d.rng = rand.New(rand.NewPCG(seed, 1))
		must(t, create(t, d, "/name", "old").Sync())
		must(t, create(t, d, "/next", "new").Sync())
		syncDir(t, d, "/")
		must(t, d.Rename("/next", "/name"))
		after := d.crash()
		switch got := content(t, after, "/name"); {
		case got == "old" && content(t, after, "/next") == "new":
			olds++
		case got == "new" && content(t, after, "/next") == "absent":
			news++
		default:
			t.Fatalf("half a rename: %q, %q", got, content(t, after, "/next"))
		}
	}
	if olds == 0 || news == 0 {
		t.Errorf("%d before, %d after: no chance at work", olds, news)
	}
}

func TestDiskTornWrite(t *testing.T) {
	shapes := map[string]bool{}
	for seed := range uint64(200) {
		d := testDisk(100)
		d.rng = rand.New(rand.NewPCG(seed, 1))
		f := create(t, d, "/f", "")
		must(t, f.Sync())
		syncDir(t, d, "/")
		d.arm(strike{dir: "/", crash: true})
		_, err := f.Write([]byte("12345678"))
		must(t, err) // the process does not hear of its end
		if !d.crashed() || content(t, d, "/f") != "12345678" {
			t.Fatal("the ghost's world does not go on")
		}
		got := content(t, d.crash(), "/f")
		if !strings.HasPrefix("12345678", got) {
			t.Fatalf("torn write left %q", got)
		}
		shapes[got] = true
	}
	if len(shapes) != 9 {
		t.Errorf("torn in %d ways of 9: %v", len(shapes), shapes)
	}
}

// After a failed sync the pages count as clean: the next sync succeeds and writes nothing.
func TestDiskFailedSyncLosesThePages(t *testing.T) {
	d := testDisk(0)
	f := create(t, d, "/f", "lost")
	syncDir(t, d, "/")
	d.arm(strike{dir: "/f", errno: syscall.EIO})
	if err := f.Sync(); !errors.Is(err, errStruck) || !errors.Is(err, syscall.EIO) {
		t.Fatalf("sync: %v", err)
	}
	must(t, f.Sync())
	if got := content(t, d.crash(), "/f"); got != "" {
		t.Errorf("a sync after a failed one saved %q", got)
	}
}

// A write that went astray is not there. Once the file that it went into is removed it is: nobody could notice otherwise.
func TestDiskWriteAstrayIsNeverWithoutTrace(t *testing.T) {
	d := testDisk(0)
	create(t, d, "/1.raftlog", "old")
	f := create(t, d, "/2.raftlog", "..")
	must(t, f.Sync())
	syncDir(t, d, "/")
	d.arm(strike{dir: "/", astray: true})
	_, err := f.WriteAt([]byte("new"), 2)
	must(t, err)
	must(t, f.Sync())
	if one, two := content(t, d, "/1.raftlog"), content(t, d, "/2.raftlog"); one != "new" || two != "..\x00\x00\x00" {
		t.Fatalf("after a write astray: %q and %q", one, two)
	}
	must(t, d.Remove("/1.raftlog"))
	if got := content(t, d.crash(), "/2.raftlog"); got != "..new" {
		t.Errorf("without what tells of the write: %q", got)
	}
}

// A file of a name that was given before is another file: giving a disk its data back must not mix them.
func TestDiskFlawsStayWithTheirFile(t *testing.T) {
	d := testDisk(0)
	create(t, d, "/1.raftlog", "...")
	for _, segment := range []struct{ name, written string }{{"/2.raftlog", "old"}, {"/3.raftlog", "n\x00\x00"}} {
		f := create(t, d, "/spare", "")
		d.arm(strike{dir: "/", astray: true})
		_, err := f.WriteAt([]byte(segment.written), 0)
		must(t, err)
		must(t, d.Rename("/spare", segment.name))
		syncDir(t, d, "/")
	}
	must(t, d.Remove("/2.raftlog"))
	d.mend()
	if got := content(t, d, "/3.raftlog"); got != "n\x00\x00" {
		t.Errorf("the newer file is given %q back", got)
	}
}

func TestDiskStrikeWaits(t *testing.T) {
	d := testDisk(100)
	f := create(t, d, "/f", "")
	d.arm(strike{dir: "/f", after: 3, errno: syscall.EIO})
	for i := range 5 {
		_, err := f.Write([]byte("x"))
		if (err != nil) != (i == 3) {
			t.Errorf("write %d: %v", i, err)
		}
	}
	if !d.disarm() || d.disarm() {
		t.Error("the strike is not reported once")
	}
	d.arm(strike{dir: "/other", errno: syscall.EIO})
	if _, err := f.Write([]byte("x")); err != nil || d.disarm() {
		t.Errorf("struck on another file: %v", err)
	}
}

func TestDiskSurvivorIsRepeatable(t *testing.T) {
	sum := func() uint64 {
		d := testDisk(50)
		for i := range 20 {
			f := create(t, d, fmt.Sprintf("/f%d", i), strings.Repeat("x", 5000))
			if i%2 == 0 {
				must(t, f.Sync())
			}
			if i == 10 {
				syncDir(t, d, "/")
			}
		}
		return d.crash().sum("/")
	}
	if a, b := sum(), sum(); a != b {
		t.Errorf("the same generator leaves %x and %x", a, b)
	}
}
