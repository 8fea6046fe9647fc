package main

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"keelson/internal/testkit"
)

// patroniTTL is for how long a primary holds what makes it one, in seconds.
const patroniTTL = 15

// TestPatroni has Debian's Patroni run three PostgreSQL servers on three members, with the v3 API, with the v2 API, and with the v3
// API over TLS for a user of its own: there is never more than one primary, and no acknowledged write is lost, whoever is killed.
func TestPatroni(t *testing.T) {
	for _, program := range []string{"patroni", "patronictl"} {
		testkit.Need(t, program)
	}
	// They wait for times to be up, mostly: side by side however few processors there are.
	var all sync.WaitGroup
	defer all.Wait()
	for _, variant := range []struct {
		name, dcs string
		secured   bool
	}{{"v3", "etcd3", false}, {"v2", "etcd", false}, {"v3 with TLS and users", "etcd3", true}} {
		all.Go(func() {
			t.Run(variant.name, func(t *testing.T) {
				p := newPatroni(t, variant.dcs, variant.secured)
				p.whole()
				p.switchover()
				p.loseKeelsonLeader()
				p.losePrimary()
				p.freezeKeelson()
				p.administer()
				p.report()
			})
		})
	}
}

// whole waits until there is a primary with two servers that stream from it, one of them synchronously, and a write through it is
// read on all.
func (p *patroni) whole() {
	p.t.Helper()
	p.until("primary and two replicas", func() error {
		if p.primary = p.findPrimary(); p.primary == nil {
			return fmt.Errorf("no primary")
		}
		var cluster struct{ Members []patroniMember }
		if err := p.primary.get("/cluster", &cluster); err != nil {
			return err
		}
		p.heir = nil
		for _, m := range cluster.Members {
			if m.State != "running" && m.State != "streaming" {
				return fmt.Errorf("%v", cluster.Members)
			}
			if m.Role == "sync_standby" {
				p.heir = p.nodes[slices.IndexFunc(p.nodes, func(n *patroniNode) bool { return n.name == m.Name })]
			}
		}
		if len(cluster.Members) != 3 || p.heir == nil {
			return fmt.Errorf("%v", cluster.Members)
		}
		return p.answers(p.primary, "SELECT count(*) FROM pg_stat_replication WHERE state = 'streaming'", "2")
	})
	p.takesWrites()
}

// takesWrites writes through the primary, and waits until the write is read on all nodes.
func (p *patroni) takesWrites() {
	p.t.Helper()
	p.marks++
	statement := fmt.Sprintf("INSERT INTO marks VALUES (%d)", p.marks)
	if p.marks == 1 { // the observer's table, too
		statement = "CREATE TABLE written (number int PRIMARY KEY); CREATE TABLE marks (mark int PRIMARY KEY); " + statement
	}
	if _, err := p.query(p.primary, statement); err != nil {
		p.t.Fatal(err)
	}
	p.until("written on "+p.primary.name+", read on all", func() error {
		for _, n := range p.nodes {
			if err := p.answers(n, "SELECT max(mark) FROM marks", fmt.Sprint(p.marks)); err != nil {
				return err
			}
		}
		return nil
	})
}

// follows waits until the heir is the primary.
func (p *patroni) follows() {
	p.t.Helper()
	p.until(p.heir.name+" follows "+p.primary.name, func() error {
		switch now := p.findPrimary(); now {
		case p.heir:
			return nil
		case nil:
			return fmt.Errorf("no primary")
		default:
			return fmt.Errorf("%s is the primary", now.name)
		}
	})
}

// switchover has the primary give its place to the one that would follow it.
func (p *patroni) switchover() {
	p.t.Helper()
	p.patronictl("switchover", "--force", "--leader", p.primary.name, "--candidate", p.heir.name, "batman")
	p.follows()
	p.whole()
}

// loseKeelsonLeader kills the member that leads: the primary stays, and takes writes all the time.
func (p *patroni) loseKeelsonLeader() {
	p.t.Helper()
	before, timeline := p.primary, p.timeline()
	leader := p.keelsonLeader()
	leader.Kill()
	killed := time.Now()
	p.takesWrites()
	p.until("Keelson seen again by the primary", func() error {
		var status struct {
			Seen float64 `json:"dcs_last_seen"` // in whole seconds
		}
		if err := p.primary.get("/primary", &status); err != nil {
			return err
		}
		if seen := time.Unix(int64(status.Seen), 0); seen.Before(killed.Add(3 * time.Second)) {
			return fmt.Errorf("last seen at %v", seen)
		}
		return nil
	})
	leader.Start()
	p.whole()
	if p.primary != before || p.timeline() != timeline {
		p.t.Errorf("the primary was %s on timeline %s, now it is %s on %s", before.name, timeline, p.primary.name, p.timeline())
	}
}

// keelsonLeader is the member that leads, as its metrics tell, for which nobody needs to be a user.
func (p *patroni) keelsonLeader() (leader *testkit.Process) {
	p.t.Helper()
	p.until("a leader of Keelson", func() error {
		for _, m := range p.keelson.Members {
			scheme, client := "http", &http.Client{Timeout: 5 * time.Second, Transport: &http.Transport{TLSClientConfig: m.TLS, DisableKeepAlives: true}}
			if m.TLS != nil {
				scheme = "https"
			}
			r, err := client.Get(scheme + "://" + m.Endpoint + "/metrics")
			if err != nil {
				return err
			}
			text, err := io.ReadAll(r.Body)
			r.Body.Close()
			if err != nil {
				return err
			}
			if strings.Contains(string(text), "\netcd_server_is_leader 1\n") {
				leader = m
				return nil
			}
		}
		return fmt.Errorf("none")
	})
	return leader
}

// timeline is how often there was a new primary.
func (p *patroni) timeline() string {
	p.t.Helper()
	got, err := p.query(p.primary, "SELECT pg_walfile_name(pg_current_wal_lsn())")
	if err != nil {
		p.t.Fatal(err)
	}
	return got[:8]
}

// losePrimary kills the primary with its Patroni: another one takes over when the time is up, and the old one comes back behind it.
func (p *patroni) losePrimary() {
	p.t.Helper()
	lost := p.primary
	lost.kill()
	p.killServer(lost)
	p.follows()
	p.start(lost)
	p.whole()
}

// freezeKeelson stops all members for longer than a primary may go without: it steps down. When they go on there is one again.
func (p *patroni) freezeKeelson() {
	p.t.Helper()
	for _, m := range p.keelson.Members {
		m.Pause()
	}
	frozen := time.Now()
	p.until("no primary until the time is up", func() error {
		if time.Since(frozen) < (patroniTTL+1)*time.Second {
			return fmt.Errorf("the time is not up")
		}
		for _, n := range p.nodes {
			if err := p.answers(n, "SELECT pg_is_in_recovery()", "t"); err != nil {
				return err
			}
		}
		return nil
	})
	for _, m := range p.keelson.Members {
		m.Resume()
	}
	p.whole()
}

// administer does with patronictl what administrators do.
func (p *patroni) administer() {
	p.t.Helper()
	p.patronictl("edit-config", "--force", "--quiet", "-s", "postgresql.parameters.work_mem=8MB", "batman")
	for _, n := range p.nodes {
		p.until("work_mem changed on "+n.name, func() error { return p.answers(n, "SHOW work_mem", "8MB") })
	}
	p.patronictl("pause", "--wait", "batman")
	var cluster struct{ Pause bool }
	if err := p.nodes[0].get("/cluster", &cluster); err != nil || !cluster.Pause {
		p.t.Errorf("paused: %v %v", cluster.Pause, err)
	}
	p.patronictl("resume", "--wait", "batman")
	var history []map[string]any
	if text := p.patronictl("history", "-f", "json", "batman"); json.Unmarshal([]byte(text), &history) != nil || len(history) < 3 {
		p.t.Errorf("history: %s", text)
	}
	p.whole()
}

func (p *patroni) patronictl(args ...string) string {
	p.t.Helper()
	ctx, cancel := context.WithTimeout(p.t.Context(), patience)
	defer cancel()
	cmd := p.command(ctx, "patronictl", append([]string{"-c", "pg1.yml"}, args...)...)
	var complaints strings.Builder
	cmd.Stderr = &complaints
	begin := time.Now()
	out, err := cmd.Output()
	p.t.Logf("%5.1fs, after %4.1fs: patronictl %s", time.Since(p.started).Seconds(), time.Since(begin).Seconds(), args[0])
	if err != nil {
		p.t.Fatalf("patronictl %v: %v\n%s%s", args, err, out, complaints.String())
	}
	return string(out)
}

// report asks the observer what it has seen.
func (p *patroni) report() {
	p.t.Helper()
	const enough = 10
	fmt.Fprintln(p.observer.in, "report", p.primary.port())
	if !p.observer.out.Scan() {
		p.t.Fatalf("the observer has ended: %v", p.observer.out.Err())
	}
	var seen struct {
		Both                [][]int
		Looks, Acknowledged int
		Missing             *[]int
	}
	if err := json.Unmarshal(p.observer.out.Bytes(), &seen); err != nil {
		p.t.Fatal(err)
	}
	if seen.Looks < enough || seen.Acknowledged < enough || seen.Missing == nil {
		p.t.Errorf("the observer has seen too little: %s", p.observer.out.Text())
	}
	if len(seen.Both) > 0 {
		p.t.Errorf("two servers took writes at the same time: %v", seen.Both)
	}
	if seen.Missing != nil && len(*seen.Missing) > 0 {
		p.t.Errorf("of %d acknowledged writes are missing: %v", seen.Acknowledged, *seen.Missing)
	}
	p.t.Logf("%d writes acknowledged, %d looks for two primaries", seen.Acknowledged, seen.Looks)
}
