package logging

import (
	"bufio"
	"compress/gzip"
	"encoding/json"
	"errors"
	"io"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
	"time"

	"go.uber.org/zap"
)

func options(t *testing.T) (Options, string) {
	t.Helper()
	name := filepath.Join(t.TempDir(), "member.log")
	return Options{Kind: "zap", Level: "info", Format: "json", Outputs: []string{name}}, name
}

func written(t *testing.T, name string) string {
	t.Helper()
	data, err := os.ReadFile(name)
	if err != nil {
		t.Fatal(err)
	}
	return string(data)
}

func open(t *testing.T, o Options) (*zap.Logger, func()) {
	t.Helper()
	logger, closeLog, err := New(o)
	if err != nil {
		t.Fatal(err)
	}
	return logger, func() {
		if err := closeLog(); err != nil {
			t.Fatal(err)
		}
	}
}

func TestJSONLine(t *testing.T) {
	o, name := options(t)
	logger, done := open(t, o)
	logger.Debug("unseen")
	logger.Info("a message", zap.Duration("took", 1200*time.Microsecond), zap.String("k", "v"))
	logger.Named("raft").Error("failed", zap.Error(errors.New("why")))
	done()
	lines := strings.Split(strings.TrimSuffix(written(t, name), "\n"), "\n")
	if len(lines) != 2 {
		t.Fatalf("%d lines: %q", len(lines), lines)
	}
	form := regexp.MustCompile(`^\{"level":"info","ts":"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{6}(Z|[+-]\d{4})","caller":"logging/logger_test.go:\d+","msg":"a message","took":"1.2ms","k":"v"\}$`)
	if !form.MatchString(lines[0]) {
		t.Errorf("line %s", lines[0])
	}
	form = regexp.MustCompile(`^\{"level":"error","ts":"[^"]+","logger":"raft","caller":"[^"]+","msg":"failed","error":"why","stacktrace":"[^"]+"\}$`)
	if !form.MatchString(lines[1]) {
		t.Errorf("line %s", lines[1])
	}
}

func TestConsoleLine(t *testing.T) {
	o, name := options(t)
	o.Format = "console"
	logger, done := open(t, o)
	logger.Warn("slow", zap.Int("n", 3))
	done()
	form := regexp.MustCompile(`^[^\t]+\twarn\tlogging/logger_test.go:\d+\tslow\t\{"n": 3\}\n$`)
	if line := written(t, name); !form.MatchString(line) {
		t.Errorf("line %q", line)
	}
}

func TestSampling(t *testing.T) {
	o, name := options(t)
	logger, done := open(t, o)
	const lines = 1000
	for range lines {
		logger.Info("the same")
	}
	logger.Info("another")
	done()
	text := written(t, name)
	if same := strings.Count(text, `"the same"`); same < 100 || same == lines {
		t.Errorf("%d of %d identical lines were written", same, lines)
	}
	if !strings.Contains(text, `"another"`) {
		t.Error("a different line was dropped")
	}
}

func TestOutputs(t *testing.T) {
	o := Options{Outputs: []string{"default"}}
	if got := o.names(); len(got) != 1 || got[0] != "stderr" {
		t.Errorf("default stands for %q", got)
	}
	o.Outputs = []string{"stdout", "/tmp/b", "stderr", "/tmp/b", "/tmp/a"}
	if got := strings.Join(o.names(), " "); got != "/tmp/a /tmp/b stderr stdout" {
		t.Errorf("outputs %s", got)
	}
	null := Options{Kind: "zap", Level: "info", Format: "json", Outputs: []string{"/dev/null"}}
	logger, done := open(t, null)
	logger.Info("nowhere")
	done()
	bad := Options{Kind: "zap", Level: "info", Format: "json", Outputs: []string{filepath.Join(t.TempDir(), "no", "such", "dir")}}
	if _, _, err := New(bad); err == nil {
		t.Error("a file in a directory that does not exist was opened")
	}
	bad.Outputs = []string{"http://"}
	if _, _, err := New(bad); err == nil || err.Error() != `open sink "http://": no sink found for scheme "http"` {
		t.Errorf("a scheme that is none: %v", err)
	}
	file := filepath.Join(t.TempDir(), "log")
	_, done = open(t, Options{Kind: "zap", Level: "info", Format: "json", Outputs: []string{"file://" + file}})
	done()
	if _, err := os.Stat(file); err != nil {
		t.Errorf("a file given as a URL: %v", err)
	}
}

func TestLevels(t *testing.T) {
	for _, level := range []string{"debug", "info", "warn", "error", "dpanic", "panic", "fatal"} {
		o := Options{Kind: "zap", Level: level, Format: "json", Outputs: []string{"default"}}
		if err := o.Validate(); err != nil {
			t.Errorf("%s: %v", level, err)
		}
		if o.Debug() != (level == "debug") {
			t.Errorf("%s: Debug() = %t", level, o.Debug())
		}
	}
	o := Options{Kind: "zap", Level: "loud", Format: "json", Outputs: []string{"default"}}
	if err := o.Validate(); !errors.Is(err, ErrLevel) {
		t.Errorf("loud: %v", err)
	}
}

func TestRotation(t *testing.T) {
	for _, compressed := range []bool{false, true} {
		name := filepath.Join(t.TempDir(), "logs", "member.log")
		f, err := openRotating(name, rotation{MaxBackups: 2, Compress: compressed})
		if err != nil {
			t.Fatal(err)
		}
		f.maxBytes = 1000
		line := []byte(strings.Repeat("x", 399) + "\n")
		const files = 6
		for range 2 * files {
			if _, err := f.Write(line); err != nil {
				t.Fatal(err)
			}
		}
		if err := f.Close(); err != nil {
			t.Fatal(err)
		}
		backups := f.backups()
		if len(backups) != 2 {
			t.Fatalf("backups %q, want 2", backups)
		}
		for _, backup := range append(backups, name) {
			if got := lengthOf(t, backup); got != 800 {
				t.Errorf("%s holds %d bytes, want 800", backup, got)
			}
		}
		if strings.HasSuffix(backups[0], ".gz") != compressed {
			t.Errorf("compressed %t: %q", compressed, backups)
		}
	}
}

func lengthOf(t *testing.T, name string) int {
	t.Helper()
	file, err := os.Open(name)
	if err != nil {
		t.Fatal(err)
	}
	defer file.Close()
	var r io.Reader = bufio.NewReader(file)
	if strings.HasSuffix(name, ".gz") {
		if r, err = gzip.NewReader(r); err != nil {
			t.Fatal(err)
		}
	}
	data, err := io.ReadAll(r)
	if err != nil {
		t.Fatal(err)
	}
	return len(data)
}

func TestRotationByAge(t *testing.T) {
	name := filepath.Join(t.TempDir(), "member.log")
	f, err := openRotating(name, rotation{MaxAgeDays: 1})
	if err != nil {
		t.Fatal(err)
	}
	old, young := f.backupName(time.Now().AddDate(0, 0, -2)), f.backupName(time.Now().AddDate(0, 0, 0).Add(-time.Hour))
	stranger := filepath.Join(filepath.Dir(name), "member-notes.log")
	for _, n := range []string{old, young, stranger} {
		if err := os.WriteFile(n, []byte("x"), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	f.tidy(young)
	for n, want := range map[string]bool{old: false, young: true, stranger: true} {
		if _, err := os.Stat(n); (err == nil) != want {
			t.Errorf("%s is there: %t, want %t", filepath.Base(n), err == nil, want)
		}
	}
	if err := f.Close(); err != nil {
		t.Fatal(err)
	}
}

func TestRotatedLogger(t *testing.T) {
	o, name := options(t)
	o.Rotate, o.Rotation = true, `{"maxsize": 1}`
	logger, done := open(t, o)
	for range 3 {
		logger.Info(strings.Repeat("y", 500<<10))
	}
	done()
	r := &rotating{name: name}
	if len(r.backups()) != 1 {
		t.Errorf("backups %q, want one", r.backups())
	}
	var line map[string]any
	if err := json.Unmarshal([]byte(written(t, name)), &line); err != nil {
		t.Errorf("the new file does not begin with a whole line: %v", err)
	}
}

func TestGRPCLog(t *testing.T) {
	for _, level := range []string{"info", "debug"} {
		o, name := options(t)
		o.Level = level
		logger, done := open(t, o)
		l := grpcLog{logger}
		l.Infof("an %s", "info")
		l.Warningln("a", "warning")
		l.Errorf("an %s", "error")
		l.Errorln("two", "words")
		done()
		text := written(t, name)
		if strings.Contains(text, `"level":"error"`) || !strings.Contains(text, `"level":"warn"`) ||
			!strings.Contains(text, `"msg":"an error"`) || !strings.Contains(text, `"msg":"two words"`) {
			t.Errorf("%s: %s", level, text)
		}
		if details := level == "debug"; strings.Contains(text, `"msg":"an info"`) != details ||
			strings.Contains(text, `"msg":"a warning"`) != details || l.V(0) != details {
			t.Errorf("%s: %s", level, text)
		}
	}
}

// TestSetLevel: the level of a logger in use can be changed, also for loggers that come from it.
func TestSetLevel(t *testing.T) {
	o, name := options(t)
	logger, closeLog := open(t, o)
	derived := logger.With(zap.String("part", "x")).Named("derived")
	derived.Debug("before")
	SetLevel(logger, zap.DebugLevel)
	derived.Debug("lower")
	SetLevel(derived, zap.ErrorLevel)
	logger.Warn("higher")
	logger.Error("still")
	closeLog()
	text := written(t, name)
	for message, want := range map[string]bool{"before": false, "lower": true, "higher": false, "still": true} {
		if got := strings.Contains(text, `"`+message+`"`); got != want {
			t.Errorf("%q is written: %v, want %v", message, got, want)
		}
	}
	SetLevel(zap.NewNop(), zap.DebugLevel) // does nothing
}
