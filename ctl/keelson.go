package ctl

import (
	"fmt"
	"io"
	"slices"
	"strings"

	"github.com/spf13/cobra"

	"keelson/internal/cli"
)

// The groups that keelson has besides etcdctl's.
const (
	groupServe   = "serve"
	groupLook    = "look"
	groupOffline = "offline"
)

// Program is a word of the command line that another package carries out with arguments of its own.
type Program struct {
	Name, Short string
	// Run gets the name for usage texts and the arguments behind the word, and returns the exit code.
	Run func(program string, args []string) int
}

// Keelson runs a command line of keelson and returns the exit code: the client's commands, programs that serve, and tools
// that work without a server.
//
// offline is given a way to ask how the cluster is reached; it makes new commands with every call, since a command has its place in one tree only.
func Keelson(args []string, streams Streams, version string, programs []Program, offline func(cli.Connector) []*cobra.Command) int {
	s := newSession("keelson", false, streams)
	root := s.keelsonRoot(version, programs, offline(s.connection))
	root.AddCommand(s.documentCommand(programs, offline))
	return s.run(root, args)
}

func (s *session) keelsonRoot(version string, programs []Program, offline []*cobra.Command) *cobra.Command {
	root := &cobra.Command{
		Use: "keelson", Short: "Keelson is a distributed, strongly consistent key-value store that speaks etcd's API.",
		CompletionOptions: cobra.CompletionOptions{DisableDefaultCmd: true},
	}
	root.AddGroup(
		&cobra.Group{ID: groupServe, Title: "Serving:"},
		&cobra.Group{ID: groupLook, Title: "Looking at a cluster:"},
		&cobra.Group{ID: groupKV, Title: "Keys and values:"},
		&cobra.Group{ID: groupCluster, Title: "Caring for a cluster:"},
		&cobra.Group{ID: groupConcurrency, Title: "Locks and elections:"},
		&cobra.Group{ID: groupAuth, Title: "Users and roles:"},
		&cobra.Group{ID: groupOffline, Title: "Files and data directories, without a server:"},
		&cobra.Group{ID: groupUtility, Title: "Other:"},
	)
	root.SetHelpCommandGroupID(groupUtility)
	s.flags.register(root.PersistentFlags())
	f := root.PersistentFlags()
	f.StringVar(&s.flags.context, "context", "", "name of the context to connect with, see keelson context")
	f.SetAnnotation("context", notInEnvironment, []string{"yes"})
	hideGlobals(f)
	for _, p := range programs {
		root.AddCommand(&cobra.Command{
			Use: p.Name, Short: p.Short, GroupID: groupServe, DisableFlagParsing: true,
			RunE: func(cmd *cobra.Command, args []string) error {
				if code := p.Run("keelson "+p.Name, args); code != 0 {
					return cli.Silent(code)
				}
				return nil
			},
		})
	}
	root.AddCommand(s.clientCommands()...)
	root.AddCommand(s.ownCommands()...)
	for _, cmd := range offline {
		s.addOffline(root, cmd)
	}
	root.AddCommand(s.ownVersionCommand(version), s.optionsCommand(), s.ownCompletionCommand())
	root.InitDefaultHelpFlag()
	root.SetHelpTemplate(helpTemplate + "Use \"keelson options\" for a list of global command-line options (applies to all commands).\n")
	s.giveExamples(root)
	s.completeArguments(root)
	return root
}

// addOffline puts a tool into the tree: beside the client's commands, or below the one of the same name.
func (s *session) addOffline(root, cmd *cobra.Command) {
	for _, existing := range root.Commands() {
		if existing.Name() == cmd.Name() {
			for _, below := range cmd.Commands() {
				cmd.RemoveCommand(below)
				existing.AddCommand(below)
			}
			return
		}
	}
	cmd.GroupID = groupOffline
	root.AddCommand(cmd)
}

// ownCommands are what keelson can do and etcdctl cannot.
func (s *session) ownCommands() []*cobra.Command {
	return []*cobra.Command{
		s.statusCommand(), s.topCommand(), s.listCommand(), s.treeCommand(), s.usageCommand(), s.historyCommand(), s.diffCommand(),
		s.editCommand(), s.contextCommand(),
	}
}

func (s *session) ownVersionCommand(version string) *cobra.Command {
	return &cobra.Command{
		Use: "version", Short: "Print versions", GroupID: groupUtility, Args: cobra.NoArgs,
		Run: func(cmd *cobra.Command, args []string) { fmt.Fprint(s.out, version) },
	}
}

// bashWithoutPackage is for machines without the package bash-completion, which cobra's script otherwise depends on: bash's own
// variables say what has been typed, only that words end at = and : there.
const bashWithoutPackage = `
if ! declare -F _get_comp_words_by_ref >/dev/null; then
    __keelson_init_completion()
    {
        COMPREPLY=()
        local line="${COMP_LINE:0:COMP_POINT}"
        read -ra words <<<"$line"
        [[ $line == *[[:space:]] ]] && words+=("")
        cword=$((${#words[@]} - 1))
        cur=${words[cword]}
        prev=${words[cword - 1]}
    }
fi
`

func (s *session) ownCompletionCommand() *cobra.Command {
	cmd := s.completionCommand()
	cmd.RunE = func(cmd *cobra.Command, args []string) error {
		switch root := cmd.Root(); args[0] {
		case "bash":
			if err := root.GenBashCompletionV2(s.out, true); err != nil {
				return err
			}
			_, err := io.WriteString(s.out, bashWithoutPackage)
			return err
		case "zsh":
			return root.GenZshCompletion(s.out)
		case "fish":
			return root.GenFishCompletion(s.out, true)
		default:
			return root.GenPowerShellCompletionWithDesc(s.out)
		}
	}
	return cmd
}

// giveExamples puts the examples of examples.go into the help of each command.
func (s *session) giveExamples(root *cobra.Command) {
	eachCommand(root, func(cmd *cobra.Command) {
		path := strings.TrimPrefix(cmd.CommandPath(), "keelson ")
		if lines, ok := examples[path]; ok {
			cmd.Example = "  " + strings.Join(lines, "\n  ")
		}
	})
}

// eachCommand visits a tree of commands.
func eachCommand(cmd *cobra.Command, visit func(*cobra.Command)) {
	visit(cmd)
	for _, below := range cmd.Commands() {
		eachCommand(below, visit)
	}
}

// confirm asks a person before something that cannot be undone. Where nobody can be asked the command line is answer enough.
func (s *session) confirm(what string, yes bool) error {
	if s.plain || yes || !cli.IsTerminal(s.in) || !cli.IsTerminal(s.out) {
		return nil
	}
	fmt.Fprintf(s.out, "%s Go on? [y/N] ", what)
	answer, err := s.readLine()
	if err != nil {
		return err
	}
	if !slices.Contains([]string{"y", "yes"}, strings.ToLower(strings.TrimSpace(answer))) {
		return cli.Fail(cli.ExitError, "nothing was changed, as you said")
	}
	return nil
}
