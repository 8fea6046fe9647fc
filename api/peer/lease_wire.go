package peer

import (
	"fmt"

	"google.golang.org/protobuf/encoding/protowire"

	"keelson/state/lease"
)

// Renewals travel many at a time. Both bodies are protobuf, in such a way that a single renewal looks like etcd's:
//
//	request   ( 08 | id(varint) )...                                  LeaseKeepAliveRequest, one after the other
//	reply     ( 10 | id(varint) | 18 | TTL(varint) [ 22 | length(varint) | error text ] )...
//	                                                                  LeaseKeepAliveResponse, one after the other
//
// The reply has one answer for each renewal, in order. TTL is in seconds, 0: there is no such lease. An error text is one
// of errors.go. Fields of other numbers are skipped.
const (
	fieldRequestID = 1
	fieldReplyID   = 2
	fieldReplyTTL  = 3
	fieldReplyErr  = 4
)

// renewalBytesMax is the size of one renewal in a request, at most.
const renewalBytesMax = 1 + 10

// renewed is the answer to one renewal.
type renewed struct {
	id         lease.ID
	ttlSeconds int64 // 0: there is no such lease
	err        error // nil: it was decided
}

func appendRenewal(b []byte, id lease.ID) []byte {
	return protowire.AppendVarint(protowire.AppendTag(b, fieldRequestID, protowire.VarintType), uint64(id))
}

func parseRenewals(b []byte) ([]lease.ID, error) {
	ids := make([]lease.ID, 0, len(b)/renewalBytesMax+1)
	err := eachField(b, func(number protowire.Number, v uint64, _ []byte) {
		if number == fieldRequestID {
			ids = append(ids, lease.ID(v))
		}
	})
	return ids, err
}

func appendRenewed(b []byte, r renewed) []byte {
	b = protowire.AppendVarint(protowire.AppendTag(b, fieldReplyID, protowire.VarintType), uint64(r.id))
	b = protowire.AppendVarint(protowire.AppendTag(b, fieldReplyTTL, protowire.VarintType), uint64(r.ttlSeconds))
	if r.err != nil {
		text, _ := errorText(r.err)
		b = protowire.AppendString(protowire.AppendTag(b, fieldReplyErr, protowire.BytesType), text)
	}
	return b
}

func parseRenewed(b []byte) ([]renewed, error) {
	var list []renewed
	early := false // a field of an answer before any answer began
	err := eachField(b, func(number protowire.Number, v uint64, text []byte) {
		if number == fieldReplyID {
			list = append(list, renewed{id: lease.ID(v)})
		}
		if len(list) == 0 {
			early = early || number == fieldReplyTTL || number == fieldReplyErr
			return
		}
		last := &list[len(list)-1]
		switch number {
		case fieldReplyTTL:
			last.ttlSeconds = int64(v)
		case fieldReplyErr:
			last.err = textError(string(text))
		}
	})
	if err == nil && early {
		err = fmt.Errorf("peer: lease renewals: an answer without an id")
	}
	return list, err
}

// eachField calls f with every field that is a number or bytes.
func eachField(b []byte, f func(number protowire.Number, v uint64, bytes []byte)) error {
	for len(b) > 0 {
		number, typ, n := protowire.ConsumeTag(b)
		if n < 0 {
			return fmt.Errorf("peer: lease renewals: %w", protowire.ParseError(n))
		}
		b = b[n:]
		var v uint64
		var bytes []byte
		switch typ {
		case protowire.VarintType:
			v, n = protowire.ConsumeVarint(b)
		case protowire.BytesType:
			bytes, n = protowire.ConsumeBytes(b)
		default:
			n = protowire.ConsumeFieldValue(number, typ, b)
		}
		if n < 0 {
			return fmt.Errorf("peer: lease renewals: %w", protowire.ParseError(n))
		}
		b = b[n:]
		if typ == protowire.VarintType || typ == protowire.BytesType {
			f(number, v, bytes)
		}
	}
	return nil
}
