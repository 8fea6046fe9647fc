package server

import (
	"context"
	"os"
	"path/filepath"
	"testing"
	"time"

	"go.uber.org/zap"
	"go.uber.org/zap/zapcore"
	"go.uber.org/zap/zaptest/observer"

	"keelson/server/bootstrap"
	"keelson/server/datadir"
)

// A crash between the switch to a state that was received and the log's beginning anew: the next start says that it goes by
// the state.
func TestRecoveryFromAReceivedStateIsLogged(t *testing.T) {
	c := loadMember(t, filepath.Join(t.TempDir(), "data"))
	e, err := openEngine(context.Background(), c, bootstrap.NewClient(nil, nil), nil, zap.NewNop(), quietHooks(t))
	if err != nil {
		t.Fatal(err)
	}
	received := filepath.Join(e.dir.Incoming(), "received")
	if err := os.MkdirAll(e.dir.Incoming(), 0o700); err != nil {
		t.Fatal(err)
	}
	at, _, err := e.machine.Checkpoint(received)
	if err != nil {
		t.Fatal(err)
	}
	adopted, err := e.dir.Adopt(received)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := e.dir.Activate(adopted, datadir.Position{Index: at.Index, Term: at.Term}); err != nil {
		t.Fatal(err)
	}
	if err := e.close(); err != nil {
		t.Fatal(err)
	}
	const line = "Recovering from snapshot backend"
	after := openOnce(t, c)
	if found := after.logs.FilterMessage(line).All(); len(found) != 1 || found[0].ContextMap()["snapshot-index"] != at.Index {
		t.Errorf("%q was logged %v", line, found)
	}
	if after.applied != at {
		t.Errorf("it stands at %v, want %v", after.applied, at)
	}
	if again := openOnce(t, c); again.logs.FilterMessage(line).Len() != 0 {
		t.Errorf("%q was logged once more", line)
	}
}

func TestSlowSyncsAreLogged(t *testing.T) {
	core, logs := observer.New(zapcore.WarnLevel)
	m := &measures{logger: zap.New(core)}
	m.noteSync(1, slowSync)
	if logs.Len() != 0 {
		t.Errorf("a sync that is not slow: %v", logs.All())
	}
	m.noteSync(1, slowSync+time.Millisecond)
	if found := logs.FilterMessage("slow fdatasync").All(); len(found) != 1 || found[0].ContextMap()["took"] != slowSync+time.Millisecond {
		t.Errorf("a slow sync: %v", logs.All())
	}
}

func TestUsedFilesAreLogged(t *testing.T) {
	for _, c := range []struct {
		used, limit uint64
		lines       int
	}{{799, 1000, 0}, {800, 1000, 1}, {5, 0, 0}} {
		core, logs := observer.New(zapcore.WarnLevel)
		f := &files{logger: zap.New(core)}
		f.noteUsed(c.used, c.limit)
		if n := logs.FilterMessage("80% of file descriptors are used").Len(); n != c.lines {
			t.Errorf("%d of %d: %d lines", c.used, c.limit, n)
		}
	}
}
