package logging

import (
	"encoding/json"
	"errors"
	"fmt"
	"slices"

	"go.uber.org/zap/zapcore"
)

// Options are the settings of the log.
type Options struct {
	Kind     string   `flag:"logger" default:"zap" help:"Kind of logger; zap is the only one."`
	Level    string   `flag:"log-level" default:"info" help:"Lowest level written: debug, info, warn, error, dpanic, panic or fatal."`
	Format   string   `flag:"log-format" default:"json" help:"Form of a log line: json or console."`
	Outputs  []string `flag:"log-outputs" default:"default" help:"Where lines go: default (stderr), stderr, stdout, systemd/journal, or file paths."`
	Rotate   bool     `flag:"enable-log-rotation" default:"false" help:"Rotate the one log file that log-outputs names."`
	Rotation string   `flag:"log-rotation-config-json" default:"{\"maxsize\": 100, \"maxage\": 0, \"maxbackups\": 0, \"localtime\": false, \"compress\": false}" help:"When to rotate (sizes in MiB, ages in days) and what to keep (0: everything)."`
}

// Names that log-outputs gives a meaning of their own; everything else is a path.
const (
	outputDefault = "default"
	outputStderr  = "stderr"
	outputStdout  = "stdout"
	outputJournal = "systemd/journal"
)

// ErrLevel is the refusal of an unknown level. etcd panics on it, so it ends the process differently from the others.
var ErrLevel = errors.New("unrecognized level")

// rotation is the decoded form of Options.Rotation.
type rotation struct {
	MaxSizeMiB int  `json:"maxsize"`    // 0: 100
	MaxAgeDays int  `json:"maxage"`     // 0: never too old
	MaxBackups int  `json:"maxbackups"` // 0: keep all
	LocalTime  bool `json:"localtime"`  // names of old files; false: UTC
	Compress   bool `json:"compress"`   // gzip old files
}

// Validate reports the first setting that New would refuse.
func (o Options) Validate() error {
	switch o.Kind {
	case "zap":
	case "capnslog":
		return errors.New("--logger=capnslog is removed in v3.5")
	default:
		return fmt.Errorf("unknown logger option %q", o.Kind)
	}
	if slices.Contains(o.Outputs, outputDefault) && len(o.Outputs) > 1 {
		return fmt.Errorf("multi logoutput for %q is not supported yet", outputDefault)
	}
	if o.Rotate {
		if _, err := o.rotation(); err != nil {
			return err
		}
	}
	if _, err := o.level(); err != nil {
		return err
	}
	switch o.Format {
	case "", "json", "console":
		return nil
	}
	return fmt.Errorf("unknown log format: %s, supported values json, console", o.Format)
}

// Debug reports whether the log is written at debug level, which also opens the debugging endpoints.
func (o Options) Debug() bool {
	level, err := o.level()
	return err == nil && level == zapcore.DebugLevel
}

func (o Options) level() (zapcore.Level, error) {
	var level zapcore.Level
	if err := level.UnmarshalText([]byte(o.Level)); err != nil {
		return level, fmt.Errorf("%w: %q", ErrLevel, o.Level)
	}
	return level, nil
}

// rotation decodes the rotation settings and checks that exactly one file is there to rotate.
func (o Options) rotation() (rotation, error) {
	var r rotation
	var files int
	for _, output := range o.Outputs {
		if isFile(output) {
			files++
		}
	}
	if files != 1 {
		return r, errors.New("--log-outputs requires a single file path when --log-rotate-config-json is defined")
	}
	err := json.Unmarshal([]byte(o.Rotation), &r)
	if _, ok := errors.AsType[*json.SyntaxError](err); ok {
		return r, fmt.Errorf("improperly formatted log rotation config: %w", err)
	}
	if err != nil {
		return r, fmt.Errorf("invalid log rotation config: %w", err)
	}
	return r, nil
}

func isFile(output string) bool {
	switch output {
	case outputDefault, outputStderr, outputStdout, outputJournal:
		return false
	}
	return true
}
