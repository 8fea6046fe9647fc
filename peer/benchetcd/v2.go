package main

import (
	"bytes"
	"context"
	"fmt"
	"io"
	"net/http"
	"os/exec"
	"strings"
	"time"
)

// etcdWithV2 is the last etcd that has the v2 API, where distributions put it.
const etcdWithV2 = "etcd"

// withV2 returns the settings under which a scenario of the v2 API runs etcd.
//
// Errors: that etcd is not installed, or another one.
func (s settings) withV2() (settings, error) {
	path, err := exec.LookPath(etcdWithV2)
	if err != nil {
		return s, fmt.Errorf("etcd 3.4 is needed (package etcd-server): %w", err)
	}
	version, err := exec.Command(path, "--version").Output()
	if err != nil || !bytes.Contains(version, []byte("etcd Version: 3.4.")) {
		return s, fmt.Errorf("%s is not etcd 3.4: %.40q, %w", path, version, err)
	}
	s.etcd = path
	return s, nil
}

const (
	v2Keys       = 10_000
	v2ValueBytes = 64
)

var v2Value = strings.Repeat("v", v2ValueBytes)

func v2Key(i int) string { return fmt.Sprintf("/v2/keys/bench/%06d", i%v2Keys) }

func (b *bed) v2Put(i int) []byte {
	return fmt.Appendf(nil, "PUT %s HTTP/1.1\r\nHost: %s\r\nUser-Agent: benchetcd\r\nContent-Type: application/x-www-form-urlencoded\r\n"+
		"Content-Length: %d\r\n\r\nvalue=%s", v2Key(i), b.server.Addr(), len("value=")+v2ValueBytes, v2Value)
}

func (b *bed) v2Get(i int) []byte {
	return fmt.Appendf(nil, "GET %s HTTP/1.1\r\nHost: %s\r\nUser-Agent: benchetcd\r\nAccept: */*\r\n\r\n", v2Key(i), b.server.Addr())
}

// httpLoad is what a closed loop of HTTP requests has come to.
type httpLoad struct {
	count    int
	elapsed  time.Duration
	p50, p99 time.Duration
}

func v2Puts(conns int) func(context.Context, *bed) error {
	return func(ctx context.Context, b *bed) error {
		if _, err := loopHTTP(ctx, b.server.Addr(), conns, 0, v2Keys, b.v2Put); err != nil { // every key is there; both are warm
			return err
		}
		return b.v2Loop(ctx, "put", conns, b.v2Put)
	}
}

func v2Gets(conns int) func(context.Context, *bed) error {
	return func(ctx context.Context, b *bed) error {
		if _, err := loopHTTP(ctx, b.server.Addr(), conns, 0, v2Keys, b.v2Put); err != nil {
			return err
		}
		return b.v2Loop(ctx, "get", conns, b.v2Get)
	}
}

// v2Loop measures requests for as long as a load runs.
func (b *bed) v2Loop(ctx context.Context, what string, conns int, request func(i int) []byte) error {
	before := b.cpu()
	l, err := loopHTTP(ctx, b.server.Addr(), conns, time.Duration(b.size(8, 2))*time.Second, 0, request)
	if err != nil {
		return err
	}
	spent := b.cpu() - before
	b.report(what+" per second", "1/s", float64(l.count)/l.elapsed.Seconds())
	b.report("server CPU per "+what, "us", micros(spent)/float64(l.count))
	b.report(what+" p50", "ms", millis(l.p50))
	b.report(what+" p99", "ms", millis(l.p99))
	return nil
}

// v2Polls lets very many long polls wait, each at a key of its own, then wakes a hundred of them one by one.
func v2Polls(ctx context.Context, b *bed) error {
	n := b.size(18_000, 4000)
	before := b.rss()
	polls, err := openPolls(ctx, b.server.Addr(), n)
	if err != nil {
		return err
	}
	defer polls.close()
	time.Sleep(time.Duration(b.size(10, 5)) * time.Second) // so that what was needed to open them can go
	b.report("memory per poll", "KiB", (b.rss()-before)*1024/float64(n))
	idle := b.cpu()
	time.Sleep(3 * time.Second)
	b.report("server CPU in a second, nothing happens", "ms", millis(b.cpu()-idle)/3)

	const woken = 100
	busy, begin := b.cpu(), time.Now()
	for i := range woken {
		if err := b.v2Wake(ctx, i*n/woken); err != nil {
			return err
		}
	}
	took := time.Since(begin)
	answered, err := polls.answered(ctx, woken)
	if err != nil {
		return err
	}
	b.report("puts that wake a poll each", "1/s", woken/took.Seconds())
	b.report("server CPU per put that wakes", "us", micros(b.cpu()-busy)/woken)
	if answered != woken {
		return fmt.Errorf("%d polls were answered, want %d", answered, woken)
	}
	return nil
}

// pollKey is where poll i waits.
func pollKey(i int) string { return fmt.Sprintf("/v2/keys/polls/%d/%d", i/1000, i) }

func (b *bed) v2Wake(ctx context.Context, i int) error {
	r, err := http.NewRequestWithContext(ctx, http.MethodPut, "http://"+b.server.Addr()+pollKey(i), strings.NewReader("value=x"))
	if err != nil {
		return err
	}
	r.Header.Set("Content-Type", "application/x-www-form-urlencoded")
	resp, err := http.DefaultClient.Do(r)
	if err != nil {
		return err
	}
	defer resp.Body.Close()
	if _, err := io.Copy(io.Discard, resp.Body); err != nil || resp.StatusCode != http.StatusCreated {
		return fmt.Errorf("put %s: %s, %w", pollKey(i), resp.Status, err)
	}
	return nil
}
