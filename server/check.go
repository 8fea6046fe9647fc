package server

import (
	"fmt"
	"io"
	"os"
	"runtime"
	"text/tabwriter"

	"go.uber.org/zap"
	"go.uber.org/zap/zapcore"

	"keelson/config"
	"keelson/server/certs"
)

const configUsage = `Usage: keelson config check [flags of keelson serve]

Checks the settings that keelson serve would take from the same flags, the environment, or a file (--config-file), and the
certificates that they name, without starting anything. Prints every setting with the value in effect and where it comes
from: flag, an environment variable, file, default, or derived from other settings.

Ends with 0 if a member could start with them, otherwise as keelson serve would.
`

// Config carries out the command line `config check [flags]`, and returns the exit code. program is the name for usage
// texts.
func Config(program string, args []string) int {
	if len(args) == 0 || args[0] != "check" {
		fmt.Fprint(os.Stderr, configUsage)
		return 2
	}
	for _, a := range args[1:] {
		if a == "-h" || a == "--help" || a == "-help" {
			fmt.Fprint(os.Stdout, configUsage)
			return 0
		}
	}
	return checkConfig(program+" check", args[1:], config.Machine{
		Environ: os.Environ(), ReadFile: os.ReadFile, DefaultHost: config.DefaultHost,
	}, os.Stdout, os.Stderr)
}

func checkConfig(program string, args []string, m config.Machine, stdout, stderr io.Writer) int {
	c, settings, notes, err := config.Explain(program, args, m)
	if e, ok := err.(*config.Exit); ok {
		fmt.Fprint(stdout, e.Stdout)
		fmt.Fprint(stderr, e.Stderr)
		if e.Stderr == "" && e.Code != 0 {
			printNotes(stderr, e.Notes)
			fmt.Fprintln(stderr, "refused:", e)
		}
		return e.Code
	}
	if err == nil {
		err = config.Architecture(runtime.GOARCH, m.Environ)
	}
	if err == nil {
		err = checkCertificates(c)
	}
	table := tabwriter.NewWriter(stdout, 0, 0, 2, ' ', 0)
	for _, s := range settings {
		fmt.Fprintf(table, "%s\t%s\t%s\n", s.Name, s.Value, s.From)
	}
	table.Flush()
	printNotes(stderr, notes)
	if err != nil {
		fmt.Fprintln(stderr, "refused:", err)
		return 1
	}
	return 0
}

// checkCertificates reads the files of both planes. Those that a member makes itself are not made.
func checkCertificates(c *config.Config) error {
	given := *c
	given.ClientTLS.Auto, given.PeerTLS.Auto = false, false
	if _, err := certs.ForClients(&given, zap.NewNop()); err != nil {
		return err
	}
	_, err := certs.ForPeers(&given, zap.NewNop())
	return err
}

// printNotes prints the warnings among the lines that a member would log.
func printNotes(w io.Writer, notes []config.Note) {
	for _, n := range notes {
		if n.Level < zapcore.WarnLevel || n.Message == "failed to verify flags" {
			continue
		}
		fields := zapcore.NewMapObjectEncoder()
		for _, f := range n.Fields {
			f.AddTo(fields)
		}
		fmt.Fprintf(w, "warning: %s", n.Message)
		for _, f := range n.Fields {
			fmt.Fprintf(w, " %s=%v", f.Key, fields.Fields[f.Key])
		}
		fmt.Fprintln(w)
	}
}
