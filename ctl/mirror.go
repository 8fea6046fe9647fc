package ctl

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"sync/atomic"
	"time"

	"github.com/spf13/cobra"
	"go.etcd.io/etcd/api/v3/mvccpb"
	"go.etcd.io/etcd/api/v3/v3rpc/rpctypes"
	clientv3 "go.etcd.io/etcd/client/v3"
	"go.etcd.io/etcd/client/v3/mirror"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	"keelson/internal/cli"
)

// mirrorOptions are the flags of make-mirror.
type mirrorOptions struct {
	prefix, destPrefix string
	noDestPrefix       bool
	rev                int64
	opsMax             uint
	cert, key, cacert  string
	insecure           bool
	user, password     string
	passwordGiven      bool
}

// mirrorReport is how often make-mirror says how many keys it has written.
const mirrorReport = 30 * time.Second

func (s *session) mirrorCommand() *cobra.Command {
	o := &mirrorOptions{}
	cmd := &cobra.Command{
		Use: "make-mirror [options] <destination>", Short: "Makes a mirror at the destination etcd cluster", GroupID: groupUtility,
		RunE: func(cmd *cobra.Command, args []string) error {
			if len(args) != 1 {
				return cli.Fail(cli.ExitBadArgs, "make-mirror takes one destination argument")
			}
			if o.destPrefix != "" && o.noDestPrefix {
				return cli.Fail(cli.ExitBadArgs, "`--dest-prefix` and `--no-dest-prefix` cannot be set at the same time, choose one")
			}
			o.passwordGiven = cmd.Flags().Changed("dest-password")
			return s.makeMirror(o, args[0])
		},
	}
	f := cmd.Flags()
	f.StringVar(&o.prefix, "prefix", "", "Key-value prefix to mirror")
	f.Int64Var(&o.rev, "rev", 0, "Specify the kv revision to start to mirror")
	f.UintVar(&o.opsMax, "max-txn-ops", 128, "Maximum number of operations permitted in a transaction during syncing updates.")
	f.StringVar(&o.destPrefix, "dest-prefix", "", "destination prefix to mirror a prefix to a different prefix in the destination cluster")
	f.BoolVar(&o.noDestPrefix, "no-dest-prefix", false, "mirror key-values to the root of the destination cluster")
	f.StringVar(&o.cert, "dest-cert", "", "Identify secure client using this TLS certificate file for the destination cluster")
	f.StringVar(&o.key, "dest-key", "", "Identify secure client using this TLS key file")
	f.StringVar(&o.cacert, "dest-cacert", "", "Verify certificates of TLS enabled secure servers using this CA bundle")
	f.BoolVar(&o.insecure, "dest-insecure-transport", true, "Disable transport security for client connections")
	f.StringVar(&o.user, "dest-user", "", "Destination username[:password] for authentication (prompt if password is not supplied)")
	f.StringVar(&o.password, "dest-password", "", "Destination password for authentication (if this option is used, --user option shouldn't include password)")
	return cmd
}

func (s *session) makeMirror(o *mirrorOptions, destination string) error {
	auth, err := s.credentials(o.user, o.password, o.passwordGiven)
	if err != nil {
		return err
	}
	spec, err := s.configure()
	if err != nil {
		return err
	}
	to, err := s.dial(&clientv3.ConfigSpec{
		Endpoints: strings.Split(destination, ","), DialTimeout: spec.DialTimeout, KeepAliveTime: spec.KeepAliveTime,
		KeepAliveTimeout: spec.KeepAliveTimeout, MaxCallSendMsgSize: spec.MaxCallSendMsgSize, MaxCallRecvMsgSize: spec.MaxCallRecvMsgSize,
		Secure: &clientv3.SecureConfig{Cert: o.cert, Key: o.key, Cacert: o.cacert, InsecureTransport: o.insecure}, Auth: auth,
	}, nil)
	if err != nil {
		return err
	}
	defer to.Close()
	from, err := s.dial(spec, nil)
	if err != nil {
		return err
	}
	defer from.Close()
	if !s.plain { // etcdctl waits without a word
		if err := errors.Join(s.mustAnswer(from, "the source"), s.mustAnswer(to, "the destination")); err != nil {
			return err
		}
	}
	ctx, cancel := interrupted()
	defer cancel()
	return s.copyTo(ctx, from, to, o)
}

// connectNow connects for a command that may take any time, once somebody has answered.
func (s *session) connectNow() (*clientv3.Client, error) {
	c, err := s.connect()
	if err != nil {
		return nil, err
	}
	if err := s.mustAnswer(c, "the cluster"); err != nil {
		c.Close()
		return nil, err
	}
	return c, nil
}

// mustAnswer refuses a cluster that nobody answers for. Whatever is answered is good enough.
func (s *session) mustAnswer(c *clientv3.Client, what string) error {
	ctx, cancel := s.short()
	defer cancel()
	_, err := c.Get(ctx, "\x00", clientv3.WithCountOnly(), clientv3.WithSerializable())
	if err == nil || ctx.Err() == nil && status.Code(err) != codes.Unavailable {
		return nil
	}
	where := strings.Join(c.Endpoints(), ",")
	return cli.Fail(cli.ExitBadConnection, "%s, %s, does not answer (%v)\n  next:  keelson status --endpoints %s shows why", what, where, err, where)
}

// copyTo copies what is there and then what happens, until an error or a signal.
func (s *session) copyTo(ctx context.Context, from, to *clientv3.Client, o *mirrorOptions) error {
	var total atomic.Int64
	if s.plain {
		go reportTotal(ctx, func() { fmt.Fprintln(s.out, total.Load()) })
	}
	progress := cli.NewProgress(s.err, "mirrored", 0, func(n int64) string { return fmt.Sprintf("%d keys", n) })
	defer progress.Finish()
	written := func(n int) {
		total.Add(int64(n))
		if !s.plain {
			progress.Add(int64(n))
		}
	}
	before := max(o.rev-1, 0) // the syncer takes the revision that it follows upon
	syncer := mirror.NewSyncer(from, o.prefix, before)
	if before == 0 { // a revision says that what was before is there already
		pages, failed := syncer.SyncBase(ctx)
		for page := range pages {
			for _, kv := range page.Kvs {
				if _, err := to.Put(ctx, o.destination(kv.Key), string(kv.Value)); err != nil {
					return err
				}
				written(1)
			}
		}
		if err := <-failed; err != nil {
			return err
		}
	}
	err := o.follow(ctx, syncer.SyncUpdates(ctx), to, written)
	if ctx.Err() != nil {
		return nil
	}
	return err
}

func reportTotal(ctx context.Context, report func()) {
	for {
		select {
		case <-time.After(mirrorReport):
			report()
		case <-ctx.Done():
			return
		}
	}
}

// follow repeats events at the destination: those of one revision in one transaction, as far as it may hold them.
func (o *mirrorOptions) follow(ctx context.Context, events clientv3.WatchChan, to *clientv3.Client, written func(int)) error {
	for r := range events {
		if r.CompactRevision != 0 {
			return rpctypes.ErrCompacted
		}
		if err := r.Err(); err != nil {
			return err
		}
		var ops []clientv3.Op
		last := int64(0)
		commit := func() error {
			if len(ops) == 0 {
				return nil
			}
			_, err := to.Txn(ctx).Then(ops...).Commit()
			written(len(ops))
			ops = nil
			return err
		}
		for _, e := range r.Events {
			if e.Kv.ModRevision != last || len(ops) >= int(o.opsMax) {
				if err := commit(); err != nil {
					return err
				}
			}
			last = e.Kv.ModRevision
			switch e.Type {
			case mvccpb.Event_PUT:
				ops = append(ops, clientv3.OpPut(o.destination(e.Kv.Key), string(e.Kv.Value)))
			case mvccpb.Event_DELETE:
				ops = append(ops, clientv3.OpDelete(o.destination(e.Kv.Key)))
			}
		}
		if err := commit(); err != nil {
			return err
		}
	}
	return errors.New("the watch on the source has ended")
}

// destination is where a key goes.
func (o *mirrorOptions) destination(key []byte) string {
	if o.destPrefix == "" && !o.noDestPrefix {
		return string(key)
	}
	return o.destPrefix + strings.TrimPrefix(string(key), o.prefix)
}
