package ctl

import (
	"bytes"
	"context"
	"fmt"
	"strings"
	"testing"
	"time"

	clientv3 "go.etcd.io/etcd/client/v3"

	"keelson/internal/cli"
	"keelson/internal/testkit"
)

// TestMirror copies what is there and follows what happens, under another prefix.
func TestMirror(t *testing.T) {
	source, target := testkit.NewProcess(t), testkit.NewProcess(t)
	source.Start()
	target.Start()
	from, to := source.Client(), target.Client()
	put := func(key, value string) {
		t.Helper()
		if _, err := from.Put(t.Context(), key, value); err != nil {
			t.Fatal(err)
		}
	}
	put("app/old", "1")
	put("app/gone", "1")
	put("other", "1")
	ctx, cancel := context.WithCancel(t.Context())
	ended := make(chan error, 1)
	s := newSession("etcdctl", true, Streams{In: strings.NewReader(""), Out: &lockedWriter{w: &bytes.Buffer{}}, Err: &bytes.Buffer{}})
	go func() {
		ended <- s.copyTo(ctx, from, to, &mirrorOptions{prefix: "app/", destPrefix: "copy/", opsMax: 2})
	}()
	awaitDump(ctx, t, to, "copy/gone=1 copy/old=1 ")
	put("app/new", "2")
	if _, err := from.Delete(t.Context(), "app/gone"); err != nil {
		t.Fatal(err)
	}
	if _, err := from.Txn(t.Context()).Then(clientv3.OpPut("app/a", "1"), clientv3.OpPut("app/b", "1"), clientv3.OpPut("app/c", "1")).Commit(); err != nil {
		t.Fatal(err)
	}
	awaitDump(ctx, t, to, "copy/a=1 copy/b=1 copy/c=1 copy/new=2 copy/old=1 ")
	cancel()
	if err := <-ended; err != nil {
		t.Errorf("the mirror ended with %v", err)
	}
}

// TestMirrorToNobody: a cluster that does not answer is named, before anything is copied.
func TestMirrorToNobody(t *testing.T) {
	source := testkit.NewProcess(t)
	source.Start()
	nobody := testkit.FreeAddress(t)
	t.Setenv(contextsVariable, t.TempDir()+"/contexts.yaml")
	for _, c := range []struct{ from, to, want string }{
		{source.Endpoint, nobody, "the destination, " + nobody + ", does not answer"}, {nobody, source.Endpoint, "the source, " + nobody + ", does not answer"},
	} {
		var out, errs bytes.Buffer
		code := Keelson([]string{"make-mirror", c.to, "--endpoints", c.from, "--command-timeout", "5s"}, Streams{In: strings.NewReader(""), Out: &out, Err: &errs}, "", nil, noTools)
		if code != cli.ExitBadConnection || !strings.Contains(errs.String(), c.want) || strings.Count(errs.String(), "next:") != 1 {
			t.Errorf("from %s to %s: exit code %d, %s", c.from, c.to, code, &errs)
		}
	}
}

// TestMirrorFromRevision follows from a revision on, that one included, and copies nothing from before it.
func TestMirrorFromRevision(t *testing.T) {
	source, target := testkit.NewProcess(t), testkit.NewProcess(t)
	source.Start()
	target.Start()
	from, to := source.Client(), target.Client()
	for _, key := range []string{"a", "b", "c"} { // at revisions 2, 3 and 4
		if _, err := from.Put(t.Context(), key, "1"); err != nil {
			t.Fatal(err)
		}
	}
	ctx, cancel := context.WithCancel(t.Context())
	ended := make(chan error, 1)
	s := newSession("etcdctl", true, Streams{In: strings.NewReader(""), Out: &lockedWriter{w: &bytes.Buffer{}}, Err: &bytes.Buffer{}})
	go func() { ended <- s.copyTo(ctx, from, to, &mirrorOptions{rev: 3, opsMax: 128}) }()
	awaitDump(ctx, t, to, "b=1 c=1 ")
	cancel()
	if err := <-ended; err != nil {
		t.Errorf("the mirror ended with %v", err)
	}
}

func awaitDump(ctx context.Context, t *testing.T, c *clientv3.Client, want string) {
	t.Helper()
	watch := c.Watch(ctx, "", clientv3.WithPrefix(), clientv3.WithRev(1))
	for {
		if got := dump(t, c); got == want {
			return
		}
		select {
		case <-watch:
		case <-time.After(time.Minute):
			t.Fatalf("the mirror has %q, want %q", dump(t, c), want)
		}
	}
}

func dump(t *testing.T, c *clientv3.Client) (text string) {
	t.Helper()
	r, err := c.Get(t.Context(), "", clientv3.WithPrefix())
	if err != nil {
		t.Fatal(err)
	}
	for _, kv := range r.Kvs {
		text += fmt.Sprintf("%s=%s ", kv.Key, kv.Value)
	}
	return text
}

func TestPerfVerdicts(t *testing.T) {
	for _, c := range []struct {
		name string
		r    *driven
		ok   bool
		want string
	}{
		{"good", &driven{times: repeated(1000, time.Millisecond), took: time.Second}, true,
			"PASS: Throughput is 1000 writes/s\nPASS: Slowest request took 0.001000s\nPASS: Stddev is 0.000000s\n"},
		{"nine tenths", &driven{times: repeated(900, time.Millisecond), took: time.Second}, false,
			"FAIL: Throughput too low: 900 writes/s\nPASS: Slowest request took 0.001000s\nPASS: Stddev is 0.000000s\n"},
		{"slow once", &driven{times: append(repeated(999, time.Millisecond), 600*time.Millisecond), took: time.Second}, false,
			"PASS: Throughput is 1000 writes/s\nSlowest request took too long: 0.600000s\nPASS: Stddev is 0.018933s\n"},
		{"errors", &driven{times: repeated(1000, time.Millisecond), took: time.Second, failures: map[string]int{"no": 3, "down": 1}}, false,
			"FAIL: too many errors\nFAIL: ERROR(down) -> 1\nFAIL: ERROR(no) -> 3\nPASS: Throughput is 1000 writes/s\nPASS: Slowest request took 0.001000s\nPASS: Stddev is 0.000000s\n"},
	} {
		var b bytes.Buffer
		if ok := c.r.judge(&b, 1000); ok != c.ok || b.String() != c.want {
			t.Errorf("%s: %v\n%s\nwant\n%s", c.name, ok, &b, c.want)
		}
	}
}

func repeated(n int, d time.Duration) (list []time.Duration) {
	for range n {
		list = append(list, d)
	}
	return list
}
