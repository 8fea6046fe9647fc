package v2

import (
	"context"
	"fmt"
	"math/rand/v2"
	"strings"
	"sync"
	"testing"
	"time"

	"keelson/command"
	"keelson/state/tree"
)

func random(t testing.TB) *rand.Rand {
	s := *seedFlag
	if s == 0 {
		s = rand.Uint64()
	}
	t.Logf("-seed=%d", s)
	return rand.New(rand.NewPCG(s, 0))
}

// wanted says, in the plainest form, whether an event of the present is for a wait at path, and existed whether there was a
// node at it.
func wanted(e *tree.Event, path string, recursive, existed bool) bool {
	at, key := strings.TrimSuffix(path, "/")+"/", e.Node.Path
	switch {
	case e.Refresh:
		return false
	case key == path:
		return true
	case strings.HasPrefix(key, at):
		return recursive && !strings.Contains("/"+strings.TrimPrefix(key, at), "/_")
	}
	return e.Action.Removes() && e.Node.Dir && strings.HasPrefix(path, key+"/") && existed
}

var hubNames = []string{"a", "b", "_h"}

func hubPath(r *rand.Rand) string {
	path := ""
	for range r.IntN(4) {
		path += "/" + hubNames[r.IntN(len(hubNames))]
	}
	if path == "" {
		return tree.Root
	}
	return path
}

// Random changes, and waits that begin at any time: each gets the first event that it is for, and no other.
func TestWaitsAgainstModel(t *testing.T) {
	r := random(t)
	l := newLone(t)
	type wait struct {
		*waiter
		path      string
		recursive bool
		since     uint64
	}
	var waits []wait
	exists := func(path string) bool {
		view := l.machine.View()
		defer view.Close()
		v, err := view.Tree()
		if err != nil {
			t.Fatal(err)
		}
		defer v.Close()
		ok, err := v.Exists(path)
		if err != nil {
			t.Fatal(err)
		}
		return ok
	}
	for range 3000 {
		if len(waits) < 30 {
			w := wait{path: hubPath(r), recursive: r.IntN(2) == 0}
			from := uint64(0)
			if r.IntN(6) == 0 {
				from = l.hub.published + 1 + r.Uint64N(5)
			}
			var index uint64
			var err error
			if w.waiter, index, _, err = l.hub.await(w.path, w.recursive, false, from); err != nil {
				t.Fatal(err)
			}
			w.since = max(from, index+1)
			waits = append(waits, w)
		}
		existed := make([]bool, len(waits))
		for i, w := range waits {
			existed[i] = exists(w.path)
		}
		var op command.Op = &command.TreePut{Path: hubPath(r), Mode: command.TreePutMode(r.IntN(5)), Dir: r.IntN(3) == 0, Refresh: r.IntN(5) == 0}
		if r.IntN(3) == 0 {
			op = &command.TreeDelete{Path: hubPath(r), Recursive: true}
		}
		result, err := l.Propose(context.Background(), op)
		if err != nil {
			t.Fatal(err)
		}
		if result.Tree == nil {
			continue
		}
		var left []wait
		for i, w := range waits {
			got, ended := l.hub.take(w.waiter)
			want := result.Tree.Index() >= w.since && wanted(result.Tree, w.path, w.recursive, existed[i])
			if want != (len(got) == 1 && got[0] == result.Tree && ended == endedServed) || !want && (len(got) > 0 || ended != notEnded) {
				t.Fatalf("%v of %q: wait at %q, recursive %v, since %d, existed %v, got %v, ended %d",
					result.Tree.Action, result.Tree.Node.Path, w.path, w.recursive, w.since, existed[i], got, ended)
			}
			if !want {
				left = append(left, w)
			}
		}
		waits = left
		if l.hub.Counts().Waiting != uint64(len(waits)) {
			t.Fatalf("%d wait, want %d", l.hub.Counts().Waiting, len(waits))
		}
	}
	for _, w := range waits {
		l.hub.leave(w.waiter)
	}
	if len(l.hub.root.children) > 0 || l.hub.root.first != nil || l.hub.Counts().Waiting != 0 {
		t.Errorf("spots are left: %v", l.hub.root.children)
	}
}

// Whoever asks again from behind the last event it got misses nothing and gets nothing twice, however fast changes come.
func TestNothingIsMissedBetweenTwoPolls(t *testing.T) {
	l := newLone(t)
	const changes, pollers = 800, 6
	var done sync.WaitGroup
	first := l.hub.published + 1
	for range pollers {
		done.Go(func() {
			for next := first; next < first+changes; {
				w, _, refusal, err := l.hub.await("/k", true, false, next)
				if err != nil || refusal != nil {
					t.Errorf("at %d: %v, %v", next, refusal, err)
					return
				}
				<-w.ready
				events, ended := l.hub.take(w)
				if len(events) != 1 || ended != endedServed || events[0].Index() != next {
					t.Errorf("at %d: %v, ended %d", next, events, ended)
					return
				}
				next++
			}
		})
	}
	for i := range changes {
		if _, err := l.Propose(context.Background(), &command.TreePut{Path: fmt.Sprintf("/k/%d", i%7)}); err != nil {
			t.Fatal(err)
		}
	}
	done.Wait()
}

// A stream that does not read is ended when it is a hundred events behind; writers never wait for it.
func TestSlowStreamIsEnded(t *testing.T) {
	l := newLone(t)
	w, _, _, err := l.hub.await("/k", false, true, 0)
	if err != nil {
		t.Fatal(err)
	}
	for i := range streamQueueMax + 50 {
		if _, err := l.Propose(context.Background(), &command.TreePut{Path: "/k"}); err != nil {
			t.Fatal(err)
		}
		if ended := w.ended != notEnded; ended != (i >= streamQueueMax) {
			t.Fatalf("after %d events: ended %v", i+1, ended)
		}
	}
	if events, ended := l.hub.take(w); len(events) != streamQueueMax+1 || ended != endedSlow {
		t.Errorf("%d events, ended %d", len(events), ended)
	}
}

// A state that came as a whole: waits find in its window what they have missed, and those who can't are ended.
func TestReset(t *testing.T) {
	l := newLone(t)
	s := &Handler{hub: l.hub}
	q := &request{path: "/k"}
	w, _, _, _ := l.hub.await("/k", false, false, 0)
	silent := l.hub
	l.hub = NewHub(l.machine) // what is applied from here on is not published to the first
	if _, err := l.Propose(context.Background(), &command.TreePut{Path: "/k"}); err != nil {
		t.Fatal(err)
	}
	silent.Reset()
	events, ended := silent.take(w)
	if len(events) != 0 || ended != endedReset {
		t.Fatalf("%v, ended %d", events, ended)
	}
	again := s.again(q, w, nil)
	if events, ended := silent.take(again); len(events) != 1 || ended != endedServed {
		t.Errorf("%v, ended %d", events, ended)
	}
	w, _, _, _ = silent.await("/k", false, false, 0)
	for range tree.HistorySize + 1 {
		if _, err := l.Propose(context.Background(), &command.TreePut{Path: "/other"}); err != nil {
			t.Fatal(err)
		}
	}
	silent.Reset()
	if again := s.again(q, w, nil); again != nil {
		t.Errorf("it waits again, though the window has moved past it")
	}
}

// A closed hub ends all waits, those that come later too.
func TestClose(t *testing.T) {
	l := newLone(t)
	w, _, _, _ := l.hub.await("/a/b", true, true, 0)
	l.hub.Close()
	if _, ended := l.hub.take(w); ended != endedClosed {
		t.Errorf("ended %d", ended)
	}
	w, _, _, _ = l.hub.await("/a/b", true, true, 0)
	if _, ended := l.hub.take(w); ended != endedClosed {
		t.Errorf("a later one: ended %d", ended)
	}
}

// A parked poll costs nothing but its record, and is told of its event, of the end, and of another state; a client that goes
// is noticed.
func TestParkedPolls(t *testing.T) {
	s := newService(t)
	waiting := func(want uint64) {
		t.Helper()
		for deadline := time.Now().Add(30 * time.Second); s.hub.Counts().Waiting != want; time.Sleep(time.Millisecond) {
			if time.Now().After(deadline) {
				t.Fatalf("%d wait, want %d", s.hub.Counts().Waiting, want)
			}
		}
	}
	for i := range 50 {
		if resp := s.startPoll(fmt.Sprint(i), fmt.Sprintf("/v2/keys/p/%d?wait=true", i)); resp.Close || resp.StatusCode != 200 {
			t.Fatalf("%+v", resp)
		}
	}
	waiting(50)
	s.ask("PUT", "/v2/keys/p/7", "value=x")
	if line := s.polls["7"].line(t); !strings.Contains(line, `"key":"/p/7"`) || s.polls["7"].line(t) != "" {
		t.Errorf("event: %q", line)
	}
	waiting(49)
	s.polls["8"].resp.Body.Close()
	waiting(48)
	s.hub.Reset()
	waiting(48)
	s.ask("PUT", "/v2/keys/p/9", "value=y")
	if line := s.polls["9"].line(t); !strings.Contains(line, `"value":"y"`) {
		t.Errorf("event after a reset: %q", line)
	}
	s.hub.Close()
	for i := range 50 {
		if i == 7 || i == 8 || i == 9 {
			continue
		}
		if line := s.polls[fmt.Sprint(i)].line(t); line != "" {
			t.Errorf("at the end: %q", line)
		}
	}
	waiting(0)
}
