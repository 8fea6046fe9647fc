package ctl

import (
	"fmt"
	"strings"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"

	"keelson/internal/cli"
)

// The groups of commands in the help.
const (
	groupKV          = "kv"
	groupCluster     = "cluster"
	groupConcurrency = "concurrency"
	groupAuth        = "auth"
	groupUtility     = "utility"
)

// etcdctlRoot is etcdctl's tree of commands.
func (s *session) etcdctlRoot() *cobra.Command {
	root := &cobra.Command{
		Use: "etcdctl", Short: "A simple command line client for etcd3.",
		SuggestionsMinimumDistance: 2,
		CompletionOptions:          cobra.CompletionOptions{DisableDefaultCmd: true},
	}
	root.AddGroup(
		&cobra.Group{ID: groupKV, Title: "Key-value commands"},
		&cobra.Group{ID: groupCluster, Title: "Cluster maintenance commands"},
		&cobra.Group{ID: groupConcurrency, Title: "Concurrency commands"},
		&cobra.Group{ID: groupAuth, Title: "Authentication commands"},
		&cobra.Group{ID: groupUtility, Title: "Utility commands"},
	)
	root.SetHelpCommandGroupID(groupUtility)
	s.flags.register(root.PersistentFlags())
	hideGlobals(root.PersistentFlags())
	root.AddCommand(s.clientCommands()...)
	root.AddCommand(s.versionCommand(), s.optionsCommand(), s.completionCommand())
	root.InitDefaultHelpFlag()
	root.Flags().Lookup("help").Hidden = true
	root.SetHelpTemplate(helpTemplate + fmt.Sprintf("Use %q for a list of global command-line options (applies to all commands).\n", "etcdctl options"))
	return root
}

// clientCommands are the commands that etcdctl and keelson have in common.
func (s *session) clientCommands() []*cobra.Command {
	get, _ := s.getCommand()
	put, _ := s.putCommand()
	del, _ := s.delCommand()
	return []*cobra.Command{
		get, put, del, s.txnCommand(), s.watchCommand(), s.compactionCommand(), s.leaseCommand(),
		s.alarmCommand(), s.defragCommand(), s.downgradeCommand(), s.endpointCommand(), s.memberCommand(), s.moveLeaderCommand(), s.snapshotCommand(),
		s.electCommand(), s.lockCommand(),
		s.authCommand(), s.roleCommand(), s.userCommand(),
		s.checkCommand(), s.mirrorCommand(),
	}
}

// helpTemplate is cobra's own, without its last word.
const helpTemplate = `{{with (or .Long .Short)}}{{. | trimTrailingWhitespaces}}

{{end}}{{if or .Runnable .HasSubCommands}}{{.UsageString}}{{end}}`

// family is a command that only has others below it.
func (s *session) family(name, long, group string, members ...*cobra.Command) *cobra.Command {
	cmd := &cobra.Command{
		Use: name + " <subcommand>", Long: long, GroupID: group,
		Short: fmt.Sprintf("%s. Use `%s %s --help` to see subcommands", long, s.program, name),
	}
	cmd.Use = name
	cmd.AddCommand(members...)
	return cmd
}

// hideGlobals keeps the flags of all commands out of the help of each; the command options lists them.
func hideGlobals(f *pflag.FlagSet) {
	f.VisitAll(func(flag *pflag.Flag) { flag.Hidden = true })
}

// globalUsages lists the global flags.
func (s *session) globalUsages() string {
	shown := pflag.NewFlagSet("global", pflag.ContinueOnError)
	s.flags.set.VisitAll(func(flag *pflag.Flag) {
		open := *flag
		open.Hidden = false
		shown.AddFlag(&open)
	})
	return shown.FlagUsages()
}

// report prints how a command line ended and returns the exit code.
func (s *session) report(cmd *cobra.Command, err error) int {
	if err == nil {
		return cli.ExitSuccess
	}
	if usage, ok := err.(usageError); ok {
		fmt.Fprintln(s.err, "Error:", usage.err)
		fmt.Fprintln(s.err, usage.cmd.UsageString())
		return cli.ExitError
	}
	if strings.HasPrefix(err.Error(), "unknown command ") {
		fmt.Fprintln(s.err, "Error:", err)
		fmt.Fprintf(s.err, "Run '%v --help' for usage.\n", cmd.CommandPath())
		return cli.ExitError
	}
	return cli.Report(s.err, s.explain(cmd, err))
}
