package snapshot

import (
	"bytes"
	"context"
	"encoding/binary"
	"errors"
	"flag"
	"io"
	"os"
	"strings"
	"testing"

	"github.com/cespare/xxhash/v2"
	"github.com/cockroachdb/pebble/v2/vfs"

	"keelson/env"
)

var rewriteFlag = flag.Bool("rewrite", false, "write the fixtures anew")

// script is the other side of a stream: what it says is written down before, what it hears is dropped.
type script struct {
	io.Reader
	heard bytes.Buffer
}

func (s *script) Write(b []byte) (int, error) { return s.heard.Write(b) }
func (s *script) Close() error                { return nil }

// say is one frame of a script.
type say struct {
	kind    kind
	payload []byte
}

// frames writes a stream with sound checksums, whatever the frames say.
func frames(prologue []byte, list []say) []byte {
	var out bytes.Buffer
	out.Write(prologue)
	for i, s := range list {
		head := append([]byte{byte(s.kind)}, binary.LittleEndian.AppendUint32(nil, uint32(len(s.payload)))...)
		head = binary.LittleEndian.AppendUint32(head, frameSum(uint64(i), head, s.payload))
		out.Write(append(head, s.payload...))
	}
	return out.Bytes()
}

func begin(header, files uint32, size uint64) say {
	b := append([]byte(nil), testStore[:]...)
	b = binary.LittleEndian.AppendUint32(b, header)
	b = binary.LittleEndian.AppendUint32(b, files)
	return say{kindBegin, binary.LittleEndian.AppendUint64(b, size)}
}

func named(name string, size uint64) say {
	return say{kindFile, append(binary.LittleEndian.AppendUint64(nil, size), name...)}
}

func open(i uint32, from uint64) say {
	return say{kindOpen, binary.LittleEndian.AppendUint64(binary.LittleEndian.AppendUint32(nil, i), from)}
}

func closed(content string) say {
	return say{kindClose, binary.LittleEndian.AppendUint64(nil, xxhash.Sum64String(content))}
}

var (
	offered = say{kindOffered, nil}
	done    = say{kindDone, nil}
)

func piece(content string) say { return say{kindPiece, []byte(content)} }

// receiveScript gives a script to Receive.
func receiveScript(stream []byte) (vfs.FS, Received, error) {
	fs := vfs.NewMem()
	got, err := Receive(context.Background(), &script{Reader: bytes.NewReader(stream)},
		ReceiveOptions{FS: fs, Clock: env.SystemClock(), Dir: "/incoming", FilesMax: 10, BytesMax: 1 << 20})
	return fs, got, err
}

// TestHostileSender: a stream with sound checksums that says what no sender says.
func TestHostileSender(t *testing.T) {
	const m = "MANIFEST-000001"
	for _, c := range []struct {
		name string
		say  []say
		want error // nil: it is in order
	}{
		{"in order", []say{begin(1, 1, 5), {kindHeader, []byte("h")}, named(m, 5), offered, open(0, 0), piece("ab"), piece("cde"), closed("abcde"), done}, nil},
		{"nothing", nil, io.ErrUnexpectedEOF},
		{"other beginning", []say{offered}, ErrGarbled},
		{"header too long", []say{begin(1<<20+1, 0, 0)}, ErrLimit},
		{"header missing", []say{begin(5, 0, 0), offered}, ErrGarbled},
		{"header in crumbs", []say{begin(2, 0, 0), {kindHeader, []byte("h")}}, ErrGarbled},
		{"too many files", []say{begin(0, 11, 0)}, ErrLimit},
		{"too many bytes", []say{begin(0, 1, 1<<20+1)}, ErrLimit},
		{"more bytes than there are numbers", []say{begin(0, 1, 1<<63)}, ErrLimit},
		{"files missing", []say{begin(0, 2, 5), named(m, 5), offered}, ErrGarbled},
		{"one file too many", []say{begin(0, 1, 5), named(m, 5), named("OPTIONS-000001", 0), offered}, ErrGarbled},
		{"less bytes than offered", []say{begin(0, 1, 5), named(m, 4), offered}, ErrGarbled},
		{"more bytes than offered", []say{begin(0, 1, 5), named(m, 6), offered}, ErrGarbled},
		{"negative size", []say{begin(0, 1, 5), named(m, 1<<63), offered}, ErrGarbled},
		{"twice the same name", []say{begin(0, 2, 2), named(m, 1), named(m, 1), offered}, ErrGarbled},
		{"not in order", []say{begin(0, 2, 2), named("OPTIONS-000001", 1), named(m, 1), offered}, ErrGarbled},
		{"no name", []say{begin(0, 1, 5), named("", 5), offered}, ErrGarbled},
		{"no size", []say{begin(0, 1, 5), {kindFile, []byte("short")}, offered}, ErrGarbled},
		{"a path", []say{begin(0, 1, 5), named("../"+m, 5), offered}, ErrGarbled},
		{"a path behind", []say{begin(0, 1, 5), named(m+"/../../x", 5), offered}, ErrGarbled},
		{"a backslash", []say{begin(0, 1, 5), named(`..\000001.sst`, 5), offered}, ErrGarbled},
		{"a NUL", []say{begin(0, 1, 5), named("000001.sst\x00", 5), offered}, ErrGarbled},
		{"a long name", []say{begin(0, 1, 5), named("marker.a.000001."+strings.Repeat("a", 90), 5), offered}, ErrGarbled},
		{"another kind of file", []say{begin(0, 1, 5), named("000001.log", 5), offered}, ErrGarbled},
		{"another file first", []say{begin(0, 1, 5), named(m, 5), offered, open(1, 0)}, ErrGarbled},
		{"from the middle", []say{begin(0, 1, 5), named(m, 5), offered, open(0, 3)}, ErrGarbled},
		{"piece too long", []say{begin(0, 1, 5), named(m, 5), offered, open(0, 0), piece("abcdef")}, ErrGarbled},
		{"empty piece", []say{begin(0, 1, 5), named(m, 5), offered, open(0, 0), piece("")}, ErrGarbled},
		{"closed too early", []say{begin(0, 1, 5), named(m, 5), offered, open(0, 0), piece("abc"), closed("abc")}, ErrGarbled},
		{"other hash", []say{begin(0, 1, 5), named(m, 5), offered, open(0, 0), piece("abcde"), closed("abcdf")}, ErrGarbled},
		{"not closed", []say{begin(0, 1, 5), named(m, 5), offered, open(0, 0), piece("abcde"), done}, ErrGarbled},
		{"done too early", []say{begin(0, 1, 5), named(m, 5), offered, done}, ErrGarbled},
		{"cut off before done", []say{begin(0, 1, 5), named(m, 5), offered, open(0, 0), piece("abcde"), closed("abcde")}, io.ErrUnexpectedEOF},
		{"a kind that there is not", []say{begin(0, 0, 0), {77, nil}}, ErrGarbled},
		{"an answer", []say{begin(0, 0, 0), {kindReady, nil}}, ErrGarbled},
	} {
		fs, got, err := receiveScript(frames(prologue, c.say))
		if c.want == nil {
			mustNil(t, err)
			mustNil(t, contents{m: []byte("abcde")}.differs(fs, got.Dir))
		} else if !errors.Is(err, c.want) {
			t.Errorf("%s: %v, want %v", c.name, err, c.want)
		}
		if names, err := fs.List("/"); err != nil || len(names) > 1 {
			t.Errorf("%s: files %q outside, %v", c.name, names, err)
		}
	}
	for _, first := range []string{"KSNP\x02", "GET /", ""} {
		_, _, err := receiveScript(frames([]byte(first), nil))
		if first != "" && !errors.Is(err, ErrVersion) || err == nil {
			t.Errorf("%q: %v", first, err)
		}
	}
}

// TestNothingIsAllocatedForAPromise: a stranger who announces much and sends nothing costs nothing.
func TestNothingIsAllocatedForAPromise(t *testing.T) {
	stream := frames(prologue, []say{begin(1<<20, 10, 1<<20)})
	stream = append(stream, byte(kindHeader), 0, 0, 4, 0) // a piece of 256 KiB, it says
	baseline := testing.AllocsPerRun(5, func() { _, _, _ = receiveScript(nil) })
	if n := testing.AllocsPerRun(5, func() { _, _, _ = receiveScript(stream) }); n > baseline+20 {
		t.Errorf("%v allocations, %v without the promise", n, baseline)
	}
}

func have1(i uint32, length, hash uint64) say {
	b := binary.LittleEndian.AppendUint64(binary.LittleEndian.AppendUint32(nil, i), length)
	return say{kindHave, binary.LittleEndian.AppendUint64(b, hash)}
}

func sendScript(t testing.TB, stream []byte) (*script, error) {
	fs := vfs.NewMem()
	contents{"000005.sst": []byte("table"), "MANIFEST-000001": []byte("manifest")}.write(t, fs, "/c")
	s := &script{Reader: bytes.NewReader(stream)}
	return s, Send(context.Background(), s, SendOptions{FS: fs, Clock: env.SystemClock(), Dir: "/c", Store: testStore, Header: []byte("header")})
}

// TestHostileReceiver: answers with sound checksums that no receiver gives.
func TestHostileReceiver(t *testing.T) {
	ready, received := say{kindReady, nil}, say{kindReceived, binary.LittleEndian.AppendUint64(nil, 13)}
	for _, c := range []struct {
		name string
		say  []say
		want error // nil: it is in order
	}{
		{"in order", []say{ready, received}, nil},
		{"has something", []say{have1(0, 2, xxhash.Sum64String("ta")), have1(1, 8, 99), ready, received}, nil},
		{"nothing", nil, io.ErrUnexpectedEOF},
		{"refused", []say{{kindRefused, []byte("no room")}}, ErrRefused},
		{"refused at the end", []say{ready, {kindRefused, []byte("no room")}}, ErrRefused},
		{"a file that there is not", []say{have1(2, 1, 1), ready, received}, ErrGarbled},
		{"more than there is", []say{have1(0, 6, 1), ready, received}, ErrGarbled},
		{"less than nothing", []say{have1(0, 1<<63, 1), ready, received}, ErrGarbled},
		{"nothing of a file", []say{have1(0, 0, 1), ready, received}, ErrGarbled},
		{"backwards", []say{have1(1, 1, 1), have1(0, 1, 1), ready, received}, ErrGarbled},
		{"not ready", []say{received}, ErrGarbled},
		{"twice ready", []say{ready, ready}, ErrGarbled},
		{"other bytes", []say{ready, {kindReceived, make([]byte, 8)}}, ErrGarbled},
		{"short", []say{ready, {kindReceived, make([]byte, 7)}}, ErrGarbled},
		{"endless", []say{ready, {kindPiece, make([]byte, reasonBytesMax+1)}}, ErrGarbled},
	} {
		_, err := sendScript(t, frames(nil, c.say))
		if c.want == nil && err != nil || c.want != nil && !errors.Is(err, c.want) {
			t.Errorf("%s: %v, want %v", c.name, err, c.want)
		}
	}
}

// TestGoldenStream pins what a sender says, and that it is still understood.
func TestGoldenStream(t *testing.T) {
	const path = "testdata/stream-v1"
	s, err := sendScript(t, frames(nil, []say{{kindReady, nil}, {kindReceived, binary.LittleEndian.AppendUint64(nil, 13)}}))
	mustNil(t, err)
	if *rewriteFlag {
		mustNil(t, os.WriteFile(path, s.heard.Bytes(), 0o644))
	}
	want, err := os.ReadFile(path)
	mustNil(t, err)
	if !bytes.Equal(s.heard.Bytes(), want) {
		t.Errorf("the stream is\n%q, want\n%q", s.heard.Bytes(), want)
	}
	fs, got, err := receiveScript(want)
	mustNil(t, err)
	if string(got.Header) != "header" || got.Store != testStore {
		t.Errorf("received %+v", got)
	}
	mustNil(t, contents{"000005.sst": []byte("table"), "MANIFEST-000001": []byte("manifest")}.differs(fs, got.Dir))
}

// fuzzFrames turns bytes into frames with sound checksums: kind, length, payload.
func fuzzFrames(b []byte) (list []say) {
	for len(b) >= 2 {
		k, n := kind(b[0]), min(int(b[1]), len(b)-2)
		list = append(list, say{k, b[2 : 2+n]})
		b = b[2+n:]
	}
	return list
}

func unframed(list ...say) (b []byte) {
	for _, s := range list {
		b = append(append(b, byte(s.kind), byte(len(s.payload))), s.payload...)
	}
	return b
}

// FuzzReceive gives Receive a stranger's bytes, as they are and as sound frames: whatever it takes, it takes whole, and
// nothing leads out of its directory.
func FuzzReceive(f *testing.F) {
	golden, err := os.ReadFile("testdata/stream-v1")
	mustNil(f, err)
	f.Add(golden, false)
	f.Add(golden[:len(golden)/2], false)
	f.Add(unframed(begin(1, 1, 5), say{kindHeader, []byte("h")}, named("000001.sst", 5), offered, open(0, 0), piece("abcde"), closed("abcde"), done), true)
	f.Add(unframed(begin(0, 2, 5), named("MANIFEST-000001", 5), named("OPTIONS-000001", 0), offered, open(0, 0)), true)
	f.Add(unframed(begin(0, 0, 0), offered, done), true)
	f.Fuzz(func(t *testing.T, b []byte, sound bool) {
		if sound {
			b = frames(prologue, fuzzFrames(b))
		}
		fs, got, err := receiveScript(b)
		if names, e := fs.List("/"); e != nil || len(names) > 1 {
			t.Errorf("files %q outside, %v", names, e)
		}
		if err != nil {
			return
		}
		names, err := fs.List(got.Dir)
		if err != nil || len(names) != got.Files {
			t.Errorf("%d files, want %d, %v", len(names), got.Files, err)
		}
	})
}

// FuzzSend gives Send a stranger's answers.
func FuzzSend(f *testing.F) {
	f.Add(unframed(have1(0, 2, xxhash.Sum64String("ta")), say{kindReady, nil}, say{kindReceived, binary.LittleEndian.AppendUint64(nil, 13)}), true)
	f.Add(unframed(say{kindRefused, []byte("no")}), true)
	f.Add([]byte("HTTP/1.1 400 Bad Request"), false)
	f.Fuzz(func(t *testing.T, b []byte, sound bool) {
		list := fuzzFrames(b)
		if sound {
			b = frames(nil, list)
		}
		_, err := sendScript(t, b)
		if err == nil && !sound && len(b) < 2*frameHeaderSize {
			t.Error("no answer is taken for one")
		}
	})
}
