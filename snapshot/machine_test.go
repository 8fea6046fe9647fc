package snapshot

import (
	"context"
	"fmt"
	"math/rand/v2"
	"sync"
	"testing"

	"github.com/cockroachdb/pebble/v2/vfs"

	"keelson/command"
	"keelson/state"
	"keelson/state/members"
	"keelson/storage"
)

func openDB(t *testing.T, fs vfs.FS, dir string) *storage.DB {
	t.Helper()
	db, err := storage.Open(storage.Options{FS: fs, Dir: dir, Manual: true, MemtableBytes: 1 << 20, CacheBytes: 1 << 20})
	mustNil(t, err)
	return db
}

func openMachine(t *testing.T, db *storage.DB) *state.Machine {
	t.Helper()
	m, err := state.Open(db, state.Options{})
	mustNil(t, err)
	return m
}

// putEntry is an entry of puts, which follow from its index and do not compress.
func putEntry(index uint64) state.Entry {
	data := command.BeginBatch(nil, command.BatchID{})
	r := rand.New(rand.NewPCG(index, 0))
	for i := range uint64(3) {
		c := command.Command{Op: &command.Put{Key: fmt.Appendf(nil, "key-%d", (index*7+i)%300), Value: randomBytes(r, 3000)}}
		data = command.AppendTo(data, c.Append(nil))
	}
	return state.Entry{Index: index, Term: 1, Data: data}
}

// samePairs compares the pairs of two machines at the newest revision of the first.
func samePairs(t *testing.T, a, b *state.Machine) {
	t.Helper()
	x, err := a.HashKV(0)
	mustNil(t, err)
	y, err := b.HashKV(x.Revision)
	mustNil(t, err)
	if x.Hash != y.Hash || x.Compacted != y.Compacted {
		t.Fatalf("hash of pairs %+v, want %+v", x, y)
	}
}

// TestStateTravels takes a whole state to a member that has none: a checkpoint made while entries are applied, sent over
// streams that break, received, opened, installed under readers. What arrives is the state at the position that the
// checkpoint was said to be at.
func TestStateTravels(t *testing.T) {
	const entries = 200
	r := random(t)
	id := members.Identity{ClusterID: 7, Members: []members.Member{{ID: 1}}, ConfState: []byte{0x08, 0x01}}
	from, to := vfs.NewMem(), vfs.NewCrashableMem()
	db := openDB(t, from, "/db")
	mustNil(t, state.Bootstrap(db, id))
	source := openMachine(t, db)
	defer func() { mustNil(t, source.Close()) }()
	at := map[uint64]uint64{} // state hashes, by index; written by the goroutine that applies
	var applying sync.WaitGroup
	defer applying.Wait()
	begun := make(chan struct{})
	applying.Go(func() {
		for i := uint64(2); i <= entries; i++ {
			if _, err := source.Apply([]state.Entry{putEntry(i)}); err != nil {
				t.Error(err)
			}
			_, at[i] = source.StateHash()
			if i == 100 {
				close(begun)
			}
		}
	})
	<-begun
	position, conf, err := source.Checkpoint("/checkpoint")
	mustNil(t, err)
	applying.Wait()
	if position.Index < 100 || string(conf) != string(id.ConfState) {
		t.Fatalf("checkpoint at %v, configuration %x", position, conf)
	}

	joinerDB := openDB(t, to, "/db")
	mustNil(t, state.BootstrapEmpty(joinerDB, 7))
	joiner := openMachine(t, joinerDB)
	b := &bed{t: t, from: from, to: to}
	b.s = SendOptions{FS: from, Clock: testClock, Dir: "/checkpoint", Store: testStore, Header: []byte(fmt.Sprint(position))}
	b.r = ReceiveOptions{FS: to, Clock: testClock, Dir: "/incoming"}
	got := b.receiveThroughCuts(r)
	if string(got.Header) != string(b.s.Header) {
		t.Errorf("header %q", got.Header)
	}
	if got.Resumed == 0 {
		t.Error("nothing was resumed")
	}
	mustNil(t, to.Rename(got.Dir, "/installed"))

	var readers sync.WaitGroup
	stop := make(chan struct{})
	finish := sync.OnceFunc(func() {
		close(stop)
		readers.Wait()
	})
	defer finish()
	readers.Go(func() {
		for {
			select {
			case <-stop:
				return
			default:
				if _, err := joiner.HashKV(0); err != nil {
					t.Error(err)
				}
			}
		}
	})
	retired, err := joiner.Install(openDB(t, to, "/installed"))
	mustNil(t, err)
	mustNil(t, retired.Close())
	finish()
	if joiner.Applied() != position {
		t.Fatalf("at %v, want %v", joiner.Applied(), position)
	}
	if _, h := joiner.StateHash(); h != at[position.Index] {
		t.Fatalf("state hash %x at %v, want %x", h, position, at[position.Index])
	}
	samePairs(t, joiner, source)
	for i := position.Index + 1; i <= entries; i++ {
		_, err := joiner.Apply([]state.Entry{putEntry(i)})
		mustNil(t, err)
	}
	if _, h := joiner.StateHash(); h != at[entries] {
		t.Fatalf("state hash %x at the end, want %x", h, at[entries])
	}
	samePairs(t, joiner, source)
	mustNil(t, joiner.Close())
}

// receiveThroughCuts transfers over streams that break, until one does not.
func (b *bed) receiveThroughCuts(r *rand.Rand) Received {
	b.t.Helper()
	for attempt := 0; ; attempt++ {
		x, y := newLinks()
		switch {
		case attempt == 0: // behind a piece, and before the end
			x.cutAt = 400_000 + r.Int64N(300_000)
		case attempt < 5:
			x.cutAt = r.Int64N(1_000_000)
		}
		got, sent, received := b.transfer(context.Background(), x, y)
		if received == nil {
			mustNil(b.t, sent)
			b.t.Logf("%d files, %d bytes, %d resumed in attempt %d", got.Files, got.Bytes, got.Resumed, attempt)
			return got
		}
	}
}
