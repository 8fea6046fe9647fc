package transport

import (
	"bufio"
	"bytes"
	"encoding/hex"
	"errors"
	"math/rand/v2"
	"net"
	"os"
	"path/filepath"
	"strings"
	"sync/atomic"
	"testing"

	"go.etcd.io/raft/v3/raftpb"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/reflect/protoreflect"

	"keelson/env"
)

// travelling are the types of messages that go from member to member.
var travelling = []raftpb.MessageType{
	raftpb.MsgProp, raftpb.MsgApp, raftpb.MsgAppResp, raftpb.MsgVote, raftpb.MsgVoteResp, raftpb.MsgSnap, raftpb.MsgHeartbeat,
	raftpb.MsgHeartbeatResp, raftpb.MsgTransferLeader, raftpb.MsgTimeoutNow, raftpb.MsgReadIndex, raftpb.MsgReadIndexResp,
	raftpb.MsgPreVote, raftpb.MsgPreVoteResp,
}

// sinkConn keeps what is written.
type sinkConn struct {
	net.Conn
	bytes.Buffer
}

func (c *sinkConn) Read(p []byte) (int, error)  { return c.Buffer.Read(p) }
func (c *sinkConn) Write(p []byte) (int, error) { return c.Buffer.Write(p) }

// encode turns messages into the bytes that a stream carries.
func encode(ms ...*raftpb.Message) []byte {
	conn := &sinkConn{}
	w := &writer{line: &line{conn: conn, clock: env.SystemClock(), sent: new(atomic.Uint64)}}
	for _, m := range ms {
		it := item{m: m}
		if len(m.Entries) > 0 {
			it.block = newBlock(m.Entries)
		}
		w.items = append(w.items, it)
	}
	if err := w.write(); err != nil {
		panic(err)
	}
	return conn.Bytes()
}

// decode reads as many messages as there are, and the error behind them.
func decode(b []byte) (ms []*raftpb.Message, err error) {
	frames := frameReader{
		r: bufio.NewReaderSize(bytes.NewReader(b), kindMessages.bufferBytes()), headBytesMax: headBytesMax,
		tailBytesMax: kindMessages.tailBytesMax(),
	}
	for {
		f, err := frames.next()
		if err != nil {
			return ms, err
		}
		if f.typ != frameMessage {
			continue
		}
		m, err := decodeMessage(f.head, f.tail)
		if err != nil {
			return ms, err
		}
		ms = append(ms, m)
	}
}

func mustTravel(t *testing.T, ms ...*raftpb.Message) {
	t.Helper()
	for _, m := range ms {
		if err := unsendable(m, m.GetFrom()); err != nil {
			t.Fatalf("%v: %v", err, m)
		}
	}
	got, err := decode(encode(ms...))
	if len(got) != len(ms) {
		t.Fatalf("%d of %d messages arrived: %v", len(got), len(ms), err)
	}
	for i := range ms {
		if !proto.Equal(ms[i], got[i]) {
			t.Fatalf("sent %v\ngot  %v", ms[i], got[i])
		}
	}
}

// shaped makes a message of a type with what it can't be without.
func shaped(typ raftpb.MessageType) *raftpb.Message {
	m := &raftpb.Message{Type: typ.Enum(), To: new(uint64(2)), From: new(uint64(1))}
	switch typ {
	case raftpb.MsgProp, raftpb.MsgReadIndex, raftpb.MsgReadIndexResp:
		m.Entries = []*raftpb.Entry{{Data: []byte("x")}}
	case raftpb.MsgSnap:
		m.Snapshot = &raftpb.Snapshot{Metadata: &raftpb.SnapshotMetadata{
			Index: new(uint64(7)), Term: new(uint64(3)),
			ConfState: &raftpb.ConfState{Voters: []uint64{1, 2}, Learners: []uint64{1 << 63}, AutoLeave: new(false)},
		}}
	}
	return m
}

// TestEveryFieldTravels sets the fields that raft's message has, one by one, in each type of message. A field that a new
// version of raft brings fails here.
func TestEveryFieldTravels(t *testing.T) {
	elsewhere := map[protoreflect.Name]string{ // what other tests set
		"type": "set", "to": "set", "from": "set", "entries": "TestEntries", "snapshot": "only in MsgSnap", "responses": "never travel",
	}
	fields := (&raftpb.Message{}).ProtoReflect().Descriptor().Fields()
	seen := 0
	for _, typ := range travelling {
		mustTravel(t, shaped(typ))
		all := shaped(typ)
		for i := range fields.Len() {
			field := fields.Get(i)
			if elsewhere[field.Name()] != "" {
				continue
			}
			seen++
			values := map[protoreflect.Kind][]any{
				protoreflect.Uint64Kind: {uint64(0), uint64(1), uint64(300), ^uint64(0)},
				protoreflect.BoolKind:   {false, true},
				protoreflect.BytesKind:  {[]byte{}, []byte("context"), bytes.Repeat([]byte("c"), 3000)},
			}[field.Kind()]
			if len(values) == 0 {
				t.Fatalf("field %s of kind %v", field.Name(), field.Kind())
			}
			for _, v := range values {
				m := shaped(typ)
				if typ == raftpb.MsgApp && field.Name() == "index" && v == ^uint64(0) {
					continue
				}
				m.ProtoReflect().Set(field, protoreflect.ValueOf(v))
				mustTravel(t, m)
				all.ProtoReflect().Set(field, protoreflect.ValueOf(v))
			}
		}
		mustTravel(t, all)
	}
	if seen != 8*len(travelling) {
		t.Errorf("%d fields of %d types", seen, len(travelling))
	}
	if n := (&raftpb.Entry{}).ProtoReflect().Descriptor().Fields().Len(); n != 4 {
		t.Errorf("an entry has %d fields", n)
	}
}

// TestMessagesThatStay checks what can't be sent.
func TestMessagesThatStay(t *testing.T) {
	for name, change := range map[string]func(m *raftpb.Message){
		"local":             func(m *raftpb.Message) { m.Type = raftpb.MsgStorageAppend.Enum() },
		"no type":           func(m *raftpb.Message) { m.Type = nil },
		"of somebody else":  func(m *raftpb.Message) { m.From = new(uint64(3)) },
		"with responses":    func(m *raftpb.Message) { m.Responses = []*raftpb.Message{shaped(raftpb.MsgVoteResp)} },
		"long context":      func(m *raftpb.Message) { m.Context = make([]byte, headBytesMax) },
		"snapshot and data": func(m *raftpb.Message) { *m.Type = raftpb.MsgSnap; m.Snapshot = &raftpb.Snapshot{Data: []byte("x")} },
		"a gap":             func(m *raftpb.Message) { m.Entries = []*raftpb.Entry{{Index: new(uint64(5)), Term: new(uint64(1))}} },
	} {
		m := shaped(raftpb.MsgApp)
		if change(m); unsendable(m, 1) == nil {
			t.Errorf("%s: %v would be sent", name, m)
		}
	}
	for typ := range raftpb.MessageType(24) {
		m := shaped(typ)
		travels := false
		for _, known := range travelling {
			travels = travels || known == typ
		}
		if (unsendable(m, 1) == nil) != travels {
			t.Errorf("%v: travels %v", typ, travels)
		}
		m.From = new(uint64(3))
		if passes := typ == raftpb.MsgProp || typ == raftpb.MsgReadIndex || typ == raftpb.MsgTransferLeader; (unsendable(m, 1) == nil) != passes {
			t.Errorf("%v passed on: %v", typ, passes)
		}
	}
}

// randomEntries makes entries as no log would have them, if wild, or as a log has them behind an index.
func randomEntries(r *rand.Rand, index uint64, wild bool) []*raftpb.Entry {
	entries := make([]*raftpb.Entry, 1+r.IntN(20))
	term := 1 + r.Uint64N(3)
	for i := range entries {
		index++
		term += r.Uint64N(8) / 7
		e := &raftpb.Entry{Term: new(term), Index: new(index)}
		if r.IntN(3) > 0 {
			e.Data = make([]byte, []int{0, 1, 100, 300, ownPartBytesMin - 1, ownPartBytesMin, 3 * ownPartBytesMin}[r.IntN(7)])
			for j := range e.Data {
				e.Data[j] = byte(r.Uint32())
			}
		}
		if r.IntN(2) == 0 {
			e.Type = raftpb.EntryType(r.IntN(3)).Enum()
		}
		if wild && r.IntN(3) == 0 {
			e.Term = [](*uint64){nil, new(uint64(0)), new(r.Uint64())}[r.IntN(3)]
		}
		if wild && r.IntN(3) == 0 {
			e.Index = [](*uint64){nil, new(uint64(0)), new(r.Uint64())}[r.IntN(3)]
		}
		entries[i] = e
	}
	return entries
}

func randomMessage(r *rand.Rand) *raftpb.Message {
	m := shaped(travelling[r.IntN(len(travelling))])
	number := func() *uint64 {
		if r.IntN(3) == 0 {
			return nil
		}
		return new(r.Uint64() >> r.IntN(64))
	}
	m.Term, m.LogTerm, m.Index, m.Commit, m.Vote, m.RejectHint = number(), nil, number(), number(), number(), number()
	if r.IntN(2) == 0 {
		m.Reject = new(r.IntN(2) == 0)
	}
	if r.IntN(2) == 0 {
		m.Context = make([]byte, r.IntN(30))
	}
	switch m.GetType() {
	case raftpb.MsgApp:
		m.Index = new(m.GetIndex() >> 1)
		if r.IntN(4) > 0 {
			m.Entries = randomEntries(r, m.GetIndex(), false)
		}
	case raftpb.MsgProp:
		if len(m.Context) > 0 && r.IntN(3) == 0 {
			m.Entries = nil // a link in a chain of proposals
			break
		}
		m.Entries = randomEntries(r, 0, true)
		for _, e := range m.Entries { // raft looks into proposed changes
			switch e.GetType() {
			case raftpb.EntryConfChange:
				e.Data, _ = proto.Marshal(&raftpb.ConfChange{NodeId: new(r.Uint64())})
			case raftpb.EntryConfChangeV2:
				e.Data, _ = proto.Marshal(&raftpb.ConfChangeV2{Context: make([]byte, r.IntN(9))})
			}
		}
	}
	return m
}

// TestEntries sends random messages, many in one write.
func TestEntries(t *testing.T) {
	eachSeed(t, 40, func(t *testing.T, r *rand.Rand) {
		ms := make([]*raftpb.Message, 1+r.IntN(30))
		for i := range ms {
			ms[i] = randomMessage(r)
		}
		mustTravel(t, ms...)
	})
}

// TestCutAndFlipped checks that no part of a stream, and no stream with a bit flipped, gives other messages than were sent.
func TestCutAndFlipped(t *testing.T) {
	eachSeed(t, 4, func(t *testing.T, r *rand.Rand) {
		ms := []*raftpb.Message{randomMessage(r), randomMessage(r), randomMessage(r)}
		b := encode(ms...)
		check := func(what string, at int, b []byte) {
			got, err := decode(b)
			if err == nil || len(got) > len(ms) {
				t.Fatalf("%s at %d: %d messages, %v", what, at, len(got), err)
			}
			for i := range got {
				if !proto.Equal(got[i], ms[i]) {
					t.Fatalf("%s at %d: message %d is %v, not %v", what, at, i, got[i], ms[i])
				}
			}
		}
		for range 200 {
			at := r.IntN(len(b))
			check("cut", at, b[:at])
			flipped := bytes.Clone(b)
			flipped[at] ^= 1 << r.IntN(8)
			check("flipped", at, flipped)
			if got, err := decode(flipped); len(got) == len(ms) || errors.Is(err, nil) {
				t.Fatalf("flipped at %d: nobody noticed", at)
			}
		}
	})
}

// TestEntriesAreEncodedOnce checks that messages to several peers share bytes, in one call of Send and across calls.
func TestEntriesAreEncodedOnce(t *testing.T) {
	r := rand.New(rand.NewPCG(1, 1))
	entries := randomEntries(r, 10, false)
	for len(entries) < 3 {
		entries = randomEntries(r, 10, false)
	}
	var recent recentBlocks
	b := recent.of(entries)
	again := append([]*raftpb.Entry(nil), entries...) // raft makes a new slice at times
	if recent.of(again) != b || recent.of(entries[:2]) == b || recent.of(entries[1:]) == b {
		t.Error("blocks are mixed up")
	}
	b.encode()
	parts := b.parts
	if b.encode(); &b.parts[0][0] != &parts[0][0] {
		t.Error("encoded twice")
	}
	large := []*raftpb.Entry{{Index: new(uint64(1)), Term: new(uint64(1)), Data: make([]byte, ownPartBytesMin)}}
	l := newBlock(large)
	l.encode()
	if &l.parts[len(l.parts)-1][0] != &large[0].Data[0] {
		t.Error("large data is copied")
	}
	huge := []*raftpb.Entry{{Index: new(uint64(1)), Term: new(uint64(1)), Data: make([]byte, recentBlockBytesMax)}}
	if first := recent.of(huge); first == recent.of(huge) {
		t.Error("huge blocks are kept")
	}
	if recent.of(entries) != b {
		t.Error("a huge block took the place of another")
	}
}

// goldenMessages are in the fixture: each field and each form of entry is there.
func goldenMessages() []*raftpb.Message {
	app := shaped(raftpb.MsgApp)
	app.Term, app.LogTerm, app.Index, app.Commit = new(uint64(9)), new(uint64(8)), new(uint64(300)), new(uint64(299))
	app.Entries = []*raftpb.Entry{
		{Term: new(uint64(8)), Index: new(uint64(301)), Data: []byte("first")},
		{Term: new(uint64(9)), Index: new(uint64(302))},
		{Term: new(uint64(9)), Index: new(uint64(303)), Type: raftpb.EntryConfChangeV2.Enum(), Data: []byte{}},
	}
	prop := shaped(raftpb.MsgProp)
	prop.Entries = []*raftpb.Entry{{Type: raftpb.EntryNormal.Enum(), Data: []byte("proposal")}}
	reject := shaped(raftpb.MsgAppResp)
	reject.Term, reject.LogTerm, reject.Index = new(uint64(9)), new(uint64(7)), new(uint64(300))
	reject.Reject, reject.RejectHint = new(true), new(uint64(250))
	beat := shaped(raftpb.MsgHeartbeat)
	beat.Term, beat.Commit, beat.Context, beat.Reject, beat.Vote = new(uint64(9)), new(uint64(0)), []byte("ctx"), new(false), new(uint64(1))
	return []*raftpb.Message{app, prop, reject, beat, shaped(raftpb.MsgSnap)}
}

// TestGolden checks that this code writes version 1 to the byte, and reads it.
func TestGolden(t *testing.T) {
	var text strings.Builder
	for _, m := range goldenMessages() {
		text.WriteString("# " + m.GetType().String() + "\n" + hex.EncodeToString(encode(m)) + "\n")
	}
	text.WriteString("# ping\n" + hex.EncodeToString(appendPing(nil, framePing, 0x1234)) + "\n")
	text.WriteString("# answer\n" + hex.EncodeToString(appendPing(nil, framePong, 0x1234)) + "\n")
	path := filepath.Join("testdata", "frames.v1.hex")
	if *rewrite {
		if err := os.WriteFile(path, []byte(text.String()), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	kept, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	if string(kept) != text.String() {
		t.Errorf("%s is not what is written now:\n%s", path, text.String())
	}
	var stream []byte
	for line := range strings.Lines(string(kept)) {
		if line[0] == '#' {
			continue
		}
		b, err := hex.DecodeString(strings.TrimSpace(line))
		if err != nil {
			t.Fatal(err)
		}
		stream = append(stream, b...)
	}
	got, _ := decode(stream)
	want := goldenMessages()
	if len(got) != len(want) {
		t.Fatalf("%d messages", len(got))
	}
	for i := range want {
		if !proto.Equal(got[i], want[i]) {
			t.Errorf("read %v, want %v", got[i], want[i])
		}
	}
}
