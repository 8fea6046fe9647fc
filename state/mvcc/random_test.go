package mvcc

import (
	"errors"
	"fmt"
	"math"
	"math/rand/v2"
	"strings"
	"testing"

	"keelson/storage"
)

// op is one operation of a command, as it would stand in the log.
type op struct {
	kind                     string // put, del, compact
	key, end, value          string
	lease                    int64
	rev                      Revision
	ignoreValue, ignoreLease bool
	bare                     bool // del: the values do not matter
}

// logged is a run of commands and where it led to. The log outlives crashes.
type logged struct {
	commands [][]op
	after    publication
	hash     uint32
}

// trial drives a store and the model through the same random operations.
type trial struct {
	t      *testing.T
	r      *rand.Rand
	m      *machine
	model  *model
	log    []logged
	events []Event           // of all runs, as the store gave them
	copies []Event           // what they looked like then
	hashed map[Revision]Hash // newest ones
}

var trialKeys = []string{"a", "a\x00", "a\x00\x00", "aa", "ab", "b", "b\xff", "b\xff\xff", "c", "c\x01", "\x00", "\xff", "\xff\xff"}

// TestRandom is the metamorphic test: random commands, queries at random revisions, compactions that are interrupted,
// restarts and power cuts, under random sizes of everything, against the model.
func TestRandom(t *testing.T) {
	seeds(t, 5, func(t *testing.T, r *rand.Rand) {
		so := storage.Options{
			CacheBytes:    []int64{1, 1 << 14, 1 << 22}[r.IntN(3)],
			MemtableBytes: []uint64{16 << 10, 64 << 10, 1 << 20}[r.IntN(3)],
			Manual:        r.IntN(3) == 0,
		}
		mo := Options{NewestCacheBytes: []int64{-1, 0, 64 * 600, 64 * 2000}[r.IntN(4)]}
		mo.EventsKept = []int{0, 0, 1, 600, 2000}[r.IntN(5)]
		if r.IntN(4) > 0 {
			mo.fenceSpacing, mo.birthsKept = 1+r.IntN(4), 1+r.IntN(40)
		}
		tr := &trial{t: t, r: r, m: newMachine(t, so, mo), model: newModel(), hashed: map[Revision]Hash{}}
		for range 120 {
			tr.step()
			if t.Failed() {
				t.Logf("options %+v %+v", so, mo)
				return
			}
		}
		tr.checkAll()
		tr.m.removeAll()
		tr.checkAll()
		tr.checkDisk()
		tr.checkCopies()
		tr.m.close()
	})
}

func (tr *trial) step() {
	switch n := tr.r.IntN(100); {
	case n < 50:
		tr.commands()
	case n < 70:
		tr.query()
	case n < 75:
		tr.history()
	case n < 80:
		tr.hashes()
	case n < 90:
		tr.remove()
	case n < 93:
		tr.checkAll()
	case n < 95:
		tr.m.reopen()
		tr.published()
	case n < 97:
		if err := tr.m.db.Flush(); err != nil {
			tr.t.Fatal(err)
		}
	default:
		tr.crash()
	}
}

func (tr *trial) key() string { return trialKeys[tr.r.IntN(len(trialKeys))] }

// end draws the end of a range: none, everything behind, a key before or behind.
func (tr *trial) end() string {
	switch tr.r.IntN(4) {
	case 0:
		return ""
	case 1:
		return "\x00"
	}
	return tr.key()
}

func (tr *trial) value() string {
	if tr.r.IntN(20) == 0 {
		return strings.Repeat("x", tr.r.IntN(5000))
	}
	return fmt.Sprint(tr.r.IntN(4))[:tr.r.IntN(2)]
}

// revision draws a revision, readable or not.
func (tr *trial) revision() Revision {
	if tr.r.IntN(3) == 0 {
		return 0
	}
	return tr.r.Int64N(tr.model.rev+4) - 1
}

func (tr *trial) draw() (commands [][]op) {
	for range 1 + tr.r.IntN(4) {
		if tr.r.IntN(12) == 0 {
			commands = append(commands, []op{{kind: "compact", rev: tr.r.Int64N(tr.model.rev+3) - 1}})
			continue
		}
		var c []op
		for range 1 + tr.r.IntN(4) {
			if tr.r.IntN(3) == 0 {
				c = append(c, op{kind: "del", key: tr.key(), end: tr.end()})
				continue
			}
			c = append(c, op{
				kind: "put", key: tr.key(), value: tr.value(),
				lease:       []int64{0, 0, 7, -1, math.MinInt64, math.MaxInt64}[tr.r.IntN(6)],
				ignoreValue: tr.r.IntN(8) == 0, ignoreLease: tr.r.IntN(8) == 0,
			})
		}
		commands = append(commands, c)
	}
	return commands
}

// commands applies a random run to both sides, and looks at it from the inside.
func (tr *trial) commands() {
	commands := tr.draw()
	from := tr.model.rev + 1
	view := tr.m.s.View() // of before: it must not see any of this
	before, _, err := collect(view.Range, Query{Key: []byte{0}, End: []byte{0}})
	if err != nil {
		tr.t.Fatal(err)
	}
	light := false
	events := tr.m.run(func(tx *Tx) {
		for _, c := range commands {
			for _, o := range c {
				tr.both(tx, o)
				if tr.r.IntN(3) == 0 {
					tr.inside(tx)
				}
			}
			rev, changed := tx.EndCommand()
			if tr.r.IntN(3) == 0 {
				tx.EndEntry()
			}
			if changed != (tr.model.sub > 0) {
				tr.t.Fatalf("changed %v, want %v", changed, tr.model.sub > 0)
			}
			tr.model.end()
			if rev != tr.model.rev {
				tr.t.Fatalf("revision %d, want %d", rev, tr.model.rev)
			}
		}
		now, _, err := collect(view.Range, Query{Key: []byte{0}, End: []byte{0}})
		if err != nil || !equalPairs(now, before) {
			tr.t.Fatalf("view changed within a run: %v", err)
		}
		light = tx.Light()
	})
	now, _, err := collect(view.Range, Query{Key: []byte{0}, End: []byte{0}})
	if err != nil || !equalPairs(now, before) {
		tr.t.Fatalf("view changed after a run: %v", err)
	}
	view.Close()
	// The floor that counts for Prev of a new event is none: the revision before can't be compacted when it is made.
	want := tr.model.events(from, tr.model.rev, -1, nil, nil)
	if light {
		tr.lighten(events, want)
	}
	tr.same("events", events, want)
	for i := range events {
		tr.events = append(tr.events, events[i])
		tr.copies = append(tr.copies, cloneEvent(&events[i]))
	}
	tr.published()
	tr.log = append(tr.log, logged{commands, *tr.m.s.shared.Load(), mustHash(tr.t, tr.m.s)})
}

// lighten takes the previous pairs from the wanted events from the first one on that lacks it.
func (tr *trial) lighten(events, want []Event) {
	held := 0
	for i := range min(len(events), len(want)) {
		if want[i].Prev != nil && events[i].Prev == nil {
			for j := range want[i:] {
				want[i+j].Prev = nil
			}
			break
		}
		if events[i].Prev != nil {
			held += len(events[i].Prev.Value)
		}
	}
	if held > tr.m.s.eventsKept {
		tr.t.Fatalf("events hold %d bytes of previous values, of which %d are to be kept", held, tr.m.s.eventsKept)
	}
}

// both gives one operation to the store and the model.
func (tr *trial) both(tx *Tx, o op) {
	switch o.kind {
	case "compact":
		if got, want := tx.Compact(o.rev), tr.model.compact(o.rev); got != want {
			tr.t.Fatalf("compact %d: %v, want %v", o.rev, got, want)
		}
	case "put":
		key, value := []byte(o.key), []byte(o.value)
		got, err := tx.Put(key, value, o.lease, o.ignoreValue, o.ignoreLease)
		want, wantErr := tr.model.put(o.key, o.value, o.lease, o.ignoreValue, o.ignoreLease)
		if err != wantErr || !equalPair(got, want) {
			tr.t.Fatalf("put %+v: %v %v, want %v %v", o, got, err, want, wantErr)
		}
		for i := range key { // what was given in is the caller's again
			key[i] ^= 0x55
		}
		for i := range value {
			value[i] ^= 0x55
		}
	case "del":
		var got []KeyValue
		n, err := tx.DeleteRange([]byte(o.key), []byte(o.end), !o.bare, func(kv *KeyValue) { got = append(got, *kv) })
		want := tr.model.del(o.key, o.end)
		for i := range min(len(got), len(want)) {
			if o.bare && got[i].Value == nil {
				got[i].Value = want[i].Value
			}
		}
		if err != nil || n != int64(len(want)) || !equalPairs(got, want) {
			tr.t.Fatalf("delete %+v: %d %v %v, want %v", o, n, got, err, want)
		}
	}
}

// inside reads from within a command.
func (tr *trial) inside(tx *Tx) {
	if tx.Revision() != tr.model.now() || tx.Changed() != (tr.model.sub > 0) {
		tr.t.Fatalf("revision within a command %d %v, want %d", tx.Revision(), tx.Changed(), tr.model.now())
	}
	k := tr.key()
	kv, err := tx.Get([]byte(k))
	if err != nil || !equalPair(kv, tr.model.get(k, tr.model.now())) {
		tr.t.Fatalf("get %q within a command: %+v %v", k, kv, err)
	}
	q := tr.randomQuery()
	got, sum, err := collect(tx.Range, q)
	tr.sameAnswer("range within a command", q, got, sum, err)
}

func (tr *trial) randomQuery() Query {
	q := Query{Key: []byte(tr.key()), End: []byte(tr.end()), Revision: tr.revision()}
	if tr.r.IntN(2) == 0 {
		q.Limit = []int64{-1, 1, 2, 5, math.MaxInt64}[tr.r.IntN(5)]
	}
	if tr.r.IntN(2) == 0 {
		q.SortOrder, q.SortTarget = tr.r.Int32N(3), tr.r.Int32N(5)
	}
	q.KeysOnly, q.CountOnly = tr.r.IntN(4) == 0, tr.r.IntN(8) == 0
	if tr.r.IntN(3) == 0 {
		for _, p := range []*int64{&q.ModRevisionMin, &q.ModRevisionMax, &q.CreateRevisionMin, &q.CreateRevisionMax} {
			if tr.r.IntN(3) == 0 {
				*p = tr.revision()
			}
		}
	}
	return q
}

func (tr *trial) query() {
	q := tr.randomQuery()
	got, sum, err := tr.m.query(q)
	tr.sameAnswer("range", q, got, sum, err)
	tr.page(q)
}

func (tr *trial) sameAnswer(what string, q Query, got []KeyValue, sum Summary, err error) {
	tr.t.Helper()
	want, wantSum, wantErr := tr.model.query(q)
	if err != wantErr || sum != wantSum || !equalPairs(got, want) {
		tr.t.Fatalf("%s %+v\n got %v %+v %v\nwant %v %+v %v", what, q, got, sum, err, want, wantSum, wantErr)
	}
}

// page reads a range with a cursor, in pieces of random size.
func (tr *trial) page(q Query) {
	q = Query{Key: q.Key, End: q.End, Revision: q.Revision, KeysOnly: q.KeysOnly}
	want, sum, wantErr := tr.model.query(q)
	v := tr.m.s.View()
	c, err := v.Cursor(q)
	v.Close()
	if err != wantErr {
		tr.t.Fatalf("cursor %+v: %v, want %v", q, err, wantErr)
	}
	if err != nil {
		return
	}
	var got []KeyValue
	for done := false; !done; {
		rest, err := c.Rest()
		if err != nil || rest != sum.Count-int64(len(got)) {
			tr.t.Fatalf("cursor %+v: rest %d %v after %d of %d", q, rest, err, len(got), sum.Count)
		}
		limit, stop, n := tr.r.Int64N(4), tr.r.IntN(5), 0
		done, err = c.Next(limit, func(kv *KeyValue) bool {
			got = append(got, clone(*kv))
			n++
			return n != stop
		})
		if err != nil || limit > 0 && int64(n) > limit || stop > 0 && n > stop {
			tr.t.Fatalf("cursor %+v: %d pairs, limit %d, %v", q, n, limit, err)
		}
	}
	if !equalPairs(got, want) {
		tr.t.Fatalf("cursor %+v\n got %v\nwant %v", q, got, want)
	}
}

func (tr *trial) history() {
	from, to := tr.r.Int64N(tr.model.rev+3)-1, tr.r.Int64N(tr.model.rev+3)
	var lower, upper []byte
	if tr.r.IntN(2) == 0 {
		lower, upper = []byte(tr.key()), []byte(tr.key())
	}
	got, err := tr.m.history(from, min(to, tr.model.rev), lower, upper, tr.r.IntN(300))
	if from <= min(to, tr.model.rev) && from < tr.model.floor {
		if err != ErrCompacted {
			tr.t.Fatalf("changes %d..%d below floor %d: %v", from, to, tr.model.floor, err)
		}
		return
	}
	if err != nil {
		tr.t.Fatal(err)
	}
	tr.same(fmt.Sprintf("changes %d..%d", from, to), got, tr.model.events(from, to, tr.model.floor, lower, upper))
}

func (tr *trial) same(what string, got, want []Event) {
	tr.t.Helper()
	ok := len(got) == len(want)
	for i := 0; ok && i < len(got); i++ {
		ok = equalEvent(&got[i], &want[i])
	}
	if !ok {
		tr.t.Fatalf("%s\n got %+v\nwant %+v\nfloor %d", what, got, want, tr.model.floor)
	}
}

func (tr *trial) hashes() {
	rev := tr.revision()
	got, err := tr.m.s.HashKV(rev)
	if wantErr := tr.model.check(rev); err != wantErr {
		tr.t.Fatalf("hash at %d: %v, want %v", rev, err, wantErr)
	}
	if err != nil {
		return
	}
	if got.Compacted != tr.model.floor && got.Revision == tr.model.floor { // remembered from before the compaction
		if before := tr.hashed[got.Revision]; before.Hash != got.Hash || before.Compacted != got.Compacted {
			tr.t.Fatalf("hash at %d: %+v, but before it was %+v", rev, got, before)
		}
		got, err = freshHashes(tr.m.s).HashKV(rev)
		if err != nil {
			tr.t.Fatal(err)
		}
	}
	tr.hashed[got.Revision] = got
	want := tr.model.hashKV(rev)
	if got.Hash != want || got.Compacted != tr.model.floor || got.Current != tr.model.rev {
		tr.t.Fatalf("hash at %d: %+v, want %08x\nfloor %d\n%v", rev, got, want, tr.model.floor, tr.model)
	}
	// In several passes it is the same.
	got, err = freshHashes(tr.m.s).hashKV(rev, 1+tr.r.IntN(5))
	if err != nil || got.Hash != want {
		tr.t.Fatalf("hash at %d in passes: %+v %v, want %08x", rev, got, err, want)
	}
}

// freshHashes makes a store forget the hashes it has.
func freshHashes(s *Store) *Store {
	s.hashes.mu.Lock()
	defer s.hashes.mu.Unlock()
	s.hashes.hashes = nil
	return s
}

func (tr *trial) remove() {
	before := mustHash(tr.t, tr.m.s)
	for range tr.r.IntN(4) {
		if _, _, err := tr.m.s.CompactStep(1 + tr.r.IntN(6)); err != nil {
			tr.t.Fatal(err)
		}
	}
	if after := mustHash(tr.t, tr.m.s); after != before {
		tr.t.Fatalf("removal changed the hash from %08x to %08x", before, after)
	}
}

// crash cuts the power and applies again what was lost. What survived must be a state the store has been in.
func (tr *trial) crash() {
	published := tr.m.s.Revision()
	tr.m.crash(tr.r, []int{0, 30, 100}[tr.r.IntN(3)])
	at := tr.m.applied
	if at > uint64(len(tr.log)) {
		tr.t.Fatalf("applied %d after a crash, the log ends at %d", at, len(tr.log))
	}
	for i := at; i < uint64(len(tr.log)); i++ {
		tr.survived(i)
		tr.m.run(func(tx *Tx) { replay(tr.t, tx, tr.log[i].commands) })
	}
	tr.survived(uint64(len(tr.log)))
	if tr.m.s.Revision() != published {
		tr.t.Fatalf("revision %d after a crash, %d before", tr.m.s.Revision(), published)
	}
	tr.published()
}

// survived compares the store with what the log says about index at.
func (tr *trial) survived(at uint64) {
	tr.t.Helper()
	want := logged{after: publication{revision: 1, floor: -1}}
	if at > 0 {
		want = tr.log[at-1]
	} else {
		want.hash = mustHash(tr.t, newMachine(tr.t, storage.Options{}, Options{}).s)
	}
	if got := *tr.m.s.shared.Load(); got != want.after || mustHash(tr.t, tr.m.s) != want.hash {
		tr.t.Fatalf("state at %d of %d after a crash: %+v, want %+v", at, len(tr.log), got, want.after)
	}
}

func replay(t *testing.T, tx *Tx, commands [][]op) {
	for _, c := range commands {
		for _, o := range c {
			var err error
			switch o.kind {
			case "put":
				_, err = tx.Put([]byte(o.key), []byte(o.value), o.lease, o.ignoreValue, o.ignoreLease)
			case "del":
				_, err = tx.DeleteRange([]byte(o.key), []byte(o.end), false, nil)
			case "compact":
				err = tx.Compact(o.rev)
			}
			if err != nil && !errors.Is(err, ErrKeyNotFound) && !errors.Is(err, ErrCompacted) && !errors.Is(err, ErrFuture) {
				t.Fatal(err)
			}
		}
		tx.EndCommand()
	}
}

// published compares the figures that are cheap to read.
func (tr *trial) published() {
	tr.t.Helper()
	want := publication{revision: tr.model.rev, floor: tr.model.floor, live: tr.model.live(tr.model.rev)}
	if got := *tr.m.s.shared.Load(); got != want {
		tr.t.Fatalf("published %+v, want %+v", got, want)
	}
}

// checkAll reads everything at every readable revision.
func (tr *trial) checkAll() {
	for rev := max(tr.model.floor, 1); rev <= tr.model.rev; rev++ {
		q := Query{Key: []byte{0}, End: []byte{0}, Revision: rev}
		got, sum, err := tr.m.query(q)
		tr.sameAnswer("everything", q, got, sum, err)
	}
	for _, k := range trialKeys {
		q := Query{Key: []byte(k)}
		got, sum, err := tr.m.query(q)
		tr.sameAnswer("one", q, got, sum, err)
	}
	from := max(tr.model.floor, 0)
	got, err := tr.m.history(from, tr.model.rev, nil, nil, 0)
	if err != nil {
		tr.t.Fatal(err)
	}
	tr.same("history", got, tr.model.events(from, tr.model.rev, tr.model.floor, nil, nil))
}

// checkDisk compares the tables, after removal, with what must have stayed: nothing may be left over, nothing missing.
func (tr *trial) checkDisk() {
	want := map[string]bool{}
	for i := range tr.model.versions {
		v := &tr.model.versions[i]
		if v.ModRevision >= tr.model.floor || tr.model.version(string(v.Key), tr.model.floor) == v && !v.deleted {
			want[fmt.Sprintf("%q %d.%d", v.Key, v.ModRevision, v.sub)] = true
		}
		if v.ModRevision >= tr.model.floor {
			want[fmt.Sprintf("change %d.%d", v.ModRevision, v.sub)] = true
		}
	}
	for _, line := range dumpTables(tr.t, tr.m.db) {
		if !want[line.name] {
			tr.t.Fatalf("%s is left over; floor %d", line.name, tr.model.floor)
		}
		delete(want, line.name)
	}
	for name := range want {
		tr.t.Fatalf("%s is missing; floor %d", name, tr.model.floor)
	}
}

// checkCopies looks whether any event changed after it was given out.
func (tr *trial) checkCopies() {
	for i := range tr.events {
		if !equalEvent(&tr.events[i], &tr.copies[i]) {
			tr.t.Fatalf("event changed from %+v to %+v", tr.copies[i], tr.events[i])
		}
	}
}

type tableLine struct{ name, text string }

// dumpTables lists the versions and changes of both tables.
func dumpTables(t testing.TB, db *storage.DB) (lines []tableLine) {
	t.Helper()
	it, err := db.Iter(storage.Versions, nil, nil)
	if err != nil {
		t.Fatal(err)
	}
	for ok := it.First(); ok; ok = it.Next() {
		lines = append(lines, dumpVersion(t, it))
	}
	if err := it.Close(); err != nil {
		t.Fatal(err)
	}
	changes, err := openChanges(db, storage.Version{}, math.MaxInt64)
	if err != nil {
		t.Fatal(err)
	}
	for changes.next() {
		lines = append(lines, dumpChange(changes.at, changes.change))
	}
	if err := changes.close(); err != nil {
		t.Fatal(err)
	}
	return lines
}

func dumpVersion(t testing.TB, it *storage.Iter) tableLine {
	t.Helper()
	key, v := it.KeyVersion()
	b, err := it.Value()
	if err != nil {
		t.Fatal(err)
	}
	kv := KeyValue{Key: key, ModRevision: v.Main}
	if err := decodeVersion(b, &kv); err != nil {
		t.Fatal(err)
	}
	return tableLine{fmt.Sprintf("%q %d.%d", key, v.Main, v.Sub), formatVersion(&kv, v.Sub)}
}

func dumpChange(v storage.Version, c change) tableLine {
	kind := "put"
	if c.kind == Delete {
		kind = "delete"
	}
	text := fmt.Sprintf("change %d.%d: %s %q", v.Main, v.Sub, kind, c.key)
	if c.replaced.Main != 0 {
		text += fmt.Sprintf(" replaced %d.%d", c.replaced.Main, c.replaced.Sub)
	}
	return tableLine{fmt.Sprintf("change %d.%d", v.Main, v.Sub), text}
}

func formatVersion(kv *KeyValue, sub uint32) string {
	at := fmt.Sprintf("%q %d.%d:", kv.Key, kv.ModRevision, sub)
	if kv.Version == 0 {
		return at + " tombstone"
	}
	return at + fmt.Sprintf(" create %d version %d lease %d %q", kv.CreateRevision, kv.Version, kv.Lease, kv.Value)
}
