package config

import (
	"errors"
	"fmt"
	"slices"
	"strings"

	"go.uber.org/zap"
	"go.uber.org/zap/zapcore"
)

const variablePrefix = "ETCD_"

// Variables that start like settings but belong to others.
const (
	variableVersion         = "ETCD_VERSION"          // set by container images; never a setting
	variableUnsupportedArch = "ETCD_UNSUPPORTED_ARCH" // no setting, see Architecture
)

// loadEnvironment gives settings that no flag gave the values of their environment variables. An empty variable counts
// as unset, and is told of as one that nobody knows. One that repeats a flag is fatal, since nobody could say which of the two was meant.
func (l *loader) loadEnvironment() error {
	variables := map[string]*setting{}
	for _, s := range l.all {
		if s.name != "" {
			variables[s.variable()] = s
		}
	}
	var ignored []string
	for _, name := range ignoredFlags {
		ignored = append(ignored, variableName(name))
	}
	old := map[string]aliasValue{}
	for name, value := range l.aliasValues() {
		old[variableName(name)] = value
	}
	var wrongName string
	var wrong error
	for _, entry := range l.machine.Environ {
		name, value, found := strings.Cut(entry, "=")
		switch {
		case !found:
			l.note(zapcore.WarnLevel, "found invalid environment variable", zap.String("environment-variable", entry))
			continue
		case !strings.HasPrefix(name, variablePrefix):
			continue
		case value == "":
			l.note(zapcore.WarnLevel, "unrecognized environment variable", zap.String("environment-variable", entry))
			continue
		case name == variableVersion:
			l.note(zapcore.WarnLevel, "cannot set special environment variable",
				zap.String("key", name), zap.String("value", value))
			continue
		case name == variableName(flagConfigFile):
			continue
		case slices.Contains(ignored, name):
			l.noteUsed(name, value)
			continue
		}
		if v, isOld := old[name]; isOld {
			if err := l.loadOldVariable(v, name, value); err != nil {
				return err
			}
			continue
		}
		s := variables[name]
		if s == nil {
			l.note(zapcore.WarnLevel, "unrecognized environment variable", zap.String("environment-variable", entry))
			continue
		}
		if l.onLine[s.name] {
			return l.shadowed(name)
		}
		if err := s.Set(value); err != nil {
			if name > wrongName { // of several, etcd tells of the last one by name
				wrongName, wrong = name, fmt.Errorf("invalid value %q for %s: %w", value, name, err)
			}
			continue
		}
		l.give(s.name, name)
		l.noteUsed(name, value)
	}
	if wrong != nil {
		return l.refuse(wrong)
	}
	return nil
}

// shadowed ends the process because a variable repeats a flag.
func (l *loader) shadowed(name string) error {
	message := "conflicting environment variable is shadowed by corresponding command-line flag " +
		"(either unset environment variable or disable flag))"
	l.note(zapcore.FatalLevel, message, zap.String("environment-variable", name))
	return &Exit{Code: 1, Notes: l.notes, cause: message + ": " + name}
}

func (l *loader) noteUsed(name, value string) {
	l.note(zapcore.InfoLevel, "recognized and used environment variable",
		zap.String("variable-name", name), zap.String("variable-value", value))
}

// loadOldVariable gives a setting the value of a variable whose name is not current any more.
func (l *loader) loadOldVariable(v aliasValue, name, value string) error {
	if err := v.Set(value); err != nil {
		return l.refuse(fmt.Errorf("invalid value %q for %s: %w", value, name, err))
	}
	if err := l.useAlias(v, name); err != nil {
		return l.refuse(err)
	}
	l.noteUsed(name, value)
	return nil
}

// supportedArchitectures run without ETCD_UNSUPPORTED_ARCH.
var supportedArchitectures = []string{"amd64", "arm64", "ppc64le", "s390x"}

var errArchitecture = errors.New("running on an unsupported architecture: set ETCD_UNSUPPORTED_ARCH to its name to go on")

// Architecture refuses processors that nobody tests, unless the environment names them.
func Architecture(goarch string, environ []string) error {
	for _, arch := range supportedArchitectures {
		if goarch == arch {
			return nil
		}
	}
	for _, entry := range environ {
		if entry == variableUnsupportedArch+"="+goarch {
			return nil
		}
	}
	return fmt.Errorf("%w (%s)", errArchitecture, goarch)
}
