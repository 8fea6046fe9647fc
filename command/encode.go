package command

import "google.golang.org/protobuf/encoding/protowire"

// Field numbers of the envelope. The op is field opField + its kind.
const (
	fieldTime         protowire.Number = 1
	fieldUser         protowire.Number = 2
	fieldAuthRevision protowire.Number = 3
	opField                            = 16
)

// Append appends the command's bytes: a protobuf message, written by hand (docs/formats/command.md).
func (c *Command) Append(dst []byte) []byte {
	dst = appendInt(dst, fieldTime, c.Time)
	dst = appendString(dst, fieldUser, c.User)
	dst = appendInt(dst, fieldAuthRevision, int64(c.AuthRevision))
	return appendOp(dst, opField, c.Op)
}

// appendOp writes op as a message field whose number is base plus its kind.
func appendOp(dst []byte, base protowire.Number, op Op) []byte {
	dst = protowire.AppendTag(dst, base+protowire.Number(op.kind()), protowire.BytesType)
	start := len(dst)
	dst = append(dst, 0)
	dst = appendFields(dst, op)
	return closeMessage(dst, start)
}

// closeMessage puts the length in front of a message whose body begins after one reserved byte at start.
func closeMessage(dst []byte, start int) []byte {
	n := len(dst) - start - 1
	if n < 1<<7 {
		dst[start] = byte(n)
		return dst
	}
	extra := protowire.SizeVarint(uint64(n)) - 1
	for range extra {
		dst = append(dst, 0)
	}
	copy(dst[start+1+extra:], dst[start+1:start+1+n])
	protowire.AppendVarint(dst[:start], uint64(n))
	return dst
}

func appendFields(dst []byte, op Op) []byte {
	switch o := op.(type) {
	case *Range:
		dst = appendBytes(dst, 1, o.Key)
		dst = appendBytes(dst, 2, o.End)
		dst = appendInt(dst, 3, o.Limit)
		dst = appendInt(dst, 4, o.Revision)
		dst = appendInt(dst, 5, int64(o.SortOrder))
		dst = appendInt(dst, 6, int64(o.SortTarget))
		dst = appendBool(dst, 7, o.KeysOnly)
		dst = appendBool(dst, 8, o.CountOnly)
		dst = appendInt(dst, 9, o.ModRevisionMin)
		dst = appendInt(dst, 10, o.ModRevisionMax)
		dst = appendInt(dst, 11, o.CreateRevisionMin)
		dst = appendInt(dst, 12, o.CreateRevisionMax)
	case *Put:
		dst = appendBytes(dst, 1, o.Key)
		dst = appendBytes(dst, 2, o.Value)
		dst = appendInt(dst, 3, o.Lease)
		dst = appendBool(dst, 4, o.PrevKV)
		dst = appendBool(dst, 5, o.IgnoreValue)
		dst = appendBool(dst, 6, o.IgnoreLease)
	case *DeleteRange:
		dst = appendBytes(dst, 1, o.Key)
		dst = appendBytes(dst, 2, o.End)
		dst = appendBool(dst, 3, o.PrevKV)
	case *Txn:
		for i := range o.Compares {
			dst = appendCompare(dst, &o.Compares[i])
		}
		for _, op := range o.Success {
			dst = appendOp(dst, txnSuccessField, op)
		}
		for _, op := range o.Failure {
			dst = appendOp(dst, txnFailureField, op)
		}
	case *Compact:
		dst = appendInt(dst, 1, o.Revision)
	case *LeaseGrant:
		dst = appendInt(dst, 1, o.ID)
		dst = appendInt(dst, 2, o.TTLSeconds)
	case *LeaseRevoke:
		dst = appendInt(dst, 1, o.ID)
		dst = appendInt(dst, 2, int64(o.Term))
		dst = appendInt(dst, 3, int64(o.GrantIndex))
		dst = appendInt(dst, 4, int64(o.GrantOrdinal))
	case *LeaseCheckpoint:
		for i := range o.Leases {
			dst = appendLeaseRemaining(dst, &o.Leases[i])
		}
		dst = appendInt(dst, 2, int64(o.Term))
	case *MemberPublish:
		dst = appendInt(dst, 1, int64(o.ID))
		dst = appendString(dst, 2, o.Name)
		dst = appendStrings(dst, 3, o.ClientURLs)
	case *MemberAdd:
		dst = appendInt(dst, 1, int64(o.ID))
		dst = appendStrings(dst, 2, o.PeerURLs)
		dst = appendBool(dst, 3, o.IsLearner)
		dst = appendInt(dst, 4, o.LearnersMax)
		dst = appendBool(dst, 5, o.AutoPromote)
	case *MemberRemove:
		dst = appendInt(dst, 1, int64(o.ID))
	case *MemberUpdate:
		dst = appendInt(dst, 1, int64(o.ID))
		dst = appendStrings(dst, 2, o.PeerURLs)
	case *MemberPromote:
		dst = appendInt(dst, 1, int64(o.ID))
	case *ClusterVersion:
		dst = appendString(dst, 1, o.Version)
	case *Downgrade:
		dst = appendString(dst, 1, o.Target)
	case *HashCheck:
		dst = appendInt(dst, 1, int64(o.Index))
		dst = appendInt(dst, 2, int64(o.Hash))
		dst = appendInt(dst, 3, int64(o.From))
	case *Alarm:
		dst = appendInt(dst, 1, int64(o.Member))
		dst = appendInt(dst, 2, int64(o.Type))
		dst = appendBool(dst, 3, o.Raise)
	case *Noop:
	case treeOp:
		dst = o.appendFields(dst)
	default:
		var ok bool
		if dst, ok = appendAuth(dst, op); !ok {
			panic("command: unknown op")
		}
	}
	return dst
}

// Field numbers inside a Txn: the ops of a branch are at the branch's base plus their kind.
const (
	txnCompareField protowire.Number = 1
	txnSuccessField protowire.Number = 16
	txnFailureField protowire.Number = 32
)

func appendCompare(dst []byte, c *Compare) []byte {
	dst = protowire.AppendTag(dst, txnCompareField, protowire.BytesType)
	start := len(dst)
	dst = append(dst, 0)
	dst = appendBytes(dst, 1, c.Key)
	dst = appendBytes(dst, 2, c.End)
	dst = appendInt(dst, 3, int64(c.Target))
	dst = appendInt(dst, 4, int64(c.Result))
	dst = appendInt(dst, 5, c.Number)
	dst = appendBytes(dst, 6, c.Value)
	return closeMessage(dst, start)
}

func appendLeaseRemaining(dst []byte, l *LeaseRemaining) []byte {
	dst = protowire.AppendTag(dst, 1, protowire.BytesType)
	start := len(dst)
	dst = append(dst, 0)
	dst = appendInt(dst, 1, l.ID)
	dst = appendInt(dst, 2, l.RemainingSeconds)
	dst = appendInt(dst, 3, int64(l.GrantIndex))
	dst = appendInt(dst, 4, int64(l.GrantOrdinal))
	dst = appendInt(dst, 5, int64(l.CheckpointIndex))
	return closeMessage(dst, start)
}

func appendInt(dst []byte, n protowire.Number, v int64) []byte {
	if v == 0 {
		return dst
	}
	dst = protowire.AppendTag(dst, n, protowire.VarintType)
	return protowire.AppendVarint(dst, uint64(v))
}

func appendBool(dst []byte, n protowire.Number, v bool) []byte {
	if !v {
		return dst
	}
	return appendInt(dst, n, 1)
}

func appendBytes(dst []byte, n protowire.Number, v []byte) []byte {
	if len(v) == 0 {
		return dst
	}
	dst = protowire.AppendTag(dst, n, protowire.BytesType)
	return protowire.AppendBytes(dst, v)
}

func appendString(dst []byte, n protowire.Number, v string) []byte {
	if v == "" {
		return dst
	}
	dst = protowire.AppendTag(dst, n, protowire.BytesType)
	return protowire.AppendString(dst, v)
}

// appendStrings writes a repeated field: empty ones too, since their number counts.
func appendStrings(dst []byte, n protowire.Number, list []string) []byte {
	for _, s := range list {
		dst = protowire.AppendTag(dst, n, protowire.BytesType)
		dst = protowire.AppendString(dst, s)
	}
	return dst
}
