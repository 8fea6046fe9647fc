package main

import (
	"bytes"
	"fmt"
	"slices"
	"sort"
	"strings"
	"testing"

	"go.etcd.io/etcd/api/v3/mvccpb"
	clientv3 "go.etcd.io/etcd/client/v3"
)

// chronicle is everything that happened, as one watcher of all keys saw it.
type chronicle struct {
	revisions [][]*clientv3.Event  // revisions[i] holds the events of revision i+2, in order
	versions  map[string][]version // of each key, ascending
}

// version is a key from one revision on.
type version struct {
	revision int64
	pair     *mvccpb.KeyValue // nil: no such key
}

// newChronicle orders events by revision, and checks that none is missing and that each follows from those before.
func newChronicle(events []*clientv3.Event) (*chronicle, error) {
	c := &chronicle{versions: map[string][]version{}}
	for _, e := range events {
		switch revision := e.Kv.ModRevision; revision - c.last() {
		case 0:
		case 1:
			c.revisions = append(c.revisions, nil)
		default:
			return nil, fmt.Errorf("an event of revision %d follows revision %d", revision, c.last())
		}
		if err := c.add(e); err != nil {
			return nil, err
		}
	}
	return c, nil
}

func (c *chronicle) last() int64 { return int64(len(c.revisions)) + 1 }

func (c *chronicle) add(e *clientv3.Event) error {
	key, revision := string(e.Kv.Key), e.Kv.ModRevision
	old := c.at(key, revision)
	next := version{revision: revision}
	want := &mvccpb.KeyValue{Key: e.Kv.Key, ModRevision: revision}
	switch {
	case e.Type == clientv3.EventTypePut:
		want.CreateRevision, want.Version, want.Value, want.Lease = revision, 1, e.Kv.Value, e.Kv.Lease
		if old != nil {
			want.CreateRevision, want.Version = old.CreateRevision, old.Version+1
		}
		next.pair = e.Kv
	case old == nil:
		return fmt.Errorf("revision %d deletes %s, which is not there", revision, key)
	}
	if !samePair(e.Kv, want) {
		return fmt.Errorf("revision %d: %v, want %v", revision, show(e.Kv), show(want))
	}
	c.versions[key] = append(c.versions[key], next)
	c.revisions[revision-2] = append(c.revisions[revision-2], e)
	return nil
}

// at returns key as it stood at revision; nil: no such key.
func (c *chronicle) at(key string, revision int64) *mvccpb.KeyValue {
	all := c.versions[key]
	i := sort.Search(len(all), func(i int) bool { return all[i].revision > revision })
	if i == 0 {
		return nil
	}
	return all[i-1].pair
}

// state returns all pairs of a range as they stood at revision, in order.
func (c *chronicle) state(r keyRange, revision int64) []*mvccpb.KeyValue {
	var pairs []*mvccpb.KeyValue
	for key := range c.versions {
		if pair := c.at(key, revision); pair != nil && r.contains(key) {
			pairs = append(pairs, pair)
		}
	}
	slices.SortFunc(pairs, func(a, b *mvccpb.KeyValue) int { return bytes.Compare(a.Key, b.Key) })
	return pairs
}

// selected returns what a watcher must be told of the revisions from first to last.
func (c *chronicle) selected(s selection, first, last int64) []*clientv3.Event {
	var events []*clientv3.Event
	for revision := max(first, 2); revision <= min(last, c.last()); revision++ {
		for _, e := range c.revisions[revision-2] {
			if s.selects(e) {
				events = append(events, e)
			}
		}
	}
	return events
}

// keyRange is key by itself (end empty), all keys from key on (end "\x00"), or key <= x < end.
type keyRange struct{ key, end string }

func (r keyRange) contains(key string) bool {
	switch r.end {
	case "":
		return key == r.key
	case "\x00":
		return key >= r.key
	default:
		return key >= r.key && key < r.end
	}
}

// selection is what a watcher asks for.
type selection struct {
	keyRange
	noPut, noDelete, previous bool
}

func (s selection) selects(e *clientv3.Event) bool {
	dropped := s.noPut
	if e.Type == clientv3.EventTypeDelete {
		dropped = s.noDelete
	}
	return !dropped && s.contains(string(e.Kv.Key))
}

type noteKind int

const (
	noteStarted noteKind = iota
	noteEvents
	noteProgress
	noteCompacted
)

// note is one thing that a watcher did or was told.
type note struct {
	kind     noteKind
	revision int64 // started: the first revision asked for; compacted: the compact revision; else the header's
	events   []*clientv3.Event

	fromNow     bool  // started: without a revision; revision is the one after the created reply's
	outages     int64 // started: how many outages had ended before; else: how many had begun
	floor       int64 // started: the compaction floor that was certain before; else: the highest one asked for until now
	wasProposed bool  // compacted: somebody asked for exactly this floor
}

// recording is all that one watcher was told, in order.
type recording struct {
	name string
	selection
	notes []note
}

// check returns the first broken promise in a recording, and nil if there is none up to the revision final.
func (r *recording) check(c *chronicle, final int64) error {
	var s session
	for i := range r.notes {
		n := &r.notes[i]
		if err := s.advance(r, c, n); err != nil {
			return fmt.Errorf("%s, note %d, started from %d at floor %d, next revision %d: %w", r.name, i, s.start.revision, s.start.floor, s.next, err)
		}
	}
	if s.next <= final {
		return fmt.Errorf("%s was told everything below %d, want %d", r.name, s.next, final+1)
	}
	return nil
}

// session is a watcher's walk through the revisions from one start to the next.
type session struct {
	start *note
	next  int64 // everything below was told
}

func (s *session) advance(r *recording, c *chronicle, n *note) error {
	if n.kind == noteStarted {
		s.start, s.next = n, n.revision
		return nil
	}
	if n.kind != noteCompacted && !s.start.fromNow && s.start.revision < s.start.floor {
		return fmt.Errorf("told of revision %d though the start was compacted", n.revision)
	}
	switch n.kind {
	case noteEvents:
		return s.events(r, c, n)
	case noteProgress:
		return s.progress(r, c, n)
	default:
		return s.compacted(n)
	}
}

func (s *session) events(r *recording, c *chronicle, n *note) error {
	first, last := n.events[0].Kv.ModRevision, n.events[len(n.events)-1].Kv.ModRevision
	if s.cameBack(n) && first == s.next-1 {
		s.next = first
	}
	if n.revision < last {
		return fmt.Errorf("header revision %d with an event of revision %d", n.revision, last)
	}
	want := c.selected(r.selection, s.next, last)
	for i := range max(len(want), len(n.events)) {
		switch {
		case i == len(want):
			return fmt.Errorf("got %s, want no more", showEvent(n.events[i]))
		case i == len(n.events):
			return fmt.Errorf("missed %s", showEvent(want[i]))
		}
		if err := r.event(c, n.events[i], want[i], n.floor); err != nil {
			return err
		}
	}
	s.next = last + 1
	return nil
}

func (r *recording) event(c *chronicle, got, want *clientv3.Event, floor int64) error {
	if got.Type != want.Type || !samePair(got.Kv, want.Kv) {
		return fmt.Errorf("got %s, want %s", showEvent(got), showEvent(want))
	}
	var previous *mvccpb.KeyValue
	if r.previous {
		previous = c.at(string(got.Kv.Key), got.Kv.ModRevision-1)
	}
	if got.PrevKv == nil && previous != nil && got.Kv.ModRevision <= floor {
		return nil // the revision before may be compacted
	}
	if !samePair(got.PrevKv, previous) {
		return fmt.Errorf("%s: previous pair %s, want %s", showEvent(got), show(got.PrevKv), show(previous))
	}
	return nil
}

func (s *session) progress(r *recording, c *chronicle, n *note) error {
	least := s.start.revision
	if s.start.fromNow {
		least--
	}
	if n.revision < max(least, s.next-1) {
		return fmt.Errorf("progress %d goes back", n.revision)
	}
	if early := c.selected(r.selection, s.next, n.revision); len(early) > 0 {
		return fmt.Errorf("progress %d came before %s", n.revision, showEvent(early[0]))
	}
	s.next = n.revision + 1
	return nil
}

// cameBack says that an outage may have lain between a start from now and n, which is the first thing told since: then the official
// client has asked again, from the created reply's revision itself. An outage that had begun before the start counts too, because the
// member goes on for a moment.
func (s *session) cameBack(n *note) bool {
	return s.start.fromNow && s.next == s.start.revision && n.outages != s.start.outages
}

func (s *session) compacted(n *note) error {
	next := s.next
	if s.cameBack(n) {
		next--
	}
	if n.revision <= next || !n.wasProposed || n.revision < s.start.floor && !s.start.fromNow {
		return fmt.Errorf("told that %d is compacted (asked for: %t)", n.revision, n.wasProposed)
	}
	s.start = &note{kind: noteStarted, revision: n.revision, floor: n.revision}
	s.next = n.revision
	return nil
}

func samePair(a, b *mvccpb.KeyValue) bool {
	if a == nil || b == nil {
		return a == b
	}
	return bytes.Equal(a.Key, b.Key) && bytes.Equal(a.Value, b.Value) && a.CreateRevision == b.CreateRevision &&
		a.ModRevision == b.ModRevision && a.Version == b.Version && a.Lease == b.Lease
}

func show(kv *mvccpb.KeyValue) string {
	if kv == nil {
		return "none"
	}
	value := kv.Value[:min(len(kv.Value), 16)]
	return fmt.Sprintf("{%q=%q.. (%d bytes) created %d modified %d version %d lease %x}", kv.Key, value, len(kv.Value), kv.CreateRevision,
		kv.ModRevision, kv.Version, kv.Lease)
}

func showEvent(e *clientv3.Event) string { return e.Type.String() + " " + show(e.Kv) }

// TestWatchCheckerFinds breaks each promise once.
func TestWatchCheckerFinds(t *testing.T) {
	put := func(key string, revision, created, version int64) *clientv3.Event {
		return &clientv3.Event{Kv: &mvccpb.KeyValue{Key: []byte(key), Value: []byte("v"), ModRevision: revision, CreateRevision: created, Version: version}}
	}
	remove := func(key string, revision int64) *clientv3.Event {
		return &clientv3.Event{Type: clientv3.EventTypeDelete, Kv: &mvccpb.KeyValue{Key: []byte(key), ModRevision: revision}}
	}
	before := func(e *clientv3.Event, previous *mvccpb.KeyValue) *clientv3.Event {
		return &clientv3.Event{Type: e.Type, Kv: e.Kv, PrevKv: previous}
	}
	a2, b2, a3, a4, b5 := put("a", 2, 2, 1), put("b", 2, 2, 1), put("a", 3, 2, 2), remove("a", 4), put("b", 5, 2, 2)
	c, err := newChronicle([]*clientv3.Event{a2, b2, a3, a4, b5})
	if err != nil {
		t.Fatal(err)
	}
	started := func(revision, floor int64) note { return note{kind: noteStarted, revision: revision, floor: floor} }
	events := func(header int64, e ...*clientv3.Event) note {
		return note{kind: noteEvents, revision: header, events: e}
	}
	progress := func(revision int64) note { return note{kind: noteProgress, revision: revision} }
	compacted := func(revision int64) note { return note{kind: noteCompacted, revision: revision, wasProposed: true} }
	everything := selection{keyRange: keyRange{"", "\x00"}}
	onlyA := selection{keyRange: keyRange{key: "a"}}
	previous := selection{keyRange: keyRange{key: "a"}, previous: true}
	floor4 := events(4, before(a3, a2.Kv), a4)
	floor4.floor = 4
	now := note{kind: noteStarted, revision: 3, fromNow: true}
	again := events(5, a2, b2, a3, a4, b5)
	again.outages = 1
	gone := note{kind: noteCompacted, revision: 3, wasProposed: true, outages: 1}
	for _, x := range []struct {
		name  string
		want  string // part of the complaint; empty: none
		what  selection
		notes []note
	}{
		{"all at once", "", everything, []note{started(1, -1), events(5, a2, b2, a3, a4, b5)}},
		{"in pieces, with progress", "", everything, []note{started(2, -1), events(2, a2, b2), progress(2), events(5, a3, a4), progress(4), events(5, b5)}},
		{"resumed", "", everything, []note{started(1, -1), events(3, a2, b2, a3), started(4, -1), events(5, a4, b5)}},
		{"one key", "", onlyA, []note{started(1, -1), events(5, a2, a3, a4), progress(5)}},
		{"no puts", "", selection{keyRange: keyRange{"", "\x00"}, noPut: true}, []note{started(1, -1), events(5, a4), progress(5)}},
		{"compacted, told", "", everything, []note{started(1, -1), compacted(4), started(4, 4), events(5, a4, b5)}},
		{"start at the floor", "", everything, []note{started(4, 4), events(5, a4, b5)}},
		{"from now, back after an outage", "", everything, []note{now, again}},
		{"from now, compacted during an outage", "", everything, []note{now, gone, events(5, a3, a4, b5)}},
		{"previous pairs", "", previous, []note{started(3, -1), events(4, before(a3, a2.Kv), before(a4, a3.Kv)), progress(5)}},
		{"previous pair gone with the floor", "", previous, []note{started(3, -1), floor4, progress(5)}},
		{"previous pair missing", "previous pair", previous, []note{started(3, -1), events(4, before(a3, a2.Kv), a4), progress(5)}},
		{"previous pair of another revision", "previous pair", previous, []note{started(3, -1), events(4, before(a3, a2.Kv), before(a4, a2.Kv)), progress(5)}},
		{"previous pair unasked", "previous pair", onlyA, []note{started(3, -1), events(4, before(a3, a2.Kv), a4), progress(5)}},
		{"event missing", "want", everything, []note{started(1, -1), events(5, a2, b2, a4, b5)}},
		{"event missing at the end", "was told everything below 5", everything, []note{started(1, -1), events(5, a2, b2, a3, a4)}},
		{"event twice", "want", everything, []note{started(1, -1), events(2, a2, b2), events(5, b2, a3, a4, b5)}},
		{"revision split", "missed", everything, []note{started(1, -1), events(2, a2), events(5, b2, a3, a4, b5)}},
		{"order of keys", "want", everything, []note{started(1, -1), events(5, b2, a2, a3, a4, b5)}},
		{"order of revisions", "want", everything, []note{started(1, -1), events(5, a2, b2, a4, a3, b5)}},
		{"other value", "want", everything, []note{started(1, -1), events(5, a2, b2, put("a", 3, 3, 2), a4, b5)}},
		{"filtered event", "want", selection{keyRange: keyRange{"", "\x00"}, noDelete: true}, []note{started(3, -1), events(5, a3, a4, b5)}},
		{"key of another range", "want", onlyA, []note{started(1, -1), events(5, a2, b2, a3, a4)}},
		{"before its start", "want", everything, []note{started(3, -1), events(5, b2, a3, a4, b5)}},
		{"header before the event", "header revision", everything, []note{started(1, -1), events(4, a2, b2, a3, a4, b5)}},
		{"early progress", "came before", everything, []note{started(1, -1), progress(2), events(5, a2, b2, a3, a4, b5)}},
		{"progress before the start", "goes back", everything, []note{started(5, -1), progress(4), events(5, b5)}},
		{"progress backwards", "goes back", everything, []note{started(1, -1), events(5, a2, b2, a3, a4, b5), progress(4)}},
		{"silent skip", "want", everything, []note{started(1, -1), events(2, a2, b2), events(5, a4, b5)}},
		{"compacted start not told", "though the start was compacted", everything, []note{started(3, 4), events(5, a4, b5)}},
		{"told though not compacted", "is compacted", everything, []note{started(4, 4), compacted(4), started(4, 4), events(5, a4, b5)}},
		{"told a floor nobody asked for", "is compacted", everything, []note{started(1, -1), {kind: noteCompacted, revision: 3}}},
		{"told a floor of before", "is compacted", everything, []note{started(1, 4), compacted(3)}},
		{"from now, old events", "want", everything, []note{now, events(5, b2, a3, a4, b5)}},
		{"from now, told of its own past", "is compacted", everything, []note{now, compacted(3)}},
	} {
		err := (&recording{name: "w", selection: x.what, notes: x.notes}).check(c, 5)
		if (err == nil) != (x.want == "") || err != nil && !strings.Contains(err.Error(), x.want) {
			t.Errorf("%s: %v, want %q", x.name, err, x.want)
		}
	}
	for name, events := range map[string][]*clientv3.Event{
		"a hole":                   {a2, a4},
		"back":                     {a2, b2, a3, b2},
		"an impossible version":    {a2, put("a", 3, 2, 3)},
		"an impossible creation":   {a2, put("a", 3, 3, 1)},
		"a deletion of nothing":    {remove("a", 2)},
		"a deletion with a create": {a2, {Type: clientv3.EventTypeDelete, Kv: a3.Kv}},
	} {
		if _, err := newChronicle(events); err == nil {
			t.Errorf("a chronicle with %s was accepted", name)
		}
	}
}
