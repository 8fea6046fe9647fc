package snapshot

import (
	"bytes"
	"context"
	"errors"
	"math/rand/v2"
	"net"
	"os"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/cockroachdb/pebble/v2/vfs"
	"github.com/cockroachdb/pebble/v2/vfs/errorfs"

	"keelson/env"
)

func TestTransfer(t *testing.T) {
	b := newBed(t, smallFiles(random(t)))
	b.s.Header = bytes.Repeat([]byte("h"), headerBytesMax)
	var last [2]int64
	b.s.Progress = func(done, total int64) { last[0] = done; last[1] = total }
	got := b.run()
	if got.Resumed != 0 || last != [2]int64{b.files.bytes(), b.files.bytes()} {
		t.Errorf("resumed %d, progress %d", got.Resumed, last)
	}
	// What is there already is not sent again.
	b.r.Progress = b.s.Progress
	if again := b.run(); again.Resumed != again.Bytes || again.Dir != got.Dir || last[0] != last[1] {
		t.Errorf("resumed %d of %d", again.Resumed, again.Bytes)
	}
	// A stream can be used again, and a LOCK file is nobody's.
	contents{"LOCK": nil}.write(t, b.from, "/checkpoint")
	x, y := net.Pipe()
	for range 2 {
		got, sent, received := b.transfer(context.Background(), x, y)
		mustNil(t, errors.Join(sent, received))
		b.check(got)
	}
}

func TestEmptyCheckpointAndHeader(t *testing.T) {
	b := newBed(t, contents{})
	b.s.Header = nil
	b.run()
}

// TestCutAndResume cuts the stream at random places, in either direction, and cuts the receiver's power in between. Each
// attempt goes on from what the ones before have left; nothing counts as received before everything is.
func TestCutAndResume(t *testing.T) {
	r := random(t)
	resumed := int64(0)
	for range *roundsFlag {
		b := newBed(t, smallFiles(r))
		for attempt := 0; ; attempt++ {
			x, y := newLinks()
			if r.IntN(4) > 0 {
				x.cutAt = r.Int64N(b.files.bytes() + 1000)
			}
			if r.IntN(8) == 0 {
				y.cutAt = r.Int64N(200)
			}
			got, sent, received := b.transfer(context.Background(), x, y)
			if received == nil {
				b.check(got)
				resumed += got.Resumed
				if sent != nil && y.cutAt < 0 {
					t.Fatalf("received, but the sender says %v", sent)
				}
				break
			}
			if sent == nil {
				t.Fatalf("the sender knows nothing of %v", received)
			}
			if r.IntN(3) == 0 {
				b.to = b.to.(*vfs.MemFS).CrashClone(vfs.CrashCloneCfg{UnsyncedDataPercent: r.IntN(101), RNG: r})
				b.r.FS = b.to
			}
			if r.IntN(6) == 0 { // a later checkpoint of the same store
				b.files["MANIFEST-000001"] = append(b.files["MANIFEST-000001"], randomBytes(r, 100)...)
				b.files["000020.sst"] = randomBytes(r, 2000)
				b.files.write(t, b.from, "/checkpoint")
			}
		}
	}
	if resumed == 0 && *roundsFlag > 5 {
		t.Error("nothing was ever resumed")
	}
}

// TestDamagedStream changes single bytes of what is sent, all over the stream: what is damaged is never taken.
//
// A changed length may make one side wait for more than there is, until it takes the other for stalled: hence the bubble.
func TestDamagedStream(t *testing.T) { synctest.Test(t, testDamagedStream) }

func testDamagedStream(t *testing.T) {
	r := random(t)
	files := contents{"000005.sst": randomBytes(r, 900), "MANIFEST-000001": randomBytes(r, 40), "marker.manifest.000001.x": {}}
	x, y := newLinks()
	x.capture, y.capture = &bytes.Buffer{}, &bytes.Buffer{}
	b := newBed(t, files)
	_, sent, received := b.transfer(context.Background(), x, y)
	mustNil(t, errors.Join(sent, received))
	for at := range int64(x.capture.Len()) {
		b := newBed(t, files)
		x, y := newLinks()
		x.damage = map[int64]bool{at: true}
		_, sent, received := b.transfer(context.Background(), x, y)
		if received == nil || sent == nil {
			t.Fatalf("byte %d changed: the sender says %v, the receiver %v", at, sent, received)
		}
		if at%50 == 0 {
			b.run() // what was left does not get into the way
		}
	}
	for at := range int64(y.capture.Len()) {
		b := newBed(t, files)
		x, y := newLinks()
		y.damage = map[int64]bool{at: true}
		got, sent, received := b.transfer(context.Background(), x, y)
		if received == nil {
			b.check(got)
		}
		if sent == nil {
			t.Fatalf("byte %d of the answers changed, and nobody saw it", at)
		}
	}
}

// TestLeftoversAreNotTrusted: what is there counts if it is the beginning of what is sent, and goes otherwise.
func TestLeftoversAreNotTrusted(t *testing.T) {
	r := random(t)
	b := newBed(t, smallFiles(r))
	dir := b.to.PathJoin("/incoming", "01020300000000000000000000000000")
	long := b.files["000012.sst"]
	wrong := slices.Clone(long[:5000])
	wrong[r.IntN(len(wrong))] ^= 4
	left := contents{
		"000012.sst":      wrong,
		"000005.sst":      append(slices.Clone(b.files["000005.sst"]), 0), // longer
		"MANIFEST-000001": b.files["MANIFEST-000001"],                     // whole
		"000013.blob":     b.files["000013.blob"][:1],
		"000099.sst":      {1, 2, 3}, // not of this checkpoint
		"../evil":         {1},
		"LOCK":            nil,
	}
	left.write(t, b.to, dir)
	contents{"000005.sst": {1}}.write(t, b.to, "/incoming/of-another-store")
	got := b.run()
	if want := int64(len(b.files["MANIFEST-000001"]) + 1); got.Resumed != want || got.Dir != dir {
		t.Errorf("resumed %d in %s, want %d in %s", got.Resumed, got.Dir, want, dir)
	}
	if names, err := b.to.List("/incoming"); len(names) != 1 || err != nil {
		t.Errorf("%q, %v", names, err)
	}
}

func TestReceiverRefuses(t *testing.T) {
	reason := errors.New("wrong cluster, " + strings.Repeat("really ", 300))
	b := newBed(t, smallFiles(random(t)))
	b.r.Accept = func(o Offer) error {
		if string(o.Header) != "header" || o.Bytes != b.files.bytes() {
			t.Errorf("asked about %+v", o)
		}
		return reason
	}
	x, y := net.Pipe()
	_, sent, received := b.transfer(context.Background(), x, y)
	if !errors.Is(received, reason) || !errors.Is(sent, ErrRefused) || !strings.Contains(sent.Error(), "wrong cluster, really") {
		t.Errorf("the receiver says %v, the sender %v", received, sent)
	}
	if names, err := b.to.List("/incoming"); len(names) != 0 || err != nil {
		t.Errorf("a refused snapshot has left %q, %v", names, err)
	}
	for name, limit := range map[string]func(*ReceiveOptions){
		"bytes": func(o *ReceiveOptions) { o.BytesMax = b.files.bytes() - 1 },
		"files": func(o *ReceiveOptions) { o.FilesMax = len(b.files) - 1 },
	} {
		b := newBed(t, b.files)
		limit(&b.r)
		x, y := net.Pipe()
		_, sent, received := b.transfer(context.Background(), x, y)
		if !errors.Is(received, ErrLimit) || sent == nil {
			t.Errorf("%s: the receiver says %v, the sender %v", name, received, sent)
		}
	}
}

func TestSenderRefuses(t *testing.T) {
	b := newBed(t, smallFiles(random(t)))
	b.s.Header = make([]byte, headerBytesMax+1)
	x, _ := net.Pipe()
	if err := Send(context.Background(), x, b.s); !errors.Is(err, ErrLimit) {
		t.Error(err)
	}
	b.s.Header = nil
	contents{"passwords.txt": {1}}.write(t, b.from, "/checkpoint")
	x, _ = net.Pipe()
	if err := Send(context.Background(), x, b.s); err == nil || !strings.Contains(err.Error(), "passwords.txt") {
		t.Error(err)
	}
}

// TestFaultAtEveryOperation fails each operation on the receiver's disk in turn. Receive reports it, and the next attempt
// succeeds, and does not trust a file whose sync has failed.
func TestFaultAtEveryOperation(t *testing.T) {
	files := contents{"000005.sst": randomBytes(rand.New(rand.NewPCG(1, 1)), 900), "MANIFEST-000001": []byte("manifest")}
	syncs := 0
	for at := 0; ; at++ {
		b := newBed(t, files)
		contents{"000005.sst": files["000005.sst"][:100]}.write(t, b.to, "/incoming/01020300000000000000000000000000")
		n, hit, unsynced := 0, false, ""
		b.r.FS = errorfs.Wrap(b.to, errorfs.InjectorFunc(func(op errorfs.Op) error {
			n++
			if n-1 != at {
				return nil
			}
			hit = true
			if name := b.to.PathBase(op.Path); op.Kind == errorfs.OpFileSync && files[name] != nil {
				unsynced, syncs = op.Path, syncs+1
			}
			return errorfs.ErrInjected
		}))
		x, y := net.Pipe()
		_, sent, received := b.transfer(context.Background(), x, y)
		if !hit {
			mustNil(t, errors.Join(sent, received))
			if at < 15 || syncs != len(files) {
				t.Errorf("only %d operations, %d syncs", at, syncs)
			}
			return
		}
		if !errors.Is(received, errorfs.ErrInjected) || sent == nil {
			t.Fatalf("operation %d failed: the receiver says %v, the sender %v", at, received, sent)
		}
		if unsynced != "" {
			if _, err := b.to.Stat(unsynced); !errors.Is(err, os.ErrNotExist) {
				t.Errorf("a sync of %s has failed, and the file is still there: %v", unsynced, err)
			}
		}
		b.r.FS = b.to
		b.run()
	}
}

// A file that changes its length while it is sent ends the transfer.
func TestSenderFindsFileCutShort(t *testing.T) {
	b := newBed(t, smallFiles(random(t)))
	b.r.Accept = func(Offer) error {
		contents{"000012.sst": {1}}.write(t, b.from, "/checkpoint")
		return nil
	}
	x, y := net.Pipe()
	_, sent, received := b.transfer(context.Background(), x, y)
	if sent == nil || received == nil {
		t.Errorf("the receiver says %v, the sender %v", received, sent)
	}
}

// The clock of these is the bubble's: only waiting makes it move.

func TestContextEnds(t *testing.T) {
	for _, who := range []string{"sender", "receiver"} {
		synctest.Test(t, func(t *testing.T) {
			b := newBed(t, smallFiles(random(t)))
			b.s.Clock, b.r.Clock = env.SystemClock(), env.SystemClock()
			ctx, cancel := context.WithCancel(context.Background())
			x, y := net.Pipe() // at the other end nobody moves
			done := make(chan error, 1)
			go func() {
				if who == "sender" {
					done <- Send(ctx, x, b.s)
				} else {
					_, err := Receive(ctx, x, b.r)
					done <- err
				}
			}()
			synctest.Wait()
			cancel()
			synctest.Wait()
			select {
			case err := <-done:
				if !errors.Is(err, context.Canceled) {
					t.Errorf("%s: %v", who, err)
				}
			default:
				t.Errorf("%s goes on though its context has ended", who)
				y.Close()
			}
		})
	}
}

func TestStalledPeer(t *testing.T) {
	for _, who := range []string{"sender", "receiver"} {
		synctest.Test(t, func(t *testing.T) {
			b := newBed(t, smallFiles(random(t)))
			b.s.Clock, b.r.Clock, b.s.Stall, b.r.Stall = env.SystemClock(), env.SystemClock(), 3*time.Second, 3*time.Second
			x, _ := net.Pipe()
			var err error
			if who == "sender" {
				err = Send(context.Background(), x, b.s)
			} else {
				_, err = Receive(context.Background(), x, b.r)
			}
			if !errors.Is(err, ErrStalled) {
				t.Errorf("%s: %v", who, err)
			}
		})
	}
}

// A limited sender takes the time that its limit asks for, never stands still for long, and gives up with its context.
func TestRate(t *testing.T) {
	for _, rate := range []int64{2_000, 100_000, 50 << 20} {
		synctest.Test(t, func(t *testing.T) {
			b := newBed(t, smallFiles(random(t)))
			b.s.Clock, b.r.Clock, b.s.BytesPerSecond = env.SystemClock(), env.SystemClock(), rate
			b.s.Stall, b.r.Stall = 2*time.Second, 2*time.Second
			start := time.Now()
			b.run()
			took, asked := time.Since(start), time.Duration(float64(b.files.bytes())/float64(rate)*float64(time.Second))
			if took > asked || took < asked-time.Second {
				t.Errorf("%d bytes at %d/s took %v, want about %v", b.files.bytes(), rate, took, asked)
			}
		})
	}
	synctest.Test(t, func(t *testing.T) {
		b := newBed(t, smallFiles(random(t)))
		b.s.Clock, b.r.Clock, b.s.BytesPerSecond = env.SystemClock(), env.SystemClock(), 1000
		ctx, cancel := context.WithTimeout(context.Background(), 10*time.Second)
		defer cancel()
		x, y := net.Pipe()
		_, sent, received := b.transfer(ctx, x, y)
		if !errors.Is(sent, context.DeadlineExceeded) || received == nil {
			t.Errorf("the sender says %v, the receiver %v", sent, received)
		}
	})
}
