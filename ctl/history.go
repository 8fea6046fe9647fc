package ctl

import (
	"context"
	"encoding/json"
	"fmt"
	"time"

	"github.com/spf13/cobra"
	"go.etcd.io/etcd/api/v3/mvccpb"
	clientv3 "go.etcd.io/etcd/client/v3"

	"keelson/internal/cli"
)

func (s *session) historyCommand() *cobra.Command {
	var limit int
	cmd := &cobra.Command{
		Use: "history KEY", Short: "Show every change of a key that has not been compacted, the newest first", GroupID: groupLook, Args: cobra.ExactArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			return s.withClient(func(ctx context.Context, c *clientv3.Client) error { return s.history(ctx, c, args[0], limit) })
		},
	}
	cmd.Flags().IntVar(&limit, "limit", 0, "how many changes to show (0: all)")
	return cmd
}

// change is one line of a history.
type change struct {
	Revision int64  `json:"revision"`
	Kind     string `json:"kind"` // create, put, delete
	Version  int64  `json:"version,omitempty"`
	Lease    int64  `json:"lease,omitempty"`
	Value    []byte `json:"value,omitempty"`
}

func (s *session) history(ctx context.Context, c *clientv3.Client, key string, limit int) error {
	events, floor, err := pastEvents(ctx, c, key)
	if err != nil {
		return err
	}
	list := []change{}
	for i := len(events) - 1; i >= 0 && (limit == 0 || len(list) < limit); i-- {
		e := events[i]
		one := change{Revision: e.Kv.ModRevision, Kind: "put", Version: e.Kv.Version, Lease: e.Kv.Lease, Value: e.Kv.Value}
		switch {
		case e.Type == mvccpb.Event_DELETE:
			one.Kind = "delete"
		case e.IsCreate():
			one.Kind = "create"
		}
		list = append(list, one)
	}
	if s.flags.writeOut == "json" {
		b, err := json.Marshal(list)
		if err != nil {
			return err
		}
		_, err = fmt.Fprintln(s.out, string(b))
		return err
	}
	if len(list) == 0 {
		text := shown(key) + " has never been written"
		if floor > 1 {
			text = fmt.Sprintf("%s has not been written since revision %d; what was before has been compacted", shown(key), floor)
		}
		fmt.Fprintln(s.err, text+". keelson ls shows which keys there are")
		return nil
	}
	rows := [][]string{{"REVISION", "CHANGE", "VERSION", "LEASE", "VALUE"}}
	for _, one := range list {
		lease := "-"
		if one.Lease != 0 {
			lease = fmt.Sprintf("%016x", one.Lease)
		}
		version, value := fmt.Sprint(one.Version), s.oneLine(one.Value)
		if one.Kind == "delete" {
			version, value = "-", "-"
		}
		rows = append(rows, []string{fmt.Sprint(one.Revision), one.Kind, version, lease, value})
	}
	if err := cli.Columns(s.out, rows, s.boldTitles); err != nil {
		return err
	}
	if floor > 1 {
		fmt.Fprintf(s.out, "changes before revision %d have been compacted\n", floor)
	}
	return nil
}

// shownBytes is how much of a value fits into a line for people.
const shownBytes = 60

// oneLine is a value in one line: quoted, and on a terminal cut.
func (s *session) oneLine(value []byte) string {
	if cli.IsTerminal(s.out) && len(value) > shownBytes {
		return fmt.Sprintf("%q… (%s)", value[:shownBytes], cli.Bytes(int64(len(value))))
	}
	return fmt.Sprintf("%q", value)
}

// askAgain is how often a member is asked whether it has sent everything.
const askAgain = 50 * time.Millisecond

// pastEvents reads all changes of a key up to now from a watch; floor is the oldest revision that could be read.
func pastEvents(ctx context.Context, c *clientv3.Client, key string) (events []*clientv3.Event, floor int64, err error) {
	now, err := c.Get(ctx, key, clientv3.WithCountOnly())
	if err != nil {
		return nil, 0, err
	}
	for floor = 1; ; {
		events, compacted, err := eventsFrom(ctx, c, key, floor, now.Header.Revision)
		if compacted == 0 {
			return events, floor, err
		}
		floor = compacted
	}
}

// eventsFrom reads the changes of [from, to]. compacted is where the history begins if from is too old.
func eventsFrom(ctx context.Context, c *clientv3.Client, key string, from, to int64) (events []*clientv3.Event, compacted int64, err error) {
	if from > to {
		return nil, 0, nil
	}
	ctx, cancel := context.WithCancel(clientv3.WithRequireLeader(ctx))
	defer cancel()
	watch := c.Watch(ctx, key, clientv3.WithRev(from), clientv3.WithCreatedNotify())
	ask := time.NewTicker(askAgain)
	defer ask.Stop()
	for {
		select {
		case r, ok := <-watch:
			switch {
			case !ok:
				return nil, 0, context.Cause(ctx)
			case r.CompactRevision != 0:
				return nil, r.CompactRevision, nil
			case r.Err() != nil:
				return nil, 0, r.Err()
			}
			for _, e := range r.Events {
				if e.Kv.ModRevision <= to {
					events = append(events, e)
				}
			}
			if r.IsProgressNotify() && r.Header.Revision >= to {
				return events, 0, nil
			}
		case <-ask.C: // a member answers once it has sent everything
			if err := c.RequestProgress(ctx); err != nil {
				return nil, 0, err
			}
		}
	}
}
