package testkit

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync/atomic"
	"testing"
)

// Lab is a cluster whose members live in network namespaces of their own, joined by a bridge in one more, so that links
// between them can be cut, made lossy and made slow. Nothing of it reaches the network of the machine: clients talk to the
// members through unix sockets. It needs root, ip (iproute2) and nft (nftables).
type Lab struct {
	*Cluster
	t       testing.TB
	prefix  string
	sockets string
	hosts   int   // namespaces that there are
	free    []int // those in which no member lives
}

var labs atomic.Int64

// NewLab makes the namespaces, and prepares the members; Start starts them.
func NewLab(t testing.TB, members int, extraArgs ...string) *Lab {
	t.Helper()
	for _, program := range []string{"ip", "nft", "tc"} {
		Need(t, program)
	}
	if os.Getuid() != 0 {
		t.Skip("network namespaces need root")
	}
	l := &Lab{t: t, hosts: members + spareHosts, prefix: fmt.Sprintf("kl%d-%d-", os.Getpid(), labs.Add(1))}
	sockets, err := os.MkdirTemp("", "kl") // the path of a socket has to be short
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { os.RemoveAll(sockets) })
	l.addNamespace("sw")
	l.in("sw", "ip", "link", "add", "br0", "type", "bridge")
	l.in("sw", "ip", "link", "set", "br0", "up")
	l.sockets = sockets
	for i := range l.hosts { // before the members, which are killed before the namespaces go
		l.addMember(i)
		l.free = append(l.free, i)
	}
	l.Cluster = NewCluster(t, members, extraArgs...)
	l.placed = l.house
	for _, p := range l.Members {
		l.house(p)
	}
	for _, p := range l.Members {
		p.Initial = l.Initial()
	}
	return l
}

// spareHosts is how many members can be added before one has to go.
const spareHosts = 2

// house gives a member the first free namespace.
func (l *Lab) house(p *Process) {
	i := l.free[0]
	l.free = l.free[1:]
	p.host = i
	p.Peer = address(i) + ":2380"
	p.ClientURL = "unix://" + filepath.Join(l.sockets, p.Name)
	p.Endpoint = p.ClientURL
	p.Wrap = []string{"ip", "netns", "exec", l.prefix + host(i)}
}

// Roomy reports whether a member can be added.
func (l *Lab) Roomy() bool { return len(l.free) > 0 }

// Vacate lets another member have the namespace, and so the address, of one that has ended for good.
func (l *Lab) Vacate(p *Process) { l.free = append(l.free, p.host) }

func host(i int) string    { return fmt.Sprintf("m%d", i+1) }
func address(i int) string { return fmt.Sprintf("10.99.0.%d", i+1) }

func (l *Lab) addNamespace(name string) {
	l.run("ip", "netns", "add", l.prefix+name)
	l.t.Cleanup(func() { l.run("ip", "netns", "del", l.prefix+name) })
}

// addMember makes the namespace of a member, with a cable to the bridge and a table of rules.
func (l *Lab) addMember(i int) {
	h := host(i)
	l.addNamespace(h)
	l.run("ip", "link", "add", "v"+h, "netns", l.prefix+"sw", "type", "veth", "peer", "name", "eth0", "netns", l.prefix+h)
	l.in("sw", "ip", "link", "set", "v"+h, "master", "br0", "up")
	l.in(h, "ip", "addr", "add", address(i)+"/24", "dev", "eth0")
	l.in(h, "ip", "link", "set", "eth0", "up")
	l.in(h, "ip", "link", "set", "lo", "up")
	l.in(h, "nft", "add", "table", "inet", "f")
	l.in(h, "nft", "add", "chain", "inet", "f", "in", "{ type filter hook input priority 0; }")
}

// Cut loses everything that one member sends to another; not the other way.
func (l *Lab) Cut(a, b *Process) {
	from, to := a.host, b.host
	l.in(host(to), "nft", "add", "rule", "inet", "f", "in", "ip", "saddr", address(from), "drop")
}

// Isolate cuts a member off from all others, in both directions.
func (l *Lab) Isolate(p *Process) {
	for _, other := range l.Others(p) {
		l.Cut(p, other)
		l.Cut(other, p)
	}
}

// Lossy loses so many percent of what a member is sent.
func (l *Lab) Lossy(p *Process, percent int) {
	l.in(host(p.host), "nft", "add", "rule", "inet", "f", "in", "iif", "eth0", "numgen", "random", "mod", "100", "<", fmt.Sprint(percent), "drop")
}

// Slow lets a member send only so many kilobits a second.
func (l *Lab) Slow(p *Process, kilobits int) {
	l.in(host(p.host), "tc", "qdisc", "replace", "dev", "eth0", "root", "tbf",
		"rate", fmt.Sprintf("%dkbit", kilobits), "burst", "16kb", "latency", "300ms")
}

// Heal makes all links good again.
func (l *Lab) Heal() {
	for i := range l.hosts {
		l.in(host(i), "nft", "flush", "chain", "inet", "f", "in")
		exec.Command("ip", "netns", "exec", l.prefix+host(i), "tc", "qdisc", "del", "dev", "eth0", "root").Run() // if there is one
	}
}

// in runs a program in a namespace.
func (l *Lab) in(name string, command ...string) {
	l.t.Helper()
	l.run(append([]string{"ip", "netns", "exec", l.prefix + name}, command...)...)
}

func (l *Lab) run(command ...string) {
	l.t.Helper()
	if out, err := exec.Command(command[0], command[1:]...).CombinedOutput(); err != nil {
		l.t.Errorf("%s: %v\n%s", strings.Join(command, " "), err, out)
	}
}
