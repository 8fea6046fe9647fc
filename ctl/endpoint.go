package ctl

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"time"

	"github.com/spf13/cobra"
	"go.etcd.io/etcd/api/v3/etcdserverpb"
	"go.etcd.io/etcd/api/v3/v3rpc/rpctypes"
	clientv3 "go.etcd.io/etcd/client/v3"
	"go.uber.org/zap"
	"go.uber.org/zap/zapcore"

	"keelson/internal/cli"
)

func (s *session) endpointCommand() *cobra.Command {
	var all bool
	cmd := s.family("endpoint", "Endpoint related commands", groupCluster,
		s.endpointHealthCommand(&all), s.endpointStatusCommand(&all), s.endpointHashKVCommand(&all))
	cmd.PersistentFlags().BoolVar(&all, "cluster", false, "use all endpoints from the cluster member list")
	return cmd
}

// endpointsOf are the given endpoints, or with all those that the members of the cluster advertise.
func (s *session) endpointsOf(spec *clientv3.ConfigSpec, all bool) ([]string, error) {
	if !all {
		return spec.Endpoints, nil
	}
	c, err := s.dial(spec, nil)
	if err != nil {
		return nil, err
	}
	defer c.Close()
	ctx, cancel := s.short()
	defer cancel()
	members, err := c.MemberList(ctx)
	if err != nil {
		return nil, fmt.Errorf("failed to fetch endpoints from etcd cluster member list: %w", err)
	}
	var list []string
	for _, m := range members.Members {
		list = append(list, m.ClientURLs...)
	}
	return list, nil
}

func (s *session) endpointHealthCommand(all *bool) *cobra.Command {
	return &cobra.Command{
		Use: "health", Short: "Checks the healthiness of endpoints specified in `--endpoints` flag",
		RunE: func(cmd *cobra.Command, args []string) error { return s.endpointHealth(*all) },
	}
}

func (s *session) endpointHealth(all bool) error {
	spec, err := s.configure()
	if err != nil {
		return err
	}
	endpoints, err := s.endpointsOf(spec, all)
	if err != nil {
		return err
	}
	logger := zap.NewNop()
	if s.plain {
		logger = newLogger(s.err, zapcore.WarnLevel).Named("client")
	}
	answers := make(chan endpointHealth, len(endpoints))
	var asking sync.WaitGroup
	for _, endpoint := range endpoints {
		one := spec.Clone()
		one.Endpoints = []string{endpoint}
		asking.Go(func() { answers <- s.healthOf(one, logger) })
	}
	asking.Wait()
	close(answers)
	var list []endpointHealth
	sick := false
	_, isSimple := s.print.(*simplePrinter)
	for h := range answers { // in the order in which they came
		list = append(list, h)
		if h.Error != "" {
			sick = true
			if isSimple {
				fmt.Fprintf(s.err, "%s is unhealthy: failed to commit proposal: %s\n", h.Endpoint, h.Error)
			}
		}
	}
	if err := s.print.health(list); err != nil {
		return err
	}
	if sick {
		return cli.Fail(cli.ExitError, "unhealthy cluster")
	}
	return nil
}

// healthOf asks one member for a key and for alarms. Whoever is refused for want of permission was answered by a quorum.
func (s *session) healthOf(spec *clientv3.ConfigSpec, logger *zap.Logger) endpointHealth {
	h := endpointHealth{Endpoint: spec.Endpoints[0]}
	c, err := s.dial(spec, logger)
	if err != nil {
		h.Error = err.Error()
		return h
	}
	defer c.Close()
	begun := time.Now()
	ctx, cancel := s.short()
	defer cancel()
	_, err = c.Get(ctx, "health")
	h.Took = time.Since(begun).String()
	switch {
	case err != nil && !errors.Is(err, rpctypes.ErrPermissionDenied):
		h.Error = err.Error()
		return h
	case err == nil:
		if h.Error = alarmsOf(ctx, c); h.Error != "" {
			return h
		}
	}
	h.Health = true
	return h
}

// alarmsOf says which alarms are raised, or nothing.
func alarmsOf(ctx context.Context, c *clientv3.Client) string {
	r, err := c.AlarmList(ctx)
	if err != nil {
		return "Unable to fetch the alarm list"
	}
	text := ""
	for _, a := range r.Alarms {
		switch a.Alarm {
		case etcdserverpb.AlarmType_NONE:
			continue
		case etcdserverpb.AlarmType_NOSPACE, etcdserverpb.AlarmType_CORRUPT:
			text += a.Alarm.String() + " "
		default:
			text += "UNKNOWN "
		}
	}
	if text == "" {
		return ""
	}
	return "Active Alarm(s): " + text
}

func (s *session) endpointStatusCommand(all *bool) *cobra.Command {
	return &cobra.Command{
		Use: "status", Short: "Prints out the status of endpoints specified in `--endpoints` flag",
		Long: "When --write-out is set to simple, this command prints out comma-separated status lists for each endpoint.\n" +
			"The items in the lists are endpoint, ID, version, db size, is leader, is learner, raft term, raft index, raft applied index, errors.\n",
		RunE: func(cmd *cobra.Command, args []string) error {
			var list []endpointStatus
			failed, err := s.eachEndpoint(*all, func(ctx context.Context, c *clientv3.Client, endpoint string) error {
				r, err := c.Status(ctx, endpoint)
				if err != nil {
					fmt.Fprintf(s.err, "Failed to get the status of endpoint %s (%v)\n", endpoint, err)
					return err
				}
				list = append(list, endpointStatus{Endpoint: endpoint, Status: r})
				return nil
			})
			if err != nil {
				return err
			}
			if err := s.print.status(list); err != nil {
				return err
			}
			if failed != nil {
				return cli.Silent(cli.ExitError)
			}
			return nil
		},
	}
}

// eachEndpoint asks the endpoints one after the other and returns the last failure of ask apart from its own errors.
func (s *session) eachEndpoint(all bool, ask func(ctx context.Context, c *clientv3.Client, endpoint string) error) (failed, err error) {
	spec, err := s.configure()
	if err != nil {
		return nil, err
	}
	endpoints, err := s.endpointsOf(spec, all)
	if err != nil {
		return nil, err
	}
	for _, endpoint := range endpoints {
		one := spec.Clone()
		one.Endpoints = []string{endpoint}
		c, err := s.dial(one, nil)
		if err != nil {
			return nil, err
		}
		ctx, cancel := s.short()
		if err := ask(ctx, c, endpoint); err != nil {
			failed = err
		}
		cancel()
		c.Close()
	}
	return failed, nil
}

func (s *session) endpointHashKVCommand(all *bool) *cobra.Command {
	var rev int64
	cmd := &cobra.Command{
		Use: "hashkv", Short: "Prints the KV history hash for each endpoint in --endpoints",
		RunE: func(cmd *cobra.Command, args []string) error {
			var list []endpointHashKV
			failed, err := s.eachEndpoint(*all, func(ctx context.Context, c *clientv3.Client, endpoint string) error {
				r, err := c.HashKV(ctx, endpoint, rev)
				if err != nil {
					fmt.Fprintf(s.err, "Failed to get the hash of endpoint %s (%v)\n", endpoint, err)
					return err
				}
				list = append(list, endpointHashKV{Endpoint: endpoint, HashKV: r})
				return nil
			})
			if err != nil {
				return err
			}
			if len(list) > 0 || failed == nil {
				if err := s.print.hashKV(list); err != nil {
					return err
				}
			}
			return failed
		},
	}
	cmd.Flags().Int64Var(&rev, "rev", 0, "maximum revision to hash (default: latest revision)")
	return cmd
}
