package logging

import (
	"fmt"
	"io"
	"os"
	"slices"
	"strings"
	"time"

	"go.uber.org/zap"
	"go.uber.org/zap/zapcore"
)

const (
	timeLayout = "2006-01-02T15:04:05.000000Z0700"

	// Of identical messages within a second, the first hundred are written and then every hundredth.
	sampleInterval   = time.Second
	sampleFirst      = 100
	sampleThereafter = 100

	logFileMode = 0o644
)

// New opens the outputs that o names and returns a logger that writes to all of them, and a function that flushes and
// closes what was opened. The caller stops logging before it closes.
func New(o Options) (*zap.Logger, func() error, error) {
	if err := o.Validate(); err != nil {
		return nil, nil, err
	}
	level, err := o.level()
	if err != nil {
		return nil, nil, err
	}
	sinks, closers, err := o.open()
	if err != nil {
		closeAll(closers)
		return nil, nil, err
	}
	adjusted := zap.NewAtomicLevelAt(level)
	core := zapcore.NewSamplerWithOptions(zapcore.NewTee(o.cores(sinks, adjusted)...), sampleInterval, sampleFirst, sampleThereafter)
	logger := zap.New(adjustable{core, adjusted}, zap.AddCaller(), zap.AddStacktrace(zapcore.ErrorLevel), zap.ErrorOutput(zapcore.Lock(os.Stderr)))
	return logger, func() error { return closeAll(closers) }, nil
}

// adjustable is a core whose level can be changed while it is in use.
type adjustable struct {
	zapcore.Core
	level zap.AtomicLevel
}

// With implements zapcore.Core.
func (a adjustable) With(fields []zapcore.Field) zapcore.Core {
	return adjustable{a.Core.With(fields), a.level}
}

// SetLevel changes the lowest level that is written by a logger that New made, and by all that were derived from it. It does
// nothing to others.
func SetLevel(l *zap.Logger, level zapcore.Level) {
	if a, ok := l.Core().(adjustable); ok {
		a.level.SetLevel(level)
	}
}

// Default is the logger for what has to be said before settings are known: JSON lines at level info on stderr.
func Default() *zap.Logger {
	logger, _, err := New(Options{Kind: "zap", Level: "info", Format: "json", Outputs: []string{outputDefault}})
	if err != nil {
		panic("logging: the default logger: " + err.Error())
	}
	return logger
}

// sink is one place that lines go to; exactly one of its fields is set.
type sink struct {
	writer  zapcore.WriteSyncer
	journal bool
}

// open opens every output once, in order of name.
func (o Options) open() ([]sink, []io.Closer, error) {
	var sinks []sink
	var closers []io.Closer
	for _, name := range o.names() {
		switch name {
		case outputStderr:
			sinks = append(sinks, sink{writer: zapcore.Lock(os.Stderr)})
		case outputStdout:
			sinks = append(sinks, sink{writer: zapcore.Lock(os.Stdout)})
		case outputJournal:
			if err := checkJournal(); err != nil {
				return nil, closers, err
			}
			sinks = append(sinks, sink{journal: true})
		default:
			file, err := o.openFile(name)
			if err != nil {
				return nil, closers, err
			}
			closers = append(closers, file)
			sinks = append(sinks, sink{writer: zapcore.Lock(file)})
		}
	}
	return sinks, closers, nil
}

// names are the outputs without repetition, sorted, default replaced by what it stands for.
func (o Options) names() []string {
	var names []string
	for _, name := range o.Outputs {
		if name == outputDefault {
			name = outputStderr
		}
		names = append(names, name)
	}
	slices.Sort(names)
	return slices.Compact(names)
}

type file interface {
	zapcore.WriteSyncer
	io.Closer
}

func (o Options) openFile(name string) (file, error) {
	if !o.Rotate {
		path, err := pathOf(name)
		if err != nil {
			return nil, err
		}
		f, err := os.OpenFile(path, os.O_WRONLY|os.O_APPEND|os.O_CREATE, logFileMode)
		if err != nil {
			return nil, fmt.Errorf("open sink %q: %w", name, err)
		}
		return f, nil
	}
	r, err := o.rotation()
	if err != nil {
		return nil, err
	}
	return openRotating(name, r)
}

// pathOf is the path of an output that is a file, given as such or as a URL.
func pathOf(name string) (string, error) {
	scheme, rest, isURL := strings.Cut(name, "://")
	switch {
	case !isURL:
		return name, nil
	case strings.EqualFold(scheme, "file"):
		return strings.TrimPrefix(rest, "localhost"), nil
	}
	return "", fmt.Errorf("open sink %q: no sink found for scheme %q", name, strings.ToLower(scheme))
}

func (o Options) cores(sinks []sink, level zapcore.LevelEnabler) []zapcore.Core {
	var cores []zapcore.Core
	for _, s := range sinks {
		if s.journal {
			cores = append(cores, journalCore{LevelEnabler: level, encoder: o.encoder()})
		} else {
			cores = append(cores, zapcore.NewCore(o.encoder(), s.writer, level))
		}
	}
	return cores
}

func (o Options) encoder() zapcore.Encoder {
	keys := zapcore.EncoderConfig{
		TimeKey:        "ts",
		LevelKey:       "level",
		NameKey:        "logger",
		CallerKey:      "caller",
		MessageKey:     "msg",
		StacktraceKey:  "stacktrace",
		LineEnding:     zapcore.DefaultLineEnding,
		EncodeLevel:    zapcore.LowercaseLevelEncoder,
		EncodeTime:     zapcore.TimeEncoderOfLayout(timeLayout),
		EncodeDuration: zapcore.StringDurationEncoder,
		EncodeCaller:   zapcore.ShortCallerEncoder,
	}
	if o.Format == "console" {
		return zapcore.NewConsoleEncoder(keys)
	}
	return zapcore.NewJSONEncoder(keys)
}

func closeAll(closers []io.Closer) error {
	var first error
	for _, c := range closers {
		if err := c.Close(); err != nil && first == nil {
			first = fmt.Errorf("logging: close: %w", err)
		}
	}
	return first
}
