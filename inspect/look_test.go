package inspect

import (
	"io/fs"
	"os"
	"path/filepath"
	"testing"

	"keelson/internal/testkit"
)

// Known bug M15: what only looks changes nothing, neither at a data directory nor at a snapshot.
func TestM15LookingChangesNothing(t *testing.T) {
	p := testkit.NewProcess(t)
	p.Start()
	if _, err := p.Client().Put(t.Context(), "k", "v"); err != nil {
		t.Fatal(err)
	}
	saved := filepath.Join(t.TempDir(), "saved.db")
	run(t, "snapshot", "save", saved, "--endpoints="+p.Endpoint)
	p.Stop()
	before := bytesBelow(t, filepath.Dir(saved), p.DataDir)
	run(t, "verify", p.DataDir)
	run(t, "inspect", "log", p.DataDir)
	run(t, "inspect", "log", p.DataDir, "--commands")
	run(t, "inspect", "state", p.DataDir)
	run(t, "inspect", "key", p.DataDir, "k")
	run(t, "repair", p.DataDir, "--dry-run")
	run(t, "snapshot", "status", saved)
	after := bytesBelow(t, filepath.Dir(saved), p.DataDir)
	for path, was := range before {
		if after[path] != was {
			t.Errorf("%s was changed, or removed", path)
		}
	}
	if len(after) != len(before) {
		t.Errorf("%d files before, %d after", len(before), len(after))
	}
}

// bytesBelow is the content of all files below some directories.
func bytesBelow(t *testing.T, dirs ...string) map[string]string {
	t.Helper()
	files := map[string]string{}
	for _, dir := range dirs {
		err := filepath.WalkDir(dir, func(path string, d fs.DirEntry, err error) error {
			if err != nil || d.IsDir() {
				return err
			}
			b, err := os.ReadFile(path)
			files[path] = string(b)
			return err
		})
		if err != nil {
			t.Fatal(err)
		}
	}
	return files
}
