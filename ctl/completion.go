package ctl

import (
	"strings"

	"github.com/spf13/cobra"
)

const completionHelp = `To load completions:

Bash:

  $ source <(PROGRAM completion bash)

  # To load completions for each session, execute once:
  # Linux:
  $ PROGRAM completion bash > /etc/bash_completion.d/PROGRAM
  # macOS:
  $ PROGRAM completion bash > /usr/local/etc/bash_completion.d/PROGRAM

Zsh:

  # If shell completion is not already enabled in your environment,
  # you will need to enable it.  You can execute the following once:

  $ echo "autoload -U compinit; compinit" >> ~/.zshrc

  # To load completions for each session, execute once:
  $ PROGRAM completion zsh > "${fpath[1]}/_PROGRAM"

  # You will need to start a new shell for this setup to take effect.

fish:

  $ PROGRAM completion fish | source

  # To load completions for each session, execute once:
  $ PROGRAM completion fish > ~/.config/fish/completions/PROGRAM.fish

PowerShell:

  PS> PROGRAM completion powershell | Out-String | Invoke-Expression

  # To load completions for every new session, run:
  PS> PROGRAM completion powershell > PROGRAM.ps1
  # and source this file from your PowerShell profile.
`

func (s *session) completionCommand() *cobra.Command {
	return &cobra.Command{
		Use: "completion [bash|zsh|fish|powershell]", Short: "Generate completion script", GroupID: groupUtility,
		Long:                  strings.ReplaceAll(completionHelp, "PROGRAM", s.program),
		DisableFlagsInUseLine: true,
		ValidArgs:             []string{"bash", "zsh", "fish", "powershell"},
		Args: func(cmd *cobra.Command, args []string) error {
			if err := cobra.MatchAll(cobra.ExactArgs(1), cobra.OnlyValidArgs)(cmd, args); err != nil {
				return usageError{cmd, err}
			}
			return nil
		},
		RunE: func(cmd *cobra.Command, args []string) error {
			switch root := cmd.Root(); args[0] {
			case "bash":
				return root.GenBashCompletion(s.out)
			case "zsh":
				return root.GenZshCompletion(s.out)
			case "fish":
				return root.GenFishCompletion(s.out, true)
			default:
				return root.GenPowerShellCompletion(s.out)
			}
		},
	}
}
