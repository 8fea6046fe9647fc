package datadir

import (
	"strings"
	"testing"

	"github.com/cockroachdb/pebble/v2/vfs"
)

// What is noted is known to the next start, also after a crash; a log's damage is never taken for a store's, nor forgotten
// for it.
func TestDamageIsRemembered(t *testing.T) {
	const root = "/data"
	fs := vfs.NewCrashableMem()
	initialise(t, fs, root)
	d := mustOpen(t, fs, root)
	check := func(d *Dir, want Part, wantReason string) {
		t.Helper()
		if part, reason, err := d.Damage(); err != nil || part != want || reason != wantReason {
			t.Errorf("%q %q %v, want %q %q", part, reason, err, want, wantReason)
		}
	}
	reopen := func() {
		t.Helper()
		fs = fs.CrashClone(vfs.CrashCloneCfg{})
		d = mustOpen(t, fs, root)
	}
	check(d, "", "")
	note := func(part Part, reason string) {
		t.Helper()
		if err := d.NoteDamage(part, reason); err != nil {
			t.Fatal(err)
		}
		reopen()
	}
	note(Store, "table\n1")
	check(d, Store, "table 1")
	if err := d.ForgetDamage(); err != nil {
		t.Fatal(err)
	}
	reopen()
	check(d, "", "")
	note(Log, "old copy")
	note(Store, "table 2")
	check(d, Log, "old copy")
	if err := d.Write(damageName, "\x00\x00\x00"); err != nil {
		t.Fatal(err)
	}
	reopen()
	check(d, Store, "")
	note(Store, strings.Repeat("x", 10*fileBytesMax))
	check(d, Store, strings.Repeat("x", fileBytesMax/2))
}
