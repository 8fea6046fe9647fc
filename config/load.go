package config

import (
	"fmt"
	"slices"

	"go.uber.org/zap"
	"go.uber.org/zap/zapcore"
)

// Note is a line for the log that was earned before there was a log.
type Note struct {
	Level   zapcore.Level
	Message string
	Fields  []zap.Field
}

// Exit says how the process has to end instead of serving: what to print, what to log and the exit code.
type Exit struct {
	Code   int
	Stdout string
	Stderr string
	Notes  []Note // lines for a default log, in order; the last may be fatal
	cause  string
}

// Error is the reason in one line.
func (e *Exit) Error() string { return e.cause }

// Machine is what loading needs to know about the machine.
type Machine struct {
	Environ     []string                          // as os.Environ gives it
	ReadFile    func(name string) ([]byte, error) // reads a configuration file
	DefaultHost func() (string, error)            // the address that the default route leaves from
}

// Load gathers the settings that args (without the program's name) and the machine's environment give, and checks
// them. program is the name to print in usage texts.
//
// The error is always an *Exit. Notes belong in the log as soon as there is one, in order.
func Load(program string, args []string, m Machine) (*Config, []Note, error) {
	l, err := load(program, args, m)
	if err != nil {
		return nil, nil, err
	}
	return l.config, l.notes, nil
}

func load(program string, args []string, m Machine) (*loader, error) {
	l := newLoader(program, m)
	if err := l.parseFlags(args); err != nil {
		return nil, err
	}
	path, err := l.configFile()
	if err != nil {
		return nil, err
	}
	if path != "" {
		err = l.loadFile(path)
	} else {
		err = l.loadEnvironment()
	}
	if err != nil {
		return nil, err
	}
	if err := l.complete(); err != nil {
		return nil, err
	}
	if path != "" {
		l.note(zapcore.InfoLevel, "loaded server configuration, other configuration command line flags and environment "+
			"variables will be ignored if provided", zap.String("path", path))
	}
	return l, nil
}

// loader is one run of Load.
type loader struct {
	program string
	machine Machine
	config  *Config
	all     []*setting
	given   map[string]bool   // settings that a flag, a variable or the file gave
	from    map[string]string // where they come from, in words
	onLine  map[string]bool   // those that a flag gave
	old     []aliasValue      // old names that were used
	file    string            // value of the flag config-file
	version bool
	notes   []Note
}

func newLoader(program string, m Machine) *loader {
	l := &loader{
		program: program, machine: m, config: new(Config),
		given: map[string]bool{}, from: map[string]string{}, onLine: map[string]bool{},
	}
	l.reset()
	return l
}

// give notes where the value of a setting comes from.
func (l *loader) give(name, from string) {
	l.given[name] = true
	l.from[name] = from
}

// find is the setting of a name.
func (l *loader) find(name string) *setting {
	i := slices.IndexFunc(l.all, func(s *setting) bool { return s.name == name })
	if i < 0 {
		panic("config: there is no setting " + name)
	}
	return l.all[i]
}

// reset gives every setting its default.
func (l *loader) reset() {
	*l.config = Config{}
	l.all = settings(l.config)
	for _, s := range l.all {
		if err := s.Set(s.initial); err != nil {
			panic(fmt.Sprintf("config: default of %s: %v", s.name, err))
		}
	}
}

func (l *loader) note(level zapcore.Level, message string, fields ...zap.Field) {
	l.notes = append(l.notes, Note{level, message, fields})
}

// refuse ends the process because of a setting: what was noted so far, then the reason, exit code 1.
func (l *loader) refuse(err error) *Exit {
	l.note(zapcore.WarnLevel, "failed to verify flags", zap.Error(err))
	return &Exit{Code: 1, Notes: l.notes, cause: err.Error()}
}
