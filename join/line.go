package join

import (
	"errors"
	"flag"
	"fmt"
	"slices"
	"strconv"
	"strings"
	"time"

	"keelson/config"
)

const timeoutDefault = time.Minute

const usageText = `Usage: keelson join --peer URL [flags of keelson serve]

Makes this machine a member of a running cluster: asks a member at its peer URL who belongs to the cluster, adds this
machine as a learner, which becomes a voter by itself once it has caught up, and serves. With data of a member in the
data directory it just serves, so the same line also starts the member again.

  --peer URL            peer URL of a member (host:port is enough); several with commas are tried in order
  --auto-promote=false  stay a learner until somebody promotes it (etcdctl member promote)
  --join-timeout TIME   how long to try to be added while the cluster is not ready for it (default 1m0s)

All other flags are those of keelson serve. Where they are not given, the name is this machine's host name, and the
addresses are the one from which packets to the peer leave, with ports 2380 (peers) and 2379 (clients).
`

// line is a command line, taken apart.
type line struct {
	peers   config.URLs
	timeout time.Duration
	stay    bool              // a learner, until somebody promotes it
	serve   []string          // the flags that are passed on, as they were given
	given   map[string]string // their values, and those of the environment's variables, by name of the setting
}

// parseLine takes a command line apart. Whether the flags that are passed on make sense is not looked at.
//
// Errors: flag.ErrHelp if help is asked for; otherwise what is wrong.
func parseLine(args, environ []string) (line, error) {
	l := line{timeout: timeoutDefault, given: map[string]string{}}
	for _, entry := range environ {
		name, value, _ := strings.Cut(entry, "=")
		if setting, ok := strings.CutPrefix(name, "ETCD_"); ok && value != "" {
			l.given[strings.ReplaceAll(strings.ToLower(setting), "_", "-")] = value
		}
	}
	for i := 0; i < len(args); i++ {
		name, value, hasValue := cutFlag(args[i])
		if !hasValue && i+1 < len(args) {
			value = args[i+1]
		}
		switch name {
		case "h", "help":
			return line{}, flag.ErrHelp
		case "auto-promote":
			if err := l.setPromotion(value, hasValue); err != nil {
				return line{}, err
			}
			continue
		case "peer", "join-timeout":
			if !hasValue {
				i++
			}
			if err := l.set(name, value); err != nil {
				return line{}, err
			}
			continue
		case "":
		default:
			l.given[name] = value
		}
		l.serve = append(l.serve, args[i])
	}
	if len(l.peers) == 0 {
		return line{}, errors.New("--peer is missing: the peer URL of a running member, for example --peer http://10.0.0.1:2380")
	}
	return l, nil
}

// cutFlag returns the name of a flag, and its value if it stands in the same argument; no name: arg is no flag.
func cutFlag(arg string) (name, value string, hasValue bool) {
	text, ok := strings.CutPrefix(arg, "-")
	if !ok {
		return "", "", true
	}
	return strings.Cut(strings.TrimPrefix(text, "-"), "=")
}

// setPromotion reads the value of a boolean flag, which stands in the same argument or is true.
func (l *line) setPromotion(value string, hasValue bool) error {
	if !hasValue {
		value = "true"
	}
	promote, err := strconv.ParseBool(value)
	if err != nil {
		return fmt.Errorf("--auto-promote=%s: true or false is needed", value)
	}
	l.stay = !promote
	return nil
}

func (l *line) set(name, value string) error {
	if name == "join-timeout" {
		d, err := time.ParseDuration(value)
		if err != nil || d <= 0 {
			return fmt.Errorf("--join-timeout=%s: a duration like 30s is needed", value)
		}
		l.timeout = d
		return nil
	}
	for _, text := range strings.Split(value, ",") {
		text = strings.TrimSuffix(strings.TrimSpace(text), "/")
		if !strings.Contains(text, "://") {
			text = "http://" + text
		}
		var one config.URLs
		if err := one.Set(text); err != nil {
			return fmt.Errorf("--peer=%s: %w", value, err)
		}
		l.peers = append(l.peers, one...)
	}
	return nil
}

// checkOwn refuses settings that this command decides itself, or that say something else about how to begin.
func (l line) checkOwn() error {
	for _, name := range []string{"initial-cluster", "initial-cluster-state", "force-new-cluster", "config-file",
		"discovery-token", "discovery-endpoints", "discovery-srv"} {
		if value, ok := l.given[name]; ok {
			what := "the cluster is asked instead"
			if name == "config-file" {
				what = "a file would replace what the cluster answers; give its settings as flags or variables"
			}
			return fmt.Errorf("--%s (%s) can't be given to a member that joins: %s", name, value, what)
		}
	}
	return nil
}

// isGiven reports whether any of the settings was given.
func (l line) isGiven(names ...string) bool {
	return slices.ContainsFunc(names, func(name string) bool { _, ok := l.given[name]; return ok })
}
