package bootstrap

import (
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"errors"
	"fmt"
	"math/big"
	"net"
	"os"
	"path/filepath"
	"reflect"
	"slices"
	"strings"
	"testing"
	"time"

	"go.etcd.io/etcd/api/v3/v3rpc/rpctypes"
	"go.uber.org/zap"
	"go.uber.org/zap/zapcore"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/credentials"
	"google.golang.org/grpc/status"

	"keelson/env"
	"keelson/state/members"
)

// hasty is a clock whose timers are due at once, and noted.
type hasty struct {
	env.Clock
	pauses *[]time.Duration
}

func (h hasty) NewTimer(d time.Duration) env.Timer {
	*h.pauses = append(*h.pauses, d)
	return h.Clock.NewTimer(0)
}

func newHasty() hasty { return hasty{env.SystemClock(), new([]time.Duration)} }

const sizeKey, memberKeys = "/_etcd/registry/tok/_config/size", "/_etcd/registry/tok/members/"

// seeker makes the options of a member that is looking for others.
func seeker(t *testing.T, name, own string, endpoints string, more ...string) Options {
	t.Helper()
	o, _ := options(t, name, append([]string{"--initial-advertise-peer-urls=" + own, "--discovery-token=tok", "--discovery-endpoints=" + endpoints}, more...)...)
	o.Clock = newHasty()
	return o
}

// Members that know nothing of each other but the token come to the same cluster, in whatever order they come; the one
// endpoint that nobody listens on does not matter.
func TestDiscover(t *testing.T) {
	for _, n := range []int{1, 3, 5} {
		s := newService()
		s.set(sizeKey, fmt.Sprint(n))
		endpoints := strings.TrimPrefix(deadURL(t), "http://") + ",http://" + s.serve(t, nil)
		type outcome struct {
			b   Beginning
			err error
		}
		outcomes := make(chan outcome, n)
		for i := range n {
			own := deadURL(t)
			o := seeker(t, fmt.Sprintf("m%d", i), own+","+deadURL(t), endpoints)
			go func() {
				b, err := Begin(context.Background(), o)
				outcomes <- outcome{b, err}
			}()
		}
		var first Beginning
		ids := map[uint64]bool{}
		for i := range n {
			got := <-outcomes
			if got.err != nil {
				t.Fatal(got.err)
			}
			if i == 0 {
				first = got.b
			}
			ids[got.b.MemberID] = true
			if got.b.ClusterID != first.ClusterID || len(got.b.Members) != n || !reflect.DeepEqual(got.b.Members, first.Members) {
				t.Errorf("one comes to %+v, another to %+v", got.b, first)
			}
		}
		if len(ids) != n {
			t.Errorf("ids %v of %d members", ids, n)
		}
	}
}

// Ids follow from the addresses and the discovery token, and stand in the registry as hex.
func TestDiscoverIdentity(t *testing.T) {
	s := newService()
	s.set(sizeKey, "1")
	own := deadURL(t)
	b, err := Begin(context.Background(), seeker(t, "a", own, s.serve(t, nil), "--initial-cluster-token=other"))
	if err != nil {
		t.Fatal(err)
	}
	id := members.ID([]string{own}, "tok", 0)
	if b.MemberID != id || b.ClusterID != members.ClusterID([]uint64{id}) {
		t.Errorf("got %+v, want id %x", b, id)
	}
	if got := s.value(memberKeys + fmt.Sprintf("%x", id)); got != "a="+own {
		t.Errorf("registered %q", got)
	}
}

func TestDiscoverRefusals(t *testing.T) {
	own := deadURL(t)
	for _, c := range []struct {
		name  string
		pairs [][2]string
		want  string
	}{
		{"no size", nil, "discovery: size key not found"},
		{"size is no number", [][2]string{{sizeKey, "three"}}, "discovery: size key is bad"},
		{"size is zero", [][2]string{{sizeKey, "0"}}, "discovery: size key is bad"},
		{"size is negative", [][2]string{{sizeKey, "-1"}}, "discovery: size key is bad"},
		{"full", [][2]string{{sizeKey, "1"}, {memberKeys + "7", "b=http://b:1"}}, "discovery: cluster is full"},
		{"no url", [][2]string{{sizeKey, "2"}, {memberKeys + "7", "b"}}, "discovery: invalid peer URL"},
		{"bad url", [][2]string{{sizeKey, "2"}, {memberKeys + "7", "b=b:1"}}, "discovery: invalid peer URL"},
		{"two members in one", [][2]string{{sizeKey, "2"}, {memberKeys + "7", "b=http://b:1,c=http://c:1"}}, "discovery: invalid peer URL"},
		{"same address", [][2]string{{sizeKey, "2"}, {memberKeys + "7", "b=" + own}}, "found duplicate peer from discovery service"},
		{"same name", [][2]string{{sizeKey, "2"}, {memberKeys + "7", "a=http://b:1"}}, "found duplicate peer from discovery service"},
	} {
		t.Run(c.name, func(t *testing.T) {
			s := newService()
			for _, p := range c.pairs {
				s.set(p[0], p[1])
			}
			o, logs := options(t, "a", "--initial-advertise-peer-urls="+own, "--discovery-token=tok", "--discovery-endpoints="+s.serve(t, nil))
			fails(t, o, c.want)
			if logs.FilterMessage("failed to bootstrap; discovery token was already used").Len() != 1 ||
				logs.FilterMessage("do not reuse discovery token; generate a new one to bootstrap a cluster").Len() != 1 {
				t.Errorf("logged %v", logs.All())
			}
		})
	}
}

// Of more members than the cluster takes, those that registered first are in it; who is one of them may come again.
func TestDiscoverFirstComeFirstServed(t *testing.T) {
	s := newService()
	s.set(sizeKey, "2")
	s.set(memberKeys+"ffffffffffffffff", "z=http://z:1") // first, though last by key
	address := s.serve(t, nil)
	own := deadURL(t)
	for range 2 {
		if b, err := Begin(context.Background(), seeker(t, "a", own, address)); err != nil || len(b.Members) != 2 {
			t.Errorf("%+v, %v", b, err)
		}
	}
	fails(t, seeker(t, "b", deadURL(t), address), "discovery: cluster is full")
}

// What may pass is tried again, after 1, 2, 4 and so on up to 256 seconds, each step anew.
func TestDiscoverTriesAgain(t *testing.T) {
	s := newService()
	s.set(sizeKey, "1")
	unavailable := status.Error(codes.Unavailable, "no leader")
	s.failing = append(slices.Repeat([]error{unavailable}, 10), nil, rpctypes.ErrGRPCTimeout, rpctypes.ErrGRPCNoLeader, nil, rpctypes.ErrGRPCStopped)
	o := seeker(t, "a", deadURL(t), s.serve(t, nil))
	if _, err := Begin(context.Background(), o); err != nil {
		t.Fatal(err)
	}
	var seconds []int
	for _, d := range *o.Clock.(hasty).pauses {
		seconds = append(seconds, int(d/time.Second))
	}
	if want := []int{1, 2, 4, 8, 16, 32, 64, 128, 256, 256, 1, 2, 1}; !slices.Equal(seconds, want) {
		t.Errorf("pauses of %v seconds, want %v", seconds, want)
	}
}

func TestDiscoverGivesUp(t *testing.T) {
	s := newService()
	s.failing = slices.Repeat([]error{rpctypes.ErrGRPCNoLeader}, 4)
	o := seeker(t, "a", deadURL(t), s.serve(t, nil))
	registry, err := dialRegistry(o.Config.Discovery)
	if err != nil {
		t.Fatal(err)
	}
	defer registry.Close()
	m := meeting{registry: registry, clock: o.Clock, logger: zap.NewNop(), token: "tok", own: "1", retriesMax: 3}
	if _, err := m.attend(context.Background(), "a=http://a:1"); err != errTooManyRetries || err.Error() != "discovery: too many retries" {
		t.Errorf("got %v", err)
	}
}

// A start that is called off does not wait for the end of a pause, and does not blame the token.
func TestDiscoverCalledOff(t *testing.T) {
	ctx, cancel := context.WithCancel(context.Background())
	o, logs := options(t, "a", "--discovery-token=tok", "--discovery-endpoints="+deadURL(t))
	o.Logger = o.Logger.WithOptions(zap.Hooks(func(zapcore.Entry) error { cancel(); return nil })) // at the first pause
	if b, err := Begin(ctx, o); !errors.Is(err, context.Canceled) {
		t.Errorf("%+v, %v", b, err)
	}
	if logs.FilterMessageSnippet("token").Len() != 0 {
		t.Errorf("logged %v", logs.All())
	}
}

// A watch that can't go on from where the list was read is followed by another look.
func TestDiscoverPastACompaction(t *testing.T) {
	s := newService()
	s.set(sizeKey, "2")
	s.compact = 1 << 40
	o, logs := options(t, "a", "--discovery-token=tok", "--discovery-endpoints="+s.serve(t, nil))
	waiting := 0
	o.Logger = o.Logger.WithOptions(zap.Hooks(func(e zapcore.Entry) error {
		if waiting++; waiting == 3 {
			s.set(memberKeys+"1", "b=http://b:1")
		}
		return nil
	}))
	if b, err := Begin(context.Background(), o); err != nil || len(b.Members) != 2 || waiting < 3 {
		t.Errorf("%+v, %v after %d looks: %v", b, err, waiting, logs.All())
	}
}

func TestDiscoverAsAUser(t *testing.T) {
	s := newService()
	s.set(sizeKey, "1")
	s.password = "secret"
	address := s.serve(t, nil)
	fails(t, seeker(t, "a", deadURL(t), address), "discovery: "+rpctypes.ErrGRPCUserEmpty.Error())
	fails(t, seeker(t, "a", deadURL(t), address, "--discovery-user=root", "--discovery-password=wrong"), "discovery: "+rpctypes.ErrGRPCAuthFailed.Error())

	o := seeker(t, "a", deadURL(t), address, "--discovery-user=root", "--discovery-password=secret")
	s.failing = []error{nil, rpctypes.ErrGRPCInvalidAuthToken} // as when the token runs out half way
	if _, err := Begin(context.Background(), o); err != nil {
		t.Error(err)
	}
	if s.tokens != 2 {
		t.Errorf("authenticated %d times", s.tokens)
	}

	open := newService()
	open.set(sizeKey, "1")
	if _, err := Begin(context.Background(), seeker(t, "a", deadURL(t), open.serve(t, nil), "--discovery-user=root", "--discovery-password=x")); err != nil {
		t.Errorf("a service without users: %v", err)
	}
}

func TestDiscoverOverTLS(t *testing.T) {
	ca, pair := certificate(t)
	s := newService()
	s.set(sizeKey, "1")
	address := s.serve(t, credentials.NewTLS(&tls.Config{
		Certificates: []tls.Certificate{pair}, ClientAuth: tls.RequireAndVerifyClientCert, ClientCAs: poolOf(t, ca),
	}))
	key := strings.TrimSuffix(ca, ".crt") + ".key"
	identity := []string{"--discovery-cert=" + ca, "--discovery-key=" + key}
	for name, more := range map[string][]string{
		"by scheme":             append(identity, "--discovery-cacert="+ca, "--discovery-endpoints=https://"+address),
		"by settings":           append(identity, "--discovery-cacert="+ca, "--discovery-insecure-transport=false"),
		"without verification":  append(identity, "--discovery-insecure-skip-tls-verify"),
		"a CA and no scheme":    append(identity, "--discovery-cacert="+ca),
		"one of two is nowhere": append(identity, "--discovery-cacert="+ca, "--discovery-endpoints="+strings.Replace(deadURL(t), "http", "https", 1)+",https://"+address),
	} {
		own := deadURL(t)
		s.mu.Lock()
		for k := range s.pairs {
			if k != sizeKey {
				delete(s.pairs, k)
			}
		}
		s.mu.Unlock()
		args := append([]string{"--initial-advertise-peer-urls=" + own, "--discovery-token=tok"}, more...)
		if !strings.Contains(strings.Join(more, " "), "--discovery-endpoints") {
			args = append(args, "--discovery-endpoints="+address)
		}
		o, _ := options(t, "a", args...)
		if _, err := Begin(context.Background(), o); err != nil {
			t.Errorf("%s: %v", name, err)
		}
	}
	o := seeker(t, "a", deadURL(t), address, "--discovery-cert="+ca, "--discovery-key=/nowhere")
	if _, err := Begin(context.Background(), o); err == nil || !strings.HasPrefix(err.Error(), "discovery: client certificate: ") {
		t.Errorf("a key that is not there: %v", err)
	}
	o = seeker(t, "a", deadURL(t), address, "--discovery-cacert="+key)
	if _, err := Begin(context.Background(), o); err == nil || err.Error() != "discovery: CA: no certificate in "+key {
		t.Errorf("a CA that is none: %v", err)
	}
}

// certificate makes a certificate of 127.0.0.1 that is its own CA, in a file with its key beside it.
func certificate(t *testing.T) (path string, pair tls.Certificate) {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	template := &x509.Certificate{
		SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: "test"}, NotAfter: time.Now().Add(time.Hour),
		IPAddresses: []net.IP{net.IPv4(127, 0, 0, 1)}, IsCA: true, BasicConstraintsValid: true,
		KeyUsage:    x509.KeyUsageDigitalSignature | x509.KeyUsageCertSign,
		ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth, x509.ExtKeyUsageClientAuth},
	}
	der, err := x509.CreateCertificate(rand.Reader, template, template, &key.PublicKey, key)
	if err != nil {
		t.Fatal(err)
	}
	private, err := x509.MarshalPKCS8PrivateKey(key)
	if err != nil {
		t.Fatal(err)
	}
	certPEM := pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der})
	keyPEM := pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: private})
	path = filepath.Join(t.TempDir(), "own.crt")
	if err := errors.Join(os.WriteFile(path, certPEM, 0o600), os.WriteFile(strings.TrimSuffix(path, ".crt")+".key", keyPEM, 0o600)); err != nil {
		t.Fatal(err)
	}
	if pair, err = tls.X509KeyPair(certPEM, keyPEM); err != nil {
		t.Fatal(err)
	}
	return path, pair
}

func poolOf(t *testing.T, path string) *x509.CertPool {
	t.Helper()
	text, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	pool := x509.NewCertPool()
	if !pool.AppendCertsFromPEM(text) {
		t.Fatal("no certificate")
	}
	return pool
}

func TestEndpointAddress(t *testing.T) {
	for endpoint, want := range map[string][2]string{
		"http://a:1":          {"a:1", "a:1"},
		"https://a.b:2379":    {"a.b:2379", "a.b:2379"},
		"a:1":                 {"a:1", "a:1"},
		"127.0.0.1:2379":      {"127.0.0.1:2379", "127.0.0.1:2379"},
		"[::1]:2379":          {"[::1]:2379", "[::1]:2379"},
		"unix:///tmp/x.sock":  {"unix:/tmp/x.sock", "localhost"},
		"unixs://localhost:1": {"unix:localhost:1", "localhost"},
	} {
		if address, host := endpointAddress(endpoint); address != want[0] || host != want[1] {
			t.Errorf("%s: %s, %s", endpoint, address, host)
		}
	}
}
