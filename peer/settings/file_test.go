package settings

import (
	"strings"
	"testing"
)

// fileValues are values of right and wrong types to try with every setting of a kind.
var fileValues = map[kind][]string{
	truth:     {`true`, `"true"`, `1`},
	unsigned:  {`"1"`, `-1`, `1.5`},
	signed:    {`"1"`, `1.5`, `[1]`},
	duration:  {`5000000000`, `10s`, `1.5`},
	text:      {`1`, `[a]`, `""`},
	list:      {`[a, b]`, `a`, `[1]`},
	own:       {`[]`, `[1]`, `{a: 1}`, `1`},
	choice:    {`x`, `1`, `[a]`, `""`},
	addresses: {`"http://@third,http://@fourth"`, `x`, `[http://@third]`, `1`},
}

// nested is a key with dots, and its value, as nested YAML.
func nested(key, value string) string {
	path := strings.Split(key, ".")
	var b strings.Builder
	for depth, part := range path {
		b.WriteString(strings.Repeat("  ", depth) + part + ":")
		if depth < len(path)-1 {
			b.WriteString("\n")
		}
	}
	return b.String() + " " + value + "\n"
}

// TestFile gives every setting in a configuration file, with values of right and wrong types.
func TestFile(t *testing.T) {
	var trials []trial
	for _, s := range all {
		key := s.key
		if key == "" || key == "-" {
			key = s.name
		}
		for _, value := range fileValues[s.kind] {
			r := inFile(nested(key, value), s.name)
			r.deep = isDeep(s.name)
			trials = append(trials, r)
		}
	}
	compare(t, trials)
}

// TestFileForm is about files as a whole: what they are, and keys that are unknown, there twice or of other releases.
func TestFileForm(t *testing.T) {
	var trials []trial
	for _, lines := range []string{
		"nosuch: x", "nosuch: {a: [1]}", "experimental-initial-corrupt-check: true", "experimental-nosuch: x", "enable-v2: true", "proxy: 'off'", "discovery: ''",
		"discovery-fallback: proxy", "max-snapshots: 5", "v2-deprecation: gone", "v2-deprecation: not-yet", "max-learners: 2\nmax-learners: 3", "max-learners: 2\nMAX-LEARNERS: 3",
		"Max-Learners: 3", "max_learners: 3", "maxLearners: 3", "\tmax-learners: 3", "x: [", "x", "---\nmax-learners: 3", "max-learners: &a 3\nmax-txn-ops: *a", "max-learners: *a",
		"client-transport-security:", "client-transport-security: x", "client-transport-security: []", "client-transport-security: {}", "client-transport-security: {nosuch: 1}",
		"peer-transport-security: x", "peer-transport-security: 1", "peer-transport-security: {cert-file: x}", "discovery-config: x", "discovery-config: {client: x}", "socket-options: x",
		"socket-options: {reuse-port: true, reuse-address: true}", "initial-cluster-state: none", "initial-cluster-state: existing", "log-level: none", "log-outputs: []", "log-outputs: [default, stderr]",
		"config-file: x", "version: true", "name: [", "quota-backend-bytes: 8589934593\nmax-request-bytes: 10485761", "auto-compaction-retention: 1", `auto-compaction-retention: "1"`,
		"feature-gates: InitialCorruptCheck=true", "feature-gates: Foo=true", "feature-gates: {InitialCorruptCheck: true}", "cors: x", `cors: "*,http://a:1"`, "host-whitelist: a,b", "cipher-suites: [x]",
		"tls-min-version: TLS1.1", "raft-read-timeout: 1", "discovery-token: x", "discovery-endpoints: x", "discovery-config: {token: x}",
		"discovery-config: {token: x, client: {endpoints: ['http://a:1']}}", "cert-file: x", "peer-cert-file: x", "self-signed-cert-validity: 0", "initial-cluster: x=y",
	} {
		r := inFile(lines + "\n")
		r.deep = isDeep(nameOf(strings.ReplaceAll(lines, ":", "=")))
		trials = append(trials, r)
	}
	trials = append(trials,
		trial{args: []string{"--config-file=@file"}, file: "x"},
		trial{args: []string{"--config-file=@file"}, file: "[]"},
		trial{args: []string{"--config-file=@file"}, file: "1"},
		trial{args: []string{"--config-file=@file"}, file: "{"},
		trial{args: []string{"--config-file=@file"}, file: "\x00"},
		trial{args: []string{"--config-file=@dir/none"}},
		trial{args: []string{"--config-file=@dir"}},
		trial{args: []string{"--config-file"}},
		trial{args: []string{"--config-file=@file"}, file: `{"name":"m1","data-dir":"@dir/data","listen-client-urls":"http://@client","advertise-client-urls":"http://@client","listen-peer-urls":"http://@peer",` +
			`"initial-advertise-peer-urls":"http://@peer","initial-cluster":"m1=http://@peer","max-txn-ops":7}`},
		trial{args: []string{"--config-file=@file"}, file: `{"name":"m1","data-dir":"@dir/data",}`},
	)
	for _, key := range []string{"name", "initial-cluster", "advertise-client-urls", "initial-advertise-peer-urls", "data-dir"} {
		trials = append(trials, inFile("", key))
	}
	compare(t, trials)
}
