package dev

import (
	"encoding/json"
	"errors"
	"fmt"
	"net"
	"os"
	"path/filepath"
	"strconv"
	"strings"
)

const (
	planName    = "dev.json"
	planVersion = 2
	// planVersionPlain is how plans were written before clusters could have TLS.
	planVersionPlain = 1
)

// plan is what stays the same over all starts of a cluster, as dev.json in its directory holds it. The format is drawn in
// docs/formats/dev.md.
type plan struct {
	Version  int    `json:"version"`
	Members  int    `json:"members"`
	Host     string `json:"host"`
	BasePort int    `json:"basePort"`
	TLS      bool   `json:"tls"`
}

// place is where one member is.
type place struct {
	name    string
	dataDir string
	logPath string
	client  string // host:port for clients
	peer    string // host:port for other members
	secure  bool   // with TLS, by certificates that members make themselves
}

// scheme begins the member's URLs.
func (p place) scheme() string {
	if p.secure {
		return "https://"
	}
	return "http://"
}

// clientPort is where member i (from 0) serves clients: etcd's habit for clusters on one machine.
func clientPort(base, i int) int {
	if i == 0 {
		return base
	}
	return base + 10000*(i+1)
}

// loadPlan reads the plan of the directory, or writes one down if it has none. What was not said on the command line is
// taken from the directory; what was said has to agree with it.
func loadPlan(o Options) (plan, error) {
	path := filepath.Join(o.DataDir, planName)
	wanted := plan{planVersion, o.Members, o.Host, o.BasePort, o.TLS}
	text, err := os.ReadFile(path)
	if errors.Is(err, os.ErrNotExist) {
		return wanted, wanted.save(path)
	}
	if err != nil {
		return plan{}, err
	}
	found, err := parsePlan(text)
	if err != nil {
		return plan{}, fmt.Errorf("%s: %w", path, err)
	}
	for _, c := range []struct {
		flag      string
		had, want any
	}{
		{"members", found.Members, wanted.Members},
		{"host", found.Host, wanted.Host},
		{"base-port", found.BasePort, wanted.BasePort},
		{"tls", found.TLS, wanted.TLS},
	} {
		if o.given[c.flag] && c.had != c.want {
			return plan{}, fmt.Errorf("the cluster in %s was begun with --%s=%v, not %v; leave the flag out, or choose another --data-dir",
				o.DataDir, c.flag, c.had, c.want)
		}
	}
	return found, nil
}

func parsePlan(text []byte) (plan, error) {
	var p plan
	err := json.Unmarshal(text, &p)
	switch {
	case err != nil:
		return plan{}, fmt.Errorf("not a plan of a cluster: %w; remove the directory to begin anew", err)
	case p.Version != planVersion && p.Version != planVersionPlain:
		return plan{}, fmt.Errorf("version %d, this program knows %d", p.Version, planVersion)
	case p.Version == planVersionPlain && p.TLS:
		return plan{}, fmt.Errorf("version %d with TLS; remove the directory to begin anew", p.Version)
	}
	if err := (Options{Members: p.Members, DataDir: ".", BasePort: p.BasePort, Host: p.Host}).validate(); err != nil {
		return plan{}, fmt.Errorf("not a plan of a cluster: %w; remove the directory to begin anew", err)
	}
	return p, nil
}

// save writes the plan in one step, so that a start that is cut short leaves none or a whole one.
func (p plan) save(path string) error {
	if err := os.MkdirAll(filepath.Dir(path), 0o700); err != nil {
		return err
	}
	text, err := json.MarshalIndent(p, "", "  ")
	if err != nil {
		return err
	}
	if err := os.WriteFile(path+".new", append(text, '\n'), 0o600); err != nil {
		return err
	}
	return os.Rename(path+".new", path)
}

// places lists the members' places below dir.
func (p plan) places(dir string) []place {
	list := make([]place, p.Members)
	for i := range list {
		name := "m" + strconv.Itoa(i+1)
		port := clientPort(p.BasePort, i)
		list[i] = place{
			name:    name,
			dataDir: filepath.Join(dir, name),
			logPath: filepath.Join(dir, name+".log"),
			client:  net.JoinHostPort(p.Host, strconv.Itoa(port)),
			peer:    net.JoinHostPort(p.Host, strconv.Itoa(port+1)),
			secure:  p.TLS,
		}
	}
	return list
}

// flagsOf are the flags of keelson serve that make a process the member at p, one of those at all.
func flagsOf(p place, all []place, more []string) []string {
	initial := make([]string, len(all))
	for i, m := range all {
		initial[i] = m.name + "=" + m.scheme() + m.peer
	}
	flags := []string{
		"--name=" + p.name,
		"--data-dir=" + p.dataDir,
		"--listen-client-urls=" + p.scheme() + p.client,
		"--advertise-client-urls=" + p.scheme() + p.client,
		"--listen-peer-urls=" + p.scheme() + p.peer,
		"--initial-advertise-peer-urls=" + p.scheme() + p.peer,
		"--initial-cluster=" + strings.Join(initial, ","),
		"--initial-cluster-token=keelson-dev",
	}
	if p.secure {
		flags = append(flags, "--auto-tls", "--peer-auto-tls")
	}
	return append(flags, more...)
}

// clientFlags are what etcdctl needs besides the endpoints.
func (p plan) clientFlags() string {
	if p.TLS {
		return " --insecure-skip-tls-verify --insecure-transport=false"
	}
	return ""
}

// endpointsOf joins the members' client addresses as client programs take them.
func endpointsOf(all []place) string {
	list := make([]string, len(all))
	for i, m := range all {
		list[i] = m.client
		if m.secure {
			list[i] = m.scheme() + m.client
		}
	}
	return strings.Join(list, ",")
}

// checkPorts refuses to begin when somebody else listens where a member would. A member would refuse as well, but its
// reason would stand in its log, and the others would wait for it.
func checkPorts(all []place) error {
	for _, m := range all {
		for _, address := range []string{m.client, m.peer} {
			l, err := net.Listen("tcp", address)
			if err != nil {
				return fmt.Errorf("member %s can't listen on %s (%w); if another cluster runs there, stop it, or choose another --base-port and --data-dir",
					m.name, address, err)
			}
			if err := l.Close(); err != nil {
				return err
			}
		}
	}
	return nil
}
