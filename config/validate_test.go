package config

import (
	"os"
	"reflect"
	"strings"
	"testing"
	"time"

	"go.uber.org/zap"
	"go.uber.org/zap/zapcore"
)

func TestRefusals(t *testing.T) {
	cases := []struct {
		name string
		args string
		want string
	}{
		{"advertise peer", "--initial-advertise-peer-urls=http://:2380", `--initial-advertise-peer-urls "http://:2380" must be "host:port" (unexpected empty host (http://:2380))`},
		{"advertise client", "--advertise-client-urls=http://:2379", `--advertise-client-urls "http://:2379" must be in the format "host:port", "unix:/path/to/socket" or "unixs:/path/to/socket" (unexpected empty host (http://:2379))`},
		{"advertise required", "--listen-client-urls=http://127.0.0.1:1", `--advertise-client-urls is required when --listen-client-urls is set explicitly`},
		{"listen host", "--listen-client-urls=http://foo.com:2379 --advertise-client-urls=http://a:1", `expected IP in URL for binding (http://foo.com:2379)`},
		{"peer listen host", "--listen-peer-urls=http://foo.com:2380", `expected IP in URL for binding (http://foo.com:2380)`},
		{"metrics listen host", "--listen-metrics-urls=http://foo.com:2381", `expected IP in URL for binding (http://foo.com:2381)`},
		{"same url twice", "--listen-client-http-urls=http://localhost:2379", `cannot bind both --listen-client-urls and --listen-client-http-urls on the same url http://localhost:2379`},
		{"two ways", "--initial-cluster=default=http://localhost:2380 --discovery-srv=example.com", `multiple discovery or bootstrap flags are set. Choose one of "initial-cluster", "discovery-endpoints" or "discovery-srv"`},
		{"token alone", "--discovery-token=x", `both --discovery-token and --discovery-endpoints must be set`},
		{"empty endpoint", "--discovery-token=x --discovery-endpoints=a,,b", `--discovery-endpoints must not contain empty endpoints`},
		{"fallback", "--discovery-fallback=proxy", `v2 proxy is deprecated, and --discovery-fallback can't be configured as "proxy"`},
		{"no heartbeat", "--heartbeat-interval=0", `--heartbeat-interval must be >0 (set to 0ms)`},
		{"no election", "--election-timeout=0", `--election-timeout must be >0 (set to 0ms)`},
		{"close ticks", "--election-timeout=300", `--election-timeout[300ms] should be at least as 5 times as --heartbeat-interval[100ms]`},
		{"not quite five", "--election-timeout=499", `--election-timeout[499ms] should be at least as 5 times as --heartbeat-interval[100ms]`},
		{"long election", "--election-timeout=60000", `--election-timeout[60000ms] is too long, and should be set less than 50000ms`},
		{"compaction mode", "--auto-compaction-mode=foo", `unknown auto-compaction-mode "foo"`},
		{"no compaction mode", "--auto-compaction-mode=", `undefined auto-compaction-mode`},
		{"retention", "--auto-compaction-retention=1x", `error parsing CompactionRetention: time: unknown unit "x" in duration "1x"`},
		{"retention of revisions", "--auto-compaction-mode=revision --auto-compaction-retention=1h", `error parsing CompactionRetention: 1h is no number of revisions`},
		{"retention overflow", "--auto-compaction-retention=99999999999", `error parsing CompactionRetention: 99999999999 hours are out of range`},
		{"sampling", "--enable-distributed-tracing --distributed-tracing-sampling-rate=1000001", `distributed tracing configurition is not valid: (tracing sampling rate must be less than 1000000)`},
		{"hash check time", "--compact-hash-check-time=0s", `--compact-hash-check-time must be >0 (set to 0s)`},
		{"tls version", "--tls-min-version=TLS1.1", `unexpected TLS version "TLS1.1" (must be one of: TLS1.2, TLS1.3)`},
		{"tls max version", "--tls-max-version=TLS1.4", `unexpected TLS version "TLS1.4" (must be one of: TLS1.2, TLS1.3)`},
		{"tls order", "--tls-min-version=TLS1.3 --tls-max-version=TLS1.2", `min version (TLS1.3) is greater than max version (TLS1.2)`},
		{"ciphers of 1.3", "--tls-min-version=TLS1.3 --cipher-suites=TLS_AES_128_GCM_SHA256", `cipher suites cannot be configured when only TLS1.3 is enabled`},
		{"cipher", "--cipher-suites=FOO", `unexpected TLS cipher suite "FOO"`},
		{"log format", "--log-format=foo", `unknown log format: foo, supported values json, console`},
		{"log outputs", "--log-outputs=default,stderr", `multi logoutput for "default" is not supported yet`},
		{"rotation of no file", "--enable-log-rotation", `--log-outputs requires a single file path when --log-rotate-config-json is defined`},
		{"rotation of two files", "--enable-log-rotation --log-outputs=/tmp/a,/tmp/b", `--log-outputs requires a single file path when --log-rotate-config-json is defined`},
		{"rotation config", "--enable-log-rotation --log-outputs=/tmp/a --log-rotation-config-json={", `improperly formatted log rotation config: unexpected end of JSON input`},
		{"capnslog", "--logger=capnslog", `--logger=capnslog is removed in v3.5`},
		{"logger", "--logger=foo", `unknown logger option "foo"`},
		{"metrics url", "--listen-metrics-urls=https://localhost:1", `client TLS key/cert (--cert-file, --key-file) must be provided for metrics secure url`},
		{"client url", "--listen-client-urls=https://localhost:1 --advertise-client-urls=https://localhost:1", `TLS key/cert (--cert-file, --key-file) must be provided for client url https://localhost:1 with HTTPS scheme`},
		{"peer url", "--listen-peer-urls=https://localhost:1", `cannot listen on TLS for localhost:1: KeyFile and CertFile are not presented`},
		{"gates", "--feature-gates=LeaseCheckpointPersist=true", `enabling feature gate LeaseCheckpointPersist requires enabling feature gate LeaseCheckpoint`},
		{"token", "--auth-token=foo", `auth: invalid auth options`},

		{"certificate without key", "--cert-file=a", `KeyFile and CertFile must both be present[key: , cert: a]`},
		{"key without certificate", "--peer-key-file=a", `KeyFile and CertFile must both be present[key: a, cert: ]`},
		{"half a client pair", "--peer-client-cert-file=a", `ClientKeyFile and ClientCertFile must both be present or both absent: key: , cert: a]`},
		{"leftover", "--name=a serve", `"serve" is not a valid flag`},
		{"learners", "--max-learners=-1", "membership: too many learner members in cluster"},
		{"names of both kinds", "--peer-cert-allowed-cn=a,b --peer-cert-allowed-hostname=c", `AllowedCNs and AllowedHostnames are mutually exclusive (cns=["a" "b"], hostnames=["c"])`},

		{"jwt without a method", "--auth-token=jwt", `auth: invalid auth options: option ""`},
		{"jwt without a key", "--auth-token=jwt,sign-method=RS256", `auth: missing key data`},
		{"jwt without a file", "--auth-token=jwt,sign-method=RS256,priv-key=nowhere", `auth: invalid auth options: open nowhere: no such file or directory`},
	}
	for _, c := range cases {
		t.Run(c.name, func(t *testing.T) {
			exit := refusal(t, machine(nil, ""), strings.Fields(c.args)...)
			if got := reason(exit); exit.Code != 1 || got != c.want {
				t.Errorf("code %d\n got %s\nwant %s", exit.Code, got, c.want)
			}
		})
	}
	exit := refusal(t, machine(nil, ""), "--listen-client-urls=http://127.0.0.1:1")
	if !hasNote(exit.Notes, zapcore.WarnLevel, "advertise client URLs are not set") {
		t.Error("the second warning about advertise-client-urls is missing")
	}
}

func TestAccepted(t *testing.T) {
	for _, args := range []string{
		"--listen-client-urls=http://0.0.0.0:0 --advertise-client-urls=http://example.com:2379",
		"--listen-client-urls=unix:///tmp/a.sock,unix:rel,unix://localhost:2379 --advertise-client-urls=unix:///tmp/a.sock",
		"--listen-peer-urls=http://[::1]:2380",
		"--listen-metrics-urls=http://127.0.0.1:2381,http://localhost:2382",
		"--cipher-suites=TLS_ECDHE_RSA_WITH_AES_128_GCM_SHA256,TLS_ECDHE_RSA_WITH_CHACHA20_POLY1305",
		"--feature-gates=LeaseCheckpoint=true,LeaseCheckpointPersist=true",
		"--discovery-fallback=exit --auth-token=simple --election-timeout=50000 --heartbeat-interval=10000",
		"--discovery-srv=example.com --discovery-srv-name=x",
		"--discovery-token=x --discovery-endpoints=http://a:2379,b:2379 --initial-cluster-state=existing",
		"--force-new-cluster --unsafe-no-fsync --metrics=whatever --client-cert-auth=false --cert-file= --peer-cert-allowed-cn=",
	} {
		mustLoad(t, machine(nil, ""), strings.Fields(args)...)
	}
}

// What is given as nothing is as if it were not given.
func TestEmptyFlags(t *testing.T) {
	c, _ := mustLoad(t, machine(nil, ""), "--listen-client-urls=", "--advertise-client-urls=", "--listen-peer-urls=", "--log-outputs=",
		"--discovery-endpoints=", "--initial-cluster=")
	d, _ := mustLoad(t, machine(nil, ""))
	if !reflect.DeepEqual(c, d) {
		t.Errorf("%+v\nwant %+v", c, d)
	}
	if c, _ := mustLoad(t, machine(nil, ""), "--host-whitelist="); len(c.HTTP.HostWhitelist) != 0 {
		t.Errorf("nobody is let in, but %q", c.HTTP.HostWhitelist)
	}
}

func TestGatesOfAStage(t *testing.T) {
	for text, want := range map[string]string{
		"":                               "",
		",":                              "",
		"LeaseCheckpoint=1":              "LeaseCheckpoint=true",
		"AllBeta=F":                      "AllBeta=false,FastLeaseKeepAlive=false,TxnModeWriteWithSharedBuffer=false",
		"FastLeaseKeepAlive=t,AllBeta=f": "AllBeta=false,FastLeaseKeepAlive=true,TxnModeWriteWithSharedBuffer=false",
	} {
		var g Gates
		if err := g.Set(text); err != nil || g.String() != want {
			t.Errorf("%q: %q, %v; want %q", text, g, err, want)
		}
	}
}

// Of several variables that can't be read, the last one by name is told of.
func TestWrongVariables(t *testing.T) {
	exit := refusal(t, machine([]string{"ETCD_MAX_WALS=x", "ETCD_PRE_VOTE=x", "ETCD_MAX_LEARNERS=x"}, ""))
	if got := reason(exit); got != `invalid value "x" for ETCD_PRE_VOTE: parse error` {
		t.Errorf("got %s", got)
	}
}

func TestZeroMeansDefault(t *testing.T) {
	c, notes := mustLoad(t, machine(nil, ""), strings.Fields("--snapshot-count=0 --quota-backend-bytes=0 --self-signed-cert-validity=0 "+
		"--warning-unary-request-duration=0 --bcrypt-cost=99 --raft-read-timeout=1s --max-request-bytes=10485761 "+
		"--max-snapshots=3 --v2-deprecation=gone --unsafe-no-fsync")...)
	if c.Storage.SnapshotCount != 10000 || c.Limits.QuotaBytes != 2<<30 || c.TLS.SelfSignedYears != 1 ||
		c.Warnings.Unary != 300*time.Millisecond || c.Auth.BcryptCost != 10 || c.Member.RaftReadTimeout != 5*time.Second ||
		c.Cluster.V2Deprecation != "write-only" {
		t.Errorf("zeros were read as %+v", c)
	}
	for _, want := range []struct {
		level   zapcore.Level
		message string
	}{
		{zapcore.InfoLevel, "raft-read-timeout increased to minimum value: 5s"},
		{zapcore.WarnLevel, "exceeded recommended request limit"},
		{zapcore.WarnLevel, "--max-snapshots is deprecated in 3.6 and will be decommissioned in 3.8."},
		{zapcore.WarnLevel, "--v2-deprecation is deprecated and scheduled for removal in v3.8. The default value is enforced, ignoring user input."},
		{zapcore.WarnLevel, "--unsafe-no-fsync has no effect"},
	} {
		if !hasNote(notes, want.level, want.message) {
			t.Errorf("no note %v %q in %v", want.level, want.message, notes)
		}
	}
	if hasNote(notes, zapcore.InfoLevel, "raft-write-timeout increased") {
		t.Error("a timeout at its default was raised")
	}
}

func TestAutoCompaction(t *testing.T) {
	cases := []struct {
		mode, retention string
		want            AutoCompaction
	}{
		{"periodic", "0", AutoCompaction{}},
		{"periodic", "2", AutoCompaction{Period: 2 * time.Hour}},
		{"periodic", "90m", AutoCompaction{Period: 90 * time.Minute}},
		{"revision", "1000", AutoCompaction{Revisions: 1000}},
		{"revision", "0", AutoCompaction{}},
	}
	for _, c := range cases {
		config, _ := mustLoad(t, machine(nil, ""), "--auto-compaction-mode="+c.mode, "--auto-compaction-retention="+c.retention)
		if got := config.Compaction.Auto(); got != c.want {
			t.Errorf("%s %s: %+v, want %+v", c.mode, c.retention, got, c.want)
		}
	}
}

func TestDefaultHost(t *testing.T) {
	cases := []struct {
		name, args, peer, client, initial string
	}{
		{"both", "--listen-peer-urls=http://0.0.0.0:2380 --listen-client-urls=http://0.0.0.0:2379 --advertise-client-urls=http://localhost:2379",
			"http://10.1.2.3:2380", "http://10.1.2.3:2379", "default=http://10.1.2.3:2380"},
		{"peer, own port", "--name=m --listen-peer-urls=http://0.0.0.0:99", "http://10.1.2.3:99", "http://localhost:2379", "m=http://10.1.2.3:99"},
		{"advertised explicitly", "--listen-peer-urls=http://0.0.0.0:2380 --initial-advertise-peer-urls=http://h:2380",
			"http://h:2380", "http://localhost:2379", "default=http://h:2380"},
		{"name alone", "--name=m", "http://localhost:2380", "http://localhost:2379", "m=http://localhost:2380"},
	}
	for _, c := range cases {
		t.Run(c.name, func(t *testing.T) {
			config, notes := mustLoad(t, machine(nil, ""), strings.Fields(c.args)...)
			cluster := config.Cluster
			if cluster.AdvertisePeerURLs.String() != c.peer || cluster.AdvertiseClientURLs.String() != c.client || cluster.Initial != c.initial {
				t.Errorf("%s, %s, %s; want %s, %s, %s", cluster.AdvertisePeerURLs, cluster.AdvertiseClientURLs, cluster.Initial,
					c.peer, c.client, c.initial)
			}
			detected := strings.Contains(c.peer, "10.1.2.3")
			if hasNote(notes, zapcore.InfoLevel, "detected default host for advertise") != detected {
				t.Errorf("notes %v", notes)
			}
		})
	}
}

func TestGates(t *testing.T) {
	bad := map[string]string{
		"Foo=true":             "unrecognized feature gate: Foo",
		"LeaseCheckpoint":      "missing bool value for LeaseCheckpoint",
		"LeaseCheckpoint=x":    `invalid value of LeaseCheckpoint=x, err: strconv.ParseBool: parsing "x": invalid syntax`,
		"AllAlpha=true,Bar=no": `invalid value of Bar=no, err: strconv.ParseBool: parsing "no": invalid syntax`,
	}
	for text, want := range bad {
		var g Gates
		if err := g.Set(text); err == nil || err.Error() != want {
			t.Errorf("%s: %v, want %s", text, err, want)
		}
	}
	var g Gates
	if g.Enabled(GateLeaseCheckpoint) || !g.Enabled(GateFastLeaseKeepAlive) {
		t.Error("the zero value does not have the defaults")
	}
	if err := g.Set("AllAlpha=true, LeaseCheckpoint=false,AllBeta=false"); err != nil {
		t.Fatal(err)
	}
	if g.Enabled(GateLeaseCheckpoint) || !g.Enabled(GatePriorityRequest) || g.Enabled(GateFastLeaseKeepAlive) {
		t.Error("stages and single gates were mixed up")
	}
}

func TestConfigFile(t *testing.T) {
	c, notes := mustLoad(t, machine([]string{"ETCD_NAME=env", "ETCD_BOGUS=1"}, `
name: 7
data-dir:
NAME-IS-UNKNOWN: {a: 1}
heartbeat-interval: 50
heartbeat-interval: 60
watch-progress-notify-interval: 5000000000
listen-client-urls: http://127.0.0.1:1,http://127.0.0.1:2
cors: "http://a,http://b"
host-whitelist:
auto-compaction-retention: 1
log-outputs: [stderr]
socket-options: {reuse-port: true}
client-transport-security:
  cert-file:
  client-cert-auth: false
  allowed-hostname: []
peer-transport-security: ''
enable-pprof: true
max-snapshots: 3
feature-gates: PriorityRequest=true
experimental-anything: true
`), "--config-file", "member.yml", "--election-timeout=900", "--name=flag")
	switch {
	case c.File != "member.yml", c.Member.Name != "7", c.Member.DataDir != "7.etcd", c.Member.HeartbeatMillis != 60,
		c.Member.ElectionMillis != 1000, c.Watch.ProgressInterval != 5*time.Second,
		c.Member.ListenClientURLs.String() != "http://127.0.0.1:1,http://127.0.0.1:2",
		c.Cluster.AdvertiseClientURLs.String() != "http://localhost:2379",
		strings.Join(c.HTTP.Origins, "|") != "http://a|http://b", strings.Join(c.HTTP.HostWhitelist, "|") != "*",
		c.Compaction.Auto().Period != time.Hour, strings.Join(c.Logging.Outputs, "|") != "stderr",
		!c.Member.SocketReusePort, c.Member.SocketReuseAddress, !c.Ops.Profiling, !c.Member.Gates.Enabled(GatePriorityRequest):
		t.Errorf("file was read as %+v", c)
	}
	if !hasNote(notes, zapcore.InfoLevel, "loaded server configuration, other configuration command line flags and environment variables will be ignored if provided") ||
		!hasNote(notes, zapcore.WarnLevel, "--max-snapshots is deprecated") ||
		hasNote(notes, zapcore.WarnLevel, "unrecognized environment variable") {
		t.Errorf("notes %v", notes)
	}
	if c, _ := mustLoad(t, machine([]string{"ETCD_CONFIG_FILE=member.yml"}, `{"name": "json"}`)); c.Member.Name != "json" {
		t.Errorf("a JSON file named by the environment gave name %q", c.Member.Name)
	}
	if c, _ := mustLoad(t, machine(nil, ""), "--config-file=member.yml"); c.Member.Name != "default" {
		t.Errorf("an empty file gave name %q", c.Member.Name)
	}
}

func TestConfigFileRefusals(t *testing.T) {
	cases := []struct {
		name, file, stderr, reason string
	}{
		{"bad url", "listen-peer-urls: foo", "unexpected error setting up listen-peer-urls: URL scheme must be http, https, unix, or unixs: foo\n", ""},
		{"bad advertised url", "advertise-client-urls: foo", "unexpected error setting up advertise-peer-urls: URL scheme must be http, https, unix, or unixs: foo\n", ""},
		{"text for number", "heartbeat-interval: abc", "", "error unmarshaling JSON: while decoding JSON: json: cannot unmarshal string into heartbeat-interval of type uint"},
		{"negative", "heartbeat-interval: -5", "", "error unmarshaling JSON: while decoding JSON: json: cannot unmarshal number -5 into heartbeat-interval of type uint"},
		{"duration as text", "corrupt-check-time: 5s", "", "error unmarshaling JSON: while decoding JSON: json: cannot unmarshal string into corrupt-check-time of type time.Duration"},
		{"list for bool", "pre-vote: [true]", "", "error unmarshaling JSON: while decoding JSON: json: cannot unmarshal array into pre-vote of type bool"},
		{"security is no map", "peer-transport-security: 5", "", "error unmarshaling JSON: while decoding JSON: json: cannot unmarshal number into peer-transport-security of type map"},
		{"state", "initial-cluster-state: old", "", `unexpected clusterState "old"`},
		{"gate", "feature-gates: Foo=true", "", "unrecognized feature gate: Foo"},
		{"nested", "client-transport-security: {key-file: a}", "", "KeyFile and CertFile must both be present[key: a, cert: ]"},
		{"only in a file", "client-transport-security: {allowed-cn: [a], allowed-hostname: [b]}", "", `AllowedCNs and AllowedHostnames are mutually exclusive (cns=["a"], hostnames=["b"])`},
		{"not a map", "- a", "", "error unmarshaling JSON: while decoding JSON: json: cannot unmarshal array into the configuration"},
		{"two ways", "initial-cluster: default=http://localhost:2380\ndiscovery-srv: example.com", "", `multiple discovery or bootstrap flags are set. Choose one of "initial-cluster", "discovery-endpoints" or "discovery-srv"`},
	}
	for _, c := range cases {
		t.Run(c.name, func(t *testing.T) {
			exit := refusal(t, machine(nil, c.file), "--config-file=member.yml")
			if exit.Code != 1 || exit.Stderr != c.stderr || reason(exit) != c.reason {
				t.Errorf("code %d, stderr %q, reason %q", exit.Code, exit.Stderr, reason(exit))
			}
		})
	}
	if got := reason(refusal(t, machine(nil, ""), "--config-file=none.yml")); got != "file does not exist" {
		t.Errorf("a missing file: %q", got)
	}
	if got := reason(refusal(t, machine(nil, "\tx: ["), "--config-file=member.yml")); !strings.HasPrefix(got, "error converting YAML to JSON: ") {
		t.Errorf("a file that is no YAML: %q", got)
	}
}

func TestSampleFile(t *testing.T) {
	data, err := os.ReadFile("testdata/member.yml")
	if err != nil {
		t.Fatal(err)
	}
	c, _ := mustLoad(t, machine(nil, string(data)), "--config-file=member.yml")
	if c.Member.Name != "default" || c.Logging.Level != "debug" || !c.Logging.Debug() || c.Cluster.StrictReconfigCheck ||
		c.Compaction.Auto().Period != time.Hour || len(c.TLS.CipherSuites) != 2 || c.Limits.QuotaBytes != 2<<30 {
		t.Errorf("sample file was read as %+v", c)
	}
}

func TestStartLine(t *testing.T) {
	c, _ := mustLoad(t, machine(nil, ""), "--snapshot-catchup-entries=1000", "--v2-deprecation=gone", "--listen-metrics-urls=")
	encoder := zapcore.NewJSONEncoder(zapcore.EncoderConfig{EncodeDuration: zapcore.StringDurationEncoder})
	line, err := encoder.EncodeEntry(zapcore.Entry{}, c.StartFields(true))
	if err != nil {
		t.Fatal(err)
	}
	at := -1
	for _, want := range []string{`"etcd-version":"3.7.1"`, `"git-sha":`, `"max-cpu-set":`, `"member-initialized":true`, `"name":"default"`,
		`"heartbeat-interval":"100ms"`, `"snapshot-count":10000`, `"snapshot-catchup-entries":1000`,
		`"initial-advertise-peer-urls":["http://localhost:2380"]`, `"listen-metrics-urls":[]`, `"cors":["*"]`,
		`"initial-cluster":"default=http://localhost:2380"`, `"quota-backend-bytes":2147483648`, `"pre-vote":true`,
		`"auto-compaction-interval":"0s"`, `"discovery-token":""`, `"downgrade-check-interval":"5s"`, `"v2-deprecation":"write-only"`} {
		next := strings.Index(line.String(), want)
		if next <= at {
			t.Errorf("%s is not where it belongs in %s", want, line)
		}
		at = next
	}
	if strings.Contains(line.String(), "password") {
		t.Error("the start line shows a password")
	}
	var _ []zap.Field = c.StartFields(false)
}
