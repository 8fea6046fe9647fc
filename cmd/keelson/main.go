package main

import (
	"fmt"
	"io"
	"os"
	"path/filepath"

	"keelson/bench"
	"keelson/config"
	"keelson/ctl"
	"keelson/dev"
	"keelson/inspect"
	"keelson/join"
	"keelson/proxy"
	"keelson/server"
)

func main() { os.Exit(run(os.Args, os.Stdout, os.Stderr)) }

// programs are the words that serve or measure; all others are the client's.
var programs = []ctl.Program{
	{Name: "serve", Short: "Run a member; the flags are etcd's, see keelson serve --help", Run: server.Run},
	{Name: "join", Short: "Make this machine a member of a running cluster, see keelson join --help", Run: func(_ string, args []string) int { return join.Main(server.Run, args) }},
	{Name: "dev", Short: "Run a cluster of several members on this machine, see keelson dev --help", Run: func(_ string, args []string) int { return dev.Main(args) }},
	{Name: "gateway", Short: "Forward TCP connections to the members of a cluster, see keelson gateway start --help", Run: proxy.Gateway},
	{Name: "grpc-proxy", Short: "Take calls and make them again towards a cluster, see keelson grpc-proxy start --help", Run: proxy.GRPC},
	{Name: "config", Short: "Check settings and show what is in effect, see keelson config check --help", Run: server.Config},
	{Name: "bench", Short: "Put load on a server; keelson bench lists the loads and flags", Run: func(_ string, args []string) int { return bench.Main(args) }},
}

// run carries out a command line, the name it was called by first, and returns the exit code.
func run(args []string, stdout, stderr io.Writer) int {
	streams := ctl.Streams{In: os.Stdin, Out: stdout, Err: stderr}
	switch name := filepath.Base(args[0]); name {
	case "etcd":
		return etcd(name, args[1:])
	case "etcdctl":
		return ctl.Etcdctl(args[1:], streams)
	case "etcdutl":
		return inspect.Etcdutl(args[1:], stdout, stderr)
	}
	if len(args) > 1 {
		switch word := args[1]; word {
		case dev.MemberWord: // keelson dev says it, nobody else
			return dev.Member(server.Run, args[2:])
		case "-version", "--version":
			fmt.Fprint(stdout, config.OwnVersionText())
			return 0
		}
	}
	return ctl.Keelson(args[1:], streams, config.OwnVersionText(), programs, inspect.Commands)
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
