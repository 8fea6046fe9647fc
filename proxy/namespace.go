package proxy

import (
	"bytes"

	pb "go.etcd.io/etcd/api/v3/etcdserverpb"
	"go.etcd.io/etcd/api/v3/mvccpb"
	clientv3 "go.etcd.io/etcd/client/v3"
	"google.golang.org/protobuf/encoding/protowire"
	"google.golang.org/protobuf/proto"
)

// namespace puts a prefix before every key of a request, and takes it off those of the reply.
type namespace string

// rewrites are the methods whose messages have keys.
func (n namespace) rewrites() map[string]rewrite {
	return map[string]rewrite{
		"/etcdserverpb.KV/Range":       {edit(n.rangeRequest), edit(n.rangeReply)},
		"/etcdserverpb.KV/RangeStream": {edit(n.rangeRequest), edit(func(r *pb.RangeStreamResponse) { n.rangeReply(r.GetRangeResponse()) })},
		"/etcdserverpb.KV/Put":         {edit(n.putRequest), edit(n.putReply)},
		"/etcdserverpb.KV/DeleteRange": {edit(n.deleteRequest), edit(n.deleteReply)},
		"/etcdserverpb.KV/Txn":         {edit(n.txnRequest), edit(n.txnReply)},
		"/etcdserverpb.Watch/Watch":    {edit(n.watchRequest), edit(n.watchReply)},
		"/etcdserverpb.Lease/LeaseTimeToLive": {nil, edit(func(r *pb.LeaseTimeToLiveResponse) {
			for i := range r.Keys {
				r.Keys[i] = n.strip(r.Keys[i])
			}
		})},
		"/v3lockpb.Lock/Lock":   {n.field(1), onField(2, n.strip)},
		"/v3lockpb.Lock/Unlock": {n.field(1), nil},
		// What a campaign answers is for the client to give back as it is.
		"/v3electionpb.Election/Campaign": {n.field(1), nil},
		"/v3electionpb.Election/Leader":   {n.field(1), n.pairField(2)},
		"/v3electionpb.Election/Observe":  {n.field(1), n.pairField(2)},
	}
}

// edit is a rewrite of messages of one type.
func edit[M any, P interface {
	*M
	proto.Message
}](change func(P)) func([]byte) ([]byte, error) {
	return func(b []byte) ([]byte, error) {
		m := P(new(M))
		if err := proto.Unmarshal(b, m); err != nil {
			return nil, err
		}
		change(m)
		return proto.Marshal(m)
	}
}

// field puts the prefix before a field that is a key, in messages whose types are not published. A key that is not there is
// an empty one.
func (n namespace) field(number protowire.Number) func([]byte) ([]byte, error) {
	return func(b []byte) ([]byte, error) {
		found := false
		out, err := onField(number, func(v []byte) []byte {
			found = true
			return n.key(v)
		})(b)
		if err == nil && !found {
			out = protowire.AppendBytes(protowire.AppendTag(out, number, protowire.BytesType), []byte(n))
		}
		return out, err
	}
}

// pairField takes the prefix off the key of a field that is a pair.
func (n namespace) pairField(number protowire.Number) func([]byte) ([]byte, error) {
	key := onField(1, n.strip)
	return onField(number, func(pair []byte) []byte {
		changed, err := key(pair)
		if err != nil {
			return pair // whoever reads it says what is wrong
		}
		return changed
	})
}

// onField changes every occurrence of a field of bytes.
func onField(number protowire.Number, change func([]byte) []byte) func([]byte) ([]byte, error) {
	return func(b []byte) ([]byte, error) {
		var out []byte
		for len(b) > 0 {
			num, kind, n := protowire.ConsumeTag(b)
			if n < 0 {
				return nil, protowire.ParseError(n)
			}
			size := protowire.ConsumeFieldValue(num, kind, b[n:])
			if size < 0 {
				return nil, protowire.ParseError(size)
			}
			if num == number && kind == protowire.BytesType {
				value, _ := protowire.ConsumeBytes(b[n:])
				out = protowire.AppendBytes(protowire.AppendTag(out, num, kind), change(value))
			} else {
				out = append(out, b[:n+size]...)
			}
			b = b[n+size:]
		}
		return out, nil
	}
}

func (n namespace) key(k []byte) []byte { return append([]byte(n), k...) }

func (n namespace) strip(k []byte) []byte { return bytes.TrimPrefix(k, []byte(n)) }

// interval puts a key and the end of a range into the namespace. An end of one zero byte, which means everything from key
// on, becomes the end of the namespace.
func (n namespace) interval(key, end []byte) ([]byte, []byte) {
	switch {
	case len(end) == 0:
		return n.key(key), end
	case len(end) == 1 && end[0] == 0:
		return n.key(key), []byte(clientv3.GetPrefixRangeEnd(string(n)))
	}
	return n.key(key), n.key(end)
}

func (n namespace) rangeRequest(r *pb.RangeRequest) {
	r.Key, r.RangeEnd = n.interval(r.Key, r.RangeEnd)
}

func (n namespace) putRequest(r *pb.PutRequest) { r.Key = n.key(r.Key) }

func (n namespace) deleteRequest(r *pb.DeleteRangeRequest) {
	r.Key, r.RangeEnd = n.interval(r.Key, r.RangeEnd)
}

func (n namespace) txnRequest(r *pb.TxnRequest) {
	for _, c := range r.Compare {
		c.Key, c.RangeEnd = n.interval(c.Key, c.RangeEnd)
	}
	for _, op := range append(append([]*pb.RequestOp(nil), r.Success...), r.Failure...) {
		switch {
		case op.GetRequestRange() != nil:
			n.rangeRequest(op.GetRequestRange())
		case op.GetRequestPut() != nil:
			n.putRequest(op.GetRequestPut())
		case op.GetRequestDeleteRange() != nil:
			n.deleteRequest(op.GetRequestDeleteRange())
		case op.GetRequestTxn() != nil:
			n.txnRequest(op.GetRequestTxn())
		}
	}
}

func (n namespace) watchRequest(r *pb.WatchRequest) {
	if c := r.GetCreateRequest(); c != nil {
		c.Key, c.RangeEnd = n.interval(c.Key, c.RangeEnd)
	}
}

func (n namespace) pairs(list []*mvccpb.KeyValue) {
	for _, kv := range list {
		n.pair(kv)
	}
}

func (n namespace) pair(kv *mvccpb.KeyValue) {
	if kv != nil {
		kv.Key = n.strip(kv.Key)
	}
}

func (n namespace) rangeReply(r *pb.RangeResponse)        { n.pairs(r.GetKvs()) }
func (n namespace) putReply(r *pb.PutResponse)            { n.pair(r.GetPrevKv()) }
func (n namespace) deleteReply(r *pb.DeleteRangeResponse) { n.pairs(r.GetPrevKvs()) }

func (n namespace) txnReply(r *pb.TxnResponse) {
	for _, op := range r.Responses {
		switch {
		case op.GetResponseRange() != nil:
			n.rangeReply(op.GetResponseRange())
		case op.GetResponsePut() != nil:
			n.putReply(op.GetResponsePut())
		case op.GetResponseDeleteRange() != nil:
			n.deleteReply(op.GetResponseDeleteRange())
		case op.GetResponseTxn() != nil:
			n.txnReply(op.GetResponseTxn())
		}
	}
}

func (n namespace) watchReply(r *pb.WatchResponse) {
	for _, e := range r.Events {
		n.pair(e.Kv)
		n.pair(e.PrevKv)
	}
}
