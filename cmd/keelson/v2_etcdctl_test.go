package main

import (
	"bytes"
	"context"
	"os"
	"os/exec"
	"regexp"
	"strings"
	"testing"

	"keelson/internal/testkit"
)

// etcdctl2 runs Debian's etcdctl in its v2 mode against a member.
func etcdctl2(t *testing.T, p *testkit.Process, args ...string) (output string, exit int) {
	t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	defer cancel()
	cmd := exec.CommandContext(ctx, "etcdctl", append([]string{"--endpoints=http://" + p.Endpoint, "--total-timeout=50s", "--timeout=20s"}, args...)...)
	cmd.Env = append(os.Environ(), "ETCDCTL_API=2")
	var out bytes.Buffer
	cmd.Stdout, cmd.Stderr = &out, &out
	err := cmd.Run()
	if exited, ok := err.(*exec.ExitError); ok {
		return out.String(), exited.ExitCode()
	}
	if err != nil {
		t.Fatal(err)
	}
	return out.String(), 0
}

// TestV2Etcdctl walks a member through what people typed in those days.
func TestV2Etcdctl(t *testing.T) {
	testkit.Need(t, "etcdctl")
	p := testkit.NewProcess(t)
	p.Start()
	for _, step := range []struct {
		args string
		want string // a regular expression over the whole output
		exit int
	}{
		{args: "set /a 1", want: "1"},
		{args: "get /a", want: "1"},
		{args: "-o extended get /a", want: `Key: /a\nCreated-Index: 4\nModified-Index: 4\nTTL: 0\nIndex: 4\n\n1`},
		{args: "set /a 2 --swap-with-value 1", want: "2"},
		{args: "set /a 3 --swap-with-value 1", want: `Error:  101: Compare failed \(\[1 != 2\]\) \[5\]`, exit: 4},
		{args: "set /a 3 --swap-with-index 5", want: "3"},
		{args: "mk /a x", want: `Error:  105: Key already exists \(/a\) \[6\]`, exit: 4},
		{args: "mk /dir/one 1", want: "1"},
		{args: "mk --in-order /queue job", want: `job`},
		{args: "ls /queue", want: `/queue/00000000000000000008`},
		{args: "mkdir /dir/two", want: ``},
		{args: "mkdir /dir/two", want: `Error:  105: .*`, exit: 4},
		{args: "setdir /dir/three", want: ``},
		{args: "ls -p /dir", want: `/dir/one\n/dir/three/\n/dir/two/`},
		{args: "ls --recursive /", want: `(/\S+\n?)+`},
		{args: "update /a 4", want: "4"},
		{args: "update /missing 4", want: `Error:  100: Key not found \(/missing\) \[11\]`, exit: 4},
		{args: "updatedir /dir/two --ttl 100", want: ``},
		{args: "rmdir /dir", want: `Error:  108: Directory not empty \(/dir\) \[12\]`, exit: 4},
		{args: "rmdir /dir/two", want: ``},
		{args: "rm /a", want: `PrevNode.Value: 4`},
		{args: "rm /a", want: `Error:  100: Key not found \(/a\) \[14\]`, exit: 4},
		{args: "rm /dir", want: `Error:  102: Not a file \(/dir\) \[14\]`, exit: 4},
		{args: "rm --recursive /dir", want: ``},
		{args: "get /dir", want: `Error:  100: .*`, exit: 4},
		{args: "watch --after-index=1 /a", want: "1"},
		{args: "set /ttl x --ttl 100", want: "x"},
		{args: "-o json get /ttl", want: `\{"action":"get",.*"ttl":(100|[5-9]\d).*\}`},
		{args: "member list", want: `[0-9a-f]+: name=m1 peerURLs=\S+ clientURLs=\S+ isLeader=true`},
		{args: "cluster-health", want: `member [0-9a-f]+ is healthy: got healthy result from \S+\ncluster is healthy`},
		{args: "role add reader", want: `Role reader created`},
		{args: "role grant reader --path /pub/* --read", want: `Role reader updated`},
		{args: "role get reader", want: `Role: reader\nKV Read:\n\t/pub/\*\nKV Write:`},
		{args: "user add root:secret", want: `User root created`},
		{args: "user add alice:pass", want: `User alice created`},
		{args: "user grant alice --roles reader", want: `User alice updated`},
		{args: "auth enable", want: `Authentication Enabled`},
		{args: "-u root:secret role remove guest", want: `Role guest removed`},
		{args: "get /ttl", want: `Error:  110: The request requires user authentication \(Insufficient credentials\) \[0\]`, exit: 4},
		{args: "-u root:secret set /pub/x 1", want: `1`},
		{args: "-u alice:pass get /pub/x", want: `1`},
		{args: "-u alice:pass set /pub/x 2", want: `Error:  110: .*`, exit: 4},
		{args: "-u root:secret auth disable", want: `Authentication Disabled`},
		{args: "user list", want: `alice\nroot`},
	} {
		got, exit := etcdctl2(t, p, strings.Fields(step.args)...)
		if !regexp.MustCompile(`^(?s:`+step.want+`)\s*$`).MatchString(got) || exit != step.exit {
			t.Errorf("etcdctl %s: exit %d\n%s\nwant exit %d\n%s", step.args, exit, got, step.exit, step.want)
		}
	}
}
