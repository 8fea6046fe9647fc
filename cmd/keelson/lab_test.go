package main

import (
	"context"
	"testing"
	"time"

	"keelson/internal/testkit"
)

// A leader that is cut off is replaced; it serves nothing linearizable meanwhile, and follows when the network heals.
func TestLabIsolatedLeader(t *testing.T) {
	l := testkit.NewLab(t, 3, testkit.FastArgs...)
	l.Start()
	leader := l.Leader()
	rest := l.Others(leader)
	w := writeThrough(t, rest...)
	l.Isolate(leader)
	l.Leader(rest...)
	short, cancel := context.WithTimeout(context.Background(), 3*time.Second)
	defer cancel()
	if r, err := leader.Client().Get(short, "k"); err == nil {
		t.Errorf("a leader that was cut off answers %v", r)
	}
	l.Heal()
	l.Leader()
	w.end(rest[0].Client())
	l.Agree()
}

// Cuts in one direction only: whoever is heard and does not hear, or the other way round, the cluster goes on.
func TestLabOneWayCuts(t *testing.T) {
	l := testkit.NewLab(t, 3, testkit.FastArgs...)
	l.Start()
	for _, out := range []bool{true, false} {
		leader := l.Leader()
		rest := l.Others(leader)
		for _, other := range rest {
			if out {
				l.Cut(leader, other)
			} else {
				l.Cut(other, leader)
			}
		}
		l.Leader(rest...)
		if _, err := rest[0].Client().Put(within(t), "k", "v"); err != nil {
			t.Error(err)
		}
		l.Heal()
		l.Leader()
	}
	l.Agree()
}

// Members that hear each other only through the third: the one in the middle leads or lets lead, and nobody disturbs it.
func TestLabRing(t *testing.T) {
	l := testkit.NewLab(t, 3, testkit.SteadyArgs...)
	l.Start()
	l.Leader()
	l.Cut(l.Members[0], l.Members[1])
	l.Cut(l.Members[1], l.Members[0])
	deadline := time.Now().Add(patience)
	for {
		ctx, cancel := context.WithTimeout(context.Background(), 10*time.Second)
		_, err := l.Members[2].Client().Put(ctx, "k", "v")
		cancel()
		if err == nil {
			break
		}
		if time.Now().After(deadline) {
			t.Fatalf("the member in the middle does not write: %v", err)
		}
	}
	before := term(t, l.Members[2])
	for range 20 {
		if _, err := l.Members[2].Client().Put(within(t), "k", "v"); err != nil {
			t.Fatal(err)
		}
		time.Sleep(200 * time.Millisecond) // longer than an election takes, all in all
	}
	if now := term(t, l.Members[2]); now > before+1 {
		t.Errorf("the term went from %d to %d although two of three can always talk", before, now)
	}
	l.Heal()
	l.Agree()
}

// Lossy and slow links cost time, and nothing else.
func TestLabLossyAndSlowLinks(t *testing.T) {
	l := testkit.NewLab(t, 3)
	l.Start()
	l.Leader()
	for _, p := range l.Members {
		l.Lossy(p, 5)
	}
	l.Slow(l.Members[1], 2000)
	w := writeThrough(t, l.Members...)
	time.Sleep(3 * time.Second)
	l.Heal()
	w.end(l.Client())
	l.Agree()
}

func term(t *testing.T, p *testkit.Process) uint64 {
	t.Helper()
	return p.AwaitStatus().RaftTerm
}
