package ctl

import (
	"encoding/json"
	"fmt"
	"runtime"
	"slices"
	"strings"
	"time"

	"github.com/spf13/pflag"

	"keelson/internal/cli"
)

// globals are the flags of every command.
type globals struct {
	endpoints          []string
	debug              bool
	writeOut           string
	hex                bool
	dialTimeout        time.Duration
	commandTimeout     time.Duration
	keepaliveTime      time.Duration
	keepaliveTimeout   time.Duration
	requestBytesMax    int
	recvBytesMax       int
	insecureTransport  bool
	insecureDiscovery  bool
	insecureSkipVerify bool
	cert, key, cacert  string
	user, password     string
	jwt                string
	discoverySRV       string
	discoverySRVName   string
	context            string // keelson's alone

	set *pflag.FlagSet
}

// defaultEndpoint is where a member listens if nobody says otherwise.
const defaultEndpoint = "127.0.0.1:2379"

// register defines the flags.
func (g *globals) register(f *pflag.FlagSet) {
	g.set = f
	f.StringSliceVar(&g.endpoints, "endpoints", []string{defaultEndpoint}, "gRPC endpoints")
	f.BoolVar(&g.debug, "debug", false, "enable client-side debug logging")
	f.StringVarP(&g.writeOut, "write-out", "w", "simple", "set the output format (fields, json, protobuf, simple, table)")
	f.BoolVar(&g.hex, "hex", false, "print byte strings as hex encoded strings")
	f.DurationVar(&g.dialTimeout, "dial-timeout", 2*time.Second, "dial timeout for client connections")
	f.DurationVar(&g.commandTimeout, "command-timeout", 5*time.Second, "timeout for short running command (excluding dial timeout)")
	f.DurationVar(&g.keepaliveTime, "keepalive-time", 2*time.Second, "keepalive time for client connections")
	f.DurationVar(&g.keepaliveTimeout, "keepalive-timeout", 6*time.Second, "keepalive timeout for client connections")
	f.IntVar(&g.requestBytesMax, "max-request-bytes", 0, "client-side request send limit in bytes (if 0, it defaults to 2.0 MiB (2 * 1024 * 1024).)")
	f.IntVar(&g.recvBytesMax, "max-recv-bytes", 0, `client-side response receive limit in bytes (if 0, it defaults to "math.MaxInt32")`)
	f.BoolVar(&g.insecureTransport, "insecure-transport", true, "disable transport security for client connections")
	f.BoolVar(&g.insecureDiscovery, "insecure-discovery", true, "accept insecure SRV records describing cluster endpoints")
	f.BoolVar(&g.insecureSkipVerify, "insecure-skip-tls-verify", false, "skip server certificate verification (CAUTION: this option should be enabled only for testing purposes)")
	f.StringVar(&g.cert, "cert", "", "identify secure client using this TLS certificate file")
	f.StringVar(&g.key, "key", "", "identify secure client using this TLS key file")
	f.StringVar(&g.cacert, "cacert", "", "verify certificates of TLS-enabled secure servers using this CA bundle")
	f.StringVar(&g.jwt, "auth-jwt-token", "", "JWT token used for authentication (if this option is used, --user and --password should not be set)")
	f.StringVar(&g.user, "user", "", "username[:password] for authentication (prompt if password is not supplied)")
	f.StringVar(&g.password, "password", "", "password for authentication (if this option is used, --user option shouldn't include password)")
	f.StringVarP(&g.discoverySRV, "discovery-srv", "d", "", "domain name to query for SRV records describing cluster endpoints")
	f.StringVar(&g.discoverySRVName, "discovery-srv-name", "", "service name to query when using DNS discovery")
}

// given reports whether the command line or the environment says what a flag is.
func (g *globals) given(name string) bool { return g.set.Changed(name) }

const envPrefix = "ETCDCTL_"

func envName(flag string) string {
	return envPrefix + strings.ToUpper(strings.ReplaceAll(flag, "-", "_"))
}

// otherVariables are ETCDCTL_ variables that stand for no flag.
var otherVariables = []string{"ETCDCTL_API", watchKeyVariable, watchEndVariable}

// applyEnvironment sets what variables say. A flag on the command line and its variable together are an error for etcdctl; for
// keelson the flag counts.
func (s *session) applyEnvironment() error {
	environment := map[string]string{}
	for _, pair := range s.environ() {
		if name, value, ok := strings.Cut(pair, "="); ok && strings.HasPrefix(name, envPrefix) {
			environment[name] = value
		}
	}
	known := map[string]bool{}
	var conflict string
	s.flags.set.VisitAll(func(f *pflag.Flag) {
		name := envName(f.Name)
		value, isSet := environment[name]
		switch {
		case !isSet || f.Annotations[notInEnvironment] != nil:
		case f.Changed && !s.plain: // what is said now counts
			known[name] = true
		case f.Changed:
			conflict = name
		case value != "":
			known[name] = true
			before := f.Value.String()
			if s.flags.set.Set(f.Name, value) != nil { // a value that means nothing is ignored, as in etcdctl
				f.Value.Set(before)
			}
		}
	})
	if conflict != "" {
		s.log("fatal", "conflicting environment variable is shadowed by corresponding command-line flag (either unset environment variable or disable flag))",
			"environment-variable", conflict)
		return cli.Silent(cli.ExitError)
	}
	for _, name := range slices.Sorted(mapKeys(environment)) {
		if !known[name] && !slices.Contains(otherVariables, name) {
			s.log("warn", "unrecognized environment variable", "environment-variable", name+"="+environment[name])
		}
	}
	return nil
}

// notInEnvironment marks flags without a variable.
const notInEnvironment = "not-in-environment"

func mapKeys[K comparable, V any](m map[K]V) func(yield func(K) bool) {
	return func(yield func(K) bool) {
		for k := range m {
			if !yield(k) {
				return
			}
		}
	}
}

// log writes a line as etcd's programs write their logs.
func (s *session) log(level, message string, pairs ...string) {
	_, file, number, _ := runtime.Caller(1)
	if i := strings.LastIndex(file, "/"); i >= 0 {
		file = file[strings.LastIndex(file[:i], "/")+1:]
	}
	line := fmt.Sprintf(`{"level":%q,"ts":%q,"caller":"%s:%d","msg":%s`, level, time.Now().UTC().Format("2006-01-02T15:04:05.000000Z"), file, number, quoted(message))
	for i := 0; i+1 < len(pairs); i += 2 {
		line += fmt.Sprintf(",%q:%s", pairs[i], quoted(pairs[i+1]))
	}
	fmt.Fprintln(s.err, line+"}")
}

func quoted(text string) string {
	b, err := json.Marshal(text)
	if err != nil {
		return `""`
	}
	return string(b)
}

// dumpEnvironment says what --debug says first: all settings, as variables.
func (s *session) dumpEnvironment() {
	var lines []string
	s.flags.set.VisitAll(func(f *pflag.Flag) {
		if f.Annotations[notInEnvironment] == nil {
			lines = append(lines, envName(f.Name)+"="+f.Value.String())
		}
	})
	slices.Sort(lines)
	for _, line := range lines {
		fmt.Fprintln(s.err, line)
	}
}
