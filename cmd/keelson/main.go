package main

import (
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"

	"keelson/bench"
	"keelson/config"
	"keelson/ctl"
	"keelson/dev"
	"keelson/join"
	"keelson/proxy"
	"keelson/server"
)

func main() { os.Exit(run(os.Args, os.Stdout, os.Stderr)) }

// command is one word of the command line.
type command struct {
	name string
	help string
	// run gets the name for usage texts and the arguments after the word, and returns the exit code.
	run func(program string, args []string) int
}

var commands = []command{
	{"serve", "run a member; the flags are etcd's, see keelson serve --help", server.Run},
	{"join", "make this machine a member of a running cluster, see keelson join --help", func(_ string, args []string) int { return join.Main(server.Run, args) }},
	{"dev", "run a cluster of several members on this machine, see keelson dev --help", func(_ string, args []string) int { return dev.Main(args) }},
	{"gateway", "forward TCP connections to the members of a cluster, see keelson gateway start --help", proxy.Gateway},
	{"grpc-proxy", "take calls and make them again towards a cluster, see keelson grpc-proxy start --help", proxy.GRPC},
	{"config", "check settings and show what is in effect, see keelson config check --help", server.Config},
	{"bench", "put load on a server; keelson bench lists the loads and flags", func(_ string, args []string) int { return bench.Main(args) }},
}

// run carries out a command line, the name it was called by first, and returns the exit code.
func run(args []string, stdout, stderr io.Writer) int {
	name := filepath.Base(args[0])
	switch name {
	case "etcd":
		return etcd(name, args[1:])
	case "etcdctl":
		return ctl.Etcdctl(args[1:], ctl.Streams{In: os.Stdin, Out: stdout, Err: stderr})
	}
	if len(args) == 1 {
		fmt.Fprint(stderr, usage())
		return 2
	}
	word := args[1]
	for _, c := range commands {
		if c.name == word {
			return c.run(name+" "+word, args[2:])
		}
	}
	if word == dev.MemberWord { // keelson dev says it, nobody else
		return dev.Member(server.Run, args[2:])
	}
	switch strings.TrimLeft(word, "-") {
	case "version":
		fmt.Fprint(stdout, config.OwnVersionText())
		return 0
	case "help", "h":
		fmt.Fprint(stdout, usage())
		return 0
	}
	fmt.Fprintf(stderr, "unknown command %q\n\n%s", word, usage())
	return 2
}

// etcd is what the program does under that name: its first argument may name one of two commands of etcd's.
func etcd(name string, args []string) int {
	if len(args) > 0 {
		switch args[0] {
		case "gateway":
			return proxy.Gateway(name+" gateway", args[1:])
		case "grpc-proxy":
			return proxy.GRPC(name+" grpc-proxy", args[1:])
		}
	}
	return server.Run(name, args)
}

func usage() string {
	var b strings.Builder
	b.WriteString("Keelson is a distributed, strongly consistent key-value store that speaks etcd's API.\n\nUsage:\n")
	for _, c := range commands {
		fmt.Fprintf(&b, "  keelson %-10s %s\n", c.name, c.help)
	}
	fmt.Fprintf(&b, "  keelson %-10s %s\n", "version", "print versions")
	return b.String()
}
