package config

import (
	"errors"
	"flag"
	"fmt"
	"io"
	"strings"

	"go.uber.org/zap/zapcore"
)

// ignoredFlags are accepted, like booleans, because start scripts of old releases still carry them.
var ignoredFlags = []string{
	"cluster-active-size", "cluster-remove-delay", "cluster-sync-interval", "config", "force", "max-result-buffer",
	"max-retry-attempts", "peer-heartbeat-interval", "peer-election-timeout", "retry-interval", "snapshot", "v", "vv",
	"test.coverprofile", "test.outputdir",
}

const (
	flagConfigFile = "config-file"
	flagVersion    = "version"

	exitUsage = 2 // a flag that can't be read
)

// ignoredFlag takes any value and does nothing with it.
type ignoredFlag struct{}

func (ignoredFlag) Set(string) error { return nil }
func (ignoredFlag) String() string   { return "" }
func (ignoredFlag) IsBoolFlag() bool { return true }

// parseFlags applies the command line. Help and version end it before anything else is looked at.
func (l *loader) parseFlags(args []string) error {
	set := flag.NewFlagSet(l.program, flag.ContinueOnError)
	set.SetOutput(io.Discard)
	for _, s := range l.all {
		if s.name != "" {
			set.Var(s, s.name, s.help)
		}
	}
	old := l.aliasValues()
	for name, value := range old {
		set.Var(value, name, "")
	}
	set.StringVar(&l.file, flagConfigFile, "", "")
	set.BoolVar(&l.version, flagVersion, false, "")
	for _, name := range ignoredFlags {
		set.Var(ignoredFlag{}, name, "")
	}

	err := set.Parse(args)
	switch {
	case errors.Is(err, flag.ErrHelp):
		return &Exit{Code: 0, Stderr: usage(l.program), Stdout: l.help(), cause: "help was asked for"}
	case err != nil:
		return &Exit{Code: exitUsage, Stderr: err.Error() + "\n" + usage(l.program), cause: err.Error()}
	case set.NArg() > 0:
		return l.refuse(fmt.Errorf("%q is not a valid flag", set.Arg(0)))
	case l.version:
		return &Exit{Code: 0, Stdout: versionText(), cause: "the version was asked for"}
	}
	return l.noteGiven(set, old)
}

// noteGiven notes which flags were given, the current names first.
func (l *loader) noteGiven(set *flag.FlagSet, old map[string]aliasValue) error {
	var used []aliasValue
	set.Visit(func(f *flag.Flag) {
		if v, isOld := old[f.Name]; isOld {
			used = append(used, v)
			return
		}
		l.give(f.Name, "flag")
		l.onLine[f.Name] = true
	})
	for _, v := range used {
		if err := l.useAlias(v, "flag --"+v.old); err != nil {
			return l.refuse(err)
		}
		l.onLine[v.name] = true
	}
	return nil
}

// configFile is the configuration file to use; empty: none.
func (l *loader) configFile() (string, error) {
	if l.file != "" {
		return l.file, nil
	}
	for _, entry := range l.machine.Environ {
		if value, ok := strings.CutPrefix(entry, variableName(flagConfigFile)+"="); ok {
			return value, nil
		}
	}
	return "", nil
}

// deprecations warns about each deprecated setting that was given.
func (l *loader) deprecations() {
	if l.given["max-snapshots"] {
		l.note(zapcore.WarnLevel, "--max-snapshots is deprecated in 3.6 and will be decommissioned in 3.8.")
	}
	if l.given["v2-deprecation"] {
		l.note(zapcore.WarnLevel, "--v2-deprecation is deprecated and scheduled for removal in v3.8. "+
			"The default value is enforced, ignoring user input.")
	}
}
