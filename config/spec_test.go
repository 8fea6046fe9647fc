package config

import (
	"fmt"
	"strings"
	"testing"

	"go.uber.org/zap/zapcore"
)

// What becomes of a flag that is given.
const (
	works   = ""        // it does what it says
	nothing = "nothing" // it is accepted and has no effect, which its help says
	only    = "only"    // there is only one choice
)

// specified is every flag of the specification (operations, 1.3), with its default, its key in a file if that is not the
// name (- for none), and what becomes of it.
var specified = []struct{ name, initial, key, fate string }{
	{"name", "default", "", works},
	{"data-dir", "", "", works},
	{"wal-dir", "", "", works},
	{"snapshot-count", "10000", "", works},
	{"snapshot-catchup-entries", "5000", "", works},
	{"heartbeat-interval", "100", "", works},
	{"election-timeout", "1000", "", works},
	{"initial-election-tick-advance", "true", "", works},
	{"listen-peer-urls", "http://localhost:2380", "", works},
	{"listen-client-urls", "http://localhost:2379", "", works},
	{"listen-client-http-urls", "", "", works},
	{"listen-metrics-urls", "", "", works},
	{"max-snapshots", "5", "", nothing},
	{"max-wals", "5", "", nothing},
	{"memory-mlock", "false", "", nothing},
	{"quota-backend-bytes", "0", "", works},
	{"backend-bbolt-freelist-type", "", "", nothing},
	{"backend-batch-interval", "0s", "", nothing},
	{"backend-batch-limit", "0", "", nothing},
	{"max-txn-ops", "128", "", works},
	{"max-request-bytes", "1572864", "", works},
	{"max-concurrent-streams", "4294967295", "", works},
	{"grpc-keepalive-min-time", "5s", "", works},
	{"grpc-keepalive-interval", "2h0m0s", "", works},
	{"grpc-keepalive-timeout", "20s", "", works},
	{"socket-reuse-port", "false", "socket-options.reuse-port", works},
	{"socket-reuse-address", "false", "socket-options.reuse-address", works},
	{"enable-grpc-gateway", "true", "", works},
	{"raft-read-timeout", "5s", "-", works},
	{"raft-write-timeout", "5s", "-", works},
	{"feature-gates", "", "", works},

	{"initial-advertise-peer-urls", "http://localhost:2380", "", works},
	{"advertise-client-urls", "http://localhost:2379", "", works},
	{"initial-cluster", "", "", works},
	{"initial-cluster-state", "new", "", works},
	{"initial-cluster-token", "etcd-cluster", "", works},
	{"discovery", "", "", works}, // gone from etcd 3.6 with the v2 API
	{"discovery-token", "", "discovery-config.token", works},
	{"discovery-endpoints", "", "discovery-config.client.endpoints", works},
	{"discovery-dial-timeout", "2s", "discovery-config.client.dial-timeout", works},
	{"discovery-request-timeout", "5s", "discovery-config.client.request-timeout", works},
	{"discovery-keepalive-time", "2s", "discovery-config.client.keepalive-time", works},
	{"discovery-keepalive-timeout", "6s", "discovery-config.client.keepalive-timeout", works},
	{"discovery-insecure-transport", "true", "discovery-config.client.secure.insecure-transport", works},
	{"discovery-insecure-skip-tls-verify", "false", "discovery-config.client.secure.insecure-skip-tls-verify", works},
	{"discovery-cert", "", "discovery-config.client.secure.cert", works},
	{"discovery-key", "", "discovery-config.client.secure.key", works},
	{"discovery-cacert", "", "discovery-config.client.secure.cacert", works},
	{"discovery-user", "", "discovery-config.client.auth.username", works},
	{"discovery-password", "", "discovery-config.client.auth.password", works},
	{"discovery-srv", "", "", works},
	{"discovery-srv-name", "", "", works},
	{"discovery-fallback", "exit", "-", only},
	{"strict-reconfig-check", "true", "", works},
	{"pre-vote", "true", "", works},
	{"auto-compaction-mode", "periodic", "", works},
	{"auto-compaction-retention", "0", "", works},
	{"v2-deprecation", "write-only", "", nothing},
	{"max-learners", "1", "", works},
	{"force-new-cluster", "false", "", works},

	{"cert-file", "", "client-transport-security.cert-file", works},
	{"key-file", "", "client-transport-security.key-file", works},
	{"client-cert-file", "", "client-transport-security.client-cert-file", works},
	{"client-key-file", "", "client-transport-security.client-key-file", works},
	{"client-cert-auth", "false", "client-transport-security.client-cert-auth", works},
	{"trusted-ca-file", "", "client-transport-security.trusted-ca-file", works},
	{"client-crl-file", "", "-", works},
	{"client-cert-allowed-hostname", "", "client-transport-security.allowed-hostname", works},
	{"auto-tls", "false", "client-transport-security.auto-tls", works},
	{"peer-cert-file", "", "peer-transport-security.cert-file", works},
	{"peer-key-file", "", "peer-transport-security.key-file", works},
	{"peer-client-cert-file", "", "peer-transport-security.client-cert-file", works},
	{"peer-client-key-file", "", "peer-transport-security.client-key-file", works},
	{"peer-client-cert-auth", "false", "peer-transport-security.client-cert-auth", works},
	{"peer-trusted-ca-file", "", "peer-transport-security.trusted-ca-file", works},
	{"peer-auto-tls", "false", "peer-transport-security.auto-tls", works},
	{"peer-crl-file", "", "-", works},
	{"peer-cert-allowed-cn", "", "peer-transport-security.allowed-cn", works},
	{"peer-cert-allowed-hostname", "", "peer-transport-security.allowed-hostname", works},
	{"peer-skip-client-san-verification", "false", "peer-transport-security.skip-client-san-verification", works},
	{"self-signed-cert-validity", "1", "", works},
	{"cipher-suites", "", "", works},
	{"tls-min-version", "TLS1.2", "", works},
	{"tls-max-version", "", "", works},
	{"cors", "*", "", works},
	{"host-whitelist", "*", "", works},
	{"auth-token", "simple", "", works},
	{"auth-token-ttl", "300", "", works},
	{"bcrypt-cost", "10", "", works},

	{"enable-pprof", "false", "", works},
	{"metrics", "basic", "", works},
	{"logger", "zap", "", only},
	{"log-level", "info", "", works},
	{"log-format", "json", "", works},
	{"log-outputs", "default", "", works},
	{"enable-log-rotation", "false", "", works},
	{"log-rotation-config-json", `{"maxsize": 100, "maxage": 0, "maxbackups": 0, "localtime": false, "compress": false}`, "", works},
	{"warning-apply-duration", "100ms", "", works},
	{"warning-unary-request-duration", "300ms", "", works},
	{"enable-distributed-tracing", "false", "", works},
	{"distributed-tracing-address", "localhost:4317", "", works},
	{"distributed-tracing-service-name", "etcd", "", works},
	{"distributed-tracing-instance-id", "", "", works},
	{"distributed-tracing-sampling-rate", "0", "", works},
	{"corrupt-check-time", "0s", "", works},
	{"compact-hash-check-time", "1m0s", "", works},
	{"compaction-batch-limit", "0", "", works},
	{"compaction-sleep-interval", "0s", "", works},
	{"watch-progress-notify-interval", "0s", "", works},
	{"bootstrap-defrag-threshold-megabytes", "0", "", nothing},
	{"downgrade-check-time", "5s", "", works},
	{"unsafe-no-fsync", "false", "", nothing},

	// Ours: the API that etcd removed with its flag.
	{"enable-v2", "true", "", works},
	// Ours: there is a choice.
	{"rpc-server", "keelson", "", works},
}

func TestEveryFlagOfTheSpecification(t *testing.T) {
	known := map[string]*setting{}
	for _, s := range settings(new(Config)) {
		if s.name != "" {
			known[s.name] = s
		}
	}
	for _, f := range specified {
		s := known[f.name]
		if s == nil {
			t.Errorf("there is no flag %s", f.name)
			continue
		}
		delete(known, f.name)
		key := f.key
		switch key {
		case "":
			key = f.name
		case "-":
			key = ""
		}
		if s.initial != f.initial || strings.Join(s.key, ".") != key {
			t.Errorf("%s: default %q, key %q; want %q, %q", f.name, s.initial, strings.Join(s.key, "."), f.initial, key)
		}
		help := strings.ToLower(s.help)
		if said := strings.Contains(help, "without effect"); said != (f.fate == nothing) {
			t.Errorf("%s: its help says that it has no effect: %t, but its fate is %q", f.name, said, f.fate)
		}
	}
	for name := range known {
		t.Errorf("the specification has no flag %s", name)
	}
}

// Old flags that do nothing are still taken, and those that were removed are not.
func TestFlagsThatAreGone(t *testing.T) {
	for _, name := range strings.Fields("cluster-active-size cluster-remove-delay cluster-sync-interval config force max-result-buffer " +
		"max-retry-attempts peer-heartbeat-interval peer-election-timeout retry-interval snapshot v vv test.coverprofile test.outputdir") {
		mustLoad(t, machine(nil, ""), "--"+name)
		mustLoad(t, machine(nil, ""), "--"+name+"=x")
	}
	for _, name := range strings.Fields("enable-v2v3 proxy proxy-failure-wait debug log-package-levels log-output peer-ca-file " +
		"ca-file addr bind-addr peer-addr peer-bind-addr peers peers-file discovery-proxy experimental-nosuch") {
		if exit := refusal(t, machine(nil, ""), "--"+name+"=x"); exit.Code != 2 ||
			!strings.HasPrefix(exit.Stderr, "flag provided but not defined: -"+name+"\n") {
			t.Errorf("%s: code %d, %q", name, exit.Code, exit.Stderr)
		}
	}
}

// The names that settings had before 3.7 are taken, with a warning, by flag and by variable; in a file they are unknown.
func TestOldNames(t *testing.T) {
	for old, want := range map[string]struct{ value, now string }{
		"experimental-initial-corrupt-check":                {"true", "feature-gates"},
		"experimental-compact-hash-check-enabled":           {"true", "feature-gates"},
		"experimental-enable-lease-checkpoint":              {"true", "feature-gates"},
		"experimental-stop-grpc-service-on-defrag":          {"true", "feature-gates"},
		"experimental-txn-mode-write-with-shared-buffer":    {"false", "feature-gates"},
		"experimental-set-member-localaddr":                 {"true", "feature-gates"},
		"experimental-corrupt-check-time":                   {"3s", ""},
		"experimental-compact-hash-check-time":              {"3s", ""},
		"experimental-watch-progress-notify-interval":       {"5s", ""},
		"experimental-warning-apply-duration":               {"5s", ""},
		"experimental-warning-unary-request-duration":       {"5s", ""},
		"experimental-max-learners":                         {"3", ""},
		"experimental-memory-mlock":                         {"true", ""},
		"experimental-bootstrap-defrag-threshold-megabytes": {"3", ""},
		"experimental-compaction-batch-limit":               {"3", ""},
		"experimental-compaction-sleep-interval":            {"5s", ""},
		"experimental-downgrade-check-time":                 {"6s", ""},
		"experimental-snapshot-catchup-entries":             {"3", ""},
		"experimental-snapshot-catch-up-entries":            {"3", "snapshot-catchup-entries"},
		"experimental-peer-skip-client-san-verification":    {"true", ""},
		"experimental-distributed-tracing-address":          {"a:1", ""},
		"experimental-distributed-tracing-service-name":     {"a", ""},
		"experimental-distributed-tracing-instance-id":      {"a", ""},
		"experimental-distributed-tracing-sampling-rate":    {"3", ""},
	} {
		name := want.now
		if name == "" {
			name = strings.TrimPrefix(old, "experimental-")
		}
		value := func(list []Effective) Effective {
			for _, e := range list {
				if e.Name == name {
					return e
				}
			}
			return Effective{}
		}
		check := func(from string, m Machine, args ...string) {
			t.Helper()
			_, list, notes, err := Explain("etcd", args, m)
			if err != nil {
				t.Errorf("%s: %v", old, err)
				return
			}
			got := value(list)
			if name == "feature-gates" {
				if !strings.HasSuffix(got.Value, "="+want.value) {
					t.Errorf("%s by %s: gates %q", old, from, got.Value)
				}
			} else if got.Value != want.value {
				t.Errorf("%s by %s: %q, want %q", old, from, got.Value, want.value)
			}
			if got.From == "default" {
				t.Errorf("%s by %s is said to be a default", old, from)
			}
			warned := false
			for _, n := range notes {
				warned = warned || n.Level == zapcore.WarnLevel && strings.HasPrefix(n.Message, "--"+old+" is deprecated; use --")
			}
			if !warned {
				t.Errorf("%s by %s: no warning", old, from)
			}
		}
		check("flag", machine(nil, ""), "--"+old+"="+want.value)
		check("variable", machine([]string{variableName(old) + "=" + want.value}, ""))
		_, notes := mustLoad(t, machine(nil, old+": "+want.value), "--config-file=member.yml")
		for _, n := range notes {
			if strings.Contains(n.Message, "deprecated") {
				t.Errorf("%s in a file: %s", old, n.Message)
			}
		}
	}
	for _, args := range [][]string{
		{"--experimental-corrupt-check-time=1s", "--corrupt-check-time=1s"},
		{"--feature-gates=InitialCorruptCheck=false", "--experimental-initial-corrupt-check"},
	} {
		if exit := refusal(t, machine(nil, ""), args...); exit.Code != 1 || !strings.HasPrefix(reason(exit), "cannot specify both flags: --experimental-") {
			t.Errorf("%q: %d, %s", args, exit.Code, reason(exit))
		}
	}
	c, _ := mustLoad(t, machine(nil, ""), "--experimental-initial-corrupt-check", "--feature-gates=CompactHashCheck=true")
	if !c.Member.Gates.Enabled(GateInitialCorruptCheck) || !c.Member.Gates.Enabled(GateCompactHashCheck) {
		t.Errorf("gates %v", c.Member.Gates)
	}
	if exit := refusal(t, machine(nil, ""), "--experimental-initial-corrupt-check=maybe"); exit.Code != 2 ||
		!strings.HasPrefix(exit.Stderr, `invalid boolean value "maybe" for -experimental-initial-corrupt-check: parse error`) {
		t.Errorf("%d, %s", exit.Code, exit.Stderr)
	}
}

func TestWhereSettingsComeFrom(t *testing.T) {
	from := func(m Machine, args ...string) map[string]string {
		t.Helper()
		_, list, _, err := Explain("etcd", args, m)
		if err != nil {
			t.Fatal(err)
		}
		found := map[string]string{}
		for _, e := range list {
			found[e.Name] = fmt.Sprintf("%s (%s)", e.Value, e.From)
		}
		return found
	}
	for name, want := range map[string]string{
		"name": "a (flag)", "election-timeout": "2000 (ETCD_ELECTION_TIMEOUT)", "heartbeat-interval": "100 (default)",
		"data-dir": "a.etcd (derived)", "initial-cluster": "a=http://localhost:2380 (derived)", "discovery-password": " (default)",
		"quota-backend-bytes": "2147483648 (default)", "max-learners": "2 (ETCD_EXPERIMENTAL_MAX_LEARNERS)",
		"client-transport-security.allowed-cn": " (default)",
	} {
		got := from(machine([]string{"ETCD_ELECTION_TIMEOUT=2000", "ETCD_EXPERIMENTAL_MAX_LEARNERS=2"}, ""), "--name=a")
		if got[name] != want {
			t.Errorf("%s is %s, want %s", name, got[name], want)
		}
	}
	got := from(machine([]string{"ETCD_NAME=ignored"}, "name: b\nclient-transport-security: {allowed-cn: [c]}\ndiscovery-config: {client: {auth: {password: p}}}"),
		"--config-file=member.yml", "--heartbeat-interval=50")
	for name, want := range map[string]string{
		"name": "b (file)", "heartbeat-interval": "100 (default)", "client-transport-security.allowed-cn": "c (file)",
		"discovery-password": "(hidden) (file)",
	} {
		if got[name] != want {
			t.Errorf("file: %s is %s, want %s", name, got[name], want)
		}
	}
}
