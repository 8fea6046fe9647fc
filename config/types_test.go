package config

import (
	"fmt"
	"strings"
	"testing"
)

// What kinds of values flags take that are not texts, as the specification says (operations, 1.3).
const (
	booleans = `initial-election-tick-advance memory-mlock socket-reuse-port socket-reuse-address enable-grpc-gateway
		discovery-insecure-transport discovery-insecure-skip-tls-verify strict-reconfig-check pre-vote force-new-cluster client-cert-auth
		auto-tls peer-client-cert-auth peer-auto-tls peer-skip-client-san-verification enable-pprof enable-log-rotation
		enable-distributed-tracing unsafe-no-fsync`
	unsigned = `snapshot-count snapshot-catchup-entries heartbeat-interval election-timeout max-snapshots max-wals max-txn-ops max-request-bytes
		max-concurrent-streams self-signed-cert-validity auth-token-ttl bcrypt-cost bootstrap-defrag-threshold-megabytes`
	integers  = `quota-backend-bytes backend-batch-limit max-learners distributed-tracing-sampling-rate compaction-batch-limit`
	durations = `backend-batch-interval grpc-keepalive-min-time grpc-keepalive-interval grpc-keepalive-timeout raft-read-timeout
		raft-write-timeout discovery-dial-timeout discovery-request-timeout discovery-keepalive-time discovery-keepalive-timeout
		warning-apply-duration warning-unary-request-duration corrupt-check-time compact-hash-check-time compaction-sleep-interval
		watch-progress-notify-interval downgrade-check-time`
)

// variableOf is the environment variable of a flag.
func variableOf(name string) string {
	return "ETCD_" + strings.ToUpper(strings.ReplaceAll(name, "-", "_"))
}

// Each of these flags is taken as a flag and as a variable, and refuses what is not of its kind in the words of its kind: as a flag
// with the usage and status 2, as a variable with status 1.
func TestValuesOfEveryKind(t *testing.T) {
	for _, kind := range []struct {
		names     string
		good, bad []string
	}{
		{booleans, []string{"true", "false", "1"}, []string{"maybe", "2"}},
		{unsigned, []string{"5"}, []string{"x", "-1", "1.5"}},
		{integers, []string{"5"}, []string{"x", "1.5"}},
		{durations, []string{"7s", "1m30s"}, []string{"x", "5"}},
	} {
		for _, name := range strings.Fields(kind.names) {
			for _, good := range kind.good {
				byFlag := valueAfter(t, name, machine(nil, ""), fmt.Sprintf("--%s=%s", name, good))
				byVariable := valueAfter(t, name, machine([]string{variableOf(name) + "=" + good}, ""))
				if byFlag != byVariable {
					t.Errorf("%s: %s is %q as a flag, %q as a variable", name, good, byFlag, byVariable)
				}
			}
			for _, bad := range kind.bad {
				exit := refusal(t, machine(nil, ""), fmt.Sprintf("--%s=%s", name, bad))
				why := "parse error"
				if name == "max-concurrent-streams" {
					why = fmt.Sprintf("strconv.ParseUint: parsing %q: invalid syntax", bad)
				}
				want := fmt.Sprintf("invalid value %q for flag -%s: %s\n", bad, name, why)
				if kind.names == booleans {
					want = fmt.Sprintf("invalid boolean value %q for -%s: parse error\n", bad, name)
				}
				if exit.Code != 2 || !strings.HasPrefix(exit.Stderr, want) {
					t.Errorf("--%s=%s: status %d, %.120q; want %q", name, bad, exit.Code, exit.Stderr, want)
				}
				exit = refusal(t, machine([]string{variableOf(name) + "=" + bad}, ""))
				if want := fmt.Sprintf("invalid value %q for %s: %s", bad, variableOf(name), why); exit.Code != 1 || reason(exit) != want {
					t.Errorf("%s=%s: status %d, %q; want %q", variableOf(name), bad, exit.Code, reason(exit), want)
				}
			}
		}
	}
}

// valueAfter loads, and returns what a setting is then. What other settings say against it does not matter here.
func valueAfter(t *testing.T, name string, m Machine, args ...string) string {
	t.Helper()
	c, _, err := Load("etcd", args, m)
	if err != nil {
		return "refused: " + strings.NewReplacer("--"+name, name, variableOf(name), name).Replace(err.Error())
	}
	for _, s := range settings(c) {
		if s.name == name {
			return s.String()
		}
	}
	t.Fatalf("there is no flag %s", name)
	return ""
}

// Every flag of the specification that takes a text can be given as a variable; with the flag beside it, the start is refused.
func TestEveryFlagIsAVariable(t *testing.T) {
	for _, f := range specified {
		value := f.initial
		if value == "" {
			continue // an empty variable is none
		}
		exit := refusal(t, machine([]string{variableOf(f.name) + "=" + value}, ""), fmt.Sprintf("--%s=%s", f.name, value))
		last := exit.Notes[len(exit.Notes)-1]
		if exit.Code != 1 || !strings.HasPrefix(last.Message, "conflicting environment variable is shadowed by corresponding command-line flag") {
			t.Errorf("%s twice: status %d, %q", f.name, exit.Code, last.Message)
		}
	}
}
