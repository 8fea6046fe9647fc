package config

import (
	"errors"
	"io/fs"
	"strings"
	"testing"
	"time"

	"go.uber.org/zap/zapcore"
)

// machine is a machine with the given environment, one file and a fixed default route.
func machine(environ []string, file string) Machine {
	return Machine{
		Environ: environ,
		ReadFile: func(name string) ([]byte, error) {
			if name != "member.yml" {
				return nil, fs.ErrNotExist
			}
			return []byte(file), nil
		},
		DefaultHost: func() (string, error) { return "10.1.2.3", nil },
	}
}

func mustLoad(t *testing.T, m Machine, args ...string) (*Config, []Note) {
	t.Helper()
	c, notes, err := Load("etcd", args, m)
	if err != nil {
		t.Fatalf("Load(%q): %v", args, err)
	}
	return c, notes
}

func refusal(t *testing.T, m Machine, args ...string) *Exit {
	t.Helper()
	c, _, err := Load("etcd", args, m)
	if err == nil {
		t.Fatalf("Load(%q) = %+v, want an exit", args, c)
	}
	var exit *Exit
	if !errors.As(err, &exit) {
		t.Fatalf("Load(%q): %T is not an *Exit", args, err)
	}
	return exit
}

func hasNote(notes []Note, level zapcore.Level, message string) bool {
	for _, n := range notes {
		if n.Level == level && strings.HasPrefix(n.Message, message) {
			return true
		}
	}
	return false
}

// reason is the error field of the line that refuses the settings.
func reason(exit *Exit) string {
	for _, n := range exit.Notes {
		if n.Message == "failed to verify flags" {
			return n.Fields[0].Interface.(error).Error()
		}
	}
	return ""
}

func TestDefaults(t *testing.T) {
	c, notes := mustLoad(t, machine(nil, ""))
	checks := []struct {
		name      string
		got, want any
	}{
		{"name", c.Member.Name, "default"},
		{"data-dir", c.Member.DataDir, "default.etcd"},
		{"wal dir", c.WALDir(), "default.etcd/member/wal"},
		{"snap dir", c.SnapDir(), "default.etcd/member/snap"},
		{"listen-peer-urls", c.Member.ListenPeerURLs.String(), "http://localhost:2380"},
		{"listen-client-urls", c.Member.ListenClientURLs.String(), "http://localhost:2379"},
		{"listen-client-http-urls", c.Member.ListenClientHTTPURLs.String(), ""},
		{"advertise-client-urls", c.Cluster.AdvertiseClientURLs.String(), "http://localhost:2379"},
		{"initial-cluster", c.Cluster.Initial, "default=http://localhost:2380"},
		{"heartbeat", c.Member.Heartbeat(), 100 * time.Millisecond},
		{"election", c.Member.Election(), time.Second},
		{"request timeout", c.Member.RequestTimeout(), 7 * time.Second},
		{"quota", c.Limits.QuotaBytes, int64(2147483648)},
		{"max-txn-ops", c.Limits.MaxTxnOps, uint(128)},
		{"max-request-bytes", c.Limits.MaxRequestBytes, uint(1572864)},
		{"max-concurrent-streams", c.Limits.MaxConcurrentStreams, uint32(4294967295)},
		{"keepalive", [3]time.Duration{c.Limits.KeepaliveMinTime, c.Limits.KeepaliveInterval, c.Limits.KeepaliveTimeout},
			[3]time.Duration{5 * time.Second, 2 * time.Hour, 20 * time.Second}},
		{"watch progress", c.Watch.ProgressInterval, 10 * time.Minute},
		{"compaction", [2]any{c.Compaction.BatchLimit, c.Compaction.SleepInterval}, [2]any{1000, time.Duration(0)}},
		{"auto compaction", c.Compaction.Auto(), AutoCompaction{}},
		{"snapshot-count", c.Storage.SnapshotCount, uint64(10000)},
		{"snapshot-catchup-entries", c.Storage.CatchUpEntries, uint64(5000)},
		{"gateway", c.HTTP.Enabled, true},
		{"cors", strings.Join(c.HTTP.Origins, ","), "*"},
		{"host-whitelist", strings.Join(c.HTTP.HostWhitelist, ","), "*"},
		{"warnings", c.Warnings, Warnings{100 * time.Millisecond, 300 * time.Millisecond}},
		{"log-outputs", strings.Join(c.Logging.Outputs, ","), "default"},
		{"extensive", c.Ops.Extensive(), false},
		{"bcrypt", c.Auth.BcryptCost, uint(10)},
	}
	for _, check := range checks {
		if check.got != check.want {
			t.Errorf("%s: %v, want %v", check.name, check.got, check.want)
		}
	}
	if !hasNote(notes, zapcore.WarnLevel, "'data-dir' was empty; using default") {
		t.Errorf("notes %v lack the data-dir default", notes)
	}
	if !hasNote(notes, zapcore.WarnLevel, "it isn't recommended to use default name") {
		t.Errorf("notes %v lack the default name", notes)
	}
}

func TestSettingsAreWellFormed(t *testing.T) {
	seen := map[string]bool{}
	keys := map[string]bool{}
	c := new(Config)
	for _, s := range settings(c) {
		if seen[s.name] {
			t.Errorf("flag %s is defined twice", s.name)
		}
		seen[s.name] = true
		if key := strings.Join(s.key, "."); key != "" {
			if keys[key] {
				t.Errorf("key %s is defined twice", key)
			}
			keys[key] = true
		}
		if s.help == "" || !strings.HasSuffix(strings.TrimRight(s.help, ")"), ".") && !strings.HasSuffix(s.help, ").") {
			t.Errorf("flag %s: help %q is not a sentence", s.name, s.help)
		}
		if sectionTitles[s.section] == "" {
			t.Errorf("section %s has no title", s.section)
		}
		if err := s.Set(s.initial); err != nil {
			t.Errorf("flag %s: default %q: %v", s.name, s.initial, err)
		}
	}
	for _, name := range ignoredFlags {
		if seen[name] {
			t.Errorf("flag %s is both a setting and ignored", name)
		}
	}
	if len(seen) < 110 {
		t.Errorf("only %d settings were found", len(seen))
	}
}

func TestFlagSyntax(t *testing.T) {
	c, _ := mustLoad(t, machine(nil, ""), "-name", "m1", "--data-dir=/d", "--enable-pprof", "--pre-vote=false",
		"--heartbeat-interval=20", "--heartbeat-interval=30", "--election-timeout", "0x200", "-v", "--snapshot", "--vv=3",
		"--watch-progress-notify-interval=5s", "--quota-backend-bytes=-1", "--log-outputs=stderr,stderr,/tmp/x")
	switch {
	case c.Member.Name != "m1", c.Member.DataDir != "/d", !c.Ops.Profiling, c.Member.PreVote,
		c.Member.HeartbeatMillis != 30, c.Member.ElectionMillis != 512, c.Watch.ProgressInterval != 5*time.Second,
		c.Limits.QuotaBytes != -1, len(c.Logging.Outputs) != 2:
		t.Errorf("flags were read as %+v", c)
	}
}

func TestExitCodes(t *testing.T) {
	cases := []struct {
		name   string
		args   []string
		code   int
		stderr string // how it begins
		stdout string
	}{
		{"unknown flag", []string{"--nosuch"}, 2, "flag provided but not defined: -nosuch\nUsage:", ""},
		{"unknown flag after others", []string{"--name", "x", "-experimental-foo=true"}, 2, "flag provided but not defined: -experimental-foo\n", ""},
		{"removed flag", []string{"--enable-v2v3=x"}, 2, "flag provided but not defined: -enable-v2v3\n", ""},
		{"only in help", []string{"--discovery-proxy=x"}, 2, "flag provided but not defined: -discovery-proxy\n", ""},
		{"bad number", []string{"--heartbeat-interval=abc"}, 2, `invalid value "abc" for flag -heartbeat-interval: parse error` + "\nUsage:", ""},
		{"negative", []string{"--heartbeat-interval=-1"}, 2, `invalid value "-1" for flag -heartbeat-interval: parse error` + "\n", ""},
		{"out of range", []string{"--max-concurrent-streams=4294967296"}, 2, `invalid value "4294967296" for flag -max-concurrent-streams: strconv.ParseUint: parsing "4294967296": value out of range` + "\n", ""},
		{"bad duration", []string{"--corrupt-check-time=5"}, 2, `invalid value "5" for flag -corrupt-check-time: parse error` + "\n", ""},
		{"bad bool", []string{"--pre-vote=maybe"}, 2, `invalid boolean value "maybe" for -pre-vote: parse error` + "\n", ""},
		{"bad choice", []string{"--initial-cluster-state=old"}, 2, `invalid value "old" for flag -initial-cluster-state: invalid value` + "\n", ""},
		{"not yet", []string{"--v2-deprecation=not-yet"}, 2, `invalid value "not-yet" for flag -v2-deprecation: invalid value "not-yet"` + "\n", ""},
		{"bad scheme", []string{"--listen-client-urls=ftp://a:1"}, 2, `invalid value "ftp://a:1" for flag -listen-client-urls: URL scheme must be http, https, unix, or unixs: ftp://a:1` + "\n", ""},
		{"unknown gate", []string{"--feature-gates=Foo=true"}, 2, `invalid value "Foo=true" for flag -feature-gates: unrecognized feature gate: Foo` + "\n", ""},
		{"leftover", []string{"--name=a", "serve"}, 1, "", ""},
		{"bool takes no next token", []string{"--pre-vote", "false"}, 1, "", ""},
		{"log level", []string{"--log-level=loud"}, 2, `unrecognized level: "loud"` + "\n", ""},
		{"version", []string{"--version"}, 0, "", "etcd Version: 3.7.1\nGit SHA: "},
		{"version before file", []string{"--config-file=none.yml", "--version"}, 0, "", "etcd Version: 3.7.1\n"},
		{"help", []string{"-h"}, 0, "Usage:", "Member:\n\n  --name 'default'\n"},
		{"long help", []string{"--help"}, 0, "Usage:", "Member:\n"},
	}
	for _, c := range cases {
		t.Run(c.name, func(t *testing.T) {
			exit := refusal(t, machine(nil, ""), c.args...)
			if exit.Code != c.code {
				t.Errorf("code %d, want %d", exit.Code, c.code)
			}
			if !strings.HasPrefix(exit.Stderr, c.stderr) || (c.stderr == "") != (exit.Stderr == "") {
				t.Errorf("stderr %q, want %q", exit.Stderr, c.stderr)
			}
			if !strings.HasPrefix(exit.Stdout, c.stdout) || (c.stdout == "") != (exit.Stdout == "") {
				t.Errorf("stdout %q, want %q", exit.Stdout, c.stdout)
			}
		})
	}
	if lines := strings.Split(refusal(t, machine(nil, ""), "--version").Stdout, "\n"); len(lines) != 5 ||
		!strings.HasPrefix(lines[2], "Go Version: go1.") || !strings.HasPrefix(lines[3], "Go OS/Arch: ") {
		t.Errorf("version text %q", lines)
	}
}

func TestEveryFlagIsInTheHelp(t *testing.T) {
	help := refusal(t, machine(nil, ""), "--help").Stdout
	for _, s := range settings(new(Config)) {
		if s.name != "" && !strings.Contains(help, "  --"+s.name+" '") {
			t.Errorf("flag %s is missing", s.name)
		}
	}
}

func TestEnvironment(t *testing.T) {
	c, notes := mustLoad(t, machine([]string{"ETCD_HEARTBEAT_INTERVAL=50", "ETCD_NAME=env", "ETCD_FEATURE_GATES=LeaseCheckpoint=true",
		"ETCD_DATA_DIR=", "ETCD_NOSUCH=1", "ETCD_VERSION=9", "broken", "ETCDCTL_API=3", "PATH=/bin", "ETCD_UNSUPPORTED_ARCH=amd64"}, ""),
		"--election-timeout=2000")
	if c.Member.HeartbeatMillis != 50 || c.Member.Name != "env" || !c.Member.Gates.Enabled(GateLeaseCheckpoint) ||
		c.Member.DataDir != "env.etcd" || c.Member.ElectionMillis != 2000 {
		t.Errorf("environment was read as %+v", c.Member)
	}
	if c.Cluster.Initial != "env=http://localhost:2380" {
		t.Errorf("initial cluster %q does not follow the name", c.Cluster.Initial)
	}
	var got []string
	for _, n := range notes {
		if line := n.Level.String() + " " + n.Message; strings.Contains(line, "environment variable") {
			for _, f := range n.Fields {
				line += " " + f.Key + "=" + f.String
			}
			got = append(got, line)
		}
	}
	want := []string{
		"info recognized and used environment variable variable-name=ETCD_HEARTBEAT_INTERVAL variable-value=50",
		"info recognized and used environment variable variable-name=ETCD_NAME variable-value=env",
		"info recognized and used environment variable variable-name=ETCD_FEATURE_GATES variable-value=LeaseCheckpoint=true",
		"warn unrecognized environment variable environment-variable=ETCD_DATA_DIR=",
		"warn unrecognized environment variable environment-variable=ETCD_NOSUCH=1",
		"warn cannot set special environment variable key=ETCD_VERSION value=9",
		"warn found invalid environment variable environment-variable=broken",
		"warn unrecognized environment variable environment-variable=ETCD_UNSUPPORTED_ARCH=amd64",
	}
	if strings.Join(got, "\n") != strings.Join(want, "\n") {
		t.Errorf("notes:\n%s\nwant:\n%s", strings.Join(got, "\n"), strings.Join(want, "\n"))
	}
}

func TestEnvironmentRefusals(t *testing.T) {
	exit := refusal(t, machine([]string{"ETCD_NAME=b"}, ""), "--name=a")
	last := exit.Notes[len(exit.Notes)-1]
	if exit.Code != 1 || last.Level != zapcore.FatalLevel ||
		last.Message != "conflicting environment variable is shadowed by corresponding command-line flag (either unset environment variable or disable flag))" ||
		last.Fields[0].Key != "environment-variable" || last.Fields[0].String != "ETCD_NAME" {
		t.Errorf("a flag and its variable: code %d, note %+v", exit.Code, last)
	}
	exit = refusal(t, machine([]string{"ETCD_HEARTBEAT_INTERVAL=abc"}, ""))
	if got := reason(exit); exit.Code != 1 || got != `invalid value "abc" for ETCD_HEARTBEAT_INTERVAL: parse error` {
		t.Errorf("a bad variable: code %d, %q", exit.Code, got)
	}
	if c, _ := mustLoad(t, machine([]string{"ETCD_NAME="}, ""), "--name=a"); c.Member.Name != "a" {
		t.Errorf("an empty variable took part: name %q", c.Member.Name)
	}
}

func TestArchitecture(t *testing.T) {
	if err := Architecture("amd64", nil); err != nil {
		t.Error(err)
	}
	if err := Architecture("riscv64", []string{"ETCD_UNSUPPORTED_ARCH=riscv64"}); err != nil {
		t.Error(err)
	}
	for _, environ := range [][]string{nil, {"ETCD_UNSUPPORTED_ARCH=386"}} {
		if err := Architecture("riscv64", environ); !errors.Is(err, errArchitecture) {
			t.Errorf("riscv64 with %q: %v", environ, err)
		}
	}
}
