package ctl

import (
	"context"
	"io"
	"os"
	"os/signal"
	"syscall"

	"github.com/spf13/cobra"

	"keelson/internal/cli"
)

// session is one invocation of a client program. It is used by one goroutine, apart from what lock, watch and the like
// start for themselves.
type session struct {
	program string // as usage texts say it
	// plain is etcdctl's manner: the output is exactly etcdctl's. Otherwise the program is keelson, which may colour, count
	// sizes for people and explain errors.
	plain   bool
	in      io.Reader
	out     io.Writer
	err     io.Writer
	environ func() []string

	flags     globals
	print     printer // set by configure
	paint     cli.Palette
	root      *cobra.Command
	contextOf string // the context that the connection's settings came from, for error texts
	tried     string // the command, for error texts
}

// Streams are what a program reads and writes.
type Streams struct {
	In       io.Reader
	Out, Err io.Writer
}

// Standard are the process's own streams.
func Standard() Streams { return Streams{In: os.Stdin, Out: os.Stdout, Err: os.Stderr} }

func newSession(program string, plain bool, s Streams) *session {
	return &session{program: program, plain: plain, in: s.In, out: s.Out, err: s.Err, environ: os.Environ, paint: cli.PaletteFor(s.Out)}
}

// Etcdctl runs a command line as etcdctl does and returns the exit code.
func Etcdctl(args []string, streams Streams) int {
	s := newSession("etcdctl", true, streams)
	return s.run(s.etcdctlRoot(), args)
}

// run carries out a command line.
func (s *session) run(root *cobra.Command, args []string) int {
	cobra.EnablePrefixMatching = true
	s.root = root
	root.SetArgs(args)
	root.SetIn(s.in)
	if s.out != os.Stdout { // cobra complains on stderr only where nobody has said what is out and what is err
		root.SetOut(s.out)
		root.SetErr(s.err)
	}
	root.SilenceErrors, root.SilenceUsage = true, true
	root.SetFlagErrorFunc(func(c *cobra.Command, err error) error { return usageError{c, err} })
	cmd, err := root.ExecuteC()
	s.tried = cmd.CommandPath()
	return s.report(cmd, err)
}

// usageError is a command line that cannot be read: the usage of the command follows.
type usageError struct {
	cmd *cobra.Command
	err error
}

func (e usageError) Error() string { return e.err.Error() }

// interrupted is a context that ends with SIGINT or SIGTERM.
func interrupted() (context.Context, context.CancelFunc) {
	return signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
}
