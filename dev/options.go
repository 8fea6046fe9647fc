package dev

import (
	"errors"
	"flag"
	"fmt"
	"io"
	"net"
)

const (
	membersDefault  = 3
	dataDirDefault  = "keelson-dev"
	basePortDefault = 2379
	hostDefault     = "127.0.0.1"

	membersMax = 6 // as many as find ports above basePortDefault
	portMax    = 65535
)

// Options are the settings of a cluster on one machine.
type Options struct {
	Members  int
	DataDir  string // of the whole cluster; each member has a directory below it
	BasePort int    // of the first member's clients
	Host     string // all members listen there and nowhere else: an IP address, or localhost
	TLS      bool   // towards clients and between members
	Restart  bool   // start members again that ended by themselves
	// MemberArgs are further flags of keelson serve, given to every member.
	MemberArgs []string

	given map[string]bool // the flags that stood on the command line
}

const usageText = `Usage: keelson dev [flags] [-- flags of keelson serve, for every member]

Runs a cluster on this machine, every member as a process of its own. The members' client ports are BASE, BASE+20000,
BASE+30000 and so on, their peer ports one above. Started again over the same directory, it goes on with what is there.

`

const commandsText = `  kill NAME      end a member as a power cut would (SIGKILL)
  stop NAME      end it in order (SIGTERM)
  start NAME     start it again
  pause NAME     stop its clock (SIGSTOP): it is there and does not answer
  resume NAME    go on
  status         print one line for each member
  quit           stop all members and leave (also Ctrl-C)
`

// parseOptions reads a command line.
//
// Errors: flag.ErrHelp if help was asked for; it has been written to out.
func parseOptions(args []string, out io.Writer) (Options, error) {
	var o Options
	flags := flag.NewFlagSet("keelson dev", flag.ContinueOnError)
	flags.SetOutput(out)
	flags.IntVar(&o.Members, "members", membersDefault, "number of members, 1 to 6")
	flags.StringVar(&o.DataDir, "data-dir", dataDirDefault, "directory of the cluster: data and logs of all members")
	flags.IntVar(&o.BasePort, "base-port", basePortDefault, "client port of the first member")
	flags.StringVar(&o.Host, "host", hostDefault, "address that all members listen on")
	flags.BoolVar(&o.TLS, "tls", false, "use TLS everywhere, with certificates that the members make themselves")
	flags.BoolVar(&o.Restart, "restart", false, "start members again that ended by themselves")
	flags.Usage = func() {
		fmt.Fprint(out, usageText)
		flags.PrintDefaults()
		fmt.Fprint(out, "\nCommands to type while it runs:\n\n"+commandsText)
	}
	if err := flags.Parse(args); err != nil {
		return Options{}, err
	}
	o.MemberArgs = flags.Args()
	o.given = map[string]bool{}
	flags.Visit(func(f *flag.Flag) { o.given[f.Name] = true })
	return o, o.validate()
}

func (o Options) validate() error {
	switch {
	case o.Members < 1 || o.Members > membersMax:
		return fmt.Errorf("--members=%d: a number from 1 to %d is needed", o.Members, membersMax)
	case o.DataDir == "":
		return errors.New("--data-dir must not be empty")
	}
	if highest := portMax - 1 - clientPort(0, o.Members-1); o.BasePort < 1 || o.BasePort > highest {
		return fmt.Errorf("--base-port=%d: with %d members it can be 1 to %d, as the others' ports lie above it",
			o.BasePort, o.Members, highest)
	}
	if ip := net.ParseIP(o.Host); o.Host != "localhost" && (ip == nil || ip.IsUnspecified()) {
		return fmt.Errorf("--host=%s: an IP address of this machine, or localhost, is needed", o.Host)
	}
	return nil
}
