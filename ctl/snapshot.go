package ctl

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"strings"
	"sync"
	"time"

	"github.com/spf13/cobra"
	pb "go.etcd.io/etcd/api/v3/etcdserverpb"
	clientv3 "go.etcd.io/etcd/client/v3"
	"go.uber.org/zap"
	"go.uber.org/zap/zapcore"

	"keelson/internal/cli"
)

const snapshotExamples = `  # Save snapshot to a given file
  PROGRAM snapshot save /backup/etcd-snapshot.db
  
  # Get snapshot from given address and save it to file
  PROGRAM snapshot save --endpoints=127.0.0.1:3000 /backup/etcd-snapshot.db
  
  # Get snapshot from given address with certificates
  PROGRAM --endpoints=https://127.0.0.1:2379 --cacert=/etc/etcd/ca.crt --cert=/etc/etcd/etcd.crt --key=/etc/etcd/etcd.key snapshot save /backup/etcd-snapshot.db
  
  # Get snapshot with certain user and password
  PROGRAM --user=root --password=password123 snapshot save /backup/etcd-snapshot.db
  
  # Get snapshot from given address with timeout
  PROGRAM --endpoints=https://127.0.0.1:2379 --dial-timeout=20s snapshot save /backup/etcd-snapshot.db
  
  # Save snapshot with desirable time format
  PROGRAM snapshot save /mnt/backup/etcd/backup_$(date +%Y%m%d_%H%M%S).db`

func (s *session) snapshotCommand() *cobra.Command {
	examples := strings.ReplaceAll(snapshotExamples, "PROGRAM", s.program)
	save := &cobra.Command{
		Use: "save <filename>", Short: "Stores an etcd node backend snapshot to a given file", Example: examples,
		RunE: func(cmd *cobra.Command, args []string) error { return s.snapshotSave(args) },
	}
	cmd := s.family("snapshot", "Manages etcd node snapshots", groupCluster, save)
	cmd.Short = "Manages etcd node snapshots"
	cmd.Example = examples
	return cmd
}

func (s *session) snapshotSave(args []string) error {
	if len(args) != 1 {
		return cli.Fail(cli.ExitBadArgs, "snapshot save expects one argument <filename>")
	}
	spec, err := s.configure()
	if err != nil {
		return err
	}
	ctx, cancel := interrupted()
	defer cancel()
	if s.flags.given("command-timeout") { // a snapshot takes as long as it takes
		ctx, cancel = context.WithTimeout(ctx, s.flags.commandTimeout)
		defer cancel()
	}
	if !s.plain && len(spec.Endpoints) > 1 {
		if spec.Endpoints, err = s.snapshotEndpoint(spec); err != nil {
			return err
		}
	}
	version, err := s.saveSnapshot(ctx, spec, args[0])
	if err != nil {
		return cli.With(cli.ExitInterrupted, err)
	}
	fmt.Fprintf(s.out, "Snapshot saved at %s\n", args[0])
	if !s.plain {
		fmt.Fprintf(s.out, "Taken from %s\n", spec.Endpoints[0])
	}
	if version != "" {
		fmt.Fprintf(s.out, "Server version %s\n", version)
	}
	return nil
}

// snapshotEndpoint chooses, of several endpoints, the member that has applied most; a follower rather than the leader, which has
// enough to do.
func (s *session) snapshotEndpoint(spec *clientv3.ConfigSpec) ([]string, error) {
	reports := make([]memberReport, len(spec.Endpoints))
	var asking sync.WaitGroup
	for i, endpoint := range spec.Endpoints {
		asking.Go(func() { reports[i], _ = s.memberReport(spec, &pb.Member{ClientURLs: []string{endpoint}}) })
	}
	asking.Wait()
	best, failures := -1, ""
	for i, r := range reports {
		if r.Error != "" {
			failures += fmt.Sprintf("\n  %s: %s", spec.Endpoints[i], r.Error)
			continue
		}
		if best < 0 || r.applied > reports[best].applied || r.applied == reports[best].applied && reports[best].Role == "leader" {
			best = i
		}
	}
	if best < 0 {
		return nil, cli.Fail(cli.ExitInterrupted, "none of the members answers:%s\n  next:  keelson status; the state of a member that does not run: keelson export etcd FILE --data-dir DIR", failures)
	}
	return spec.Endpoints[best : best+1], nil
}

// sumBytes is the length of the checksum behind a snapshot, which otherwise consists of whole sectors.
const sumBytes, sectorBytes = 32, 512

// saveSnapshot writes one member's state to a file, by way of FILE.part, so that FILE is whole or not there.
func (s *session) saveSnapshot(ctx context.Context, spec *clientv3.ConfigSpec, path string) (version string, err error) {
	if len(spec.Endpoints) != 1 {
		return "", fmt.Errorf("snapshot must be requested to one selected node, not multiple %v", spec.Endpoints)
	}
	logger := zap.NewNop()
	if s.plain {
		logger = newLogger(s.err, zapcore.InfoLevel)
	}
	c, err := s.dial(spec, logger.Named("client"))
	if err != nil {
		return "", cli.With(cli.ExitInterrupted, errors.Unwrap(err))
	}
	defer c.Close()
	part := path + ".part"
	f, err := os.OpenFile(part, os.O_WRONLY|os.O_CREATE|os.O_TRUNC, 0o600)
	if err != nil {
		return "", fmt.Errorf("could not open %s (%w)", part, err)
	}
	defer os.Remove(part)
	defer f.Close()
	logger.Info("created temporary db file", zap.String("path", part))
	begun := time.Now()
	r, err := c.SnapshotWithVersion(ctx)
	if err != nil {
		return "", err
	}
	defer r.Snapshot.Close()
	logger.Info("fetching snapshot", zap.String("endpoint", spec.Endpoints[0]))
	progress := cli.NewProgress(s.err, "fetching "+path, 0, cli.Bytes)
	defer progress.Finish()
	size, err := io.Copy(io.MultiWriter(f, progress), r.Snapshot)
	if err != nil {
		return "", fmt.Errorf("could not write snapshot: %w", err)
	}
	if size%sectorBytes != sumBytes {
		return "", fmt.Errorf("sha256 checksum not found [bytes: %d]", size)
	}
	if err := f.Sync(); err != nil {
		return "", fmt.Errorf("could not fsync snapshot: %w", err)
	}
	if err := f.Close(); err != nil {
		return "", fmt.Errorf("could not close file descriptor: %w", err)
	}
	logger.Info("fetched snapshot", zap.String("endpoint", spec.Endpoints[0]), zap.String("size", cli.Bytes(size)),
		zap.Duration("took", time.Since(begun)), zap.String("etcd-version", r.Version))
	if err := os.Rename(part, path); err != nil {
		return "", fmt.Errorf("could not rename %s to %s (%w)", part, path, err)
	}
	logger.Info("saved", zap.String("path", path))
	return r.Version, nil
}
