package inspect

import (
	"fmt"
	"io"
	"os"
	"strings"
	"time"

	"github.com/spf13/cobra"
	"go.etcd.io/etcd/api/v3/version"

	"keelson/internal/cli"
)

// tool is one invocation.
type tool struct {
	plain    bool // etcdutl's manner
	out, err io.Writer
	writeOut string
	timeout  time.Duration

	connection cli.Connector // keelson's alone
}

// Etcdutl runs a command line as etcdutl does and returns the exit code.
func Etcdutl(args []string, out, errs io.Writer) int {
	t := &tool{plain: true, out: out, err: errs}
	root := &cobra.Command{
		Use: "etcdutl", CompletionOptions: cobra.CompletionOptions{DisableDefaultCmd: true}, SilenceErrors: true, SilenceUsage: true,
	}
	root.PersistentFlags().StringVarP(&t.writeOut, "write-out", "w", "simple", "set the output format (fields, json, protobuf, simple, table)")
	root.PersistentFlags().DurationVar(&t.timeout, "timeout", 10*time.Second, "time to wait to obtain a file lock on db file, 0 to block indefinitely")
	root.RegisterFlagCompletionFunc("write-out", cobra.FixedCompletions([]string{"fields", "json", "protobuf", "simple", "table"}, cobra.ShellCompDirectiveDefault))
	root.AddCommand(t.defragCommand(), t.hashKVCommand(), t.migrateCommand(), t.snapshotCommand(), t.versionCommand(), t.completionCommand())
	root.SetHelpTemplate(`{{if or .Runnable .HasSubCommands}}{{.UsageString}}{{end}}`)
	if out != io.Writer(os.Stdout) {
		root.SetOut(out)
		root.SetErr(errs)
	}
	root.SetArgs(args)
	cmd, err := root.ExecuteC()
	return t.report(cmd, err)
}

// report prints how a command line ended. What cobra itself found wrong is said before and after the usage, as etcdutl does.
func (t *tool) report(cmd *cobra.Command, err error) int {
	if err == nil {
		return cli.ExitSuccess
	}
	text := err.Error()
	switch {
	case strings.HasPrefix(text, "unknown command "):
		fmt.Fprintf(t.err, "Error: %s\nRun '%v --help' for usage.\n", text, cmd.CommandPath())
	case isUsage(text):
		fmt.Fprintf(t.err, "Error: %s\n%s\n", text, cmd.UsageString())
	}
	return cli.Report(t.err, err)
}

// isUsage recognises the errors that cobra finds before a command runs.
func isUsage(text string) bool {
	for _, begin := range []string{"required flag(s) ", "unknown flag: ", "unknown shorthand flag: ", "flag needs an argument: ", "invalid argument ", "accepts "} {
		if strings.HasPrefix(text, begin) {
			return true
		}
	}
	return false
}

func (t *tool) versionCommand() *cobra.Command {
	return &cobra.Command{Use: "version", Short: "Prints the version of etcdutl", Run: func(cmd *cobra.Command, args []string) {
		fmt.Fprintln(t.out, "etcdutl version:", version.Version)
		fmt.Fprintln(t.out, "API version:", version.APIVersion)
	}}
}

func (t *tool) completionCommand() *cobra.Command {
	return &cobra.Command{
		Use: "completion [bash|zsh|fish|powershell]", Short: "Generate completion script", DisableFlagsInUseLine: true,
		ValidArgs: []string{"bash", "zsh", "fish", "powershell"}, Args: cobra.MatchAll(cobra.ExactArgs(1), cobra.OnlyValidArgs),
		RunE: func(cmd *cobra.Command, args []string) error {
			switch root := cmd.Root(); args[0] {
			case "bash":
				return root.GenBashCompletion(t.out)
			case "zsh":
				return root.GenZshCompletion(t.out)
			case "fish":
				return root.GenFishCompletion(t.out, true)
			default:
				return root.GenPowerShellCompletionWithDesc(t.out)
			}
		},
	}
}
