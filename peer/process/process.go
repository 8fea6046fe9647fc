// Package process runs servers as real processes: etcd-peer and Keelson, started, watched for readiness, stopped,
// killed and started again on the same data directory and ports.
//
// It knows the command line of each kind and nothing of what they serve. A Server is used by one goroutine at a time;
// whoever starts one stops it, and Close is safe to call however far the start came.
package process

import (
	"bufio"
	"bytes"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"syscall"
	"time"
)

// Kind is which program a server runs.
type Kind int

const (
	// Etcd is cmd/etcd-peer of this module.
	Etcd Kind = iota
	// Keelson is the binary under test.
	Keelson
	// EtcdV2 is an etcd that has the v2 API: 3.4, as distributions have it.
	EtcdV2
)

// String names the kind as reports do.
func (k Kind) String() string {
	switch k {
	case Etcd:
		return "etcd"
	case EtcdV2:
		return "etcd 3.4"
	}
	return "keelson"
}

const (
	readyTimeout = 60 * time.Second // a replay of a large log counts towards it
	stopTimeout  = 20 * time.Second // from SIGTERM to SIGKILL
	tailBytes    = 16 << 10         // how much of stderr is kept for reports
)

// Server is one member with a fixed data directory and fixed ports, running or not.
type Server struct {
	kind       Kind
	binary     string
	dataDir    string
	clientAddr string // host:port
	peerAddr   string // host:port
	extraArgs  []string
	name       string
	initial    string // of the cluster; empty: the member alone
	joins      bool   // the cluster runs already

	// What follows belongs to the present run and is nil between runs.
	command *exec.Cmd
	exited  chan struct{} // closed after Wait returned; then exitErr is set
	exitErr error
	stderr  *tail
}

// New describes a server without starting it. The ports are free at this moment.
//
// Errors: no two free loopback ports.
func New(kind Kind, binary, dataDir string, extraArgs ...string) (*Server, error) {
	ports, err := FreeAddresses(2)
	if err != nil {
		return nil, err
	}
	return newServer(kind, binary, dataDir, ports, extraArgs), nil
}

func newServer(kind Kind, binary, dataDir string, ports, extraArgs []string) *Server {
	return &Server{
		kind: kind, binary: binary, dataDir: dataDir,
		clientAddr: ports[0], peerAddr: ports[1], extraArgs: extraArgs, name: "default",
	}
}

// NewCluster describes the members of one cluster without starting them; their data is below dir.
//
// Errors: as of New.
func NewCluster(kind Kind, binary, dir string, members int, extraArgs ...string) ([]*Server, error) {
	ports, err := FreeAddresses(2 * members)
	if err != nil {
		return nil, err
	}
	var list []*Server
	var initial []string
	for i := range members {
		s := newServer(kind, binary, filepath.Join(dir, fmt.Sprint("data", i)), ports[2*i:], extraArgs)
		s.name = fmt.Sprint("m", i)
		initial = append(initial, s.name+"=http://"+s.peerAddr)
		list = append(list, s)
	}
	for _, s := range list {
		s.initial = strings.Join(initial, ",")
	}
	return list, nil
}

// NewMember describes one more member of a cluster that NewCluster described, to be added to that before it is started.
// Its data is below dir.
//
// Errors: as of New.
func NewMember(cluster []*Server, dir string) (*Server, error) {
	ports, err := FreeAddresses(2)
	if err != nil {
		return nil, err
	}
	first, place := cluster[0], len(cluster)
	s := newServer(first.kind, first.binary, filepath.Join(dir, fmt.Sprint("data", place)), ports, first.extraArgs)
	s.name = fmt.Sprint("m", place)
	s.initial = first.initial + "," + s.name + "=" + s.PeerURL()
	s.joins = true
	return s, nil
}

// PeerURL is where other members reach it.
func (s *Server) PeerURL() string { return "http://" + s.peerAddr }

// Kind tells which program this is.
func (s *Server) Kind() Kind { return s.kind }

// Addr returns host:port of the client listener; it stays the same over restarts.
func (s *Server) Addr() string { return s.clientAddr }

// PID returns the process id, 0 when not running.
func (s *Server) PID() int {
	if s.command == nil || s.command.Process == nil {
		return 0
	}
	return s.command.Process.Pid
}

// Start launches the process and returns once it says that it serves clients; took is how long that was.
//
// Errors: the program cannot be run, ends early or is not ready in time; with the end of its stderr. The process is
// gone then.
func (s *Server) Start() (took time.Duration, err error) {
	if s.command != nil {
		panic(fmt.Sprintf("process: %v started twice", s.kind))
	}
	begin := time.Now()
	command := exec.Command(s.binary, s.args()...)
	s.stderr = &tail{}
	stdout, err := command.StdoutPipe()
	if err != nil {
		return 0, fmt.Errorf("process: start %v: %w", s.kind, err)
	}
	stderr, err := command.StderrPipe()
	if err != nil {
		return 0, fmt.Errorf("process: start %v: %w", s.kind, err)
	}
	if err := command.Start(); err != nil {
		return 0, fmt.Errorf("process: start %v: %w", s.kind, err)
	}
	s.command = command
	s.exited = make(chan struct{})
	ready := make(chan struct{})
	var once sync.Once
	isReady := func(line string) {
		if (s.kind == Etcd && line == "ready") || (s.kind != Etcd && strings.Contains(line, "ready to serve client requests")) {
			once.Do(func() { close(ready) })
		}
	}
	var readers sync.WaitGroup
	readers.Go(func() { scan(stdout, isReady, io.Discard) })
	readers.Go(func() { scan(stderr, isReady, s.stderr) })
	exited := s.exited
	go func() {
		readers.Wait() // Wait closes the pipes, so the readers finish first
		s.exitErr = command.Wait()
		close(exited)
	}()

	timer := time.NewTimer(readyTimeout)
	defer timer.Stop()
	select {
	case <-ready:
		return time.Since(begin), nil
	case <-s.exited:
		err = fmt.Errorf("process: %v ended before it was ready: %v\n%s", s.kind, s.exitErr, s.stderr)
	case <-timer.C:
		err = fmt.Errorf("process: %v not ready after %v\n%s", s.kind, readyTimeout, s.stderr)
	}
	return 0, errors.Join(err, s.Kill())
}

// Stop asks the process to end with SIGTERM and waits for it.
//
// Errors: it had ended by itself, ended with a failure, or had to be killed after 20 s.
func (s *Server) Stop() error {
	if s.command == nil {
		return nil
	}
	select {
	case <-s.exited:
		err := fmt.Errorf("process: %v had ended by itself: %v\n%s", s.kind, s.exitErr, s.stderr)
		s.command = nil
		return err
	default:
	}
	if err := s.command.Process.Signal(syscall.SIGTERM); err != nil {
		return errors.Join(fmt.Errorf("process: stop %v: %w", s.kind, err), s.Kill())
	}
	timer := time.NewTimer(stopTimeout)
	defer timer.Stop()
	select {
	case <-s.exited:
	case <-timer.C:
		return errors.Join(fmt.Errorf("process: %v ignored SIGTERM for %v\n%s", s.kind, stopTimeout, s.stderr), s.Kill())
	}
	s.command = nil
	// Ending by the very signal that asked for it is an ordinary end: etcd's own main does so.
	var exit *exec.ExitError
	if errors.As(s.exitErr, &exit) {
		if status, ok := exit.Sys().(syscall.WaitStatus); ok && status.Signaled() && status.Signal() == syscall.SIGTERM {
			return nil
		}
	}
	if s.exitErr != nil {
		return fmt.Errorf("process: stop %v: %w\n%s", s.kind, s.exitErr, s.stderr)
	}
	return nil
}

// Kill ends the process with SIGKILL and waits for it. Killing what does not run does nothing.
func (s *Server) Kill() error {
	if s.command == nil {
		return nil
	}
	err := s.command.Process.Kill()
	<-s.exited
	s.command = nil
	if err != nil && !errors.Is(err, os.ErrProcessDone) {
		return fmt.Errorf("process: kill %v: %w", s.kind, err)
	}
	return nil
}

// Alive reports whether the process still runs, and the end of its stderr if it does not.
func (s *Server) Alive() (bool, string) {
	if s.command == nil {
		return false, ""
	}
	select {
	case <-s.exited:
		return false, fmt.Sprintf("%v\n%s", s.exitErr, s.stderr)
	default:
		return true, ""
	}
}

// args returns the command line after the program's name.
func (s *Server) args() []string {
	client, peer := "http://"+s.clientAddr, "http://"+s.peerAddr
	if slices.Contains(s.extraArgs, "--cert-file") {
		client = "https://" + s.clientAddr
	}
	args := []string{"--name", s.name, "--data-dir", s.dataDir, "--listen-client-urls", client, "--listen-peer-urls", peer}
	if s.kind == Keelson {
		args = append([]string{"serve"}, args...)
	}
	if s.kind != Etcd {
		args = append(args, "--advertise-client-urls", client, "--initial-advertise-peer-urls", peer)
	}
	if s.initial != "" {
		args = append(args, "--initial-cluster", s.initial)
	} else if s.kind != Etcd {
		args = append(args, "--initial-cluster", s.name+"="+peer)
	}
	if s.joins {
		args = append(args, "--initial-cluster-state", "existing")
	}
	return append(args, s.extraArgs...)
}

// scan hands every line of r to each until the pipe ends, and copies the lines to log.
func scan(r io.Reader, each func(string), log io.Writer) {
	lines := bufio.NewReader(r)
	for {
		line, err := lines.ReadString('\n')
		if line != "" {
			each(strings.TrimSuffix(line, "\n"))
			io.WriteString(log, line)
		}
		if err != nil {
			return
		}
	}
}

// The system hands out ports from 32768 on to whoever asks for any. A server that is started again wants its own: they lie below.
const portMin, portMax = 10_000, 30_000

// handed are the ports that FreeAddresses has found: who is to listen there may not have begun to.
var handed struct {
	sync.Mutex
	ports map[int]bool
}

// FreeAddresses finds n distinct loopback addresses, host:port, that nobody listens on, and that it has not found before.
func FreeAddresses(n int) (addresses []string, err error) {
	handed.Lock()
	defer handed.Unlock()
	if handed.ports == nil {
		handed.ports = map[int]bool{}
	}
	for tries := 0; len(addresses) < n; tries++ {
		port := portMin + rand.IntN(portMax-portMin)
		if handed.ports[port] && tries < 100*n {
			continue
		}
		listener, err := net.Listen("tcp", fmt.Sprintf("127.0.0.1:%d", port))
		if err != nil && tries < 100*n {
			continue
		}
		handed.ports[port] = true
		if err != nil {
			return nil, fmt.Errorf("process: free port: %w", err)
		}
		// Held until all are found, so that they differ.
		defer listener.Close()
		addresses = append(addresses, listener.Addr().String())
	}
	return addresses, nil
}

// tail keeps the last bytes written to it. Safe for one writer and any readers.
type tail struct {
	mu    sync.Mutex
	bytes []byte
}

func (t *tail) Write(p []byte) (int, error) {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.bytes = append(t.bytes, p...)
	if len(t.bytes) > 2*tailBytes {
		t.bytes = bytes.Clone(t.bytes[len(t.bytes)-tailBytes:])
	}
	return len(p), nil
}

func (t *tail) String() string {
	t.mu.Lock()
	defer t.mu.Unlock()
	kept := t.bytes
	if len(kept) > tailBytes {
		kept = kept[len(kept)-tailBytes:]
	}
	return string(kept)
}

// BuildEtcd compiles cmd/etcd-peer into dir and returns its path. The Go tool's build cache makes all but the first
// build a matter of linking.
func BuildEtcd(dir string) (string, error) {
	path := filepath.Join(dir, "etcd-peer")
	build := exec.Command("go", "build", "-o", path, "keelson/peer/cmd/etcd-peer")
	if out, err := build.CombinedOutput(); err != nil {
		return "", fmt.Errorf("process: build etcd-peer: %w\n%s", err, out)
	}
	return path, nil
}
