package ctl

import (
	"bytes"
	"context"
	"fmt"
	"os"
	"os/exec"

	"github.com/spf13/cobra"
	clientv3 "go.etcd.io/etcd/client/v3"

	"keelson/internal/cli"
)

func (s *session) editCommand() *cobra.Command {
	return &cobra.Command{
		Use: "edit KEY", Short: "Edit a value in $VISUAL or $EDITOR; saved only if nobody changed it meanwhile", GroupID: groupKV, Args: cobra.ExactArgs(1),
		Long: "Edit a value in $VISUAL, $EDITOR or vi. What you save is written in a transaction that checks that nobody has changed the key since it was read; " +
			"if somebody has, your text stays in a file. The key keeps its lease. A key that does not exist is created.",
		RunE: func(cmd *cobra.Command, args []string) error { return s.edit(args[0]) },
	}
}

func (s *session) edit(key string) error {
	c, err := s.connect()
	if err != nil {
		return err
	}
	defer c.Close()
	ctx, cancel := s.short()
	before, err := c.Get(ctx, key)
	cancel()
	if err != nil {
		return err
	}
	var old []byte
	var revision int64
	var opts []clientv3.OpOption
	if len(before.Kvs) > 0 {
		old, revision = before.Kvs[0].Value, before.Kvs[0].ModRevision
		opts = append(opts, clientv3.WithIgnoreLease())
	}
	file, fresh, err := s.inEditor(old)
	if err != nil {
		return err
	}
	if bytes.Equal(old, fresh) {
		os.Remove(file)
		fmt.Fprintln(s.out, "nothing was changed")
		return nil
	}
	ctx, cancel = s.short()
	defer cancel()
	r, err := c.Txn(ctx).If(clientv3.Compare(clientv3.ModRevision(key), "=", revision)).Then(clientv3.OpPut(key, string(fresh), opts...)).Commit()
	if err != nil {
		return fmt.Errorf("%w; your text is kept in %s", err, file)
	}
	if !r.Succeeded {
		return cli.Fail(cli.ExitError, "somebody has changed %s since revision %d: nothing was written, and your text is kept in %s. "+
			"See what they did with: keelson history %s; then edit again", key, revision, file, key)
	}
	os.Remove(file)
	did := "saved"
	if revision == 0 {
		did = "created"
	}
	fmt.Fprintf(s.out, "%s %s at revision %d\n", did, shown(key), r.Header.Revision)
	return nil
}

// inEditor lets a person change a text; the file stays.
func (s *session) inEditor(text []byte) (file string, changed []byte, err error) {
	f, err := os.CreateTemp("", "keelson-edit-*")
	if err != nil {
		return "", nil, err
	}
	if _, err := f.Write(text); err != nil {
		f.Close()
		return "", nil, err
	}
	if err := f.Close(); err != nil {
		return "", nil, err
	}
	editor := s.variable("VISUAL")
	if editor == "" {
		editor = s.variable("EDITOR")
	}
	if editor == "" {
		editor = "vi"
	}
	cmd := exec.CommandContext(context.Background(), "sh", "-c", editor+` "$1"`, "sh", f.Name()) // an editor may have arguments
	cmd.Stdin, cmd.Stdout, cmd.Stderr = s.in, s.out, s.err
	if err := cmd.Run(); err != nil {
		return "", nil, cli.Fail(cli.ExitError, "the editor %q failed (%w): nothing was written, and your text is kept in %s; set EDITOR to another one", editor, err, f.Name())
	}
	changed, err = os.ReadFile(f.Name())
	return f.Name(), changed, err
}
