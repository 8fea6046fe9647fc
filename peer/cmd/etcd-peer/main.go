// Command etcd-peer serves one etcd member through etcd's own embed package, so that Keelson can be compared with the
// real thing in one run on one machine. It takes the few flags that a comparison needs, prints "ready" on stdout once
// clients are served, logs errors to stderr, and stops in order on SIGTERM or SIGINT.
package main

import (
	"flag"
	"fmt"
	"net/url"
	"os"
	"os/signal"
	"syscall"
	"time"

	"go.etcd.io/etcd/server/v3/embed"
)

func main() {
	if err := run(os.Args[1:]); err != nil {
		fmt.Fprintln(os.Stderr, "etcd-peer:", err)
		os.Exit(1)
	}
}

// run serves until a signal asks it to stop or the server fails.
func run(args []string) error {
	cfg, err := parse(args)
	if err != nil {
		return err
	}
	stop := make(chan os.Signal, 1)
	signal.Notify(stop, syscall.SIGTERM, syscall.SIGINT)

	etcd, err := embed.StartEtcd(cfg)
	if err != nil {
		return fmt.Errorf("start: %w", err)
	}
	defer etcd.Close()
	select {
	case <-etcd.Server.ReadyNotify():
	case err := <-etcd.Err():
		return fmt.Errorf("start: %w", err)
	case <-stop:
		return nil
	}
	fmt.Println("ready")
	select {
	case <-stop:
		return nil
	case err := <-etcd.Err():
		return fmt.Errorf("serve: %w", err)
	case <-etcd.Server.StopNotify():
		return fmt.Errorf("serve: the member stopped by itself")
	}
}

// parse turns the command line into etcd's configuration; what has no flag keeps etcd's default.
func parse(args []string) (*embed.Config, error) {
	flags := flag.NewFlagSet("etcd-peer", flag.ContinueOnError)
	name := flags.String("name", "default", "member `name`")
	dataDir := flags.String("data-dir", "", "data `directory`, created if missing")
	clientURL := flags.String("listen-client-urls", "http://127.0.0.1:2379", "the client `URL`, also advertised")
	peerURL := flags.String("listen-peer-urls", "http://127.0.0.1:2380", "the peer `URL`, also advertised")
	quota := flags.Int64("quota-backend-bytes", 0, "database size limit in bytes; 0: etcd's default, negative: none")
	progress := flags.Duration("watch-progress-notify-interval", 0, "period of progress notifications; 0: etcd's default")
	initial := flags.String("initial-cluster", "", "first `members` of the cluster, as name=url,name=url; empty: this member alone")
	state := flags.String("initial-cluster-state", embed.ClusterStateFlagNew, "new or existing: whether the cluster `state` is yet to be made")
	heartbeat := flags.Uint("heartbeat-interval", 100, "time between heartbeats in `ms`")
	election := flags.Uint("election-timeout", 1000, "silence after which an election starts in `ms`")
	walDir := flags.String("wal-dir", "", "`directory` of the raft log; empty: inside the data directory")
	batch := flags.Duration("backend-batch-interval", 0, "how long the database may lag behind the raft log; 0: etcd's default")
	snapshotCount := flags.Uint64("snapshot-count", 0, "`entries` after which the database is brought up to the raft log; 0: etcd's default")
	certFile := flags.String("cert-file", "", "`file` with the certificate for clients")
	keyFile := flags.String("key-file", "", "`file` with its key")
	if err := flags.Parse(args); err != nil {
		return nil, err
	}
	if *dataDir == "" {
		return nil, fmt.Errorf("--data-dir is required")
	}
	client, err := url.Parse(*clientURL)
	if err != nil {
		return nil, fmt.Errorf("--listen-client-urls: %w", err)
	}
	peer, err := url.Parse(*peerURL)
	if err != nil {
		return nil, fmt.Errorf("--listen-peer-urls: %w", err)
	}

	cfg := embed.NewConfig()
	cfg.Name = *name
	cfg.Dir, cfg.WalDir = *dataDir, *walDir
	cfg.BackendBatchInterval = *batch
	if *snapshotCount > 0 {
		cfg.SnapshotCount = *snapshotCount
	}
	cfg.ListenClientUrls, cfg.AdvertiseClientUrls = []url.URL{*client}, []url.URL{*client}
	cfg.ListenPeerUrls, cfg.AdvertisePeerUrls = []url.URL{*peer}, []url.URL{*peer}
	cfg.InitialCluster = cfg.InitialClusterFromName(cfg.Name)
	if *initial != "" {
		cfg.InitialCluster = *initial
	}
	cfg.ClusterState = *state
	cfg.TickMs, cfg.ElectionMs = *heartbeat, *election
	cfg.QuotaBackendBytes = *quota
	cfg.ClientTLSInfo.CertFile, cfg.ClientTLSInfo.KeyFile = *certFile, *keyFile
	if *progress > 0 {
		cfg.WatchProgressNotifyInterval = *progress
	}
	cfg.LogLevel = "error"
	cfg.LogOutputs = []string{"stderr"}
	// Warnings about slow requests would otherwise cost the reference time that is not its own.
	cfg.WarningUnaryRequestDuration = time.Minute
	return cfg, nil
}
