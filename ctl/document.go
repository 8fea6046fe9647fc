package ctl

import (
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"

	"keelson/internal/cli"
)

// Documents are the pages that are made from the commands, by path below docs: cli.md and a man page for each command of
// the first level. They say what --help says.
func Documents(programs []Program, offline []*cobra.Command) map[string]string {
	s := newSession("keelson", false, Standard())
	root := s.keelsonRoot("", programs, offline)
	root.InitDefaultHelpCmd()
	pages := map[string]string{"cli.md": s.markdown(root), "man/keelson.1": s.manRoot(root)}
	for _, cmd := range documented(root) {
		pages["man/keelson-"+cmd.Name()+".1"] = manPage(cmd)
	}
	return pages
}

// documented are the commands right below cmd that have pages, in order of their names.
func documented(cmd *cobra.Command) (list []*cobra.Command) {
	for _, c := range cmd.Commands() {
		if !c.Hidden && c.Name() != "help" {
			list = append(list, c)
		}
	}
	slices.SortFunc(list, func(a, b *cobra.Command) int { return strings.Compare(a.Name(), b.Name()) })
	return list
}

// documentCommand writes the pages; it is for those who build the project.
func (s *session) documentCommand(programs []Program, offline func(cli.Connector) []*cobra.Command) *cobra.Command {
	return &cobra.Command{
		Use: "document DIR", Short: "Write docs/cli.md and the man pages below DIR", Hidden: true, Args: cobra.ExactArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			for name, text := range Documents(programs, offline(s.connection)) {
				path := filepath.Join(args[0], filepath.FromSlash(name))
				if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
					return err
				}
				if err := os.WriteFile(path, []byte(text), 0o644); err != nil {
					return err
				}
			}
			return nil
		},
	}
}

// summary is what a command does: its long text if it has one.
func summary(cmd *cobra.Command) string {
	if text := strings.TrimSpace(cmd.Long); text != "" {
		return text
	}
	return cmd.Short
}

func localFlags(cmd *cobra.Command) *pflag.FlagSet {
	cmd.InitDefaultHelpFlag()
	return cmd.NonInheritedFlags()
}

func (s *session) markdown(root *cobra.Command) string {
	var b strings.Builder
	b.WriteString("# The command line\n\nMade from the commands themselves by `make docs`; a test checks that it is current.\n\n" +
		"Called by the name `etcdctl` or `etcdutl` (a link), the program is that tool, flag for flag; the commands of `etcdctl` are those below with the same names. " +
		"Called `etcd`, it is `keelson serve`.\n\n")
	for _, group := range root.Groups() {
		fmt.Fprintf(&b, "- %s", strings.TrimSuffix(group.Title, ":"))
		for i, cmd := range documented(root) {
			if cmd.GroupID != group.ID {
				continue
			}
			mark := ","
			if i == 0 || strings.HasSuffix(b.String(), strings.TrimSuffix(group.Title, ":")) {
				mark = ":"
			}
			fmt.Fprintf(&b, "%s [%s](#keelson-%s)", mark, cmd.Name(), cmd.Name())
		}
		b.WriteByte('\n')
	}
	fmt.Fprintf(&b, "\n## Flags of all commands\n\nEach is also an environment variable: `--command-timeout` is `ETCDCTL_COMMAND_TIMEOUT`. A flag and its variable together are an error.\n\n"+
		"```\n%s```\n", s.globalUsages())
	for _, cmd := range documented(root) {
		eachCommand(cmd, func(c *cobra.Command) {
			if !c.Hidden {
				markdownOf(&b, c)
			}
		})
	}
	return b.String()
}

func markdownOf(b *strings.Builder, cmd *cobra.Command) {
	level := strings.Repeat("#", min(4, strings.Count(cmd.CommandPath(), " ")+1))
	fmt.Fprintf(b, "\n%s %s\n\n%s\n", level, cmd.CommandPath(), fenced(summary(cmd)))
	if cmd.DisableFlagParsing {
		fmt.Fprintf(b, "\n`%s --help` lists its flags.\n", cmd.CommandPath())
		return
	}
	fmt.Fprintf(b, "\n```\n%s\n```\n", cmd.UseLine())
	if cmd.Example != "" {
		fmt.Fprintf(b, "\nExamples:\n\n```sh\n%s\n```\n", unindented(cmd.Example))
	}
	if usages := localFlags(cmd).FlagUsages(); usages != "" {
		fmt.Fprintf(b, "\n```\n%s```\n", usages)
	}
}

// fenced keeps a text that has a layout of its own.
func fenced(text string) string {
	if strings.Contains(text, "\n") && strings.ContainsAny(text, "$#-") {
		return "```\n" + text + "\n```"
	}
	return text
}

func unindented(text string) string {
	lines := strings.Split(text, "\n")
	for i, line := range lines {
		lines[i] = strings.TrimPrefix(line, "  ")
	}
	return strings.TrimSpace(strings.Join(lines, "\n"))
}

// roff makes a text safe for man pages.
func roff(text string) string {
	text = strings.NewReplacer(`\`, `\e`, "-", `\-`, "'", `\(aq`).Replace(text)
	lines := strings.Split(text, "\n")
	for i, line := range lines {
		if strings.HasPrefix(line, ".") {
			lines[i] = `\&` + line
		}
	}
	return strings.Join(lines, "\n")
}

// literal shows a text as it stands.
func literal(text string) string { return ".nf\n" + roff(strings.TrimRight(text, "\n")) + "\n.fi\n" }

func (s *session) manRoot(root *cobra.Command) string {
	var b strings.Builder
	fmt.Fprintf(&b, ".TH KEELSON 1 \"\" \"Keelson\" \"Keelson Manual\"\n.SH NAME\nkeelson \\- %s\n.SH SYNOPSIS\n.B keelson\n.I command\n.SH COMMANDS\n", roff(root.Short))
	for _, cmd := range documented(root) {
		fmt.Fprintf(&b, ".TP\n.BR keelson\\-%s (1)\n%s\n", roff(cmd.Name()), roff(cmd.Short))
	}
	fmt.Fprintf(&b, ".SH OPTIONS\nof all commands that speak to a cluster:\n%s", literal(s.globalUsages()))
	fmt.Fprintf(&b, ".SH ENVIRONMENT\n.TP\n.B ETCDCTL_*\nevery flag, upper case, with underscores\n.TP\n.B %s\nname of the context to connect with\n.TP\n.B %s\nfile of the contexts\n.TP\n"+
		".BR VISUAL \", \" EDITOR\nwhat keelson edit runs\n.TP\n.B NO_COLOR\nno colours, whatever it says\n", contextVariable, contextsVariable)
	b.WriteString(".SH EXIT STATUS\n0 success; 1 the server refused, or the command line is wrong; 2 no connection; 3 bad input; 4 no such format or order; 5 ended by the server; 6 a file; 128 bad arguments.\n")
	return b.String()
}

func manPage(cmd *cobra.Command) string {
	var b strings.Builder
	name := strings.ReplaceAll(cmd.CommandPath(), " ", "-")
	fmt.Fprintf(&b, ".TH %s 1 \"\" \"Keelson\" \"Keelson Manual\"\n.SH NAME\n%s \\- %s\n", roff(strings.ToUpper(name)), roff(name), roff(cmd.Short))
	eachCommand(cmd, func(c *cobra.Command) {
		if c.Hidden {
			return
		}
		section := ".SH SYNOPSIS\n"
		if c != cmd {
			section = ".SH " + roff(strings.ToUpper(c.CommandPath())) + "\n"
		}
		fmt.Fprintf(&b, "%s.B %s\n.PP\n%s", section, roff(c.UseLine()), literal(summary(c)))
		if c.DisableFlagParsing {
			fmt.Fprintf(&b, ".PP\n%s\n", roff(c.CommandPath()+" --help lists its flags."))
			return
		}
		if usages := localFlags(c).FlagUsages(); usages != "" {
			fmt.Fprintf(&b, ".PP\nOptions:\n%s", literal(usages))
		}
		if c.Example != "" {
			fmt.Fprintf(&b, ".PP\nExamples:\n%s", literal(unindented(c.Example)))
		}
	})
	b.WriteString(".SH SEE ALSO\n.BR keelson (1)\n")
	return b.String()
}
