package handshake

import (
	"os"
	"regexp"
	"slices"
	"strings"
	"testing"

	"keelson/peer/process"
)

// rule recognises a difference that is meant, and makes what was seen at ours what was seen at etcd.
type rule struct {
	row     string // of the table in docs/differences.md
	applies func(a, b *observation) bool
}

var rules = []rule{
	{"a revoked certificate, or a list that can't be read", func(a, b *observation) bool {
		if strings.Contains(a.what, "without its key") && strings.Contains(a.text(), "tls: invalid signature by the client certificate") &&
			strings.Contains(b.text(), " endpoint: list of revoked certificates: ") && strings.Contains(b.saw, "bad certificate") {
			return b.as(a) // it is looked at before the signature
		}
		// etcd's connection ends when the handshake is over.
		if strings.HasPrefix(a.where, "TestProxy/list") && strings.HasPrefix(a.what, "revoked at ") && ended.MatchString(a.saw) {
			return strings.HasSuffix(b.saw, "remote error: tls: bad certificate") && b.as(a)
		}
		if !ended.MatchString(a.saw) || !strings.HasSuffix(b.saw, "remote error: tls: bad certificate") || len(a.said) != 1 || len(b.said) != 1 {
			return false
		}
		reason := strings.Replace(b.said[0], ": list of revoked certificates: ", ": ", 1)
		return listed.MatchString(a.said[0]) && strings.HasPrefix(reason, strings.SplitN(a.said[0], "; ", 2)[0]) && b.as(a)
	}},
	{"a refused handshake where gRPC alone is served", func(a, b *observation) bool {
		return strings.Contains(strings.ToLower(a.where), "apart") && strings.HasPrefix(a.what, "@client") && a.saw == b.saw && len(a.said) == 0 && len(b.said) == 1 &&
			strings.HasPrefix(b.said[0], "warn rejected connection on client endpoint: ") && b.as(a)
	}},
	{"HTTP in clear text where only TLS is spoken", func(a, b *observation) bool {
		const told = "Client sent an HTTP request to an HTTPS server."
		return (strings.HasPrefix(a.saw, "nothing") && strings.HasPrefix(b.saw, "HTTP/1.0 400 Bad Request\n\n"+told) || a.saw == refused && strings.HasPrefix(b.saw, "HTTP/1.0 400 Bad Request ")) &&
			(len(b.said) == len(a.said) || strings.HasPrefix(a.what, "@client")) && b.as(a)
	}},
	{"HTTP/2 in clear text, at addresses where HTTP is served too", func(a, b *observation) bool {
		return strings.Contains(a.what, "in HTTP/2 without TLS") && !strings.Contains(a.where, "apart") && strings.HasPrefix(a.saw, "HTTP/2.0 415 ") && strings.HasPrefix(b.saw, "HTTP/2.0 200 OK") && b.as(a)
	}},
	{"TLS where only clear text is spoken", func(a, b *observation) bool {
		return a.saw == "no handshake: it ends" && b.saw == "no handshake: tls: first record does not look like a TLS handshake" && len(b.said) == 0 && b.as(a)
	}},
	{"`http` and `https` on one address for gRPC alone", func(a, b *observation) bool {
		return strings.HasSuffix(a.where, "/both,_apart") && strings.HasPrefix(a.what, "@client") && strings.HasSuffix(a.what, "without TLS") && a.saw == refused && b.saw != refused && b.as(a)
	}},
	{"ALPN with a client that knows HTTP/1.1, and not HTTP/2", func(a, b *observation) bool {
		if strings.Contains(a.saw, `protocol "",`) && strings.Contains(b.saw, `protocol "http/1.1",`) && strings.Contains(a.what, "http/1.1") {
			b.saw = strings.Replace(b.saw, `protocol "http/1.1",`, `protocol "",`, 1)
			return true
		}
		return false
	}},
	{"a revoked certificate, or a list that can't be read", func(a, b *observation) bool {
		// etcd looks at addresses first.
		return strings.Contains(a.where, "list_and_address") && len(a.said) == 1 && elsewhere.MatchString(a.said[0]) && strings.Contains(b.text(), " revoked;") &&
			strings.HasSuffix(b.saw, "bad certificate") && b.as(a)
	}},
	{"HTTP/2 over TLS at `--listen-peer-urls`", func(a, b *observation) bool {
		return strings.Contains(a.what, "@peer") && (strings.HasSuffix(a.saw, "note that the frame header looked like an HTTP/1.1 header") && strings.HasSuffix(b.saw, "HTTP/2 SETTINGS") ||
			a.saw == refused && strings.HasPrefix(b.saw, "HTTP/2.0 200 OK")) && b.as(a)
	}},
	{"gRPC without ALPN where gRPC alone is served", func(a, b *observation) bool {
		return strings.Contains(a.where, "apart") && strings.HasPrefix(a.what, "@client") && a.saw == "it ends" && b.saw == "HTTP/2 SETTINGS" && b.as(a)
	}},
	{"certificates that members make themselves", func(a, b *observation) bool {
		b.saw = strings.Replace(b.saw, "usage 100101,", "usage 1000101,", 1)
		if strings.Contains(a.where, "sockets") {
			if strings.HasPrefix(a.saw, "mode ") {
				b.saw = strings.Replace(b.saw, "addresses [127.0.0.1], names [localhost]", "addresses [127.0.0.1 127.0.0.1], names []", 1)
			}
			return strings.HasSuffix(a.saw, "not valid for any names, but wanted to match localhost") && b.as(a)
		}
		return a.text() == b.text()
	}},
	{"`--auto-tls` with clients who have to show certificates", func(a, b *observation) bool {
		return strings.Contains(a.where, "/clients,_who_have_to") && strings.HasSuffix(a.saw, "HTTP/1.1 200 OK") && len(b.said) == 1 &&
			strings.HasPrefix(b.said[0], "warn rejected connection on client endpoint: tls: ") && b.as(a)
	}},
	{"`--auto-tls`: a client that does not trust the certificate", func(a, b *observation) bool {
		return strings.HasPrefix(a.where, "TestOwnCertificates/") && a.saw == b.saw && len(a.said) == 0 && len(b.said) == 1 &&
			strings.Contains(b.said[0], " endpoint: remote error: tls: bad certificate;") && b.as(a)
	}},
	{"certificates, keys and authorities of clients that are none", func(a, b *observation) bool {
		return a.where == "TestOwnCertificatesStay" && a.what == "garbage" && strings.HasPrefix(a.saw, "serves true") && strings.HasPrefix(b.saw, "serves false") && b.as(a)
	}},
	{"a certificate whose common name is no user's, or is empty, with users demanded", func(a, b *observation) bool {
		who := strings.HasPrefix(a.what, "CN nobody: ") && strings.HasSuffix(b.saw, "etcdserver: permission denied") ||
			strings.HasPrefix(a.what, "CN : ") && strings.HasSuffix(b.saw, "etcdserver: user name is empty")
		if strings.HasPrefix(a.where, "TestProxyOfUsers/") { // the proxy's certificate has no name
			who = !strings.Contains(a.what, "with a token") && strings.HasSuffix(b.saw, "etcdserver: user name is empty")
		}
		return who && a.saw == "done" && b.as(a)
	}},
	{"`grpc-proxy`: what clients are told of refusals", func(a, b *observation) bool {
		const reason = "etcdserver: permission denied"
		return strings.HasPrefix(a.where, "TestProxyOfUsers/") && b.as(&observation{where: b.where, what: b.what,
			saw: strings.Replace(strings.Replace(b.saw, "PermissionDenied: "+reason, "Unknown: "+reason, 1), "rpc error: code = PermissionDenied desc = "+reason, reason, 1)}) && a.saw == b.saw
	}},
	{"`--client-cert-file`, `--client-key-file`", func(a, b *observation) bool {
		return strings.HasPrefix(a.where, "TestUsers/") && strings.Contains(a.what, " through the gateway, ") &&
			strings.Contains(a.saw, `"etcdserver:permission denied"`) && strings.Contains(b.saw, `"etcdserver:user name is empty"`) && b.as(a)
	}},
	{"`grpc-proxy`: pages over TLS and HTTP/2", func(a, b *observation) bool {
		return strings.HasPrefix(a.where, "TestProxy/") && strings.HasPrefix(a.saw, "HTTP/2.0 415 ") && strings.HasPrefix(b.saw, "HTTP/2.0 200 OK") && b.as(a)
	}},
	{"a list of what is revoked as PEM", func(a, b *observation) bool {
		const none = "rejected connection on client endpoint: x509: malformed crl"
		return strings.Contains(a.where, "list_as_PEM") && (a.saw == refused || ended.MatchString(a.saw) && len(a.said) == 1 && strings.Contains(a.said[0], none)) && b.as(a)
	}},
	{"certificates for other addresses at `--listen-metrics-urls`", func(a, b *observation) bool {
		return strings.Contains(a.what, "@metrics") && ended.MatchString(a.saw) && len(a.said) == 1 && elsewhere.MatchString(a.said[0]) &&
			(strings.Contains(b.saw, "; HTTP/1.1 ") && len(b.said) == 0 || strings.Contains(b.text(), " revoked;")) && b.as(a)
	}},
}

// elsewhere is what is said of a certificate for other addresses than the one that it came from.
var elsewhere = regexp.MustCompile(`rejected connection on (?:client|peer) endpoint: (tls: "127.0.0.1" does not match any of DNSNames|x509: certificate is valid for \S+, not 127.0.0.1)`)

// ended is what clients see whose connection ends when the handshake is over.
var ended = regexp.MustCompile(`; (no HTTP/1.1, )?it ends$`)

// listed is what is said of who is on a list, and of a list that is none.
var listed = regexp.MustCompile(`rejected connection on (client|peer) endpoint: (transport: certificate serial \w+ revoked|x509: (malformed crl|unsupported crl version)|(open|read) \S*: (no such file or directory|is a directory));`)

// as makes an observation the other one.
func (o *observation) as(a *observation) bool {
	*o = *a
	return true
}

// used are the rows whose rules have applied.
var used process.Book

// accept applies every rule that fits.
func accept(a, b *observation) {
	for _, rule := range rules {
		if a.text() != b.text() && rule.applies(a, b) {
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

// TestDocumented finds the rows of the rules in the documentation, among those about TLS or those about settings.
func TestDocumented(t *testing.T) {
	page, err := os.ReadFile("../../docs/differences.md")
	if err != nil {
		t.Fatal(err)
	}
	var rows []string
	for _, title := range []string{"TLS", "Settings"} {
		_, section, _ := strings.Cut(string(page), "\n## "+title+"\n")
		section, _, _ = strings.Cut(section, "\n## ")
		for _, row := range regexp.MustCompile(`(?m)^\| (.*?) \|`).FindAllStringSubmatch(section, -1) {
			rows = append(rows, row[1])
		}
	}
	for _, rule := range rules {
		if !slices.Contains(rows, rule.row) {
			t.Errorf("docs/differences.md has no row %q about TLS", rule.row)
		}
	}
}
