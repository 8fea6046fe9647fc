package snapshot

import (
	"bytes"
	"context"
	"encoding/binary"
	"flag"
	"fmt"
	"io"
	"math/rand/v2"
	"net"
	"slices"
	"testing"

	"github.com/cockroachdb/pebble/v2/vfs"

	"keelson/env"
)

var (
	seedFlag   = flag.Uint64("seed", 0, "seed of random tests; 0: draw one")
	roundsFlag = flag.Int("rounds", 6, "rounds of random tests")
)

// random returns a source that -seed brings back.
func random(t testing.TB) *rand.Rand {
	s := *seedFlag
	if s == 0 {
		s = rand.Uint64()
	}
	t.Logf("-seed=%d", s)
	return rand.New(rand.NewPCG(s, 0))
}

func mustNil(t testing.TB, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

// files of a checkpoint, by name.
type contents map[string][]byte

// smallFiles is a checkpoint of few bytes: every kind of name, an empty file, one of more than one piece.
func smallFiles(r *rand.Rand) contents {
	c := contents{
		"000005.sst": nil, "000012.sst": nil, "000013.blob": nil, "MANIFEST-000001": nil, "OPTIONS-000003": nil,
		"marker.format-version.000001.024": {}, "marker.manifest.000001.MANIFEST-000001": {},
	}
	for name, b := range c {
		if b == nil {
			c[name] = randomBytes(r, 1+r.IntN(3000))
		}
	}
	c["000012.sst"] = randomBytes(r, pieceBytesMax+r.IntN(50_000))
	return c
}

func randomBytes(r *rand.Rand, n int) []byte {
	var b []byte
	for len(b) < n {
		b = binary.LittleEndian.AppendUint64(b, r.Uint64())
	}
	return b[:n]
}

func (c contents) bytes() (n int64) {
	for _, b := range c {
		n += int64(len(b))
	}
	return n
}

// write puts files into a directory, durably.
func (c contents) write(t testing.TB, fs vfs.FS, dir string) {
	t.Helper()
	mustNil(t, fs.MkdirAll(dir, 0o700))
	for name, b := range c {
		f, err := fs.Create(fs.PathJoin(dir, name), vfs.WriteCategoryUnspecified)
		mustNil(t, err)
		_, err = f.Write(slices.Clone(b))
		mustNil(t, err)
		mustNil(t, f.Sync())
		mustNil(t, f.Close())
	}
	mustNil(t, syncDir(fs, dir))
}

// differs says what is in a directory that is not as it should be; nil: nothing.
func (c contents) differs(fs vfs.FS, dir string) error {
	names, err := fs.List(dir)
	if err != nil {
		return err
	}
	if len(names) != len(c) {
		return fmt.Errorf("%d files %q, want %d", len(names), names, len(c))
	}
	for name, want := range c {
		got, err := readAll(fs, fs.PathJoin(dir, name))
		if err != nil {
			return err
		}
		if !bytes.Equal(got, want) {
			return fmt.Errorf("%s has %d bytes, want %d, or other ones", name, len(got), len(want))
		}
	}
	return nil
}

func readAll(fs vfs.FS, path string) ([]byte, error) {
	f, err := fs.Open(path)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	return io.ReadAll(f)
}

var testStore = Store{1, 2, 3}

// bed is a sender and a receiver with a disk each.
type bed struct {
	t        testing.TB
	files    contents
	from, to vfs.FS
	s        SendOptions
	r        ReceiveOptions
}

func newBed(t testing.TB, files contents) *bed {
	b := &bed{t: t, files: files, from: vfs.NewMem(), to: vfs.NewCrashableMem()}
	files.write(t, b.from, "/checkpoint")
	b.s = SendOptions{FS: b.from, Clock: env.SystemClock(), Dir: "/checkpoint", Store: testStore, Header: []byte("header")}
	b.r = ReceiveOptions{FS: b.to, Clock: env.SystemClock(), Dir: "/incoming"}
	mustNil(t, b.to.MkdirAll("/incoming", 0o700))
	mustNil(t, syncDir(b.to, "/"))
	return b
}

// transfer runs a transfer over two ends of a stream.
func (b *bed) transfer(ctx context.Context, sender, receiver io.ReadWriteCloser) (got Received, sent, received error) {
	done := make(chan error, 1)
	go func() { done <- Send(ctx, sender, b.s) }()
	got, received = Receive(ctx, receiver, b.r)
	return got, <-done, received
}

// run runs a transfer over a sound stream, which has to succeed.
func (b *bed) run() Received {
	b.t.Helper()
	x, y := net.Pipe()
	got, sent, received := b.transfer(context.Background(), x, y)
	mustNil(b.t, sent)
	mustNil(b.t, received)
	b.check(got)
	return got
}

// check checks that what was received is what was sent, also behind a power cut.
func (b *bed) check(got Received) {
	b.t.Helper()
	if !bytes.Equal(got.Header, b.s.Header) || got.Files != len(b.files) || got.Bytes != b.files.bytes() || got.Store != b.s.Store {
		b.t.Fatalf("received %+v", got)
	}
	mustNil(b.t, b.files.differs(b.to, got.Dir))
	if disk, ok := b.to.(*vfs.MemFS); ok {
		mustNil(b.t, b.files.differs(disk.CrashClone(vfs.CrashCloneCfg{}), got.Dir))
	}
}

// link is one end of a stream that meddles with what is written to it.
type link struct {
	net.Conn
	sent    int64
	cutAt   int64          // the stream ends in front of this byte; -1: never
	damage  map[int64]bool // these bytes arrive changed
	capture *bytes.Buffer
}

func (l *link) Write(b []byte) (int, error) {
	b = slices.Clone(b)
	for i := range b {
		if l.damage[l.sent+int64(i)] {
			b[i] ^= 1 << (l.sent % 8)
		}
	}
	if l.cutAt >= 0 && l.sent+int64(len(b)) > l.cutAt {
		n, _ := l.Conn.Write(b[:max(l.cutAt-l.sent, 0)])
		l.sent += int64(n)
		l.Conn.Close()
		return n, io.ErrClosedPipe
	}
	n, err := l.Conn.Write(b)
	if l.capture != nil {
		l.capture.Write(b[:n])
	}
	l.sent += int64(n)
	return n, err
}

func newLinks() (x, y *link) {
	a, b := net.Pipe()
	return &link{Conn: a, cutAt: -1}, &link{Conn: b, cutAt: -1}
}

var testClock = env.SystemClock()
