package join

import (
	"context"
	"crypto/tls"
	"errors"
	"flag"
	"fmt"
	"io"
	"os"
	"os/signal"
	"path/filepath"
	"strings"
	"syscall"
	"time"

	"go.uber.org/zap"

	"keelson/config"
	"keelson/server/bootstrap"
	"keelson/server/certs"
)

const program = "keelson join"

// Main runs the command line `join --peer URL [flags]`. When this machine has its place in the cluster, it calls serve,
// which gets the name for usage texts and the flags of keelson serve, and returns its exit code; otherwise 1, or 2 for
// wrong usage.
func Main(serve func(program string, args []string) int, args []string) int {
	j := joiner{environ: os.Environ(), hostname: os.Hostname, pause: retryPause, stdout: os.Stdout, out: os.Stderr}
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	flags, err := j.prepare(ctx, args)
	stop()
	if err == nil {
		return serve(program, flags)
	}
	return j.report(err)
}

// joiner is one run of the command.
type joiner struct {
	environ  []string
	hostname func() (string, error)
	pause    time.Duration // between attempts
	stdout   io.Writer     // for help
	out      io.Writer     // for everything else
}

// usageError is a command line that can't be carried out.
type usageError struct{ error }

// prepare makes sure that the cluster has a place for this member, and returns the flags to serve with.
func (j joiner) prepare(ctx context.Context, args []string) ([]string, error) {
	l, err := parseLine(args, j.environ)
	switch {
	case errors.Is(err, flag.ErrHelp):
		return nil, err
	case err != nil:
		return nil, usageError{err}
	}
	flags, c, err := j.load(l)
	if err != nil {
		return nil, err
	}
	if isMember(c.Member.DataDir) {
		j.say("%s holds a member: starting it", c.Member.DataDir)
		return flags, nil
	}
	if err := l.checkOwn(); err != nil {
		return nil, usageError{err}
	}
	if err := checkListen(c); err != nil {
		return nil, err
	}
	peers, clients, err := j.identities(c)
	if err != nil {
		return nil, err
	}
	ctx, cancel := context.WithTimeout(ctx, l.timeout)
	defer cancel()
	a := &admission{
		peers:    l.peers.Strings(),
		name:     c.Member.Name,
		peerURLs: sorted(c.Cluster.AdvertisePeerURLs.Strings()),
		dataDir:  c.Member.DataDir,
		stay:     l.stay,
		client:   bootstrap.NewClient(peers, nil),
		security: clients,
		pause:    j.pause,
		say:      j.say,
	}
	members, err := a.admit(ctx)
	if err != nil {
		return nil, err
	}
	return append(flags, "--initial-cluster="+initialCluster(members, a.name, a.peerURLs), "--initial-cluster-state=existing"), nil
}

// load adds what this machine knows about itself to the flags, and reads them.
func (j joiner) load(l line) ([]string, *config.Config, error) {
	local, err := localAddress(l.peers[0])
	if err != nil {
		return nil, nil, err
	}
	hostname, err := j.hostname()
	if err != nil {
		hostname = "" // then a name has to be given
	}
	more, err := l.complete(hostname, local)
	if err != nil {
		return nil, nil, usageError{err}
	}
	flags := append(append([]string(nil), l.serve...), more...)
	c, _, err := config.Load(program, flags, config.Machine{Environ: j.environ, ReadFile: os.ReadFile, DefaultHost: config.DefaultHost})
	return flags, c, err
}

// identities are how the member that is to be talks to others with TLS: to peers, and as a client to members.
func (j joiner) identities(c *config.Config) (peers, clients *tls.Config, err error) {
	log := zap.NewNop() // the member warns again when it serves
	asPeer, err := certs.ForPeers(c, log)
	if err != nil {
		return nil, nil, err
	}
	asClient, err := certs.ForClients(c, log)
	if err != nil {
		return nil, nil, err
	}
	return asPeer.Client(), asClient.Client(), nil
}

// isMember reports whether a data directory has been initialised: package server/datadir makes this directory last.
func isMember(dir string) bool {
	_, err := os.Stat(filepath.Join(dir, "member"))
	return err == nil
}

func (j joiner) say(format string, args ...any) {
	fmt.Fprintf(j.out, program+": "+format+"\n", args...)
}

// report says why it came to nothing, and returns the exit code.
func (j joiner) report(err error) int {
	var wrong usageError
	var exit *config.Exit
	switch {
	case errors.Is(err, flag.ErrHelp):
		fmt.Fprint(j.stdout, usageText)
		return 0
	case errors.As(err, &wrong):
		j.say("%v", wrong.error)
		return 2
	case errors.As(err, &exit):
		if text := strings.TrimSpace(exit.Stdout + exit.Stderr); text != "" {
			fmt.Fprintln(j.out, text)
		} else {
			j.say("%v", exit)
		}
		return exit.Code
	}
	j.say("%v", err)
	return 1
}
