package config

import (
	"errors"
	"fmt"
	"strings"

	"go.uber.org/zap"
	"go.uber.org/zap/zapcore"
)

const variablePrefix = "ETCD_"

// Variables that start like settings but belong to others.
const (
	variableVersion         = "ETCD_VERSION"          // set by container images; never a setting
	variableUnsupportedArch = "ETCD_UNSUPPORTED_ARCH" // read before the settings, see Architecture
)

// loadEnvironment gives settings that no flag gave the values of their environment variables. An empty variable counts
// as unset. One that repeats a flag is fatal, since nobody could say which of the two was meant.
func (l *loader) loadEnvironment() error {
	variables := map[string]*setting{}
	for _, s := range l.all {
		if s.name != "" {
			variables[s.variable()] = s
		}
	}
	old := map[string]aliasValue{}
	for name, value := range l.aliasValues() {
		old[variableName(name)] = value
	}
	for _, entry := range l.machine.Environ {
		name, value, found := strings.Cut(entry, "=")
		switch {
		case !found:
			l.note(zapcore.WarnLevel, "found invalid environment variable", zap.String("environment-variable", entry))
			continue
		case name == variableVersion:
			l.note(zapcore.WarnLevel, "cannot set special environment variable",
				zap.String("key", name), zap.String("value", value))
			continue
		case name == variableUnsupportedArch, name == variableName(flagConfigFile),
			!strings.HasPrefix(name, variablePrefix), value == "":
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
		if err := l.loadVariable(s, name, value); err != nil {
			return err
		}
	}
	return nil
}

func (l *loader) loadVariable(s *setting, name, value string) error {
	if l.onLine[s.name] {
		message := "conflicting environment variable is shadowed by corresponding command-line flag " +
			"(either unset environment variable or disable flag))"
		l.note(zapcore.FatalLevel, message, zap.String("environment-variable", name))
		return &Exit{Code: 1, Notes: l.notes, cause: message + ": " + name}
	}
	if err := s.Set(value); err != nil {
		return l.refuse(fmt.Errorf("invalid value %q for %s: %w", value, name, err))
	}
	l.give(s.name, name)
	l.note(zapcore.InfoLevel, "recognized and used environment variable",
		zap.String("variable-name", name), zap.String("variable-value", value))
	return nil
}

// loadOldVariable is loadVariable for a name that is not current any more.
func (l *loader) loadOldVariable(v aliasValue, name, value string) error {
	if err := v.Set(value); err != nil {
		return l.refuse(fmt.Errorf("invalid value %q for %s: %w", value, name, err))
	}
	if err := l.useAlias(v, name); err != nil {
		return l.refuse(err)
	}
	l.note(zapcore.InfoLevel, "recognized and used environment variable",
		zap.String("variable-name", name), zap.String("variable-value", value))
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
