package settings

import (
	"os/exec"
	"regexp"
	"slices"
	"testing"

	"keelson/peer/process"
)

// kind is what values a setting takes.
type kind int

const (
	truth kind = iota
	unsigned
	signed
	duration
	text
	list
	addresses
	own // only those of the setting
	choice
)

// setting is one flag of the server.
type setting struct {
	name string
	kind kind
	key  string   // in a configuration file; empty: the name; "-": there is none
	more []string // values to try besides those of its kind
	less []string // values of its kind that are not tried
}

var all = []setting{
	{name: "name", kind: text, more: []string{"a b", "a,b", "a=b"}},
	{name: "data-dir", kind: text},
	{name: "wal-dir", kind: text, more: []string{"@dir/wal"}},
	{name: "snapshot-count", kind: unsigned, more: []string{"0"}},
	{name: "snapshot-catchup-entries", kind: unsigned},
	{name: "heartbeat-interval", kind: unsigned, more: []string{"0", "130", "201"}},
	{name: "election-timeout", kind: unsigned, more: []string{"499", "50000", "50001"}},
	{name: "initial-election-tick-advance", kind: truth},
	{name: "listen-peer-urls", kind: addresses},
	{name: "listen-client-urls", kind: addresses, more: badAddresses},
	{name: "listen-client-http-urls", kind: addresses},
	{name: "listen-metrics-urls", kind: addresses},
	{name: "max-snapshots", kind: unsigned},
	{name: "max-wals", kind: unsigned},
	{name: "memory-mlock", kind: truth},
	{name: "quota-backend-bytes", kind: signed, more: []string{"8589934592", "8589934593"}},
	{name: "backend-bbolt-freelist-type", kind: text, more: []string{"array", "map"}},
	{name: "backend-batch-interval", kind: duration},
	{name: "backend-batch-limit", kind: signed},
	{name: "max-txn-ops", kind: unsigned, more: []string{"0", "1", "1.5", "0x10", "010", "1_000", "+1"}},
	{name: "max-request-bytes", kind: unsigned},
	{name: "max-concurrent-streams", kind: unsigned, more: []string{"4294967295", "4294967296"}},
	{name: "grpc-keepalive-min-time", kind: duration},
	{name: "grpc-keepalive-interval", kind: duration},
	{name: "grpc-keepalive-timeout", kind: duration},
	{name: "socket-reuse-port", kind: truth, key: "socket-options.reuse-port"},
	{name: "socket-reuse-address", kind: truth, key: "socket-options.reuse-address"},
	{name: "enable-grpc-gateway", kind: truth},
	{name: "raft-read-timeout", kind: duration, key: "-"},
	{name: "raft-write-timeout", kind: duration, key: "-"},
	{name: "feature-gates", kind: text, more: []string{
		"InitialCorruptCheck", "InitialCorruptCheck=", "InitialCorruptCheck=x", "InitialCorruptCheck=true", "InitialCorruptCheck=true,InitialCorruptCheck=false",
		"=true", ",", " InitialCorruptCheck = true , ", "AllAlpha=true", "AllBeta=false", "AllAlpha=true,LeaseCheckpoint=false", "Foo=true", "initialcorruptcheck=true",
		"LeaseCheckpoint=true", "LeaseCheckpointPersist=true", "LeaseCheckpoint=true,LeaseCheckpointPersist=true", "TxnModeWriteWithSharedBuffer=false",
		"FastLeaseKeepAlive=F", "SetMemberLocalAddr=true", "StopGRPCServiceOnDefrag=1", "CompactHashCheck=true", "PriorityRequest=true", "InitialCorruptCheck=true;x",
		"InitialCorruptCheck=true,Foo=x"}},

	{name: "initial-advertise-peer-urls", kind: addresses, more: badAddresses,
		less: []string{"http://foo.example:2379", "http://127.0.0.1:99999"}}, // which are resolved for half a minute
	{name: "advertise-client-urls", kind: addresses},
	{name: "initial-cluster", kind: text, more: []string{
		"m1", "m1=", "m1=x", "=http://@peer", "m1=http://@peer,", "m1=http://@peer,m1=http://@peer", "m2=http://@peer", "m1=http://@third", "m1=http://@peer,m1=http://@third",
		" m1=http://@peer", "m1 =http://@peer", "m1=http://@peer/", "m1=http://@peer/x", "m1=ftp://@peer", "m1=https://@peer", "m1=http://localhost", "http://@peer",
		"m1=http://@peer,m2=http://@peer", "m1=http://@peer;m2=http://@third", "m1==http://@peer", "M1=http://@peer"}},
	{name: "initial-cluster-state", kind: choice, more: []string{"new", "existing", "New", "none"}},
	{name: "initial-cluster-token", kind: text},
	{name: "discovery-token", kind: text, key: "discovery-config.token"},
	{name: "discovery-endpoints", kind: list, key: "discovery-config.client.endpoints"},
	{name: "discovery-dial-timeout", kind: duration, key: "discovery-config.client.dial-timeout"},
	{name: "discovery-request-timeout", kind: duration, key: "discovery-config.client.request-timeout"},
	{name: "discovery-keepalive-time", kind: duration, key: "discovery-config.client.keepalive-time"},
	{name: "discovery-keepalive-timeout", kind: duration, key: "discovery-config.client.keepalive-timeout"},
	{name: "discovery-insecure-transport", kind: truth, key: "discovery-config.client.secure.insecure-transport"},
	{name: "discovery-insecure-skip-tls-verify", kind: truth, key: "discovery-config.client.secure.insecure-skip-tls-verify"},
	{name: "discovery-cert", kind: text, key: "discovery-config.client.secure.cert"},
	{name: "discovery-key", kind: text, key: "discovery-config.client.secure.key"},
	{name: "discovery-cacert", kind: text, key: "discovery-config.client.secure.cacert"},
	{name: "discovery-user", kind: text, key: "discovery-config.client.auth.username"},
	{name: "discovery-password", kind: text, key: "discovery-config.client.auth.password"},
	{name: "discovery-srv", kind: text},
	{name: "discovery-srv-name", kind: text},
	{name: "discovery-fallback", kind: choice, key: "-", more: []string{"exit", "proxy"}},
	{name: "strict-reconfig-check", kind: truth},
	{name: "pre-vote", kind: truth, more: []string{"false", "2", "TRUE", "yes"}},
	{name: "auto-compaction-mode", kind: text, more: []string{"periodic", "revision", "Periodic"}},
	{name: "auto-compaction-retention", kind: text, more: []string{"0", "1", "-1", "1h30m", "1.5", "2562048", "-1h", " 1"}},
	{name: "v2-deprecation", kind: choice, more: []string{"write-only", "write-only-skip-check", "write-only-drop-data", "gone", "not-yet"}},
	{name: "max-learners", kind: signed, more: []string{"-1", "0", "1", "0x10"}},
	{name: "force-new-cluster", kind: truth},

	{name: "cert-file", kind: text, key: "client-transport-security.cert-file", more: []string{"@files/server.pem"}},
	{name: "key-file", kind: text, key: "client-transport-security.key-file", more: []string{"@files/server.key"}},
	{name: "client-cert-file", kind: text, key: "client-transport-security.client-cert-file"},
	{name: "client-key-file", kind: text, key: "client-transport-security.client-key-file"},
	{name: "client-cert-auth", kind: truth, key: "client-transport-security.client-cert-auth"},
	{name: "trusted-ca-file", kind: text, key: "client-transport-security.trusted-ca-file", more: []string{"@files/ca.pem", "@files/none.pem"}},
	{name: "client-crl-file", kind: text, key: "-"},
	{name: "client-cert-allowed-hostname", kind: list, key: "client-transport-security.allowed-hostname"},
	{name: "auto-tls", kind: truth, key: "client-transport-security.auto-tls"},
	{name: "peer-cert-file", kind: text, key: "peer-transport-security.cert-file", more: []string{"@files/server.pem"}},
	{name: "peer-key-file", kind: text, key: "peer-transport-security.key-file", more: []string{"@files/server.key"}},
	{name: "peer-client-cert-file", kind: text, key: "peer-transport-security.client-cert-file"},
	{name: "peer-client-key-file", kind: text, key: "peer-transport-security.client-key-file"},
	{name: "peer-client-cert-auth", kind: truth, key: "peer-transport-security.client-cert-auth"},
	{name: "peer-trusted-ca-file", kind: text, key: "peer-transport-security.trusted-ca-file", more: []string{"@files/ca.pem", "@files/none.pem"}},
	{name: "peer-auto-tls", kind: truth, key: "peer-transport-security.auto-tls"},
	{name: "peer-crl-file", kind: text, key: "-"},
	{name: "peer-cert-allowed-cn", kind: list, key: "peer-transport-security.allowed-cn"},
	{name: "peer-cert-allowed-hostname", kind: list, key: "peer-transport-security.allowed-hostname"},
	{name: "peer-skip-client-san-verification", kind: truth, key: "peer-transport-security.skip-client-san-verification"},
	{name: "self-signed-cert-validity", kind: unsigned},
	{name: "cipher-suites", kind: list, more: []string{"TLS_ECDHE_RSA_WITH_AES_128_GCM_SHA256", "TLS_ECDHE_RSA_WITH_CHACHA20_POLY1305", "TLS_AES_128_GCM_SHA256", "TLS_RSA_WITH_RC4_128_SHA",
		"tls_ecdhe_rsa_with_aes_128_gcm_sha256", "TLS_ECDHE_RSA_WITH_AES_128_GCM_SHA256,x"}},
	{name: "tls-min-version", kind: text, more: []string{"TLS1.1", "TLS1.2", "TLS1.3", "tls1.2", "1.2"}},
	{name: "tls-max-version", kind: text, more: []string{"TLS1.1", "TLS1.2", "TLS1.3"}},
	{name: "cors", kind: list, more: []string{"*", "http://a", "http://a:1,http://b:2", "http://a/b", "a"}},
	{name: "host-whitelist", kind: list, more: []string{"*", "::1"}},
	{name: "auth-token", kind: text, more: []string{"simple", "jwt", "jwt,sign-method=HS256", "jwt,x", "simple,x=y", "Simple"}},
	{name: "auth-token-ttl", kind: unsigned},
	{name: "bcrypt-cost", kind: unsigned, more: []string{"3", "4", "31", "32"}},

	{name: "enable-pprof", kind: truth},
	{name: "metrics", kind: text, more: []string{"basic", "extensive"}},
	{name: "logger", kind: text, more: []string{"zap", "capnslog"}},
	{name: "log-level", kind: text, more: []string{"debug", "INFO"}},
	{name: "log-format", kind: text, more: []string{"json", "JSON"}},
	{name: "log-outputs", kind: own, more: []string{"", ",", "default", "stderr", "default,stderr", "stderr,stderr", "stdout,stderr", "stderr,default", "@dir/none/x", "file://@dir/none/x", "http://"}},
	{name: "enable-log-rotation", kind: truth},
	{name: "log-rotation-config-json", kind: text, more: []string{"{}", "{"}},
	{name: "warning-apply-duration", kind: duration, more: []string{"x", "0", "1e3s", "9999999h"}},
	{name: "warning-unary-request-duration", kind: duration},
	{name: "enable-distributed-tracing", kind: truth},
	{name: "distributed-tracing-address", kind: text},
	{name: "distributed-tracing-service-name", kind: text},
	{name: "distributed-tracing-instance-id", kind: text},
	{name: "distributed-tracing-sampling-rate", kind: signed, more: []string{"-1", "1000000", "1000001"}},
	{name: "corrupt-check-time", kind: duration, more: []string{"0"}},
	{name: "compact-hash-check-time", kind: duration},
	{name: "compaction-batch-limit", kind: signed},
	{name: "compaction-sleep-interval", kind: duration},
	{name: "watch-progress-notify-interval", kind: duration},
	{name: "bootstrap-defrag-threshold-megabytes", kind: unsigned},
	{name: "downgrade-check-time", kind: duration},
	{name: "unsafe-no-fsync", kind: truth},
}

// values are those to try with every setting of a kind.
var values = map[kind][]string{
	truth:     {"", "x", "T"},
	unsigned:  {"", "x", "-1", "99999999999999999999"},
	signed:    {"", "x", "1.5", "99999999999999999999"},
	duration:  {"", "10", "-1s", "1h30m"},
	text:      {"", "x"},
	list:      {"", "y,x", ",", "x, y"},
	choice:    {"", "x"},
	addresses: {"", "x", "http://", "http://127.0.0.1", "http://@third/x", "http://@third,", "http://foo.example:2379", "https://@third", "unix:socket", "http://@fourth, http://@third,http://@third"},
}

// isDeep reports whether wrong values of a setting may be found only after the first line.
func isDeep(name string) bool { return deepNames.MatchString(name) }

var deepNames = regexp.MustCompile(`^(initial-cluster$|initial-advertise|advertise|listen|.*-file$|.*-tls|auth-token$|auto-compaction|max-learners|cipher|corrupt-check|quota|bcrypt)`)

// badAddresses are more addresses, of which most are none.
var badAddresses = []string{
	"http://@third/", "http://@third,x", "ftp://@third", "@third", "http://:1", "http://127.0.0.1:x", "http://127.0.0.1:99999", "http://127.0.0.1:-1", "http://@third?x=y",
	"http://@third#x", "http://u:p@@third", "http://[::1]:x", "http://::1:2379", "unix://", "unix://@dir/socket", "unix:@dir/socket", "unix://localhost:1", "unixs://@dir/socket",
	"HTTP://@third", " http://@third", "http://%zz", "http://localhost:0", "http://127.0.0.1:0",
}

// TestFlags gives every flag values of its kind, right and wrong, and none.
func TestFlags(t *testing.T) {
	var trials []trial
	for _, s := range all {
		for _, value := range slices.Concat(values[s.kind], s.more) {
			if slices.Contains(s.less, value) {
				continue
			}
			trials = append(trials, trial{args: []string{"--" + s.name + "=" + value}, deep: isDeep(s.name)})
		}
		trials = append(trials, trial{args: []string{"--" + s.name}})
	}
	compare(t, trials)
}

// TestEveryFlag finds every flag of etcd's help, and ours, in the table.
func TestEveryFlag(t *testing.T) {
	for program, others := range map[process.Program][]string{
		theirs: {"discovery", "discovery-proxy"}, // which etcd tells of, and does not take
		ours:   {"config-file", "version", "discovery", "enable-v2", "rpc-server"},
	} {
		help, err := exec.Command(program.Path, "--help").Output()
		if err != nil {
			t.Fatal(err)
		}
		var names []string
		for _, match := range regexp.MustCompile(`(?m)^ +--([a-z0-9-]+)`).FindAllStringSubmatch(string(help), -1) {
			names = append(names, match[1])
		}
		for _, name := range names {
			if !slices.ContainsFunc(all, func(s setting) bool { return s.name == name }) && !slices.Contains(others, name) {
				t.Errorf("%s has --%s, which no trial gives", program, name)
			}
		}
		for _, s := range all {
			if !slices.Contains(names, s.name) && program == ours {
				t.Errorf("the help of %s lacks --%s", program, s.name)
			}
		}
	}
}
