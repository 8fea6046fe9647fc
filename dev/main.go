package dev

import (
	"bufio"
	"errors"
	"flag"
	"fmt"
	"io"
	"os"
)

// Main runs the command line `dev [flags]` until it is told to end, and returns the exit code: 0 when all members have
// stopped in order, 1 when something failed or a member had to be killed, 2 for wrong usage.
func Main(args []string) int {
	o, err := parseOptions(args, os.Stderr)
	switch {
	case errors.Is(err, flag.ErrHelp):
		return 0
	case err != nil:
		fmt.Fprintf(os.Stderr, "keelson dev: %v\n", err)
		return 2
	}
	f, err := newFleet(o, newScreen(os.Stdout, widthOf(os.Stdout)))
	if err != nil {
		fmt.Fprintf(os.Stderr, "keelson dev: %v\n", err)
		return 1
	}
	if f.program, err = os.Executable(); err != nil {
		fmt.Fprintf(os.Stderr, "keelson dev: %v\n", err)
		return 1
	}
	f.command = []string{MemberWord}
	f.quitOnEOF = widthOf(os.Stdin) != nil
	f.lines = readLines(os.Stdin)
	return f.run()
}

// newFleet plans a cluster and says where it will be. It starts nothing.
func newFleet(o Options, s *screen) (*fleet, error) {
	p, err := loadPlan(o)
	if err != nil {
		return nil, err
	}
	places := p.places(o.DataDir)
	if err := checkPorts(places); err != nil {
		return nil, err
	}
	f := &fleet{
		options: o,
		screen:  s,
		signals: make(chan os.Signal, 2),
		ends:    make(chan end, len(places)),
		reports: make(chan report, answersMax),
	}
	for _, at := range places {
		conn, err := dial(at)
		if err != nil {
			return nil, err
		}
		f.members = append(f.members, &member{place: at, args: flagsOf(at, places, o.MemberArgs), conn: conn})
		f.names = append(f.names, at.name)
	}
	f.say("clients:  %s\nexample:  etcdctl%s --endpoints=%s put greeting hello\ncommands: kill, stop, start, pause, resume NAME; status, help, quit",
		endpointsOf(places), p.clientFlags(), endpointsOf(places))
	return f, nil
}

// readLines passes on what is typed until the input ends. Nothing can end the reading of a terminal before that: the
// goroutine ends with its input, or with the process.
func readLines(in io.Reader) <-chan string {
	lines := make(chan string)
	go func() {
		defer close(lines)
		for s := bufio.NewScanner(in); s.Scan(); {
			lines <- s.Text()
		}
	}()
	return lines
}
