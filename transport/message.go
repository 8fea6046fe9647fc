package transport

import (
	"encoding/binary"
	"fmt"

	"go.etcd.io/raft/v3"
	"go.etcd.io/raft/v3/raftpb"
	"google.golang.org/protobuf/proto"
)

// The head of a message frame is everything of a message but its entries:
//
//	0   8  to, little endian
//	8   8  from, little endian
//	16  1  message type, raft's number
//	17  2  which fields are set, little endian, see below
//	19     the fields that are set, in this order
const (
	hasTerm       = 1 << iota // uvarint
	hasLogTerm                // uvarint
	hasIndex                  // uvarint
	hasCommit                 // uvarint
	hasVote                   // uvarint
	hasRejectHint             // uvarint
	hasReject                 // no bytes; the value is the next bit
	isReject
	hasContext  // length (uvarint) and bytes
	hasSnapshot // length (uvarint) and raftpb.Snapshot as protobuf, without data

	hasAll = 1<<iota - 1

	headFixedBytes = 19
	headBytesMax   = 16 << 10
)

// unsendable says why a message can't travel; nil: it can. All of these are mistakes of the caller, apart from a context
// or snapshot that is too long.
func unsendable(m *raftpb.Message, member uint64) error {
	_, travels := route(m.GetType())
	switch {
	case !travels:
		return fmt.Errorf("messages of type %v do not travel", m.GetType())
	case m.GetFrom() != member && !passedOn(m.GetType()):
		return fmt.Errorf("from %x, not this member", m.GetFrom())
	case len(m.Responses) > 0:
		return fmt.Errorf("it has responses to go with it")
	case len(m.GetSnapshot().GetData()) > 0:
		return fmt.Errorf("its snapshot has data")
	case len(m.Context) > headBytesMax/2 || m.Snapshot != nil && proto.Size(m.Snapshot) > headBytesMax/4:
		return fmt.Errorf("context or snapshot is too long")
	case len(m.Entries) > entriesMax:
		return fmt.Errorf("%d entries", len(m.Entries))
	}
	return checkShape(m)
}

// appendHead encodes the head of m, which is sendable.
func appendHead(b []byte, m *raftpb.Message) []byte {
	b = binary.LittleEndian.AppendUint64(b, m.GetTo())
	b = binary.LittleEndian.AppendUint64(b, m.GetFrom())
	b = append(b, byte(m.GetType()), 0, 0)
	at := len(b) - 2
	var set uint16
	number := func(v *uint64, bit uint16) {
		if v != nil {
			set |= bit
			b = binary.AppendUvarint(b, *v)
		}
	}
	number(m.Term, hasTerm)
	number(m.LogTerm, hasLogTerm)
	number(m.Index, hasIndex)
	number(m.Commit, hasCommit)
	number(m.Vote, hasVote)
	number(m.RejectHint, hasRejectHint)
	if m.Reject != nil {
		set |= hasReject
		if *m.Reject {
			set |= isReject
		}
	}
	if m.Context != nil {
		set |= hasContext
		b = binary.AppendUvarint(b, uint64(len(m.Context)))
		b = append(b, m.Context...)
	}
	if m.Snapshot != nil {
		set |= hasSnapshot
		s, err := proto.Marshal(m.Snapshot)
		if err != nil {
			panic(fmt.Sprintf("transport: encode %v: %v", m.Snapshot, err))
		}
		b = binary.AppendUvarint(b, uint64(len(s)))
		b = append(b, s...)
	}
	binary.LittleEndian.PutUint16(b[at:], set)
	return b
}

// messageCell is a message together with what it points to: one allocation.
type messageCell struct {
	message    raftpb.Message
	kind       raftpb.MessageType
	to, from   uint64
	term       uint64
	logTerm    uint64
	index      uint64
	commit     uint64
	vote       uint64
	rejectHint uint64
	reject     bool
}

// decodeMessage reads a message. Its entries' data alias the tail, nothing aliases the head.
//
// Errors: errMalformed.
func decodeMessage(head, tail []byte) (*raftpb.Message, error) {
	if len(head) < headFixedBytes {
		return nil, fmt.Errorf("%w: head of %d bytes", errMalformed, len(head))
	}
	c := &messageCell{
		to: binary.LittleEndian.Uint64(head), from: binary.LittleEndian.Uint64(head[8:]), kind: raftpb.MessageType(head[16]),
	}
	m := &c.message
	m.Type, m.To, m.From = &c.kind, &c.to, &c.from
	set := binary.LittleEndian.Uint16(head[17:])
	if _, travels := route(c.kind); !travels || set&^hasAll != 0 || set&hasReject == 0 && set&isReject != 0 {
		return nil, fmt.Errorf("%w: message type %d, fields %#x", errMalformed, c.kind, set)
	}
	r := reader{rest: head[headFixedBytes:]}
	number := func(bit uint16, v *uint64, field **uint64) {
		if set&bit != 0 {
			*v = r.uvarint()
			*field = v
		}
	}
	number(hasTerm, &c.term, &m.Term)
	number(hasLogTerm, &c.logTerm, &m.LogTerm)
	number(hasIndex, &c.index, &m.Index)
	number(hasCommit, &c.commit, &m.Commit)
	number(hasVote, &c.vote, &m.Vote)
	number(hasRejectHint, &c.rejectHint, &m.RejectHint)
	if set&hasReject != 0 {
		c.reject = set&isReject != 0
		m.Reject = &c.reject
	}
	if set&hasContext != 0 {
		m.Context = append([]byte{}, r.bytes()...)
	}
	if set&hasSnapshot != 0 {
		m.Snapshot = new(raftpb.Snapshot)
		if err := (proto.UnmarshalOptions{DiscardUnknown: true}).Unmarshal(r.bytes(), m.Snapshot); err != nil {
			return nil, fmt.Errorf("%w: snapshot: %w", errMalformed, err)
		}
	}
	if r.failed || len(r.rest) > 0 {
		return nil, fmt.Errorf("%w: fields %#x in %d bytes", errMalformed, set, len(head))
	}
	if len(tail) > 0 {
		var err error
		if m.Entries, err = decodeEntries(tail); err != nil {
			return nil, err
		}
	}
	if err := checkShape(m); err != nil {
		return nil, fmt.Errorf("%w: %w", errMalformed, err)
	}
	return m, nil
}

// checkShape looks for what raft takes for granted and would panic without.
func checkShape(m *raftpb.Message) error {
	t, n := m.GetType(), len(m.Entries)
	switch t {
	case raftpb.MsgApp:
		term := m.GetLogTerm()
		for i, e := range m.Entries {
			if e.GetIndex() != m.GetIndex()+1+uint64(i) || e.GetTerm() < term {
				return fmt.Errorf("entry %d of term %d at place %d behind %d of term %d", e.GetIndex(), e.GetTerm(), i, m.GetIndex(), m.GetLogTerm())
			}
			term = e.GetTerm()
		}
	case raftpb.MsgProp:
		if n == 0 && len(m.Context) == 0 { // with a context it is a link in a chain of proposals: see package replica
			return fmt.Errorf("%v without entries", t)
		}
		for _, e := range m.Entries {
			if err := checkConfChange(e); err != nil {
				return err
			}
		}
	case raftpb.MsgReadIndex, raftpb.MsgReadIndexResp:
		if n != 1 {
			return fmt.Errorf("%v with %d entries", t, n)
		}
	case raftpb.MsgSnap:
		if raft.IsEmptySnap(m.Snapshot) || m.Snapshot.Metadata.ConfState == nil || len(m.Snapshot.Data) > 0 {
			return fmt.Errorf("%v without a description of a snapshot, or with its data", t)
		}
	default:
		if n > 0 {
			return fmt.Errorf("%v with %d entries", t, n)
		}
	}
	if m.Snapshot != nil && t != raftpb.MsgSnap {
		return fmt.Errorf("%v with a snapshot", t)
	}
	return nil
}

// checkConfChange looks into a proposed entry that says it is a conf change.
func checkConfChange(e *raftpb.Entry) error {
	var change proto.Message
	switch e.GetType() {
	case raftpb.EntryConfChange:
		change = new(raftpb.ConfChange)
	case raftpb.EntryConfChangeV2:
		change = new(raftpb.ConfChangeV2)
	default:
		return nil
	}
	if err := proto.Unmarshal(e.Data, change); err != nil {
		return fmt.Errorf("proposed conf change: %w", err)
	}
	return nil
}

// reader takes bytes apart. After a failure it returns zeros.
type reader struct {
	rest   []byte
	failed bool
}

func (r *reader) fail() {
	r.failed, r.rest = true, nil
}

func (r *reader) byte() byte {
	if len(r.rest) == 0 {
		r.fail()
		return 0
	}
	b := r.rest[0]
	r.rest = r.rest[1:]
	return b
}

func (r *reader) uvarint() uint64 {
	v, n := binary.Uvarint(r.rest)
	if n <= 0 {
		r.fail()
		return 0
	}
	r.rest = r.rest[n:]
	return v
}

// bytes reads a length and as many bytes, which alias what is read.
func (r *reader) bytes() []byte {
	n := r.uvarint()
	if n > uint64(len(r.rest)) {
		r.fail()
		return nil
	}
	b := r.rest[:n:n]
	r.rest = r.rest[n:]
	return b
}
