package inspect

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"

	"github.com/spf13/cobra"
	"go.uber.org/zap"

	"keelson/internal/cli"
	"keelson/server/datadir"
)

// level is the level of etcd's storage format that our files answer to.
const level = "3.7"

func (t *tool) migrateCommand() *cobra.Command {
	var dir, target string
	var force bool
	cmd := &cobra.Command{
		Use: "migrate", Short: "Migrates schema of etcd data dir files to make them compatible with different etcd version",
		RunE: func(cmd *cobra.Command, args []string) error { return t.migrate(dir, target, force) },
	}
	cmd.Flags().StringVar(&dir, "data-dir", "", "Path to the etcd data dir")
	cmd.Flags().StringVar(&target, "target-version", "", `Target etcd version to migrate contents of data dir. Minimal value 3.5. Format "X.Y" for example 3.6.`)
	cmd.Flags().BoolVar(&force, "force", false, "Ignore migration failure and forcefully override storage version. Not recommended.")
	cmd.MarkFlagRequired("data-dir")
	cmd.MarkFlagDirname("data-dir")
	cmd.MarkFlagRequired("target-version")
	return cmd
}

func (t *tool) migrate(dir, target string, force bool) error {
	major, minor, err := parseVersion(target)
	if err != nil {
		return cli.With(cli.ExitBadArgs, err)
	}
	if major < 3 || major == 3 && minor < 5 {
		return cli.Fail(cli.ExitBadArgs, "target version %q not supported. Minimal %q", target, "3.5")
	}
	d, err := t.openDirectory(dir)
	if err != nil {
		return err
	}
	if err := d.Close(); err != nil {
		return err
	}
	if major > 3 {
		return errors.New("cannot create migration plan: changing major storage version is not supported")
	}
	if minor > 7 && !force {
		return fmt.Errorf("cannot create migration plan: version \"%d.%d.0\" is not supported", major, minor)
	}
	if shown := fmt.Sprintf("%d.%d", major, minor); shown != level {
		return cli.Fail(cli.ExitError, "%s is a data directory of Keelson, which has a format of its own and nothing to migrate to %s; "+
			"for an etcd of that version save a snapshot and restore it there", dir, shown)
	}
	newLogger(t.err).Info("storage version up-to-date", zap.String("storage-version", level))
	return nil
}

// openDirectory locks a data directory, and says in etcdutl's words if there is none.
func (t *tool) openDirectory(path string) (*datadir.Dir, error) {
	if _, err := os.Stat(filepath.Join(path, "member")); err != nil && t.plain {
		_, err = os.Stat(filepath.Join(path, "member", "snap", "db"))
		return nil, err
	}
	return openDirectory(path, "")
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
		d, err := t.openDirectory(dir)
		if err != nil {
			return cli.Fail(cli.ExitError, "Failed to defragment etcd data[%s] (%w)", dir, err)
		}
		newLogger(t.err).Info("finished defragmenting directory", zap.String("path", dir), zap.String("note", "this storage does not fragment: there is nothing to do"))
		return d.Close()
	}}
	cmd.Flags().StringVar(&dir, "data-dir", "", "Required. Defragments a data directory not in use by etcd.")
	cmd.MarkFlagRequired("data-dir")
	cmd.MarkFlagDirname("data-dir")
	return cmd
}
