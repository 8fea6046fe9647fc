package main

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	pb "go.etcd.io/etcd/api/v3/etcdserverpb"
	"go.etcd.io/etcd/api/v3/v3rpc/rpctypes"
	clientv3 "go.etcd.io/etcd/client/v3"

	"keelson/internal/testkit"
)

// untilHealthy repeats a change of the members while a strict check refuses it because connections are too young.
func untilHealthy(t *testing.T, change func(context.Context) error) {
	t.Helper()
	deadline := time.Now().Add(30 * time.Second)
	for {
		err := change(within(t))
		if err == nil {
			return
		}
		if !errors.Is(err, rpctypes.ErrUnhealthy) || time.Now().After(deadline) {
			t.Fatal(err)
		}
		time.Sleep(200 * time.Millisecond)
	}
}

// writeLarge writes pairs of a mebibyte, each once, however often it has to be tried.
func writeLarge(t *testing.T, client *clientv3.Client, prefix string, pairs int) {
	t.Helper()
	value := strings.Repeat("v", 1<<20)
	for i := range pairs {
		key := fmt.Sprintf("%s%03d", prefix, i)
		absent := clientv3.Compare(clientv3.CreateRevision(key), "=", 0)
		deadline := time.Now().Add(60 * time.Second)
		for {
			_, err := client.Txn(within(t)).If(absent).Then(clientv3.OpPut(key, value)).Commit()
			if err == nil {
				break
			}
			if time.Now().After(deadline) {
				t.Fatalf("write %s: %v", key, err)
			}
		}
	}
}

// expectKeys takes events until it has seen each of the keys with a prefix once, in order.
func expectKeys(t *testing.T, ctx context.Context, events clientv3.WatchChan, prefix string, pairs int) {
	t.Helper()
	for n := 0; n < pairs; {
		var r clientv3.WatchResponse
		select {
		case r = <-events:
		case <-ctx.Done():
			t.Fatalf("%d of %d events came", n, pairs)
		}
		if r.Err() != nil {
			t.Fatalf("after %d events: %v", n, r.Err())
		}
		for _, ev := range r.Events {
			if want := fmt.Sprintf("%s%03d", prefix, n); string(ev.Kv.Key) != want {
				t.Fatalf("event of %s, want %s", ev.Kv.Key, want)
			}
			n++
		}
	}
}

// A member whose machine is lost is replaced as the manual says: removed, added, and started with the variables that etcdctl
// has printed and nothing else that says who it is.
func TestClusterReplacesAMember(t *testing.T) {
	testkit.Need(t, "etcdctl")
	c := started(t, 3)
	lost := c.Others(c.Leader())[0]
	id := memberID(t, lost)
	lost.Kill()
	rest := c.Others(lost)
	c.Leader(rest...)
	client := rest[0].Client()
	if _, err := client.Put(within(t), "k", "v"); err != nil {
		t.Fatal(err)
	}
	untilHealthy(t, func(ctx context.Context) error {
		_, err := client.MemberRemove(ctx, id)
		return err
	})
	fresh := testkit.NewProcess(t, testkit.FastArgs...)
	fresh.Name = "spare"
	var printed string
	deadline := time.Now().Add(30 * time.Second)
	for {
		var err error
		printed, err = tryEtcdctl(t, rest[0], "", "member", "add", fresh.Name, "--peer-urls=http://"+fresh.Peer)
		if err == nil {
			break
		}
		if !strings.Contains(printed, "etcdserver: unhealthy cluster") || time.Now().After(deadline) {
			t.Fatalf("member add: %v\n%s", err, printed)
		}
		time.Sleep(200 * time.Millisecond)
	}
	fresh.Env = append(variables(t, printed),
		"ETCD_DATA_DIR="+fresh.DataDir, "ETCD_LISTEN_PEER_URLS=http://"+fresh.Peer,
		"ETCD_LISTEN_CLIENT_URLS=http://"+fresh.Endpoint, "ETCD_ADVERTISE_CLIENT_URLS=http://"+fresh.Endpoint)
	c.Members = append(rest, fresh)
	fresh.Start()
	r, err := fresh.Client().Get(within(t), "k")
	if err != nil || len(r.Kvs) != 1 || string(r.Kvs[0].Value) != "v" {
		t.Errorf("read through the new member: %v, %v", r, err)
	}
	c.Agree()

	if err := lost.Begin(); err != nil { // its machine comes back after all
		t.Fatal(err)
	}
	if state := lost.AwaitExit(); state.ExitCode() != 0 {
		t.Errorf("the removed member ends with %v", state)
	}
}

// variables are the settings that `etcdctl member add` has printed, without the quotes a shell would take away.
func variables(t *testing.T, printed string) (list []string) {
	t.Helper()
	for line := range strings.Lines(printed) {
		if strings.HasPrefix(line, "ETCD_") {
			list = append(list, strings.ReplaceAll(strings.TrimSpace(line), `"`, ""))
		}
	}
	if len(list) != 4 {
		t.Fatalf("etcdctl printed %d variables, want 4:\n%s", len(list), printed)
	}
	return list
}

// A member moves to another address: its peer URL is changed first, then it is started there, and keeps its id and data.
// What --initial-cluster says no longer matters to it.
func TestClusterMovesAMember(t *testing.T) {
	c := started(t, 3)
	moved := c.Others(c.Leader())[0]
	rest := c.Others(moved)
	id := memberID(t, moved)
	client := rest[0].Client()
	if _, err := client.MemberUpdate(within(t), id, []string{"http://" + rest[0].Peer}); !errors.Is(err, rpctypes.ErrPeerURLExist) {
		t.Errorf("to the address of another: %v", err)
	}
	if _, err := client.MemberUpdate(within(t), 12345, []string{"http://127.0.0.1:1"}); !errors.Is(err, rpctypes.ErrMemberNotFound) {
		t.Errorf("a stranger: %v", err)
	}
	peer := testkit.FreeAddress(t)
	eventually(t, "leader changed", func() error {
		_, err := client.MemberUpdate(within(t), id, []string{"http://" + peer})
		return err
	})
	moved.Kill()
	moved.Peer, moved.Initial = peer, moved.Name+"=http://"+peer
	if _, err := client.Put(within(t), "k", "while it was away"); err != nil {
		t.Fatal(err)
	}
	moved.Start()
	c.Agree()
	if got := memberID(t, moved); got != id {
		t.Errorf("the id was %x and is %x", id, got)
	}
	list, err := moved.Client().MemberList(within(t))
	if err != nil || len(list.Members) != 3 {
		t.Fatalf("members: %v, %v", list, err)
	}
	for _, m := range list.Members {
		if m.ID == id && (m.Name != moved.Name || !slices.Equal(m.PeerURLs, []string{"http://" + peer}) || len(m.ClientURLs) != 1) {
			t.Errorf("the moved member is listed as %v", m)
		}
	}
}

// Changes that would cost the cluster its quorum are refused, each with the text that tools look for.
func TestClusterStrictChecks(t *testing.T) {
	c := started(t, 3)
	client := c.Members[0].Client()
	add := func(peer string) (err error) { // refused for more than connections that are too young
		deadline := time.Now().Add(30 * time.Second)
		for {
			_, err = client.MemberAdd(within(t), []string{"http://" + peer})
			if !errors.Is(err, rpctypes.ErrUnhealthy) || time.Now().After(deadline) {
				return err
			}
			time.Sleep(200 * time.Millisecond)
		}
	}
	a, first := c.Add(false) // once this is granted, connections are old enough
	err := add(a.Peer)
	if !errors.Is(err, rpctypes.ErrPeerURLExist) && !errors.Is(err, rpctypes.ErrMemberExist) { // in the same second it has the same id
		t.Errorf("the peer URL of one that has not started: %v", err)
	}
	_, second := c.Add(false) // three of five have started
	if err := add("127.0.0.1:1"); !errors.Is(err, rpctypes.ErrMemberNotEnoughStarted) {
		t.Errorf("a third member that has not started: %v", err)
	}
	for _, id := range []uint64{first, second} {
		untilHealthy(t, func(ctx context.Context) error {
			_, err := client.MemberRemove(ctx, id)
			return err
		})
	}
	c.Members = c.Members[:3]

	if err := add(c.Members[0].Peer); !errors.Is(err, rpctypes.ErrPeerURLExist) {
		t.Errorf("a peer URL in use: %v", err)
	}
	down := c.Others(c.Leader())[0]
	id := memberID(t, down)
	down.Kill()
	rest := c.Others(down)
	// The checks go by which members this one is connected to, and it finds out by itself that one is gone.
	if inactive := fmt.Sprintf(`"peer became inactive","peer-id":"%x"`, id); !rest[0].Says(inactive) {
		t.Fatalf("%s does not miss %s", rest[0].Name, down.Name)
	}
	up := rest[0].Client()
	if _, err := up.MemberAdd(within(t), []string{"http://127.0.0.1:1"}); !errors.Is(err, rpctypes.ErrUnhealthy) {
		t.Errorf("add while one is down: %v", err)
	}
	if _, err := up.MemberRemove(within(t), memberID(t, rest[1])); !errors.Is(err, rpctypes.ErrUnhealthy) {
		t.Errorf("remove a live one while another is down: %v", err)
	}
	if _, err := up.MemberRemove(within(t), id); err != nil {
		t.Errorf("remove the one that is down: %v", err)
	}
}

// A watch stays open on a member that stands still until the log no longer reaches back to it: the member installs a
// snapshot under the watch, which then goes on without a gap and without a repetition.
func TestClusterWatchOverInstall(t *testing.T) {
	c := started(t, 3, "--snapshot-catchup-entries=1", "--quota-backend-bytes=0")
	leader := c.Leader()
	behind := c.Others(leader)[0]
	rest := c.Others(behind)
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	defer cancel()
	events := behind.Client().Watch(ctx, "k/", clientv3.WithPrefix(), clientv3.WithCreatedNotify())
	if r := <-events; !r.Created {
		t.Fatalf("the watch was not created: %v", r.Err())
	}
	behind.Pause()
	const pairs = 110 // the log is cut in files of 64 MiB
	client := rest[0].Client()
	writeLarge(t, client, "k/", pairs)
	for range 3 { // a flush lets the log be cut
		for _, p := range rest {
			if _, err := client.HashKV(ctx, p.Endpoint, 0); err != nil {
				t.Fatal(err)
			}
		}
	}
	behind.Resume()
	expectKeys(t, ctx, events, "k/", pairs)
	if !strings.Contains(behind.Log(), "applied snapshot") {
		t.Error("no snapshot was installed: the test has tested nothing")
	}
	if _, err := client.Put(ctx, fmt.Sprintf("k/%03d", pairs), "after the snapshot"); err != nil {
		t.Fatal(err)
	}
	r := <-events
	if r.Err() != nil || len(r.Events) != 1 || string(r.Events[0].Kv.Key) != fmt.Sprintf("k/%03d", pairs) {
		t.Errorf("the event after the snapshot: %v, %v", r.Events, r.Err())
	}
	c.Agree()
}

// Compaction reaches all members, each is defragmented on its own, and they still hold the same; an alarm that one member
// raises binds all, and is lifted for all.
func TestClusterUpkeep(t *testing.T) {
	c := started(t, 3, "--quota-backend-bytes=67108864")
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	defer cancel()
	client := c.Members[0].Client()
	var last int64
	for i := range 200 {
		r, err := client.Put(ctx, fmt.Sprintf("k/%d", i%10), fmt.Sprint(i))
		if err != nil {
			t.Fatal(err)
		}
		last = r.Header.Revision
	}
	if _, err := c.Members[1].Client().Compact(ctx, last-20, clientv3.WithCompactPhysical()); err != nil {
		t.Fatal(err)
	}
	c.Agree()
	for _, p := range c.Members {
		if _, err := p.Client().Get(ctx, "k/1", clientv3.WithRev(last-30)); !errors.Is(err, rpctypes.ErrCompacted) {
			t.Errorf("a compacted revision through %s: %v", p.Name, err)
		}
		if _, err := client.Defragment(ctx, p.Endpoint); err != nil {
			t.Errorf("defragment %s: %v", p.Name, err)
		}
	}
	c.Agree()

	fill(t, ctx, client)
	for _, p := range c.Members {
		through := p.Client()
		if _, err := through.Put(ctx, "k", "v"); !errors.Is(err, rpctypes.ErrNoSpace) {
			t.Errorf("write through %s without space: %v", p.Name, err)
		}
		if len(alarms(t, ctx, through)) == 0 {
			t.Errorf("%s refuses for lack of space, and there is no alarm", p.Name)
		}
	}
	if _, err := c.Members[2].Client().AlarmDisarm(ctx, &clientv3.AlarmMember{}); err != nil {
		t.Fatal(err)
	}
	for _, p := range c.Members {
		if list := alarms(t, ctx, p.Client()); len(list) != 0 {
			t.Errorf("alarms through %s after all were lifted: %v", p.Name, list)
		}
	}
	c.Agree()
}

func alarms(t *testing.T, ctx context.Context, client *clientv3.Client) []*pb.AlarmMember {
	t.Helper()
	r, err := client.AlarmList(ctx)
	if err != nil {
		t.Fatal(err)
	}
	return r.Alarms
}

// fill writes until there is no more space.
func fill(t *testing.T, ctx context.Context, client *clientv3.Client) {
	t.Helper()
	value := strings.Repeat("v", 1<<20)
	for i := range 200 {
		_, err := client.Put(ctx, fmt.Sprintf("large/%03d", i), value)
		if errors.Is(err, rpctypes.ErrNoSpace) {
			if len(alarms(t, ctx, client)) == 0 {
				t.Error("the first refusal came before the alarm")
			}
			return
		}
		if err != nil && ctx.Err() != nil {
			t.Fatal(err)
		}
	}
	t.Fatal("200 MiB fit into 64")
}
