package handshake

import "testing"

// demanding are the arguments that most situations add: certificates of the authority are demanded.
var demanding = []string{"--trusted-ca-file=@files/ca.pem", "--client-cert-auth"}

// TestClients has every kind of client come to servers that demand more or less of them.
func TestClients(t *testing.T) {
	all := func(s *side) {
		for _, c := range actors.all {
			s.come("@client", c)
		}
	}
	scrapers := func(s *side) {
		for _, c := range actors.all {
			s.come("@metrics", c)
		}
	}
	some := func(s *side) {
		for _, name := range []string{"none", "right", "revoked", "another host", "of another authority, with a revoked serial"} {
			s.use("@client", actors.named(name))
		}
	}
	demand := func(more ...string) []string { return with(append(more, demanding...)...) }
	for name, r := range map[string]situation{
		"metrics":                      {args: demand("--listen-metrics-urls=https://@metrics", "--client-crl-file=@files/revoked.crl"), look: scrapers},
		"metrics, host":                {args: demand("--listen-metrics-urls=https://@metrics", "--client-cert-allowed-hostname=client.example"), look: scrapers},
		"nothing":                      {look: all},
		"authority":                    {args: with("--trusted-ca-file=@files/ca.pem"), look: all},
		"authority and certificate":    {args: demand(), look: all},
		"certificate":                  {args: with("--client-cert-auth"), look: some},
		"certificate, system's":        {args: with("--client-cert-auth"), env: []string{"SSL_CERT_FILE=@files/ca.pem"}, look: some},
		"several authorities":          {args: with("--trusted-ca-file=@files/both.pem", "--client-cert-auth"), look: some},
		"a middle is the authority":    {args: with("--trusted-ca-file=@files/middle.pem", "--client-cert-auth"), look: all},
		"list":                         {args: demand("--client-crl-file=@files/revoked.crl"), look: all},
		"list, no certificate":         {args: with("--client-crl-file=@files/revoked.crl"), look: some},
		"missing list, no certificate": {args: with("--client-crl-file=@files/missing.crl"), look: some},
		"list of nothing":              {args: demand("--client-crl-file=@files/nothing.crl"), look: some},
		"list as PEM":                  {args: demand("--client-crl-file=@files/revoked-pem.crl"), look: some},
		"list of version 1":            {args: demand("--client-crl-file=@files/v1.crl"), look: some},
		"list of the past":             {args: demand("--client-crl-file=@files/old.crl"), look: some},
		"list of another authority":    {args: demand("--client-crl-file=@files/foreign.crl"), look: some},
		"empty list":                   {args: demand("--client-crl-file=@files/empty.crl"), look: some},
		"list that is none":            {args: demand("--client-crl-file=@files/garbage.crl"), look: some},
		"list that is missing":         {args: demand("--client-crl-file=@files/missing.crl"), look: some},
		"list that is a directory":     {args: demand("--client-crl-file=@files"), look: some},
		"host":                         {args: demand("--client-cert-allowed-hostname=client.example"), look: all},
		"other hosts":                  {args: demand("--client-cert-allowed-hostname=nobody.example,x"), look: all},
		"address":                      {args: demand("--client-cert-allowed-hostname=127.0.0.1,other.example"), look: all},
		"IPv6 address":                 {args: demand("--client-cert-allowed-hostname=[::1]"), look: all},
		"wildcard":                     {args: demand("--client-cert-allowed-hostname=*.example"), look: all},
		"host, no certificate":         {args: with("--client-cert-allowed-hostname=client.example"), look: some},
		"host and list":                {args: demand("--client-cert-allowed-hostname=client.example", "--client-crl-file=@files/revoked.crl"), look: some},
		"name":                         {file: inFile("allowed-cn: [other, client.example]"), look: all},
		"name that nobody has":         {file: inFile("allowed-cn: [nobody]"), look: some},
		"names that are empty":         {file: inFile(`allowed-cn: [""]`), look: all},
		"server with RSA":              {args: demand("--cert-file=@files/rsa.pem", "--key-file=@files/rsa.key"), look: some},
		"server through a middle":      {args: demand("--cert-file=@files/chained.pem", "--key-file=@files/chained.key"), look: some},
		"server's certificate is late": {args: demand("--cert-file=@files/late.pem", "--key-file=@files/late.key"), look: some},
		"server is no client":          {args: demand("--cert-file=@files/serveronly.pem", "--key-file=@files/serveronly.key"), look: some},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			r.compare(t)
		})
	}
}

// inFile is a configuration file that demands certificates of clients, with a line more about them.
func inFile(line string) string {
	return `
name: m1
data-dir: "@dir/data"
listen-client-urls: "https://@client"
advertise-client-urls: "https://@client"
listen-peer-urls: "http://@peer"
initial-advertise-peer-urls: "http://@peer"
initial-cluster: "m1=http://@peer"
client-transport-security:
  cert-file: "@files/server.pem"
  key-file: "@files/server.key"
  trusted-ca-file: "@files/ca.pem"
  client-cert-auth: true
  ` + line + "\n"
}
