package ctl

import (
	"fmt"

	"github.com/spf13/cobra"
	"go.etcd.io/etcd/api/v3/version"
)

func (s *session) versionCommand() *cobra.Command {
	return &cobra.Command{
		Use: "version", Short: "Prints the version of etcdctl", GroupID: groupUtility,
		Run: func(cmd *cobra.Command, args []string) {
			fmt.Fprintln(s.out, "etcdctl version:", version.Version)
			fmt.Fprintln(s.out, "API version:", version.APIVersion)
		},
	}
}

func (s *session) optionsCommand() *cobra.Command {
	return &cobra.Command{
		Use: "options", Short: "Show the global command-line flags", GroupID: groupUtility,
		Run: func(cmd *cobra.Command, args []string) {
			fmt.Fprintf(s.out, "The following options can be passed to any command:\n\n%s", s.globalUsages())
		},
	}
}
