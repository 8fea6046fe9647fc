package main

import (
	"os"
	"path/filepath"
	"strings"
	"testing"

	"keelson/internal/testkit"
)

// TestDataDirectoryRefusals starts the process on directories that are not to be opened: it says what to do and ends.
func TestDataDirectoryRefusals(t *testing.T) {
	for _, c := range []struct {
		name  string
		spoil func(t *testing.T, p *testkit.Process)
		want  string
	}{
		{"etcd's", func(t *testing.T, p *testkit.Process) {
			write(t, filepath.Join(p.DataDir, "member", "snap", "db"), "bolt")
		}, "was written by etcd"},
		{"newer", func(t *testing.T, p *testkit.Process) {
			p.Start()
			p.Stop()
			write(t, filepath.Join(p.DataDir, "member", "FORMAT"), "keelson 99\n")
		}, "start it with the version that wrote it"},
		{"without its log", func(t *testing.T, p *testkit.Process) {
			p.Start()
			p.Stop()
			if err := os.RemoveAll(filepath.Join(p.DataDir, "member", "wal")); err != nil {
				t.Fatal(err)
			}
		}, "restore the directory"},
		{"with a damaged log", func(t *testing.T, p *testkit.Process) {
			p.Start()
			p.Stop()
			files, err := filepath.Glob(filepath.Join(p.DataDir, "member", "wal", "*"))
			if err != nil || len(files) == 0 {
				t.Fatal(files, err)
			}
			b, err := os.ReadFile(files[0])
			if err != nil {
				t.Fatal(err)
			}
			b[200] ^= 1
			write(t, files[0], string(b))
		}, "the log is damaged"},
	} {
		t.Run(c.name, func(t *testing.T) {
			p := testkit.NewProcess(t)
			c.spoil(t, p)
			err := p.TryStart()
			if err == nil || !strings.Contains(err.Error(), c.want) || !strings.Contains(err.Error(), "exit status 1") {
				t.Errorf("got %v, want exit status 1 and %q", err, c.want)
			}
		})
	}
}

func write(t *testing.T, path, text string) {
	t.Helper()
	if err := os.MkdirAll(filepath.Dir(path), 0o700); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
}

// TestSecondProcessWaits starts a process on the data directory of another one: it says what it waits for, and goes on when that one
// has gone.
func TestSecondProcessWaits(t *testing.T) {
	first, second := testkit.NewProcess(t), testkit.NewProcess(t)
	second.DataDir = first.DataDir
	first.Start()
	if err := second.Begin(); err != nil {
		t.Fatal(err)
	}
	awaitLog(t, second, "db file is flocked by another process, or taking too long")
	first.AwaitStatus()
	first.Stop()
	if err := second.AwaitReady(); err != nil {
		t.Fatal(err)
	}
}
