package inspect

import (
	"fmt"
	"strconv"
	"strings"

	"github.com/spf13/cobra"
	"go.uber.org/zap"

	"keelson/internal/cli"
)

// level is the level of etcd's storage format that our files answer to.
const level = "3.7"

func (t *tool) migrateCommand() *cobra.Command {
	var dir, target string
	cmd := &cobra.Command{
		Use: "migrate", Short: "Migrates schema of etcd data dir files to make them compatible with different etcd version",
		RunE: func(cmd *cobra.Command, args []string) error { return t.migrate(dir, target) },
	}
	cmd.Flags().StringVar(&dir, "data-dir", "", "Path to the etcd data dir")
	cmd.Flags().StringVar(&target, "target-version", "", `Target etcd version to migrate contents of data dir. Minimal value 3.5. Format "X.Y" for example 3.6.`)
	cmd.Flags().Bool("force", false, "Ignore migration failure and forcefully override storage version. Not recommended.")
	cmd.MarkFlagRequired("data-dir")
	cmd.MarkFlagRequired("target-version")
	return cmd
}

func (t *tool) migrate(dir, target string) error {
	major, minor, err := parseVersion(target)
	if err != nil {
		return err
	}
	if major < 3 || major == 3 && minor < 5 {
		return fmt.Errorf("target version %q not supported. Minimal %q", target, "3.5")
	}
	d, err := openDirectory(dir, "")
	if err != nil {
		return err
	}
	if err := d.Close(); err != nil {
		return err
	}
	if shown := fmt.Sprintf("%d.%d", major, minor); shown != level {
		return cli.Fail(cli.ExitError, "%s is a data directory of Keelson, which has a format of its own and nothing to migrate to %s; "+
			"for an etcd of that version save a snapshot and restore it there", dir, shown)
	}
	newLogger(t.err).Info("storage version up-to-date", zap.String("storage-version", level))
	return nil
}

func parseVersion(text string) (major, minor int64, err error) {
	parts := strings.Split(text, ".")
	if len(parts) != 2 {
		return 0, 0, fmt.Errorf("wrong target version format, expected %q, got %q", "X.Y", text)
	}
	if major, err = strconv.ParseInt(parts[0], 10, 64); err == nil {
		minor, err = strconv.ParseInt(parts[1], 10, 64)
	}
	if err != nil {
		return 0, 0, fmt.Errorf("failed to parse target version: %w", err)
	}
	return major, minor, nil
}

func (t *tool) defragCommand() *cobra.Command {
	var dir string
	cmd := &cobra.Command{Use: "defrag", Short: "Defragments the storage of the etcd", RunE: func(cmd *cobra.Command, args []string) error {
		d, err := openDirectory(dir, "")
		if err != nil {
			return cli.Fail(cli.ExitError, "Failed to defragment etcd data[%s] (%w)", dir, err)
		}
		newLogger(t.err).Info("finished defragmenting directory", zap.String("path", dir), zap.String("note", "this storage does not fragment: there is nothing to do"))
		return d.Close()
	}}
	cmd.Flags().StringVar(&dir, "data-dir", "", "Required. Defragments a data directory not in use by etcd.")
	cmd.MarkFlagRequired("data-dir")
	return cmd
}
