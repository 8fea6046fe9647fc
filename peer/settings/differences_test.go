package settings

import (
	"os"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"keelson/peer/process"
)

// rule is a difference that is meant: what both have to say for it to be this one, and nothing wider.
type rule struct {
	row string // the first column of its row in docs/differences.md
	// applies makes b what a is, or takes out of both what they differ in, and reports whether this was the difference.
	applies func(r trial, a, b *outcome) bool
}

var rules = []rule{
	{"`max-cpu-set` in the log's first line", func(_ trial, a, b *outcome) bool {
		return b.setAs(a, "max-cpu-set", func(x, y string) bool { return number(x) > 0 && number(y) > number(x) })
	}},
	{"`initial-corrupt-check` in the log's first line", func(_ trial, a, b *outcome) bool {
		gates, _ := a.get("feature-gates")
		return strings.Contains(gates, "InitialCorruptCheck=true") &&
			b.setAs(a, "initial-corrupt-check", func(x, y string) bool { return x == "false" && y == "true" })
	}},
	{"`snapshot-count` in the log's first line", func(_ trial, a, b *outcome) bool {
		return b.setAs(a, "snapshot-count", func(x, y string) bool { return x == "0" && y == "10000" })
	}},
	{"`election-timeout` in the log's first line", func(_ trial, a, b *outcome) bool {
		heartbeat, _ := a.get("heartbeat-interval")
		return b.setAs(a, "election-timeout", func(x, y string) bool {
			h := period(heartbeat)
			return h > 0 && period(y)/h*h == period(x)
		})
	}},
	{"spaces around the elements of lists", func(r trial, a, b *outcome) bool {
		if !strings.Contains(r.String(), ", ") && !strings.Contains(r.String(), " , ") {
			return strings.Contains(r.String(), "= m1=") && a.ends(`discovery failed: couldn't find local name "m1" in the initial cluster configuration`) && b.ready && b.as(a)
		}
		changed := false
		for _, name := range []string{"host-whitelist", "initial-cluster"} {
			changed = b.setAs(a, name, func(x, y string) bool { return sameElements(x, y) }) || changed
		}
		return changed
	}},
	{"HTTP and gRPC on one port", func(_ trial, a, b *outcome) bool {
		return a.unsay(b, "warn Running http and grpc server on single port. This is not recommended for production.")
	}},
	{"`--unsafe-no-fsync`", func(_ trial, a, b *outcome) bool {
		return b.unsay(a, "warn --unsafe-no-fsync has no effect: what is acknowledged is on disk")
	}},
	{"`--client-crl-file`, `--peer-crl-file` that can't be read", func(_ trial, a, b *outcome) bool {
		return b.unsay(a, "warn failed to read the list of revoked certificates; who shows a certificate is refused until it can be read: open x: no such file or directory")
	}},
	{"what is demanded of certificates that nobody shows, or vouches for", func(_ trial, a, b *outcome) bool {
		said := slices.IndexFunc(b.warnings, demandedInVain.MatchString)
		return said >= 0 && b.unsay(a, b.warnings[said])
	}},
	{"the answers of members with `--auto-tls --client-cert-auth`, or with names of clients that are allowed", func(r trial, a, b *outcome) bool {
		asksNobody := strings.Contains(r.String(), "--auto-tls --client-cert-auth") && len(a.answers) > 0 && len(b.answers) == 0
		refusesItself := strings.Contains(r.String(), "--client-cert-allowed-hostname=") && len(a.answers) == len(b.answers) &&
			strings.Contains(strings.Join(a.answers, " "), "authentication handshake failed: client certificate authentication failed")
		if !asksNobody && !refusesItself {
			return false
		}
		b.answers = a.answers
		return true
	}},
	{"`--auto-tls`, `--peer-auto-tls` without addresses that have TLS", func(r trial, a, b *outcome) bool {
		return !strings.Contains(r.String(), "https:") && a.unsay(b, "warn automatically generate certificates")
	}},
	{"settings that make etcd panic", func(_ trial, a, b *outcome) bool {
		return !a.ready && a.code == 2 && strings.HasPrefix(a.says, "panic: ") && !strings.HasPrefix(b.says, "panic: ") && b.as(a)
	}},
	{"values that are none", func(_ trial, a, b *outcome) bool {
		return a.ends("discovery failed: ") && b.ends("failed to verify flags: ") && cause(a.says) == cause(b.says) && b.as(a)
	}},
	{"what is said of files, addresses and tokens that are none", func(_ trial, a, b *outcome) bool {
		// Ours says besides what it was about.
		return a.ends("discovery failed: ") && (b.ends("discovery failed: ") || b.ends("failed to verify flags: ")) && cause(a.says) != cause(b.says) &&
			strings.Contains(strings.ReplaceAll(cause(b.says), ": stat ", ": open "), cause(a.says)) && b.as(a)
	}},
	{"certificates, keys and authorities of clients that are none", func(_ trial, a, b *outcome) bool {
		// etcd finds them out with the first connection, or never.
		return a.ready && (b.ends("discovery failed: client TLS: ") || b.ends("discovery failed: peer TLS: trusted CA: there is no certificate in ") ||
			b.ends("failed to verify flags: KeyFile and CertFile must both be present") || b.ends("failed to verify flags: ClientKeyFile and ClientCertFile must both be present") ||
			b.ends("failed to verify flags: AllowedCNs and AllowedHostnames are mutually exclusive")) && b.as(a)
	}},
	{"`--auto-compaction-retention` below zero, beyond 292 years, or a duration with revisions", func(_ trial, a, b *outcome) bool {
		return a.ready && b.ends("failed to verify flags: error parsing CompactionRetention: ") && b.as(a)
	}},
	{"flags with an empty value", func(r trial, a, b *outcome) bool {
		// Where they are not refused, they are an empty text for etcd.
		if b.setAs(a, "host-whitelist", func(x, y string) bool { return x == `[""]` && y == `[]` }) {
			return true
		}
		return slices.ContainsFunc(r.args, func(arg string) bool { return strings.HasSuffix(arg, "=") }) && !a.ready && a.says != b.says && b.as(a)
	}},
	{"an empty variable beside its flag", func(r trial, a, b *outcome) bool {
		return len(r.env) == 1 && strings.HasSuffix(r.env[0], "=") && a.ends("conflicting environment variable") && b.ready && b.as(a)
	}},
	{"origins of `--cors` that are no addresses", func(r trial, a, b *outcome) bool {
		return regexp.MustCompile(`(?i)cors.*URL `).MatchString(a.says) && !a.ready && b.ready && b.as(a)
	}},
	{"a configuration file: what is said of a value of the wrong type", func(_ trial, a, b *outcome) bool {
		x, y := wrongType(a.says), wrongType(b.says)
		return !a.ready && !b.ready && a.code == b.code && x != "" && x == y && b.as(a)
	}},
	{"a configuration file: a number or a truth value for a text, an empty text for anything, a text with commas for a list, and the reverse", func(r trial, a, b *outcome) bool {
		if strings.HasSuffix(r.file, " \"\"\n") {
			changed := b.setAs(a, "name", func(x, y string) bool { return x == `""` && y == `"default"` })
			changed = b.setAs(a, "initial-cluster-token", func(x, y string) bool { return x == `""` && y == `"etcd-cluster"` }) || changed
			changed = b.unsay(a, defaultName) || changed
			changed = a.unsay(b, "warn --v2-deprecation is deprecated and scheduled for removal in v3.8. The default value is enforced, ignoring user input.") || changed
			return changed || !a.ready && b.ready && b.as(a)
		}
		return forText.MatchString(a.says) && b.says != a.says && b.as(a)
	}},
	{"flags of other releases, and of Keelson", func(_ trial, a, b *outcome) bool {
		return !a.ready && a.code == 2 && ourFlags.MatchString(a.says) && !strings.HasPrefix(b.says, "flag provided but not defined") && b.as(a)
	}},
	{"sockets without a path, or with TLS that there is no certificate for", func(r trial, a, b *outcome) bool {
		return !b.ready && (strings.Contains(b.says, "URL must contain the path of a socket: unix") ||
			a.ready && strings.Contains(r.String(), "unixs:") && b.ends("failed to verify flags: cannot listen on TLS for ")) && b.as(a)
	}},
	{"`--initial-cluster` that has an address of a member twice", func(_ trial, a, b *outcome) bool {
		return a.ends("discovery failed: failed to resolve http://@peer to match --initial-cluster=m1=http://@peer (len(") && b.ready && b.as(a)
	}},
	{"`--initial-advertise-peer-urls` that `--initial-cluster` lacks", func(_ trial, a, b *outcome) bool {
		const lacks = "discovery failed: --initial-advertise-peer-urls has http://@third but missing from --initial-cluster=m1=http://@peer"
		return (a.says == lacks+",m1=http://@third" || a.says == strings.Replace(lacks, "m1=", "m1=http://@third,m1=", 1)) && b.says == lacks && b.as(a)
	}},
	{"`--self-signed-cert-validity=0`", func(_ trial, a, b *outcome) bool {
		return strings.HasSuffix(a.says, "selfSignedCertValidity is invalid,it should be greater than 0") && !a.ready && b.ready && b.as(a)
	}},
}

const defaultName = "warn it isn't recommended to use default name, please set a value for --name. Note that etcd might run into issue when multiple members have the same default name"

// demandedInVain is what ours says of names, and certificates, that are not asked for.
var demandedInVain = regexp.MustCompile(`^warn (names that (client|peer) certificates may have are ignored: no certificates are demanded|what is demanded of peer certificates is ignored: with auto TLS, nobody vouches for them)$`)

// forText is what etcd says of values that are taken for texts or lists of texts. Of some, ours has other things to say then.
var forText = regexp.MustCompile(`cannot unmarshal ((number|bool) into .* of type (string|config\.V2DeprecationEnum)|string into .* of type \[\]string|array into .*\.(cors|host-whitelist) of type string)$`)

// ourFlags is what etcd says of flags that it had, or that are ours.
var ourFlags = regexp.MustCompile(`^flag provided but not defined: -(experimental-(initial-corrupt-check|max-learners|watch-progress-notify-interval|warning-apply-duration|corrupt-check-time)|enable-v2|discovery|rpc-server)$`)

// ends reports whether the start failed, and the reason begins like this.
func (o *outcome) ends(says string) bool {
	return !o.ready && o.code == 1 && strings.HasPrefix(o.says, says)
}

// cause is the reason without the place at which it was found.
func cause(says string) string {
	return strings.TrimPrefix(strings.TrimPrefix(says, "discovery failed: "), "failed to verify flags: ")
}

var typeError = regexp.MustCompile(`^failed to verify flags: (?:error unmarshaling JSON: while decoding JSON|invalid log rotation config): json: cannot unmarshal ([a-z]+(?: [-0-9.]+)?) into (?:Go struct field \w+\.\w+\.|Go struct field )?(.*) of type .*$`)

// wrongType is what of a type error says which value of which key it is about; empty: it is none.
func wrongType(says string) string {
	if regexp.MustCompile(`into (the configuration|Go value of type embed.configYAML)$`).MatchString(says) {
		return strings.Fields(says[strings.Index(says, "cannot unmarshal "):])[2]
	}
	match := typeError.FindStringSubmatch(says)
	if match == nil {
		return ""
	}
	key := match[2][strings.LastIndex(match[2], ".")+1:]
	return match[1] + " " + key
}

// get is a setting in effect.
func (o *outcome) get(name string) (value string, ok bool) {
	for _, s := range o.settings {
		if value, ok = strings.CutPrefix(s, name+"="); ok {
			return value, true
		}
	}
	return "", false
}

// setAs gives a setting the value that it has in a, if both have it and the two values are such as fits says.
func (o *outcome) setAs(a *outcome, name string, fits func(theirs, ours string) bool) bool {
	x, ok := a.get(name)
	y, found := o.get(name)
	if !ok || !found || x == y || !fits(x, y) {
		return false
	}
	o.settings[slices.Index(o.settings, name+"="+y)] = name + "=" + x
	return true
}

// unsay takes out what only o says.
func (o *outcome) unsay(other *outcome, said string) bool {
	i := slices.Index(o.warnings, said)
	if i < 0 || slices.Contains(other.warnings, said) {
		return false
	}
	o.warnings = slices.Delete(o.warnings, i, i+1)
	return true
}

// as makes the outcome the other one.
func (o *outcome) as(a *outcome) bool {
	*o = *a
	return true
}

func number(s string) int {
	n, _ := strconv.Atoi(s)
	return n
}

func period(s string) time.Duration {
	d, _ := time.ParseDuration(strings.Trim(s, `"`))
	return d
}

// sameElements reports whether two lists have the same elements but for spaces around them.
func sameElements(x, y string) bool {
	elements := func(s string) []string {
		list := strings.Split(strings.NewReplacer(" ", "", `"`, "", "[", "", "]", "").Replace(s), ",")
		slices.Sort(list)
		return list
	}
	return slices.Equal(elements(x), elements(y))
}

// used are the rows whose rules have applied.
var used process.Book

// accept applies every rule that fits.
func accept(r trial, a, b *outcome) {
	for _, rule := range rules {
		if rule.applies(r, a, b) {
			used.Use(rule.row)
		}
	}
}

func unusedRules() (rows []string) {
	for _, rule := range rules {
		if !used.IsUsed(rule.row) {
			rows = append(rows, rule.row)
		}
	}
	return rows
}

// TestDocumented finds the rows of the documentation in the rules, and the reverse.
func TestDocumented(t *testing.T) {
	page, err := os.ReadFile("../../docs/differences.md")
	if err != nil {
		t.Fatal(err)
	}
	_, section, _ := strings.Cut(string(page), "\n## Settings\n")
	section, _, _ = strings.Cut(section, "\n## ")
	var rows []string
	for _, row := range regexp.MustCompile(`(?m)^\| (.*?) \|`).FindAllStringSubmatch(section, -1) {
		rows = append(rows, row[1])
	}
	for _, rule := range rules {
		if !slices.Contains(rows, rule.row) {
			t.Errorf("docs/differences.md has no row %q among the settings", rule.row)
		}
	}
	for _, row := range rows {
		if row != "what" && !slices.ContainsFunc(rules, func(rule rule) bool { return rule.row == row }) {
			t.Errorf("no rule has the row %q of docs/differences.md", row)
		}
	}
}
