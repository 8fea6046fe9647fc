package main

import (
	"context"
	"fmt"
	"net"
	"net/http"
	"net/url"
	"os/exec"
	"strings"
	"testing"
	"time"

	"keelson/internal/testkit"
)

// TestVIPManager has Debian's vip-manager move an address to where a key of the v2 API says that the primary is, as it does for
// Patroni.
func TestVIPManager(t *testing.T) {
	testkit.NeedRoot(t)
	for _, program := range []string{"vip-manager", "ip", "unshare", "nsenter"} {
		testkit.Need(t, program)
	}
	const address, key = "192.0.2.9", "/service/batman/leader"
	member := testkit.NewProcess(t)
	// A network of its own, with a device that has an address; the test comes in by a second listener.
	inside := testkit.FreeAddress(t)
	socket := t.TempDir() + "/s"
	member.ClientURL, member.Endpoint = "http://"+inside+",unix://"+socket, "unix://"+socket
	member.Wrap = []string{"unshare", "--net", "sh", "-c", `ip link set lo up && ip link add v0 type veth peer name v1 &&
		ip addr add 192.0.2.1/24 dev v0 && ip link set v0 up && ip link set v1 up && exec "$0" "$@"`}
	member.Start()
	enter := func(words ...string) *exec.Cmd {
		return exec.Command("nsenter", append([]string{"-t", fmt.Sprint(member.PID()), "--net"}, words...)...)
	}

	var log strings.Builder
	manager := enter("vip-manager", "--ip", address, "--netmask", "24", "--interface", "v0", "--trigger-key", key, "--trigger-value", "pg1",
		"--dcs-type", "etcd", "--dcs-endpoints", "http://"+inside, "--interval", "100")
	manager.Stdout, manager.Stderr = &log, &log
	if err := testkit.Spawn(manager); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		manager.Process.Kill()
		manager.Wait()
		if t.Failed() {
			t.Logf("vip-manager:\n%s", log.String())
		}
	})

	client := &http.Client{Timeout: 30 * time.Second, Transport: &http.Transport{DialContext: func(ctx context.Context, _, _ string) (net.Conn, error) {
		return new(net.Dialer).DialContext(ctx, "unix", socket)
	}}}
	t.Cleanup(client.CloseIdleConnections)
	request := func(method string, form url.Values) {
		t.Helper()
		r, err := http.NewRequestWithContext(t.Context(), method, "http://member/v2/keys"+key+"?"+form.Encode(), nil)
		if err != nil {
			t.Fatal(err)
		}
		answer, err := client.Do(r)
		if err != nil {
			t.Fatal(err)
		}
		answer.Body.Close()
		if answer.StatusCode/100 != 2 {
			t.Fatalf("%s %v: %s", method, form, answer.Status)
		}
	}
	await := func(has bool) {
		t.Helper()
		var out []byte
		for deadline := time.Now().Add(time.Minute); time.Now().Before(deadline); time.Sleep(20 * time.Millisecond) {
			var err error
			if out, err = enter("ip", "-4", "-o", "addr", "show", "dev", "v0").CombinedOutput(); err != nil {
				t.Fatalf("%v\n%s", err, out)
			}
			if strings.Contains(string(out), " "+address+"/") == has {
				return
			}
		}
		t.Fatalf("the address should be there: %v\n%s", has, out)
	}
	primary := func(name, ttl string) {
		t.Helper()
		request(http.MethodPut, url.Values{"value": {name}, "ttl": {ttl}})
	}
	primary("pg1", "60")
	await(true)
	primary("pg2", "60")
	await(false)
	primary("pg1", "60")
	await(true)
	primary("pg1", "1") // and nobody renews it
	await(false)
}
