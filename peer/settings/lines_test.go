package settings

import (
	"slices"
	"strings"
	"testing"
)

// TestCommandLines is about whole command lines: unknown flags, flags of other releases, leftovers, and flags that do not go
// together.
func TestCommandLines(t *testing.T) {
	var trials []trial
	for _, args := range [][]string{
		{"--version"}, {"-version"}, {"--version=false"}, {"--version=x"}, {"--version", "x"}, {"--version", "--nosuch"}, {"--nosuch", "--version"},
		{"--nosuch"}, {"-nosuch=1"}, {"--max-learner=1"}, {"---max-learners=1"}, {"--=1"}, {"-"}, {"--"}, {"--", "x"}, {"x"}, {"x", "--nosuch"}, {"--pre-vote", "false"}, {"--pre-vote", "--nosuch"},
		{"-max-learners=2"}, {"--max-learners", "2"}, {"--max-learners=2", "--max-learners=3"}, {"--max-learners=x", "--nosuch"}, {"--MAX-LEARNERS=2"}, {"start"},
		{"--cluster-active-size=9"}, {"--cluster-active-size", "9"}, {"--force"}, {"--snapshot"}, {"--v"}, {"-v"}, {"--vv"}, {"--config=x"}, {"--retry-interval=x"}, {"--test.coverprofile=x"},
		{"--peer-heartbeat-interval=1"}, {"--max-result-buffer"}, {"--max-retry-attempts"}, {"--cluster-remove-delay"}, {"--cluster-sync-interval"}, {"--peer-election-timeout"}, {"--test.outputdir"},
		{"--enable-v2"}, {"--enable-v2v3=x"}, {"--proxy=off"}, {"--debug"}, {"--log-package-levels=x"}, {"--log-output=x"}, {"--peer-ca-file=x"}, {"--ca-file=x"}, {"--addr=x"}, {"--peers=x"},
		{"--discovery=http://a:1"}, {"--discovery-proxy=x"}, {"--bind-addr=x"}, {"--strict-reconfig-check=x"}, {"--experimental-nosuch"}, {"--experimental-initial-corrupt-check"},
		{"--experimental-max-learners=2"}, {"--experimental-watch-progress-notify-interval=5s"}, {"--experimental-warning-apply-duration=x"}, {"--experimental-corrupt-check-time=1h"},
		{"--rpc-server=x"}, {"--rpc-server=grpc-go"},

		{"--heartbeat-interval=100", "--election-timeout=499"}, {"--heartbeat-interval=0"}, {"--election-timeout=0"}, {"--heartbeat-interval=10000", "--election-timeout=50001"},
		{"--heartbeat-interval=0", "--election-timeout=0"}, {"--heartbeat-interval=10000", "--election-timeout=50000"},
		{"--auto-compaction-mode=revision", "--auto-compaction-retention=x"}, {"--auto-compaction-mode=revision", "--auto-compaction-retention=1h"},
		{"--auto-compaction-mode=revision", "--auto-compaction-retention=-1"}, {"--auto-compaction-mode=revision", "--auto-compaction-retention=1000"}, {"--auto-compaction-mode=revision", "--auto-compaction-retention="},
		{"--auto-compaction-mode=x", "--auto-compaction-retention=x"}, {"--auto-compaction-mode="},
		{"--enable-distributed-tracing", "--distributed-tracing-sampling-rate=-1"}, {"--enable-distributed-tracing", "--distributed-tracing-sampling-rate=1000001"},
		{"--enable-distributed-tracing", "--distributed-tracing-address="}, {"--enable-distributed-tracing", "--distributed-tracing-sampling-rate=10"},
		{"--compact-hash-check-time=0"}, {"--compact-hash-check-time=-1s"}, {"--feature-gates=CompactHashCheck=true", "--compact-hash-check-time=0s"},
		{"--tls-min-version=TLS1.3", "--tls-max-version=TLS1.2"}, {"--tls-min-version=TLS1.3", "--cipher-suites=TLS_ECDHE_RSA_WITH_AES_128_GCM_SHA256"}, {"--tls-min-version="}, {"--tls-max-version="},
		{"--tls-min-version=TLS1.3", "--tls-max-version=TLS1.3", "--cipher-suites=x"}, {"--tls-max-version=x", "--tls-min-version=y"},
		{"--log-outputs=@dir/log", "--enable-log-rotation", "--log-rotation-config-json={"}, {"--enable-log-rotation"}, {"--log-outputs=@dir/a,@dir/b", "--enable-log-rotation"},
		{"--log-outputs=stderr", "--enable-log-rotation"}, {"--log-outputs=stderr,@dir/b", "--enable-log-rotation"}, {"--log-outputs=stderr,@dir/log", "--log-rotation-config-json={}"},
		{"--log-outputs=stderr,@dir/log", "--log-format=console", "--log-level=x"}, {"--log-format=x", "--log-level=debug"}, {"--logger=x", "--log-format=x"}, {"--log-outputs=stderr,@dir/nosuch/log"},
		{"--log-outputs=@dir/log", "--enable-log-rotation", `--log-rotation-config-json={"maxsize":"x"}`},

		{"--discovery-token=x"}, {"--discovery-endpoints=http://a:1"}, {"--discovery-token=x", "--discovery-endpoints=http://a:1"},
		{"--discovery-srv=example.invalid"}, {"--initial-cluster=", "--discovery-token=x"}, {"--initial-cluster=", "--discovery-endpoints=http://a:1"},
		{"--initial-cluster=", "--discovery-token=x", "--discovery-endpoints="}, {"--initial-cluster=", "--discovery-token=x", "--discovery-endpoints=,http://a:1"},
		{"--initial-cluster=", "--discovery-token=x", "--discovery-endpoints=http://a:1", "--discovery-srv=example.invalid"}, {"--discovery-fallback=proxy"},
		{"--initial-cluster=", "--discovery-token=x", "--discovery-endpoints=http://a:1", "--discovery-fallback=proxy"},

		{"--listen-client-http-urls=http://@client"}, {"--listen-client-urls=http://@client,https://@client"}, {"--listen-client-urls=http://@client", "--advertise-client-urls="},
		{"--listen-client-urls=x", "--listen-peer-urls=x"}, {"--listen-client-urls=http://foo.example:1", "--listen-peer-urls=http://foo.example:2"},
		{"--advertise-client-urls=http://:1", "--initial-advertise-peer-urls=http://:1"},
		{"--snapshot-count=0", "--snapshot-catchup-entries=0"}, {"--raft-read-timeout=1s", "--raft-write-timeout=4s"}, {"--raft-read-timeout=6s"}, {"--max-request-bytes=10485761", "--quota-backend-bytes=8589934593"},
		{"--name=default", "--initial-cluster=default=http://@peer"}, {"--name=", "--initial-cluster==http://@peer"},
		{"--cert-file=@files/server.pem", "--key-file=@files/server.key"}, {"--auto-tls", "--peer-auto-tls"}, {"--auto-tls", "--cert-file=@files/server.pem", "--key-file=@files/server.key"},
	} {
		trials = append(trials, trial{args: args, deep: slices.ContainsFunc(args, func(arg string) bool { return isDeep(nameOf(arg)) })})
	}
	compare(t, trials)
}

// TestClusters is about the first members, and what a member finds of them when it starts.
func TestClusters(t *testing.T) {
	var trials []trial
	for _, args := range [][]string{
		{"--initial-cluster-state=existing"}, {"--initial-cluster-state=existing", "--initial-cluster=m1=http://@peer,m2=http://@third"}, {"--initial-cluster-state=existing", "--initial-cluster=m2=http://@third"},
		{"--name=m2"}, {"--name=m2", "--initial-cluster="}, {"--initial-cluster=,m1=http://@peer"}, {"--initial-cluster=m1=http://@peer,,"}, {"--initial-cluster=,"},
		{"--initial-cluster=m2=http://@peer,m1=http://@peer"}, {"--initial-cluster=m1=http://@peer,x"}, {"--initial-cluster=m1=http://@peer,m2="}, {"--initial-cluster=m1=http://localhost:1"},
		{"--initial-advertise-peer-urls=http://@peer,http://@third"}, {"--initial-advertise-peer-urls=http://@third,http://@fourth"}, {"--initial-cluster=m1=http://@peer,m1=http://@third", "--initial-advertise-peer-urls=http://@third,http://@peer"},
		{"--initial-cluster=m1=http://@third,m1=http://@peer", "--initial-advertise-peer-urls=http://@fourth,http://@peer"},
		{"--max-learners=-1"}, {"--max-learners=0"}, {"--discovery-srv=example.invalid", "--initial-cluster="},
	} {
		trials = append(trials, trial{args: args, deep: true})
	}
	for _, args := range [][]string{
		{"--initial-cluster=m2=http://@third,m1=http://@peer"}, {"--initial-cluster=m1=http://@peer , m2=http://@third"}, {"--initial-cluster=b=http://@third,m1=http://@peer,a=http://@fourth,a=http://127.0.0.1:1"},
	} {
		trials = append(trials, trial{args: args})
	}
	compare(t, trials)
}

// TestCertificates is about files of TLS that do or do not fit together.
func TestCertificates(t *testing.T) {
	var trials []trial
	secure := []string{"--listen-client-urls=https://@client", "--advertise-client-urls=https://@client"}
	securePeer := []string{"--listen-peer-urls=https://@peer", "--initial-advertise-peer-urls=https://@peer", "--initial-cluster=m1=https://@peer"}
	for _, args := range [][]string{
		{}, {"--cert-file=@files/server.pem"}, {"--key-file=@files/server.key"}, {"--cert-file=@files/server.pem", "--key-file=@files/server.key"}, {"--cert-file=@files/server.pem", "--key-file=@files/other.key"},
		{"--cert-file=@files/none.pem", "--key-file=@files/server.key"}, {"--cert-file=@files/server.pem", "--key-file=@files/none.pem"}, {"--cert-file=x", "--key-file=@files/server.key"},
		{"--cert-file=@files/server.pem", "--key-file=x"}, {"--cert-file=@files/server.key", "--key-file=@files/server.pem"}, {"--auto-tls"}, {"--auto-tls", "--cert-file=@files/server.pem"},
		{"--client-cert-auth"}, {"--cert-file=@files/server.pem", "--key-file=@files/server.key", "--client-cert-auth"}, {"--cert-file=@files/server.pem", "--key-file=@files/server.key", "--client-cert-auth", "--trusted-ca-file=x"},
		{"--cert-file=@files/server.pem", "--key-file=@files/server.key", "--trusted-ca-file=@files/ca.pem"}, {"--cert-file=@files/server.pem", "--key-file=@files/server.key", "--trusted-ca-file=@files/none.pem"},
		{"--cert-file=@files/server.pem", "--key-file=@files/server.key", "--client-crl-file=x"}, {"--cert-file=@files/server.pem", "--key-file=@files/server.key", "--client-cert-file=x"},
		{"--cert-file=@files/server.pem", "--key-file=@files/server.key", "--client-cert-file=x", "--client-key-file=x"}, {"--auto-tls", "--client-cert-auth"}, {"--auto-tls", "--self-signed-cert-validity=0"},
		{"--cert-file=@files/server.pem", "--key-file=@files/server.key", "--client-cert-allowed-hostname=x"}, {"--auto-tls", "--tls-max-version=TLS1.2", "--cipher-suites=TLS_RSA_WITH_RC4_128_SHA"},
		{"--auto-tls", "--tls-min-version=TLS1.1"},
	} {
		trials = append(trials, trial{args: slices.Concat(secure, args), deep: true})
		peer := slices.Clone(securePeer)
		for _, arg := range args {
			if name := nameOf(arg); !slices.Contains([]string{"tls-min-version", "tls-max-version", "cipher-suites", "self-signed-cert-validity"}, name) {
				arg = "--peer-" + strings.TrimPrefix(strings.Replace(name, "client-crl", "crl", 1), "client-cert-allowed") + arg[2+len(name):]
				arg = strings.Replace(arg, "--peer--hostname", "--peer-cert-allowed-hostname", 1)
			}
			peer = append(peer, arg)
		}
		trials = append(trials, trial{args: peer, deep: true})
	}
	for _, args := range [][]string{
		{"--listen-metrics-urls=https://@third"}, {"--listen-metrics-urls=https://@third", "--auto-tls"}, {"--listen-metrics-urls=https://@third", "--cert-file=@files/server.pem", "--key-file=@files/server.key"},
		{"--listen-client-http-urls=https://@third", "--cert-file=@files/server.pem", "--key-file=@files/server.key"}, {"--client-cert-auth"}, {"--peer-client-cert-auth"}, {"--auto-tls", "--client-cert-auth"},
		{"--peer-auto-tls", "--peer-client-cert-auth"}, {"--peer-cert-file=@files/server.pem", "--peer-key-file=@files/server.key", "--peer-client-cert-auth"},
		{"--peer-cert-allowed-cn=x", "--peer-cert-allowed-hostname=y"}, {"--peer-cert-allowed-cn=x", "--peer-cert-allowed-hostname=y", "--peer-cert-file=@files/server.pem", "--peer-key-file=@files/server.key", "--peer-trusted-ca-file=@files/ca.pem"},
	} {
		trials = append(trials, trial{args: args, deep: true})
	}
	compare(t, trials)
}

// nameOf is the flag of an argument.
func nameOf(arg string) string {
	name, _, _ := strings.Cut(strings.TrimLeft(arg, "-"), "=")
	return name
}
